"""Lines of text of any size for a model of short crops: cut into overlapping pieces, run in batches, and blended.

Shapes: N batch, C channels, H, W pixels of a line, s scale of the function's results.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F

from tadisr.ocr import is_vertical
from tadisr.tiling import blend_weights, windows

MIN_HEIGHT = 4  # pixels: a lower line is cut and resized as if it were that high
STEP = 8  # pixels: sides are multiples of it, so pieces of similar size share a batch
LARGEST = 4  # times the trained height: a higher line is legible, and would cost time and memory

PieceFunction = Callable[[torch.Tensor, list[int]], torch.Tensor]
"""Pieces (N, C, h, w) and the numbers of their lines to maps (N, C', s h, s w)."""


class _Piece(NamedTuple):
    line: int  # its number
    start: int  # first column
    stop: int
    weights: torch.Tensor  # of the s (stop - start) columns of its maps


def run_pieces(
    function: PieceFunction, lines: Sequence[torch.Tensor], crop_size: tuple[int, int], scale: int, batch_size: int
) -> list[torch.Tensor]:
    """Apply `function` to pieces of every line, batch by batch, and blend its results.

    Lines (1, C, H, W) in [0, 1] become maps (1, C', s H, s W), float32 on the CPU. A vertical line is turned by 90
    degrees counterclockwise first. A line is cut into pieces of at most the aspect of `crop_size`, the height and
    greater width that `function` was trained on. Pieces overlap by about a letter. A piece is resized to its
    `work_size`, and its maps are resized back. They must not depend on the pieces beside it.
    """
    vertical = [is_vertical(*line.shape[2:]) for line in lines]
    upright = [line.rot90(dims=(2, 3)) if turned else line for line, turned in zip(lines, vertical, strict=True)]
    by_size: dict[tuple[int, int], list[_Piece]] = defaultdict(list)
    for number, line in enumerate(upright):
        height, width = line.shape[2:]
        for start, stop, weights in _cut(height, width, crop_size, scale):
            by_size[work_size(height, stop - start, crop_size)].append(_Piece(number, start, stop, weights))
    blended: dict[int, torch.Tensor] = {}
    for size, pieces in by_size.items():
        for first in range(0, len(pieces), batch_size):
            batch = pieces[first : first + batch_size]
            images = torch.cat([_resize(upright[p.line][..., p.start : p.stop].float(), size) for p in batch])
            maps = function(images.clamp_(0, 1), [p.line for p in batch]).float().cpu()
            for p, of_piece in zip(batch, maps.split(1), strict=True):
                height, width = (scale * side for side in upright[p.line].shape[2:])
                if p.line not in blended:
                    blended[p.line] = of_piece.new_zeros(1, of_piece.shape[1], height, width)
                columns = slice(scale * p.start, scale * p.stop)
                blended[p.line][..., columns] += p.weights * _resize(of_piece, (height, len(p.weights)))
    return [blended[i].rot90(-1, dims=(2, 3)) if turned else blended[i] for i, turned in enumerate(vertical)]


def work_size(height: int, width: int, crop_size: tuple[int, int]) -> tuple[int, int]:
    """The size at which a piece runs: its own in multiples of `STEP`, but at least of the trained height.

    Resizing every piece to the trained shape loses what that shape cannot hold. A model corrects blur by pixels, not by
    letters: a small one trained on 16x64 gained 1 to 2 dB more on rendered lines of 16 to 32 pixels at their own size.
    Enlarging a lower piece changes little, and lets small crops share a batch.
    """
    rows = min(max(_round_up(height), crop_size[0]), LARGEST * crop_size[0])
    return rows, _round_up(round(width * rows / max(height, MIN_HEIGHT)))


def _round_up(side: int) -> int:
    return max(1, -(-side // STEP)) * STEP


def _cut(height: int, width: int, crop_size: tuple[int, int], scale: int) -> list[tuple[int, int, torch.Tensor]]:
    """Pieces of a line: first column, end, and weights of their maps' columns; at every column these add up to 1."""
    overlap = max(height, MIN_HEIGHT)
    spans = windows(width, round(overlap * crop_size[1] / crop_size[0]), overlap)
    columns = [slice(scale * start, scale * stop) for start, stop in spans]
    weights, total = [], torch.zeros(scale * width, dtype=torch.float32)
    for one in columns:
        weights.append(torch.from_numpy(blend_weights((one.start, one.stop), scale * width, scale * overlap)))
        total[one] += weights[-1]
    return [(*span, weight / total[one]) for span, one, weight in zip(spans, columns, weights, strict=True)]


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bicubic with antialiasing; an image that has the size is left alone."""
    if tuple(image.shape[2:]) == tuple(size):
        return image
    return F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)
