"""Lines of text of any size for a model of short crops: in overlapping pieces, in batches, and back.

Shapes: N batch, C channels, H, W pixels of a line, s scale of what the model returns.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from tadisr.tiling import blend_weights, windows

TALL = 1.5  # lines that many times taller than wide are vertical, as in PP-OCR's pipeline
MIN_HEIGHT = 4  # pixels: lower lines are treated as if they were that high
STEP = 8  # pixels of which sides are multiples, so that pieces of similar size share a batch
LARGEST = 4  # times the trained height: higher lines are legible, and would cost time and memory

Function = Callable[[torch.Tensor, list[int]], torch.Tensor]
"""Pieces (N, C, h, w) and the numbers of the lines that they are of, to maps (N, C', s h, s w)."""


def run_pieces(
    function: Function, lines: Sequence[torch.Tensor], crop_size: tuple[int, int], scale: int, batch_size: int
) -> list[torch.Tensor]:
    """Apply `function` to pieces of every line, batch by batch, and blend what it returns.

    A line is cut into pieces of at most the aspect of `crop_size`, which overlap by about a letter. Vertical lines are
    turned for that, by 90 degrees counterclockwise. Each piece is resized to its `work_size`, and its maps back.

    Args:
        function: see `Function`; what it makes of a piece must not depend on the pieces beside it.
        lines: (1, C, H, W) in [0, 1] each.
        crop_size: height and width that `function` was trained on, wider than high.
        scale: s.
        batch_size: largest N.

    Returns:
        (1, C', s H, s W) float32 on the CPU for each line.
    """
    upright = [line.rot90(dims=(2, 3)) if _is_tall(line) else line for line in lines]
    by_size = defaultdict(list)  # pieces: number of the line, first column, end, weights of the columns of its maps
    for number, line in enumerate(upright):
        for start, stop, weights in _cut(*line.shape[2:], crop_size, scale):
            size = work_size(line.shape[2], stop - start, crop_size)
            by_size[size].append((number, start, stop, weights))
    results: list[torch.Tensor | None] = [None] * len(lines)
    for size, pieces in by_size.items():
        for first in range(0, len(pieces), batch_size):
            batch = pieces[first : first + batch_size]
            given = torch.cat([_resize(upright[n][..., start:stop].float(), size) for n, start, stop, _ in batch])
            maps = function(given.clamp_(0, 1), [n for n, *_ in batch]).float().cpu()
            for (n, start, stop, weights), piece in zip(batch, maps.split(1), strict=True):
                height, width = (scale * side for side in upright[n].shape[2:])
                if results[n] is None:
                    results[n] = torch.zeros(1, piece.shape[1], height, width)
                results[n][..., scale * start : scale * stop] += weights * _resize(piece, (height, len(weights)))
    return [
        result.rot90(-1, dims=(2, 3)) if _is_tall(line) else result for line, result in zip(lines, results, strict=True)
    ]


def work_size(height: int, width: int, crop_size: tuple[int, int]) -> tuple[int, int]:
    """At what size a piece runs: its own, but at least of the trained height, and in multiples of `STEP`.

    Resizing all to the trained shape loses what that shape cannot hold; and a model corrects blur by pixels, not by
    letters. A small one trained on 16x64 gained 1 to 2 dB more on rendered lines of 16 to 32 pixels so. Enlarging lower
    ones changes little, but lets small crops share their batches.
    """
    rows = min(max(_round_up(height), crop_size[0]), LARGEST * crop_size[0])
    return rows, _round_up(round(width * rows / max(height, MIN_HEIGHT)))


def _round_up(side: int) -> int:
    return max(1, -(-side // STEP)) * STEP


def _is_tall(line: torch.Tensor) -> bool:
    return line.shape[2] >= TALL * line.shape[3]


def _cut(height: int, width: int, crop_size: tuple[int, int], scale: int) -> list[tuple[int, int, torch.Tensor]]:
    """Pieces of a line: first column, end, and the weights of their s (end - first) columns, which add up to 1."""
    overlap = max(height, MIN_HEIGHT)
    spans = windows(width, round(overlap * crop_size[1] / crop_size[0]), overlap)
    columns = [slice(scale * start, scale * stop) for start, stop in spans]
    weights = [
        torch.from_numpy(blend_weights((one.start, one.stop), scale * width, scale * overlap)) for one in columns
    ]
    total = torch.zeros(scale * width)
    for one, weight in zip(columns, weights, strict=True):
        total[one] += weight
    return [(*span, weight / total[one]) for span, one, weight in zip(spans, columns, weights, strict=True)]


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic with antialiasing; an image that has the size is left alone."""
    if tuple(image.shape[2:]) == tuple(size):
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)
