"""Posters and advertisements: a title, a subtitle, prices, small print, blocks of colour, pictures."""

import numpy as np

from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.camera import lay, weather
from tadisr.data_synthesis.layouts.canvas import Canvas, Color
from tadisr.data_synthesis.layouts.palette import PRINTS, WHITE, Palette
from tadisr.data_synthesis.layouts.typesetting import Setter


def poster(page: Canvas, s: Setter) -> None:
    """A poster that fills the view, or hangs on what is behind it."""
    h, w = page.size
    if s.chance(0.55):
        s.finish *= s.between(0.3, 1.0)  # as it left the designer's computer, or photographed
        page.mount(_design(s, h, w), np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32))
        return
    high, wide = h * s.between(0.75, 1.15), w * s.between(0.6, 1.05)
    sheet = _design(s, high, wide)
    weather(sheet, s, 0.7)
    x, y = s.between(-0.02, 1) * max(w - wide, 0), (h - high) * s.between(0.2, 0.8)
    lay(page, sheet, s, (x, y, x + wide, y + high), 2.5, 0.09)


def _design(s: Setter, h: float, w: float) -> Canvas:
    sheet, colors, _, _ = s.blank(h, w, PRINTS)
    s.one_of([_stacked, _pictured, _pictured, _offer, _programme])(sheet, s, colors)
    return sheet


def _stacked(sheet: Canvas, s: Setter, colors: Palette) -> None:
    """Words of different sizes, one under the other, about as wide as the sheet."""
    h, w = sheet.size
    pad, y, align = w * s.between(0.05, 0.1), h * s.between(0.03, 0.08), s.one_of([0.0, 0.5, 0.5])
    if s.chance(0.4):
        sheet.box(pad / 2, pad / 2, w - pad / 2, h - pad / 2, colors.accent, s.between(0, 12), s.between(1.5, 6))
        y += pad / 2
    bottom = h - pad
    while bottom - y > 1.5 * s.style.font_size[0]:
        size = min(s.em(0, h * 0.24) * s.between(1, 1.5), bottom - y - 4, s.style.font_size[1])
        color = colors.ink if s.chance(0.7) else colors.accent
        voice = s.head if s.chance(0.7) else s.body
        if s.chance(0.15) and size < h * 0.2:  # reversed out of a bar
            sheet.box(pad, y, w - pad, y + size * 1.5, colors.accent, s.between(0, size * 0.7))
            s.label(sheet, voice, (pad * 1.3, y, w - pad * 1.3, y + size * 1.5), colors.ground, 0.66)
            y += size * 1.75
        elif s.chance(0.12):
            marks.rule(sheet, pad, w - pad, y + 4, colors.accent, s.between(1, 4))
            y += 12
        elif size < 26:
            y = s.block(sheet, s.body, pad, w - pad, y, min(bottom, y + size * 5), size, color, align) + size * 0.4
        else:
            s.line(sheet, voice, pad, w - pad, y + size, size, color, align, effect=s.effect())
            y += size * s.between(1.2, 1.45)


def _pictured(sheet: Canvas, s: Setter, colors: Palette) -> None:
    """A picture that bleeds, with the text on the rest of the sheet or upon the picture, under a veil."""
    h, w = sheet.size
    pad, over, at_top = w * s.between(0.05, 0.09), s.chance(0.4), s.chance(0.6)
    tall = h if over else h * s.between(0.35, 0.62)
    top = 0.0 if at_top or over else h - tall
    sheet.picture(0, top, w, top + tall, s.picture(tall, w))
    ink, accent = colors.ink, colors.accent
    if over:
        ramp = np.linspace(s.between(0, 0.5), s.between(0.6, 0.95), h, dtype=np.float32)[:, None, None]
        veil = colors.ground if s.chance(0.5) else np.zeros(3, np.float32)
        sheet.image += (veil - sheet.image) * ramp
        accent = ink
    low, high = (h * 0.45, h) if over else (tall, h) if at_top else (0.0, h - tall)
    y, align = low + h * 0.03, s.one_of([0.0, 0.5])
    size = min(s.em(28, h * 0.16), (high - low) * 0.4)
    s.line(sheet, s.head, pad, w - pad, y + size, size, ink, align, effect=s.effect())
    y += size * 1.35
    if high - y > 3 * s.style.font_size[0]:
        size *= s.between(0.4, 0.6)
        s.line(sheet, s.body, pad, w - pad, y + size, size, accent, align)
        y += max(size, s.style.font_size[0]) * 1.6
    size = s.em(0, 30)
    s.block(sheet, s.body, pad, w - pad, y, high - size * 0.7, size, ink, align)
    if s.chance(0.5) and not over:
        x, y = w * s.between(0.2, 0.8), top + tall * s.between(0.35, 0.7)
        bubble(sheet, s, x, y, w * s.between(0.1, 0.17), accent)


def bubble(sheet: Canvas, s: Setter, x: float, y: float, radius: float, color: Color) -> None:
    """A price, a discount or a word in a disc or star of `radius`, where there is no text yet."""
    corners = np.array([x, y], np.float32) + radius * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    if radius < 1.6 * s.style.font_size[0] or not sheet.is_free(corners):
        return
    marks.burst(sheet, x, y, radius, color, s.rng)
    text = figures.price(s.rng) if s.chance(0.5) else figures.percent(s.rng) if s.chance(0.5) else None
    box = (x - radius * 0.85, y - radius * 0.5, x + radius * 0.85, y + radius * 0.5)
    s.label(sheet, s.head, box, WHITE, s.between(0.5, 0.75), 0.5, text)
    for low, high in ((-0.78, -0.46), (0.46, 0.78)):
        if s.chance(0.6):
            box = (x - radius * 0.6, y + radius * low, x + radius * 0.6, y + radius * high)
            s.label(sheet, s.body, box, WHITE, 0.8)
    sheet.take(corners)


def _offer(sheet: Canvas, s: Setter, colors: Palette) -> None:
    """Articles in a grid, each with a picture, a name and a price, beneath a head band."""
    h, w = sheet.size
    low = s.smallest(s.body)
    band = max(h * s.between(0.12, 0.22), 2 * low)
    sheet.box(0, 0, w, band, colors.accent)
    effect = s.effect(1.5)
    s.label(sheet, s.head, (w * 0.04, 0, w * 0.96, band), colors.ground, s.between(0.5, 0.65), effect=effect)
    columns = int(s.rng.integers(1, 4))
    rows = max(1, min(int(s.rng.integers(1, 4)), int((h - band) / (7 * low))))
    cw, ch = w / columns, (h - band) / rows
    red = s.ink_on(np.array([0.78, 0.1, 0.12], np.float32), colors.ground) if s.chance(0.6) else colors.accent
    wide, tall = cw * 0.9, ch * 0.52
    for row, column in np.ndindex(rows, columns):
        x, y = column * cw + cw * 0.05, band + row * ch + ch * 0.05
        sheet.picture(x, y, x + wide, y + tall, s.picture(tall, wide), s.between(0, 10))
        name = max(min(s.em(0, ch * 0.14), ch * 0.17), low)
        cost = max(s.between(0.15, 0.22) * ch, low)
        y += tall + name * 1.15
        s.line(sheet, s.body, x, x + wide, y, name, colors.ink)
        y += cost * 1.1
        end = s.line(sheet, s.head, x, x + wide, y, cost, red, 0, figures.price(s.rng))
        if end and s.chance(0.5):
            s.line(sheet, s.body, end + 0.4 * cost, x + wide, y, cost * 0.6, colors.ink, 0, figures.amount(s.rng))


def _programme(sheet: Canvas, s: Setter, colors: Palette) -> None:
    """A flyer: a title, then sections with headings and pictures in one or two columns."""
    h, w = sheet.size
    pad = w * 0.06
    size = min(s.em(30, h * 0.14), h * 0.2)
    title, align = colors.ink, 0.0
    if s.chance(0.5):
        sheet.box(0, 0, w, size * 1.9, colors.accent)
        title, align = colors.ground, 0.5
    s.label(sheet, s.head, (pad, 0, w - pad, size * 1.9), title, 0.53, align, effect=s.effect())
    columns = int(s.rng.integers(1, 3))
    gap = pad * 0.7
    wide, bottom = (w - 2 * pad - (columns - 1) * gap) / columns, h - pad * 0.5
    body = s.em(0, 36)
    for column in range(columns):
        x, y = pad + column * (wide + gap), size * 2.2
        while bottom - y > 3 * body:
            if s.chance(0.25) and bottom - y > wide * 0.6:
                tall = wide * s.between(0.4, 0.6)
                sheet.picture(x, y, x + wide, y + tall, s.picture(tall, wide))
                y += tall + body * 0.6
            head = body * s.between(1.15, 1.6)
            s.line(sheet, s.head, x, x + wide, y + head, head, colors.accent)
            y += head * 1.35
            end = min(bottom, y + body * s.between(3, 9))
            y = s.block(sheet, s.body, x, x + wide, y, end, body, colors.ink) + body * 0.7
