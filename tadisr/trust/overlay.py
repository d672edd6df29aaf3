"""The picture of a `TrustReport`: boxes and numbers on the restored photo, and below it each line to check, twice.

A line that agrees has a thin solid box and a bare number; a line to check has a thick dashed box and an exclamation
mark; one that a person asserted has an asterisk, one that was kept as in the input an equals sign, and one that was
drawn as the input reads a tilde. So the picture
can be read without colours.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tadisr.lettering import has_glyph
from tadisr.ocr import crop_line
from tadisr.trust.check import AGREE, ASSERTED, CHECK, KEPT, RETRACED, CheckedLine, TrustReport, as_read

SIDES = (1000, 2000)  # pixels: the photo's longer side is brought into this range
MAX_ROWS = 40  # lines to check that are shown; a page of noise may hold hundreds

_INK, _PAPER, _GRAY = (32, 32, 32), (255, 255, 255), (96, 96, 96)
# Both have a contrast of at least 5:1 against white; the colour-blind can tell them apart.
_COLORS = {AGREE: (0, 90, 156), CHECK: (190, 70, 0), ASSERTED: _GRAY, KEPT: _GRAY, RETRACED: _GRAY}
_MARKS = {AGREE: "", CHECK: " !", ASSERTED: " *", KEPT: " =", RETRACED: " ~"}
# Looked for where the system keeps its fonts.
_FONTS = (
    "DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "DroidSansFallbackFull.ttf", "wqy-microhei.ttc", "msyh.ttc",
    "Hiragino Sans GB.ttc", "Arial Unicode.ttf",
)  # fmt: skip


def draw_overlay(lr: np.ndarray, sr: np.ndarray, report: TrustReport) -> np.ndarray:
    """A uint8 RGB picture, at least 720 pixels wide, of a report and the two images that `check_text` made it from."""
    enlarged, sr = as_read(lr, sr)
    scale = min(max(1.0, SIDES[0] / max(sr.shape[:2])), SIDES[1] / max(sr.shape[:2]))
    photo = Image.fromarray(sr)
    photo = photo.resize([max(1, round(side * scale)) for side in photo.size], Image.Resampling.BICUBIC)
    size = max(photo.width, 720) // 50  # of letters, in pixels
    photo = _mark(photo, report.lines, scale, size)
    width = max(photo.width, 720)
    numbered = [(number, line) for number, line in enumerate(report.lines, 1) if line.verdict == CHECK]
    rows = [_header(report, width, size), photo]
    rows += [_compared(number, line, enlarged, sr, width, size) for number, line in numbered[:MAX_ROWS]]
    if len(numbered) > MAX_ROWS:
        rows.append(_sentence(f"and {len(numbered) - MAX_ROWS} more: see the JSON", width, size))
    picture = Image.new("RGB", (width, sum(row.height for row in rows)), _PAPER)
    top = 0
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height
    return np.asarray(picture)


def _mark(photo: Image.Image, lines: Sequence[CheckedLine], scale: float, size: int) -> Image.Image:
    """The photo with boxes, and left of each box its number, for which the photo gets a margin."""
    margin = 3 * size
    pixels = np.full((photo.height, photo.width + margin, 3), 255, np.uint8)
    pixels[:, margin:] = np.asarray(photo)
    plain = pixels.copy()
    quads = [np.array(line.quad) * scale + [margin, 0] for line in lines]
    order = sorted(range(len(lines)), key=lambda i: lines[i].verdict == CHECK)  # lines to check lie on top
    for i in order:
        _draw_box(pixels, quads[i], lines[i].verdict, max(2, size // 10))
    # Boxes are translucent, for the box of a tilted line crosses the text of others.
    marked = Image.fromarray(cv2.addWeighted(pixels, 0.75, plain, 0.25, 0))
    for i in order:
        badge = _badge(i + 1, lines[i].verdict, round(0.8 * size))
        corner = [quads[i][:, 0].min() - badge.width, quads[i][[0, 3], 1].mean() - badge.height / 2]
        limits = np.maximum(0, np.subtract(marked.size, badge.size))
        marked.paste(badge, tuple(np.clip(corner, 0, limits).astype(int).tolist()))
    return marked


def _draw_box(pixels: np.ndarray, quad: np.ndarray, verdict: str, thickness: int) -> None:
    """Draw an outline into `pixels`, on a white one that sets it off; dashed if the line is to be checked."""
    thickness *= 2 if verdict == CHECK else 1
    corners = [np.rint(quad).astype(np.int32)]
    cv2.polylines(pixels, corners, True, _PAPER, thickness + 2, cv2.LINE_AA)
    if verdict != CHECK:
        cv2.polylines(pixels, corners, True, _COLORS[verdict], thickness, cv2.LINE_AA)
        return
    for start, end in zip(quad, np.roll(quad, -1, axis=0), strict=True):
        dashes = max(1, round(np.linalg.norm(end - start) / (6 * thickness)))
        for i in range(dashes):
            first, last = (np.rint(start + (end - start) * (i + share) / dashes).astype(int) for share in (0.0, 0.5))
            cv2.line(pixels, first.tolist(), last.tolist(), _COLORS[CHECK], thickness, cv2.LINE_AA)


def _badge(number: int, verdict: str, size: int) -> Image.Image:
    text = f"{number}{_MARKS[verdict]}"
    font = ImageFont.load_default(size)
    badge = Image.new("RGB", (round(font.getlength(text)) + size, round(1.3 * size)), _PAPER)
    draw = ImageDraw.Draw(badge)
    draw.rectangle((1, 1, badge.width - 2, badge.height - 2), fill=_COLORS[verdict])
    draw.text((badge.width / 2, badge.height / 2), text, fill=_PAPER, font=font, anchor="mm")
    return badge


def _header(report: TrustReport, width: int, size: int) -> Image.Image:
    """What the boxes mean, and how many there are of each."""
    if report.error is not None:
        return _sentence(f"The text could not be read: {report.error}", width, size)
    if not report.lines:
        return _sentence("No text was found, neither in the restored picture nor in its input.", width, size)
    counts = Counter(line.verdict for line in report.lines)
    meanings = {
        CHECK: f"{counts[CHECK]} to check: the text may have changed, compare it with the input",
        AGREE: f"{counts[AGREE]} read the same in the restored picture and in its input",
    }
    if counts[ASSERTED]:
        meanings[ASSERTED] = f"{counts[ASSERTED]} asserted: drawn as a person said that they read"
    if counts[KEPT]:
        meanings[KEPT] = f"{counts[KEPT]} kept as in the input: the restored text was doubtful"
    if counts[RETRACED]:
        meanings[RETRACED] = f"{counts[RETRACED]} drawn as they surely read in the input"
    header = Image.new("RGB", (width, round((0.6 + 1.9 * len(meanings)) * size)), _PAPER)
    for row, (verdict, text) in enumerate(meanings.items()):
        top = round((0.5 + 1.9 * row) * size)
        pixels = np.array(header)
        corners = np.array([[1, 0.1], [4.5, 0.1], [4.5, 1.4], [1, 1.4]]) * size + [0, top]
        _draw_box(pixels, corners, verdict, max(2, size // 10))
        header = Image.fromarray(pixels)
        badge = _badge(1, verdict, round(0.7 * size))
        header.paste(badge, (round(2.75 * size - badge.width / 2), round(top + 0.75 * size - badge.height / 2)))
        at, font = (5.5 * size, top + 0.75 * size), ImageFont.load_default(size)
        ImageDraw.Draw(header).text(at, text, fill=_INK, font=font, anchor="lm")
    return header


def _compared(
    number: int, line: CheckedLine, enlarged: np.ndarray, sr: np.ndarray, width: int, size: int
) -> Image.Image:
    """One line to check: its number and the reason; below, side by side, the two pictures of it and their text.

    Vertical lines lie on their side, as the engine reads them.
    """
    quad = np.array(line.quad, np.float32)
    quad = quad.mean(0) + (quad - quad.mean(0)) * 1.1
    before, after = (Image.fromarray(np.ascontiguousarray(crop_line(image, quad))) for image in (enlarged, sr))
    column = round(width / 2 - 1.2 * size)
    scale = min(column / before.width, 3 * size / before.height)
    shape = [max(1, round(side * scale)) for side in before.size]
    bottom = round(2.2 * size) + shape[1]
    row = Image.new("RGB", (width, bottom + 2 * size), _PAPER)
    draw = ImageDraw.Draw(row)
    draw.line((0, 0, width, 0), fill=_GRAY)
    badge = _badge(number, CHECK, size)
    row.paste(badge, (round(0.6 * size), round(0.5 * size)))
    at = (1.4 * size + badge.width, 0.5 * size + badge.height / 2)
    draw.text(at, line.reason or "", fill=_INK, font=ImageFont.load_default(size), anchor="lm")
    for left, name, crop, reading in (
        (round(0.6 * size), "input", before, line.input),
        (round(0.6 * size + width / 2), "restored", after, line.output),
    ):
        row.paste(crop.resize(shape, Image.Resampling.BICUBIC), (left, round(2.2 * size)))
        score = f"{name}, confidence {reading.score:.2f}: "
        font = ImageFont.load_default(round(0.8 * size))
        draw.text((left, bottom + 0.9 * size), score, fill=_GRAY, font=font, anchor="lm")
        start = left + font.getlength(score)
        _draw_fitting(draw, (start, bottom + 0.9 * size), reading.text or "(nothing)", left + column - start, size)
    return row


def _draw_fitting(draw: ImageDraw.ImageDraw, position: tuple[float, float], text: str, width: float, size: int) -> None:
    """Draw text on one line; what is wider than `width` pixels is cut off with dots."""
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    font = next((font for font in _fonts(size) if all(has_glyph(font, letter) for letter in set(text))), None)
    if font is None:
        text, font = "(no font for it: see the JSON)", ImageFont.load_default(size)
    if font.getlength(text) > width:
        while text and font.getlength(text + "...") > width:
            text = text[:-1]
        text += "..."
    draw.text(position, text, fill=_INK, font=font, anchor="lm")


def _sentence(text: str, width: int, size: int) -> Image.Image:
    """A row that holds nothing but a text."""
    row = Image.new("RGB", (width, 2 * size), _PAPER)
    _draw_fitting(ImageDraw.Draw(row), (0.6 * size, size), text, width - 1.2 * size, size)
    return row


@functools.cache
def _fonts(size: int) -> list[Any]:
    """Pillow's own font, which knows ASCII, and those of `_FONTS` that the system has."""
    found = [ImageFont.load_default(size)]
    for name in _FONTS:
        with suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return found
