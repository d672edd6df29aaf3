"""Sheets full of small text, as they are photographed most: book pages new and old, labels of things."""

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import SURFACES, fractal
from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.camera import lay, weather
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.document import blank_sheet, photographed
from tadisr.data_synthesis.layouts.palette import DARK, LUMA32, WHITE, Palette
from tadisr.data_synthesis.layouts.typesetting import Setter
from tadisr.data_synthesis.text.effects import Ink

_AGED = np.array([[0.93, 0.87, 0.72], [0.87, 0.78, 0.6], [0.8, 0.68, 0.48], [0.9, 0.86, 0.78]], np.float32)


def dense(page: Canvas, s: Setter) -> None:
    """One of them."""
    s.one_of([_book, _old_book, _label])(page, s)


def _paragraphs(sheet: Canvas, s: Setter, colors: Palette, body: float, effect: Ink | None) -> None:
    """Running text from edge to edge, indented, at times with a heading."""
    h, w = sheet.size
    pad, y, leading = w * s.between(0.03, 0.09), h * s.between(-0.04, 0.06), s.between(1.22, 1.6)
    indent = 2 * body * s.chance(0.7)
    while h - y > body:
        if s.chance(0.12):
            size = body * s.between(1.2, 1.7)
            s.line(sheet, s.head, pad, w - pad, y + size, size, colors.ink, s.one_of([0.0, 0.5]), effect=effect)
            y += size * 1.7
        rows = int(s.rng.integers(2, 9))
        columns = int((w - 2 * pad) / (s.body.advance * body))
        for i, text in enumerate(s.body.corpus.paragraph(s.rng, rows, max(2, columns))):
            left = pad + (indent if i == 0 else 0)
            s.line(sheet, s.body, left, w - pad, y + 0.8 * body * leading, body, colors.ink, 0, text.strip(), effect)
            y += body * leading
        y += 0 if indent else body * s.between(0.2, 0.7)


def _book(page: Canvas, s: Setter) -> None:
    """A page of a book or a print-out, near by."""
    h, w = page.size
    sheet, colors = blank_sheet(s, h * s.between(1.0, 1.3), w * s.between(1.0, 1.4))
    body = s.smallest(s.body) * s.between(1.0, 1.4)
    if s.body.wide and s.chance(s.style.vertical):
        step = body * s.between(1.3, 1.7)
        for x in np.arange(sheet.size[1] - body, body, -step):
            s.down(sheet, s.body, x, body * 0.7, sheet.size[0] - body, body, colors.ink)
    else:
        _paragraphs(sheet, s, colors, body, None)
    photographed(page, sheet, s)


def _old_book(page: Canvas, s: Setter) -> None:
    """Browned paper with foxing, the other side's ink, and letterpress that is worn and uneven."""
    h, w = page.size
    sheet, _ = blank_sheet(s, h * s.between(1.0, 1.2), w * s.between(1.0, 1.2))
    size = sheet.size
    tone = s.one_of(list(_AGED))
    sheet.image *= tone / sheet.image.mean(axis=(0, 1))
    stains = np.clip(fractal(size, max(size) / 3, s.rng, 5) - s.between(0.3, 1.2), 0, 2)[..., None]
    sheet.image *= 1 - stains * s.between(0.05, 0.2) * np.array([0.6, 0.9, 1.3], np.float32)
    spots = cv2.GaussianBlur((fractal(size, 12, s.rng, 3) > 2.5).astype(np.float32), (0, 0), 1.5)[..., None]
    sheet.image *= 1 - spots * np.array([0.15, 0.25, 0.4], np.float32)
    np.clip(sheet.image, 0, 1, out=sheet.image)
    body = s.smallest(s.body) * s.between(1.0, 1.6)
    ink = np.array([0.13, 0.1, 0.08], np.float32) + np.float32(s.between(0, 0.12))
    colors = Palette(tone, ink, ink)
    back = Canvas.of(*size, WHITE)
    s.block(back, s.body, size[1] * 0.05, size[1] * 0.95, 0, size[0], body, DARK, 0, 1.5)
    ghost = cv2.GaussianBlur(back.mask[:, ::-1], (0, 0), 1.5)[..., None]
    sheet.image *= 1 - ghost * np.float32(s.between(0.0, 0.12))
    worn = s.between(0.02, 0.12)
    _paragraphs(sheet, s, colors, body, Ink(worn=worn, texture=s.between(0.1, 0.4), min_contrast=s.style.min_contrast))
    photographed(page, sheet, s)


def _label(page: Canvas, s: Setter) -> None:
    """What stands on the back of a thing: names with values, small, with a code, on plastic, metal, card or paper."""
    h, w = page.size
    name = s.one_of(["paint", "paint", "metal", "cardboard", "paper", "fabric"])
    page.image[:] = SURFACES[s.one_of(["wood", "fabric", "paint", "metal"])]((h, w), s.rng).clip(0, 1)
    high, wide = int(h * s.between(0.7, 1.3)), int(w * s.between(0.8, 1.4))
    sheet = Canvas(SURFACES[name]((high, wide), s.rng).clip(0, 1).astype(np.float32))
    if s.chance(0.5):  # a white or silver sticker
        sheet.image += (np.float32(s.between(0.75, 0.95)) - sheet.image) * np.float32(s.between(0.7, 1.0))
    bright = float((sheet.image @ LUMA32).mean()) > 0.45
    ink = s.ink_on(DARK if bright else WHITE, sheet.image.mean(axis=(0, 1)), 30)
    body = s.smallest(s.body) * s.between(1.0, 1.5)
    y, pad, step = high * s.between(0.02, 0.1), wide * s.between(0.04, 0.1), body * s.between(1.25, 1.6)
    while high - y > 1.5 * step:
        kind = s.rng.random()
        if kind < 0.12 and high - y > 4 * step:
            marks.bar_code(sheet, pad, y, pad + wide * s.between(0.3, 0.6), y + 2 * step, ink, s.rng)
            y += 2 * step
        elif kind < 0.2:
            marks.rule(sheet, pad, wide - pad, y + step * 0.4, ink, s.between(1, 2.5))
        elif kind < 0.6:
            end = s.line(sheet, s.body, pad, pad + wide * 0.45, y + body, body, ink, fill=0.6)
            left = max(end or 0, pad + wide * 0.1) + body * 0.5
            s.line(sheet, s.body, left, wide - pad, y + body, body, ink, 0, figures.figure(s.rng))
        else:
            s.line(sheet, s.body, pad, wide - pad, y + body, body, ink, fill=s.between(0.4, 1.1))
        y += step
    weather(sheet, s, 0.9)
    x, y = s.rng.random() * (w - wide), s.rng.random() * (h - high)
    lay(page, sheet, s, (x, y, x + wide, y + high), 4.0, 0.12)
