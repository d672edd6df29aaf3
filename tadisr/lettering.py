"""What a person says that a line of text reads, drawn as a text mask: for models that follow masks.

The installed faces are tried, and the one is taken whose drawing is nearest to what the picture shows of the line. It
is fitted to that in size, place and slant, and then its letters one by one: their widths and distances are those of
another face. A drawing is what somebody asserts, and not what was read.
"""

import functools
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw, ImageFont

from tadisr.ocr import is_vertical

# cv2 is imported where it is used, as in `tadisr.ocr`.

FACES = (
    "DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf", "DejaVuSansCondensed.ttf",
    "LiberationSans-Regular.ttf", "LiberationSans-Bold.ttf", "LiberationSerif-Regular.ttf",
    "LiberationSerif-Bold.ttf", "LiberationMono-Regular.ttf", "arial.ttf", "arialbd.ttf", "times.ttf", "cour.ttf",
    "Arial.ttf", "Times New Roman.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc",
    "wqy-microhei.ttc", "msyh.ttc", "Hiragino Sans GB.ttc",
)  # fmt: skip
"""File names that are looked for where the system keeps its fonts; Pillow's own face comes first."""

# Shares of a line's area and of its length: a mask that has less shows too few strokes to compare with.
_LEAST_INK, _LEAST_LENGTH = 0.02, 0.7
_PAPER = 0.3  # share of the strongest contrast in a photo that is noise and shade
_SLANTS = (0.0, 0.2)  # upright, and as far as italics lean
_FINALISTS = 4  # starts that are worth fitting
_FARTHEST = 0.5  # heights of the line by which fitting may move a corner
_SIDEWAYS = 0.35  # heights of the line by which a column of a drawing may move
_STRETCHING = 0.6  # what it costs to move a column further than its neighbour, in squared standard deviations of ink
_ROWS = 16  # that columns are compared by


def draw_lines(
    lines: Iterable[tuple[ArrayLike, str]], mask: np.ndarray, image: np.ndarray, faces: Sequence[str] = FACES
) -> np.ndarray:
    """Draw what lines read, as a text mask: `pipe(image, text_mask=draw_lines(...))`.

    Args:
        lines: each a quad, four (x, y) in pixels of `mask`, clockwise from the text's top left, and its text.
        mask: (H, W) uint8, the text that was found; the drawings are fitted to it.
        image: (h, w, 3) uint8, what was restored. Where the mask shows too few strokes, the drawings are fitted to
            this.
        faces: font files, by path or by the name that the system knows.

    Returns:
        (H, W, 2) uint8: white strokes on black, with an alpha of 255 within the quads and 0 elsewhere.

    Raises:
        ValueError: no face draws a text; it has nothing to be drawn; or a quad has no area.

    Examples:
        >>> import numpy as np
        >>> mask, image = np.zeros((80, 400), np.uint8), np.full((20, 100, 3), 255, np.uint8)
        >>> quad = [(20, 20), (380, 20), (380, 60), (20, 60)]
        >>> draw_lines([(quad, "Invoice 4711")], mask, image).shape
        (80, 400, 2)
    """
    import cv2

    drawn = np.zeros((*mask.shape, 2), np.uint8)
    ratio = np.array(image.shape[1::-1], np.float32) / mask.shape[1::-1]
    for given, text in lines:
        quad = np.asarray(given, np.float32)
        top, right, bottom, left = np.linalg.norm(np.roll(quad, -1, axis=0) - quad, axis=1)
        width, height = max(top, bottom), max(left, right)
        if min(width, height) < 1:
            raise ValueError(f"The box {quad.tolist()} has no area.")
        if is_vertical(height, width):  # it is read as `tadisr.ocr.upright` turns it
            quad, width, height = np.roll(quad, -1, axis=0), height, width
        size = round(width), round(height)
        corners = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32)
        reduced = ((quad + 0.5) * ratio - 0.5).astype(np.float32)
        matrix, small = (cv2.getPerspectiveTransform(box, corners) for box in (quad, reduced))
        seen = _cut(mask, matrix, size).astype(np.float32) / 255
        start, stop = _extent(seen, 0)
        if seen.mean() < _LEAST_INK or stop - start < _LEAST_LENGTH * size[0]:
            seen = _contrast(_cut(image, small, size))
        strokes = _draw_line(text, seen, faces)
        placed = cv2.warpPerspective(strokes, np.linalg.inv(matrix), mask.shape[::-1], flags=cv2.INTER_LINEAR)
        place = np.zeros(mask.shape, np.uint8)
        cv2.fillConvexPoly(place, np.rint(quad).astype(np.int32), 255)
        drawn[place > 0] = np.stack([placed, place], -1)[place > 0]
    return drawn


def can_draw(text: str, faces: Sequence[str] = FACES) -> bool:
    """Whether one installed face has all letters of a text."""
    return bool(text.strip()) and any(_draws(path, text) for path in _installed(tuple(faces)))


def has_glyph(font: Any, letter: str) -> bool:
    """Whether a font knows a character: it draws it otherwise than one that no font knows."""
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _cut(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    import cv2

    return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _contrast(line: np.ndarray) -> np.ndarray:
    """How much of each pixel of a photographed line is ink, (h, w) float32 in [0, 1]."""
    gray = line.astype(np.float32).mean(2)
    contrast = np.abs(gray - np.median(gray))
    strongest = max(1.0, float(np.percentile(contrast, 99)))
    return ((contrast / strongest - _PAPER) / (1 - _PAPER)).clip(0, 1)


def _draw_line(text: str, seen: np.ndarray, faces: Sequence[str]) -> np.ndarray:
    """The text in the nearest face, fitted, as large as `seen`: uint8."""
    text = " ".join(text.split())
    if not text:
        raise ValueError("A line without letters cannot be drawn: leave it out.")
    drawings = [_strokes(path, text, seen) for path in _installed(tuple(faces)) if _draws(path, text)]
    if not drawings:
        raise ValueError(f"No installed font draws {text!r:.60}: install one that does, such as Noto's.")
    starts = [(strokes, _start(strokes, seen, slant)) for strokes in drawings for slant in _SLANTS]
    starts.sort(key=lambda start: _likeness(*start, seen), reverse=True)
    fitted = [_moved(strokes, _fitted(strokes, start, seen), seen) for strokes, start in starts[:_FINALISTS]]
    fitted += [_stretched(strokes, seen) for strokes in fitted]
    return max(fitted, key=lambda strokes: _correlation(strokes, seen))


def _start(strokes: np.ndarray, seen: np.ndarray, slant: float) -> np.ndarray:
    """Where a pixel of `seen` is taken from in a drawing of the same text, (2, 3): from end to end, and leaning."""
    ends = [[_extent(ink, axis) for ink in (strokes, seen)] for axis in (0, 1)]
    (x, y), (left, top) = zip(*(((b - a) / (d - c), a - c * (b - a) / (d - c)) for (a, b), (c, d) in ends), strict=True)
    lean = slant * y  # the middle of the line stays
    return np.array([[x, lean, left - lean * seen.shape[0] / 2], [0, y, top]], np.float32)


def _fitted(strokes: np.ndarray, start: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A start, improved by OpenCV's alignment, unless that runs away."""
    import cv2

    height, width = seen.shape
    blur = max(3, height // 6 | 1)
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-4)
    everywhere = np.full(strokes.shape, 255, np.uint8)
    try:
        _, better = cv2.findTransformECC(
            seen, strokes.astype(np.float32) / 255, start.copy(), cv2.MOTION_AFFINE, criteria, everywhere, blur
        )
    except cv2.error:  # nothing to go by
        return start
    corners = np.array([[0, 0, 1], [width, 0, 1], [width, height, 1], [0, height, 1]])
    moved = np.abs(corners @ (better - start).T).max()
    nearer = moved <= _FARTHEST * height and _likeness(strokes, better, seen) > _likeness(strokes, start, seen)
    return better if nearer else start


def _stretched(strokes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """A fitted drawing whose columns are moved sideways, in their order, to where `seen` looks like them.

    By dynamic programming: the differences of the columns, and what it costs to stretch them, are least.
    """
    import cv2

    height, width = seen.shape
    columns = []
    for ink in (seen, strokes.astype(np.float32) / 255):
        soft = _softened(ink, height)
        columns.append(cv2.resize((soft - soft.mean()) / (soft.std() + 1e-6), (width, _ROWS)).T)
    farthest = max(2, round(_SIDEWAYS * height))
    offsets = np.arange(-farthest, farthest + 1)
    sources = np.clip(np.arange(width)[:, None] + offsets, 0, width - 1)
    costs = np.square(columns[0][:, None] - columns[1][sources]).mean(2)  # (width, offsets)
    best, steps = costs[0] + 0.02 * np.abs(offsets), np.zeros(costs.shape, np.int8)
    for x in range(1, width):
        padded = np.pad(best, 1, constant_values=np.inf)
        ways = np.stack([padded[:-2] + _STRETCHING, best, padded[2:] + _STRETCHING])
        steps[x] = ways.argmin(0) - 1
        best = ways.min(0) + costs[x]
    moves, at = np.empty(width, np.float32), int(best.argmin())
    for x in range(width - 1, -1, -1):
        moves[x] = offsets[at]
        at += int(steps[x, at])
    moves = cv2.GaussianBlur(moves[None], (0, 0), max(1, height / 12))  # steps of a pixel become slopes
    x, y = np.broadcast_arrays(np.arange(width) + moves, np.arange(height)[:, None])
    return cv2.remap(strokes, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)


def _moved(strokes: np.ndarray, matrix: np.ndarray, seen: np.ndarray) -> np.ndarray:
    import cv2

    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(strokes, matrix, seen.shape[::-1], flags=flags)


def _likeness(strokes: np.ndarray, matrix: np.ndarray, seen: np.ndarray) -> float:
    return _correlation(_moved(strokes, matrix, seen), seen)


def _correlation(strokes: np.ndarray, seen: np.ndarray) -> float:
    """Of a drawing with what is seen, both a little blurred: -1 to 1."""
    one, other = (_softened(ink.astype(np.float32), seen.shape[0]).ravel() for ink in (strokes, seen))
    return float(np.nan_to_num(np.corrcoef(one, other)[0, 1])) if one.std() and other.std() else 0.0


def _softened(ink: np.ndarray, height: int) -> np.ndarray:
    import cv2

    return cv2.GaussianBlur(ink, (0, 0), max(0.5, height / 30))


def _extent(ink: np.ndarray, axis: int) -> tuple[float, float]:
    """From where to where there is ink along a side; specks do not count. The whole side where there is none."""
    profile = ink.sum(axis, dtype=np.float64)
    (filled,) = np.nonzero(profile > 0.05 * profile.max())
    return (float(filled[0]), float(filled[-1] + 1)) if filled.size else (0.0, float(len(profile)))


def _strokes(path: str, text: str, seen: np.ndarray) -> np.ndarray:
    """A drawing of the text about as high as what is seen, uint8, with a margin."""
    size = float(seen.shape[0])
    for _ in range(2):  # the first one shows how high letters of that size are
        font = _font(path, size)
        left, top, right, bottom = font.getbbox(text)
        drawing = Image.new("L", (max(1, int(right - left)) + 4, max(1, int(bottom - top)) + 4))
        ImageDraw.Draw(drawing).text((2 - left, 2 - top), text, fill=255, font=font)
        strokes = np.asarray(drawing)
        (top, bottom), (wanted_top, wanted_bottom) = (_extent(ink, 1) for ink in (strokes, seen))
        size = max(4.0, size * (wanted_bottom - wanted_top) / (bottom - top))
    return strokes


@functools.cache
def _installed(faces: tuple[str, ...]) -> list[str]:
    """Pillow's own face, "", and those that the system has."""
    found = [""]
    for name in faces:
        with suppress(OSError):
            found.append(str(ImageFont.truetype(name, 20).path))
    return found


def _font(path: str, size: float) -> Any:
    return ImageFont.truetype(path, size) if path else ImageFont.load_default(size)


@functools.lru_cache(1000)
def _draws(path: str, text: str) -> bool:
    """Whether a face has all letters of a text."""
    font = _font(path, 20)
    return all(has_glyph(font, letter) for letter in set(text))
