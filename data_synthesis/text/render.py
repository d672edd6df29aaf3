"""Drawn text: exact anti-aliased coverage, straight, stacked, sideways, curved, turned or seen at an angle.

How small may text be? It must be legible after the 4x reduction, or the restoration has nothing to go by. Measured with
RapidOCR on clean black text reduced by 4 (area average) and enlarged again (bicubic), 60 lines in random text faces for
each size in HR pixels per em, share of characters read (Levenshtein ratio):

    size                            16    20    24    28    32    36    40    48
    Latin words, numbers           0.39  0.66  0.88  0.95  0.97  0.99  0.99  1.00
    random hanzi                   0.14  0.34  0.58  0.77  0.89  0.94  0.96  0.98

`SMALLEST` takes the sizes from which about 19 of 20 characters are read: an x-height of 3 to 4 LR pixels, and 10 LR
pixels for a hanzi of a dozen strokes.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tadisr.data_synthesis.text.fonts import Font
from tadisr.data_synthesis.text.shapes import Canvas, Shape, bend, tilt
from tadisr.data_synthesis.text.wrapping import clusters, is_wide

SMALLEST = {"latin": 28, "chinese": 40}
INK = 0.1  # coverage from which a pixel counts as inked where boxes are measured
PAD = 3  # empty pixels around drawn text: a camera's softness fits in
_SHARP = 96  # pixels per em from which FreeType's coverage is taken as it is; smaller text is drawn larger and reduced
_TURNED = "（）《》〈〉「」『』【】〔〕…—～〜ー－()[]{}<>-–~:：;；"  # lie on their side in a column
_CORNER = "，。、,."  # stand in the upper right of their cell in a column


@dataclass
class Glyphs:
    """Drawn text, one line or a block of lines.

    fill: (H, W) float32 in [0, 1], exact coverage of the strokes: the text mask.
    lines: each line's text and its corners (x, y), (4, 2) float32, clockwise from the line's own top left. They hold
        every pixel whose coverage exceeds `INK`, turned lines to within a pixel. A curved line has the quad around its
        curve.
    em: pixels per em.
    """

    fill: np.ndarray
    lines: list[tuple[str, np.ndarray]]
    em: float = 0.0


# A drawn piece of text: coverage (h, w) uint8 and the place (x, y) of its corner.
_Piece = tuple[np.ndarray, int, int]


def draw_block(texts: Sequence[str], font: Font, size: float, shape: Shape | None = None) -> Glyphs:
    """Draw lines in one face at `size` pixels per em, cropped to `PAD` pixels around the ink.

    ValueError for no text, an empty line, a character that the font does not draw, a size below 4.
    """
    shape = shape or Shape()
    if not texts or not all(text.strip() for text in texts):
        raise ValueError(f"Expected lines of text, got {list(texts)!r}.")
    if size < 4:
        raise ValueError(f"Text needs at least 4 pixels per em, not {size}.")
    for text in texts:
        if missing := "".join(char for char in dict.fromkeys(text) if not font.draws(char)):
            raise ValueError(f"{font.path or font.family} does not draw {missing!r}.")
    bent, tilted = shape.arc or shape.wave, shape.angle or shape.pitch or shape.yaw
    # drawn at `zoom` times the size and reduced at the end: text of few pixels is neither distorted by the font's
    # hinting nor blurred by turning and bending
    zoom = int(np.clip(np.ceil(_SHARP / size), 2 if bent or tilted else 1, 8))
    canvas = _lay_out(texts, font.load(size * zoom), size * zoom, shape)
    if bent:
        canvas = bend(canvas, shape, size * zoom)
    if tilted:
        canvas = tilt(canvas, shape)
    h, w = canvas.ink.shape
    ink = np.pad(canvas.ink, [(PAD * zoom, PAD * zoom + -n % zoom) for n in (h, w)]).astype(np.float32) / 255
    fill = cv2.resize(ink, (ink.shape[1] // zoom, ink.shape[0] // zoom), interpolation=cv2.INTER_AREA)
    quads = [quad / zoom + PAD for quad in canvas.quads]
    if not bent and not tilted:
        quads = [_snap(quad, fill) for quad in quads]
    return Glyphs(fill, list(zip(texts, np.asarray(quads, np.float32), strict=True)), float(size))


def grow(fill: np.ndarray, radius: float) -> np.ndarray:
    """Coverage of the strokes and of all that lies within `radius` pixels of them, anti-aliased.

    (H, W) float32 to the same. What would lie outside the array is cut off.
    """
    h, w = fill.shape
    fine = cv2.resize(fill, (w * 2, h * 2), interpolation=cv2.INTER_LINEAR)
    distance = cv2.distanceTransform((fine < 0.4 * fine.max()).astype(np.uint8), cv2.DIST_L2, 5)
    grown = np.clip(2 * radius + 1 - distance, 0, 1)
    return np.maximum(cv2.resize(grown, (w, h), interpolation=cv2.INTER_AREA), fill)


def _joins(text: str) -> bool:
    """Whether letters are shaped by their neighbours, as in Arabic and Devanagari: they cannot be drawn one by one."""
    return any(unicodedata.bidirectional(c) in {"R", "AL", "NSM"} or 0x900 <= ord(c) < 0xE00 for c in text)


def _strip(text: str, face: ImageFont.FreeTypeFont) -> list[_Piece]:
    """One string as one piece, its corner relative to the start of the baseline; none where it draws nothing."""
    left, top, right, bottom = (int(v) for v in face.getbbox(text, anchor="ls"))
    if right <= left or bottom <= top:
        return []
    image = Image.new("L", (right - left + 2, bottom - top + 2))
    ImageDraw.Draw(image).text((1 - left, 1 - top), text, fill=255, font=face, anchor="ls")
    ink = np.asarray(image)
    x, y, w, h = cv2.boundingRect(ink)
    return [(ink[y : y + h, x : x + w], left - 1 + x, top - 1 + y)] if w else []


def _row(text: str, face: ImageFont.FreeTypeFont, spacing: float) -> tuple[list[_Piece], float]:
    """A horizontal line's pieces and its length, pixels; the baseline starts at (0, 0)."""
    if not spacing or _joins(text):
        return _strip(text, face), face.getlength(text)
    pieces, x = [], 0.0
    for letter in clusters(text):
        pieces += [(ink, left + round(x), top) for ink, left, top in _strip(letter, face)]
        x += face.getlength(letter) + spacing
    return pieces, x - spacing


def _column(text: str, face: ImageFont.FreeTypeFont, em: float, shape: Shape) -> tuple[list[_Piece], float]:
    """A vertical line's pieces and its length, pixels; the column's axis is x = 0 and it starts at y = 0."""
    joined = _joins(text)
    turned, units = joined or shape.direction == "sideways", [text] if joined else []
    for letter in [] if joined else clusters(text):
        if turned and units and not is_wide(letter[0]) and not is_wide(units[-1][-1]):
            units[-1] += letter
        else:
            units.append(letter)
    pieces, y, spacing = [], 0.0, shape.spacing * em
    for unit in units:
        if turned and not is_wide(unit[0]):
            row, length = _row(unit, face, spacing)
            for ink, left, top in row:
                # turned clockwise, the baseline lies to the left of the axis by half a capital's height
                pieces.append((np.rot90(ink, -1), round(-0.36 * em - top - ink.shape[0]), round(y + left)))
            y += length + spacing
        elif strip := _strip(unit, face):
            ink, left, top = strip[0]
            if unit in _TURNED:
                ink = np.rot90(ink, -1)
                pieces.append((ink, -ink.shape[1] // 2, round(y + (em - ink.shape[0]) / 2)))
            elif unit in _CORNER:
                pieces.append((ink, round(0.18 * em), round(y + 0.12 * em)))
            else:
                # the em box of hanzi reaches 0.88 em above the baseline; capitals are 0.72 em high
                base = 0.88 if is_wide(unit[0]) else 0.86
                pieces.append((ink, round(left - face.getlength(unit) / 2), round(y + base * em + top)))
            y += em + spacing
        else:
            y += 0.4 * em
    return pieces, y - spacing


def _lay_out(texts: Sequence[str], face: ImageFont.FreeTypeFont, em: float, shape: Shape) -> Canvas:
    """Lines below each other, or columns from right to left, on one canvas."""
    rows = shape.direction == "horizontal"
    lines = [_row(t, face, shape.spacing * em) if rows else _column(t, face, em, shape) for t in texts]
    longest = max(length for _, length in lines)
    placed: list[list[_Piece]] = []
    for i, (pieces, length) in enumerate(lines):
        along, across = shape.align * (longest - length), i * shape.leading * em
        dx, dy = (round(along), round(across)) if rows else (-round(across), round(along))
        placed.append([(ink, x + dx, y + dy) for ink, x, y in pieces])
    everything = [piece for line in placed for piece in line]
    left, top = min(x for _, x, _ in everything), min(y for _, _, y in everything)
    right = max(x + ink.shape[1] for ink, x, _ in everything)
    bottom = max(y + ink.shape[0] for ink, _, y in everything)
    canvas = np.zeros((bottom - top, right - left), np.uint8)
    quads = []
    for text, line in zip(texts, placed, strict=True):
        corners = []
        for ink, x, y in line:
            area = canvas[y - top : y - top + ink.shape[0], x - left : x - left + ink.shape[1]]
            np.maximum(area, ink, out=area)
            bx, by, bw, bh = cv2.boundingRect((ink > 255 * INK).astype(np.uint8))
            corners += [(x - left + bx, y - top + by), (x - left + bx + bw, y - top + by + bh)]
        (x0, y0), (x1, y1) = np.min(corners, axis=0), np.max(corners, axis=0)
        quad = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
        turned = not rows and not any(is_wide(c) for c in text) and (shape.direction == "sideways" or _joins(text))
        quads.append(np.roll(quad, -1, axis=0) if turned else quad)  # a turned line begins at the image's top right
    return Canvas(canvas, quads)


def _snap(quad: np.ndarray, fill: np.ndarray) -> np.ndarray:
    """An upright rectangle, on whole pixels, tight around the ink within it."""
    low, high = np.floor(quad.min(axis=0)).astype(int), np.ceil(quad.max(axis=0)).astype(int)
    x, y, w, h = cv2.boundingRect((fill[low[1] : high[1], low[0] : high[0]] > INK).astype(np.uint8))
    return np.where(quad == quad.min(axis=0), low + [x, y], low + [x + w, y + h])
