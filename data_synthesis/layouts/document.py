"""Printed pages, photographed or scanned: headings, paragraphs, columns, lists, rules."""

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import paper
from tadisr.data_synthesis.layouts import marks
from tadisr.data_synthesis.layouts.camera import bend, lay, weather
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.palette import PAPERS, Palette
from tadisr.data_synthesis.layouts.typesetting import Setter


def blank_sheet(s: Setter, h: float, w: float) -> tuple[Canvas, Palette]:
    """A sheet of paper and the colours that are printed on it."""
    sheet, colors, _, _ = s.blank(h, w, PAPERS)
    texture = paper(sheet.size, s.rng)
    sheet.image = (sheet.image * (0.96 * texture / texture.mean(axis=(0, 1)))).clip(0, 1)
    if s.chance(0.4):  # faded or photocopied
        faded = colors.ink + (colors.ground - colors.ink) * np.float32(s.between(0, 0.35))
        colors = colors._replace(ink=s.ink_on(faded, colors.ground, 30))
    return sheet, colors


def photographed(page: Canvas, sheet: Canvas, s: Setter) -> None:
    """Put a finished sheet in view: scanned, near by, or with the table around it."""
    (h, w), (sh, sw) = page.size, sheet.size
    if s.chance(0.25):
        sheet = bend(sheet, s, s.between(0.005, 0.03) * sh)
    if s.chance(0.3):  # scanned: nothing but the sheet
        x, y = s.rng.random() * min(w - sw, 0), s.rng.random() * min(h - sh, 0)
        lay(page, sheet, s, (x, y, max(x + sw, w), max(y + sh, h)), 0.3, 0.0)
    else:
        weather(sheet, s, 0.8)
        x, y = s.rng.random() * (w - sw), s.rng.random() * (h - sh)
        lay(page, sheet, s, (x, y, x + sw, y + sh), 2.5, 0.09)


def document(page: Canvas, s: Setter) -> None:
    """A page of running text with headings, rules and perhaps a picture."""
    h, w = page.size
    sheet, colors = blank_sheet(s, h * s.between(0.9, 1.35), w * s.between(0.75, 1.3))
    high, wide = sheet.size
    body = max(s.em(0, 52), s.smallest(s.body))
    pad, y = wide * s.between(0.06, 0.12), high * s.between(0.03, 0.09)
    if s.chance(0.2):  # the other side's lines, mirrored and faint: no text of this page
        back = Canvas.of(high, wide, colors.ground)
        s.block(back, s.body, wide * 0.08, wide * 0.92, high * 0.1, high * 0.9, body, colors.ink)
        ghost = cv2.GaussianBlur(back.mask[:, ::-1], (0, 0), 1.5)[..., None] * np.float32(s.between(0.02, 0.07))
        sheet.image += (colors.ink - sheet.image) * ghost
    if s.body.wide and s.chance(s.style.vertical):
        _upright(sheet, s, colors, body, pad)
    else:
        _running_text(sheet, s, colors, body, pad, y)
    photographed(page, sheet, s)


def _running_text(sheet: Canvas, s: Setter, colors: Palette, body: float, pad: float, y: float) -> None:
    """A running head and a heading, or neither, and one to three columns, from y downwards."""
    high, wide = sheet.size
    if s.chance(0.4):  # running head
        small = max(s.smallest(s.body), body * 0.75)
        s.line(sheet, s.body, pad, wide - pad, y + small, small, colors.ink, s.one_of([0.0, 0.5, 1.0]))
        y += small * 1.4
        if s.chance(0.6):
            marks.rule(sheet, pad, wide - pad, y, colors.ink, s.between(0.8, 2))
        y += small * 0.6
    if s.chance(0.65):
        size = min(body * s.between(1.4, 2.6), s.style.font_size[1])
        color = colors.ink if s.chance(0.7) else colors.accent
        rows = int(s.rng.integers(1, 3))
        y = s.block(sheet, s.head, pad, wide - pad, y, high, size, color, s.one_of([0.0, 0.5]), 1.25, rows) + size / 2
    columns = s.one_of([1, 1, 1, 2, 3]) if wide > 24 * body else 1
    gap, bottom = body * 1.2, high - pad * 0.6
    cw = (wide - 2 * pad - (columns - 1) * gap) / columns
    leading, align = s.between(1.25, 1.75), 0.5 * s.chance(0.15)
    for column in range(columns):
        x = pad + column * (cw + gap)
        if column and s.chance(0.4):
            sheet.box(x - gap / 2, y, x - gap / 2 + 1, bottom, colors.ink, opacity=0.6)
        _column(sheet, s, (x, y, x + cw, bottom), colors, body, leading, align)


def _column(
    sheet: Canvas, s: Setter, box: tuple[float, float, float, float], colors: Palette, body: float, leading: float,
    align: float,
) -> None:  # fmt: skip
    """Paragraphs, headings, lists and pictures from the top of the box down to its bottom."""
    x0, y, x1, bottom = box
    indent, ink = 1.6 * body * (align == 0 and s.chance(0.4)), colors.ink
    while bottom - y > 2 * body:
        kind = s.rng.random()
        if kind < 0.2:  # heading
            size = body * s.between(1.05, 1.4)
            s.line(sheet, s.head, x0, x1, y + size, size, colors.accent if s.chance(0.5) else ink, align)
            y += size * 1.5
        elif kind < 0.3 and bottom - y > 6 * body:  # picture
            tall = min((x1 - x0) * s.between(0.3, 0.6), (bottom - y) * 0.6)
            picture = s.picture(tall, x1 - x0)
            if s.chance(0.4):
                picture = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
            sheet.picture(x0, y, x1, y + tall, picture)
            y += tall + body * 0.5
        elif kind < 0.45:  # list
            for i in range(int(s.rng.integers(2, 6))):
                if bottom - y < 1.6 * body:
                    break
                end = s.line(sheet, s.body, x0, x0 + 3 * body, y + body, body, ink, 0, s.one_of([f"{i + 1}.", "-"]))
                s.line(sheet, s.body, (end or x0) + body * 0.5, x1, y + body, body, ink)
                y += body * leading
            y += body * 0.4
        else:
            if indent:
                s.line(sheet, s.body, x0 + indent, x1, y + 0.8 * body * leading, body, ink, fill=1)
                y += body * leading
            end = s.block(sheet, s.body, x0, x1, y, bottom, body, ink, align, leading, int(s.rng.integers(2, 9)))
            y = max(end, y + body) + (0 if indent else body * s.between(0.3, 0.8))


def _upright(sheet: Canvas, s: Setter, colors: Palette, body: float, pad: float) -> None:
    """Columns of upright characters from right to left, at times between rules."""
    h, w = sheet.size
    step, rules = body * s.between(1.4, 1.9), s.chance(0.4)
    for x in np.arange(w - pad - body / 2, pad + body / 2, -step):
        s.down(sheet, s.body, x, pad, h - pad * s.between(1, 3), body, colors.ink)
        if rules:
            sheet.box(x - step / 2, pad * 0.7, x - step / 2 + 1, h - pad * 0.7, colors.accent, opacity=0.7)
