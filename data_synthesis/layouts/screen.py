"""What displays show: windows, chats, telephones, terminals, web pages."""

import numpy as np

from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.camera import lay
from tadisr.data_synthesis.layouts.canvas import Canvas, Color
from tadisr.data_synthesis.layouts.palette import DARK, SCREENS, WHITE, Palette, luma
from tadisr.data_synthesis.layouts.typesetting import Setter


def screen(page: Canvas, s: Setter) -> None:
    """A screenshot that fills the page, or a display that was photographed."""
    h, w = page.size
    colors, kind = s.colors(SCREENS), s.one_of([_chat, _window, _terminal, _web, _web, _telephone])
    size = max(s.em(0, 42), s.smallest(s.body))
    full = s.chance(0.6)
    sheet = Canvas.of(*((h, w) if full else (h * s.between(0.7, 1.1), w * s.between(0.7, 1.1))), colors.ground)
    kind(sheet, s, colors, size)
    if full:
        s.finish *= 0.4
        page.mount(sheet, np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32))
        return
    high, wide = sheet.size
    bezel = max(3.0, 0.02 * wide)
    sheet.box(0, 0, wide, high, DARK, bezel, bezel)
    x, y = (w - wide) * s.rng.random(), (h - high) * s.rng.random()
    lay(page, sheet, s, (x, y, x + wide, y + high), 3, 0.1)


def toward(color: Color, other: Color, amount: float) -> Color:
    """A colour between two, `amount` of the way."""
    return (color + (other - color) * amount).astype(np.float32)


def _title_bar(sheet: Canvas, s: Setter, colors: Palette, size: float) -> float:
    """A bar with a title and three buttons; its height."""
    h, w = sheet.size
    tall, radius = size * 2.0, size * 0.3
    sheet.box(0, 0, w, tall, toward(colors.ground, colors.ink, 0.1))
    for i, color in enumerate(np.array([[0.93, 0.38, 0.35], [0.95, 0.74, 0.29], [0.38, 0.77, 0.33]], np.float32)):
        x = size * (0.9 + i)
        sheet.box(x - radius, tall / 2 - radius, x + radius, tall / 2 + radius, color, radius)
    s.label(sheet, s.body, (size * 4, 0, w - size, tall), colors.ink, 0.5)
    return tall


def _window(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A title bar, a side bar, a message, fields to fill in, two buttons."""
    h, w = sheet.size
    ground, ink, accent = colors
    y, x = _title_bar(sheet, s, colors, size), 0.0
    if s.chance(0.6) and w > 14 * size:
        x = w * 0.3
        sheet.box(0, y, x, h, toward(ground, ink, 0.06))
        chosen = int(s.rng.integers(0, 6))
        for i, top in enumerate(np.arange(y + size * 0.5, h - 2 * size, 2 * size)):
            color = WHITE if i == chosen else ink
            if i == chosen:
                sheet.box(size * 0.3, top, x - size * 0.3, top + size * 1.8, accent, size * 0.4)
            marks.pictogram(sheet, size * 1.2, top + size * 0.9, size, color, s.rng)
            s.label(sheet, s.body, (size * 2.2, top, x - size * 0.5, top + size * 1.8), color, 0.55, 0.0)
    x0, x1, y = x + size, w - size, y + size * 0.7
    s.line(sheet, s.head, x0, x1, y + size * 1.5, size * 1.5, ink)
    y += size * 2.4
    while h - y > 5.5 * size:
        if s.chance(0.45):
            y = max(s.block(sheet, s.body, x0, x1, y, min(h - 3 * size, y + 5 * size), size, ink), y) + size * 0.6
            continue
        s.line(sheet, s.body, x0, x1, y + size, size, ink)
        y += size * 1.4
        sheet.box(x0, y, x1, y + size * 1.9, toward(ground, WHITE, 0.5), size * 0.3)
        sheet.box(x0, y, x1, y + size * 1.9, toward(ground, ink, 0.3), size * 0.3, 1.2)
        text = figures.figure(s.rng) if s.chance(0.4) else None
        s.label(sheet, s.body, (x0 + size * 0.5, y, x1 - size * 2, y + size * 1.9), ink, 0.53, 0.0, text)
        y += size * 2.5
    wide = min((x1 - x0) * 0.45, 9 * size)
    for i, fill in enumerate((accent, toward(ground, ink, 0.15))):
        right = x1 - i * (wide + size * 0.6)
        sheet.box(right - wide, h - size * 2.7, right, h - size * 0.7, fill, size * 0.4)
        s.label(sheet, s.body, (right - wide + 6, h - size * 2.7, right - 6, h - size * 0.7), WHITE, 0.5)


def _chat(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """Bubbles left and right beneath a head."""
    h, w = sheet.size
    ground, ink, accent = colors
    sheet.box(0, 0, w, size * 2.2, toward(ground, ink, 0.08))
    s.label(sheet, s.head, (size, 0, w - size, size * 2.2), ink, 0.48)
    y = size * 2.9
    while h - y > 2.6 * size:
        mine, wide = s.chance(0.45), w * s.between(0.35, 0.72)
        tall = size * (1.4 * s.rng.integers(1, 4) + 0.8)
        if y + tall > h:
            break
        x = w - size - wide if mine else size * 2.6
        if not mine:
            sheet.picture(size * 0.3, y, size * 2.1, y + size * 1.8, s.picture(40, 40), size * 0.9)
        sheet.box(x, y, x + wide, y + tall, accent if mine else toward(ground, ink, 0.1), size * 0.6)
        color = WHITE if mine else ink
        s.block(sheet, s.body, x + size * 0.6, x + wide - size * 0.6, y + size * 0.35, y + tall, size, color)
        y += tall + size * 0.8
        if s.chance(0.15):
            gray = toward(ground, ink, 0.65)
            s.line(sheet, s.body, size, w - size, y + size, size * 0.8, gray, 0.5, figures.date(s.rng))
            y += size * 1.6


def _terminal(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """Lines of code or of a log in several colours, with their numbers."""
    h, w = sheet.size
    ground, ink, _ = colors
    if luma(ground) > 0.5 and s.chance(0.7):
        ground, ink = np.array([0.09, 0.1, 0.12], np.float32), np.array([0.85, 0.86, 0.88], np.float32)
        sheet.image[:] = ground
    y = _title_bar(sheet, s, colors._replace(ground=ground, ink=ink), size) if s.chance(0.6) else 0.0
    tints = np.array([[0.55, 0.8, 0.45], [0.9, 0.6, 0.35], [0.45, 0.7, 0.95], [0.85, 0.45, 0.6]], np.float32)
    inks = [ink, ink, *(s.ink_on(tint, ground, 30) for tint in tints)]
    voice, numbered, depth = s.voice(), s.chance(0.5), 0
    for row in range(int((h - y) / (size * 1.4))):
        x, baseline = size * 0.5, y + (row + 1) * size * 1.4
        if numbered:
            gray = toward(ground, ink, 0.55)
            s.line(sheet, voice, x, x + size * 1.7, baseline, size, gray, 1.0, str(row + 1))
            x += size * 2.3
        depth = int(np.clip(depth + s.rng.integers(-1, 2), 0, 4))
        x += depth * size * 1.1
        for _ in range(int(s.rng.integers(0, 4))):
            if x > w - 3 * size:
                break
            text, right = figures.figure(s.rng) if s.chance(0.2) else None, min(w - size, x + size * 9)
            end = s.line(sheet, voice, x, right, baseline, size, s.one_of(inks), 0, text)
            x = (end or w) + size * 0.45


def _web(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A head with tabs, cards with a picture, a headline, a teaser and a price or a button."""
    h, w = sheet.size
    ground, ink, accent = colors
    loud = s.chance(0.4)
    sheet.box(0, 0, w, size * 2.4, accent if loud else toward(ground, ink, 0.05))
    x, color = size, WHITE if loud else ink
    marks.pictogram(sheet, x + size * 0.5, size * 1.2, size * 1.4, color, s.rng)
    x += size * 1.8
    while x < w - 4 * size:
        end = s.line(sheet, s.body, x, min(w - size, x + 6 * size), size * 1.55, size, color)
        x = w if end is None else end + size * 1.2
    y = size * 3
    while h - y > 4 * size:
        tall, side = min(size * s.between(4, 8), h - y - 2), w * s.between(0.28, 0.42)
        x0, x1, bottom = size * 1.2 + side, w - size * 0.9, y + tall
        sheet.box(size * 0.5, y, w - size * 0.5, bottom, toward(ground, ink, 0.04), size * 0.4)
        picture = s.picture(tall, side)
        sheet.picture(size * 0.9, y + size * 0.4, size * 0.5 + side, bottom - size * 0.4, picture, size * 0.3)
        big = size * s.between(1.1, 1.4)
        s.line(sheet, s.head, x0, x1, y + size * 0.4 + big, big, ink)
        top = y + size * 0.4 + big * 1.4
        top = s.block(sheet, s.body, x0, x1, top, bottom - 1.9 * size, size, toward(ink, ground, 0.25))
        if bottom - top > 1.9 * size:
            if s.chance(0.5):
                red = np.array([0.85, 0.15, 0.1], np.float32)
                s.line(sheet, s.head, x0, x1, bottom - size * 0.6, size * 1.15, red, 0, figures.price(s.rng))
            else:
                right = x0 + (x1 - x0) * 0.55
                sheet.box(x0, bottom - size * 1.9, right, bottom - size * 0.2, accent, size * 0.8)
                box = (x0 + size * 0.5, bottom - size * 1.9, right - size * 0.5, bottom - size * 0.2)
                s.label(sheet, s.body, box, WHITE)
        y += tall + size * 0.7


def _telephone(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """Settings: a clock, a headline, rows with a switch or a value."""
    h, w = sheet.size
    ground, ink, accent = colors
    clock = f"{s.rng.integers(0, 24)}:{s.rng.integers(0, 60):02d}"
    s.line(sheet, s.body, size, w * 0.5, size * 1.2, size * 0.8, ink, 0, clock)
    sheet.box(w - size * 2.2, size * 0.4, w - size * 0.8, size, ink, 3, 1.5)  # the battery
    sheet.box(w - size * 2.1, size * 0.5, w - size * 1.3, size * 0.9, ink, 2)
    y, big = size * 1.7, min(size * 1.7, s.style.font_size[1])
    s.line(sheet, s.head, size, w - size, y + big, big, ink)
    y += big * 1.5
    while h - y > 2.6 * size:
        rows = max(1, int(min(s.rng.integers(1, 5), (h - y) / (2.2 * size))))
        sheet.box(size * 0.6, y, w - size * 0.6, y + rows * size * 2.2, toward(ground, ink, 0.07), size * 0.6)
        for i in range(rows):
            top, x1 = y + i * size * 2.2, w - size * 1.1
            bottom, x0 = top + size * 2.2, size * 1.2
            if i:
                marks.rule(sheet, x0, w - size * 0.6, top, toward(ground, ink, 0.2))
            if s.chance(0.4):
                on = s.chance(0.5)
                track = accent if on else toward(ground, ink, 0.25)
                sheet.box(x1 - size * 1.8, top + size * 0.6, x1, top + size * 1.6, track, size)
                knob = x1 - size * (0.5 if on else 1.3)
                radius, middle = size * 0.42, top + size * 1.1
                sheet.box(knob - radius, middle - radius, knob + radius, middle + radius, WHITE, radius)
                middle = x1 - 2.2 * size
            else:
                middle = (x0 + x1) / 2
                gray = toward(ink, ground, 0.35)
                s.label(sheet, s.body, (middle, top, x1, bottom), gray, 0.46, 1.0, figures.figure(s.rng))
            s.label(sheet, s.body, (x0, top, middle - size * 0.5, bottom), ink, 0.46, 0.0)
        y += rows * size * 2.2 + size * 0.8
