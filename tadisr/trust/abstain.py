"""Where a report does not trust a restored line, the input's strokes stay."""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tadisr.trust.check import CHECK, KEPT, CheckedLine, TrustReport

_MARGIN = 0.3  # of a line's height, kept around it as well: strokes reach out of the boxes that engines draw
_FEATHER = 0.1  # of a line's height: the deviation of the blur that one picture passes into the other by


def is_doubtful(line: CheckedLine) -> bool:
    """Whether the input's strokes are to be kept: the line reads otherwise, and the input was read as surely."""
    return line.verdict == CHECK and not line.reads_the_same and line.input.score >= line.output.score


def keep_input(lr: np.ndarray, sr: np.ndarray, report: TrustReport) -> tuple[np.ndarray, TrustReport]:
    """A restored photo with its doubtful lines as they are in the input, enlarged, and the report that says so.

    Such lines get the verdict KEPT, and as a reading of the output that of the input. Other lines, where they meet,
    stay restored.

    Args:
        lr: (h, w, 3 or 4) uint8, the input.
        sr: (H, W, 3 or 4) uint8, as many channels.
        report: what `check_text` found in the two.
    """
    kept = [line for line in report.lines if is_doubtful(line)]
    if not kept:
        return sr, report
    height, width = sr.shape[:2]
    share = Image.new("L", (width, height))
    for line in kept:
        _fill(share, line, 255)
    for line in report.lines:
        if not is_doubtful(line):
            _fill(share, line, 0)
    enlarged = Image.fromarray(lr).resize((width, height), Image.Resampling.BICUBIC)
    made = Image.composite(enlarged, Image.fromarray(sr), share)
    lines = [replace(line, verdict=KEPT, output=line.input) if is_doubtful(line) else line for line in report.lines]
    return np.asarray(made), replace(report, lines=lines)


def _fill(share: Image.Image, line: CheckedLine, value: int) -> None:
    """Set the region of a line, and around it less and less."""
    quad = np.array(line.quad, np.float32)
    sides = [quad[1] - quad[0], quad[3] - quad[0]]  # along the line, and down
    lengths = [float(np.linalg.norm(side)) for side in sides]
    tall = min(lengths)
    along, down = (_MARGIN * tall * side / max(length, 1) for side, length in zip(sides, lengths, strict=True))
    quad += [-along - down, along - down, along + down, down - along]
    reach = int(np.ceil(3 * _FEATHER * tall)) + 1
    left, top = np.floor(quad.min(0)).astype(int) - reach
    right, bottom = np.ceil(quad.max(0)).astype(int) + reach
    region = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(region).polygon([tuple(point) for point in (quad - [left, top]).tolist()], fill=255)
    region = region.filter(ImageFilter.GaussianBlur(_FEATHER * tall))
    share.paste(value, (int(left), int(top)), region)
