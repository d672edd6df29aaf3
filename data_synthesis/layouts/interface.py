"""Screenshots: flat colours, much empty space, small text in one face, at times with sub-pixel rendering."""

import numpy as np

from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.palette import SCREENS, Palette
from tadisr.data_synthesis.layouts.screen import toward
from tadisr.data_synthesis.layouts.typesetting import Setter


def interface(page: Canvas, s: Setter) -> None:
    """One of them; it fills the page as it left the computer."""
    colors = s.colors(SCREENS)
    if s.chance(0.45):  # exactly white, as most windows are
        white = np.ones(3, np.float32)
        ink = np.full(3, s.between(0, 0.25), np.float32)
        colors = Palette(white, ink, s.ink_on(colors.accent, white, 30))
    s.finish = 0.0
    s.head = s.body if s.chance(0.6) else s.head
    sheet = Canvas.of(*page.size, colors.ground)
    size = s.smallest(s.body) * s.between(1.0, 1.7)
    s.one_of([_rows, _rows, _rows, _grid, _grid, _article, _article, _article, _slide, _dialogue, _dialogue])(
        sheet, s, colors, size
    )
    if s.chance(0.4):
        fringe(sheet)
    page.image[:] = sheet.image
    page.mask[:], page.taken, page.lines = sheet.mask, sheet.taken, sheet.lines


def fringe(sheet: Canvas) -> None:
    """What sub-pixel rendering does to text, in place: red lies a third of a pixel to the left, blue to the right."""
    near = np.maximum(sheet.mask, np.maximum(np.roll(sheet.mask, 1, axis=1), np.roll(sheet.mask, -1, axis=1))) > 0
    for channel, step in ((0, -1), (2, 1)):
        values = sheet.image[..., channel]
        moved = values * np.float32(2 / 3) + np.roll(values, step, axis=1) * np.float32(1 / 3)
        sheet.image[..., channel] = np.where(near, moved, values)


def _rows(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A menu, settings or files: a row each, with a sign, a name, a value."""
    h, w = sheet.size
    ground, ink, accent = colors
    step, left = size * s.between(1.5, 3.2), w * s.between(0.02, 0.3)
    y, ruled, values, signs = -step * s.rng.random(), s.chance(0.4), s.chance(0.5), s.chance(0.5)
    chosen = int(s.rng.integers(0, 12))
    for row in range(int(h / step) + 2):
        top, bottom = y + row * step, y + (row + 1) * step
        color = ink
        if row == chosen:
            sheet.box(left * 0.6, top, w, bottom, toward(ground, accent, s.between(0.1, 1.0)), s.between(0, 8))
            color = s.ink_on(ink, sheet.image[int(np.clip((top + bottom) / 2, 0, h - 1)), int(w * 0.6)], 30)
        elif ruled:
            marks.rule(sheet, left * 0.6, w, top, toward(ground, ink, 0.15))
        if s.chance(0.12):  # a heading
            s.label(sheet, s.head, (left, top, w - size, bottom), accent, size * 1.2 / step, 0.0)
            continue
        x = left
        if signs:
            marks.pictogram(sheet, left + size * 0.5, (top + bottom) / 2, size, toward(color, accent, 0.5), s.rng)
            x += size * 1.8
        split = w * s.between(0.6, 0.75) if values else w - size
        s.label(sheet, s.body, (x, top, split, bottom), color, size / step, 0.0)
        if values and s.chance(0.7):
            pale = s.ink_on(toward(color, ground, 0.35), ground, 30)
            s.label(sheet, s.body, (split + size, top, w - size, bottom), pale, size / step, 1.0, figures.figure(s.rng))


def _grid(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A table of a spreadsheet, a monitor or a calendar."""
    h, w = sheet.size
    ground, ink, accent = colors
    step, columns = size * s.between(1.5, 2.4), max(2, min(int(s.rng.integers(2, 6)), int(w / (4 * size))))
    edges = np.concatenate([[0], s.rng.uniform(0.6, 1.4, columns).cumsum()])
    edges = -w * 0.1 * s.rng.random() + edges * (w * s.between(1.0, 1.2) / edges[-1])
    y, lines, filled = -step * s.rng.random(), s.chance(0.6), s.chance(0.4)
    makers = [None if s.chance(0.35) else s.one_of(figures.FIGURES) for _ in range(columns)]
    for row in range(int(h / step) + 2):
        top, bottom = y + row * step, y + (row + 1) * step
        for i, maker in enumerate(makers):
            color = ink
            if filled and s.chance(0.4):
                fill = toward(ground, accent, s.between(0.05, 0.5))
                sheet.box(edges[i], top, edges[i + 1], bottom, fill)
                color = s.ink_on(ink, fill, 30)
            box = (edges[i] + size * 0.4, top, edges[i + 1] - size * 0.4, bottom)
            text = maker(s.rng) if maker and row != 1 else None
            s.label(sheet, s.head if row == 1 else s.body, box, color, size / step, 1.0 if text else 0.0, text)
        if lines:
            marks.rule(sheet, 0, w, top, toward(ground, ink, 0.25), 1.0)
    for edge in edges if lines else ():
        sheet.box(edge, 0, edge + 1, h, toward(ground, ink, 0.25))


def _article(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A page of the web or a text: headings, paragraphs, links, points."""
    h, w = sheet.size
    ground, ink, accent = colors
    y, left, right = size * s.between(-1.0, 2.0), w * s.between(0.02, 0.12), w * s.between(0.88, 1.0)
    while y < h:
        kind = s.rng.random()
        if kind < 0.25:
            big = min(size * s.between(1.1, 2.0), s.style.font_size[1])
            s.line(sheet, s.head, left, right, y + big, big, ink)
            y += big * 1.6
        elif kind < 0.4:
            s.line(sheet, s.body, left, right, y + size, size, accent, fill=s.between(0.3, 1.0))
            y += size * 1.7
        elif kind < 0.6:
            for _ in range(int(s.rng.integers(1, 5))):
                sheet.box(left, y + size * 0.5, left + size * 0.3, y + size * 0.8, ink, size)
                s.line(sheet, s.body, left + size, right, y + size, size, ink, fill=s.between(0.3, 1.1))
                y += size * 1.55
        else:
            color = s.ink_on(toward(ink, ground, s.between(0, 0.35)), ground, 30)
            y = s.block(sheet, s.body, left, right, y, h + 2 * size, size, color, 0, 1.5, int(s.rng.integers(1, 6)))
        y += size * s.between(0.4, 1.8)


def _slide(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """A slide: one colour or a gradient, a title, a line or two, all of it large."""
    h, w = sheet.size
    ground = colors.accent if s.chance(0.5) else colors.ground
    ramp = np.linspace(0, s.between(0, 0.6), h, dtype=np.float32)[:, None, None]
    sheet.image[:] = ground + (np.asarray(s.between(0, 1), np.float32) - ground) * ramp * np.float32(s.chance(0.5))
    ink = s.ink_on(np.full(3, 1.0 if s.chance(0.6) else 0.05, np.float32), ground)
    y, align, pad = h * s.between(0.02, 0.4), s.one_of([0.0, 0.5]), w * s.between(0.04, 0.15)
    for i in range(int(s.rng.integers(1, 5))):
        big = s.em(0, h * (0.16 if i == 0 else 0.09)) * (1.2 if s.head.wide else 1)
        if y + big > h:
            break
        text = figures.date(s.rng) if i and s.chance(0.25) else None
        s.line(sheet, s.head if i == 0 else s.body, pad, w - pad, y + big, big, ink, align, text, fill=0.9)
        y += big * s.between(1.3, 2.6)


def _dialogue(sheet: Canvas, s: Setter, colors: Palette, size: float) -> None:
    """Fields with their names, and buttons."""
    h, w = sheet.size
    ground, ink, accent = colors
    y, left, right = size * s.between(0, 1.5), w * s.between(0.03, 0.1), w * s.between(0.85, 0.99)
    beside, round_ = s.chance(0.4), s.between(0, size * 0.6)
    while h - y > 2 * size:
        if s.chance(0.25):
            wide = (right - left) * s.between(0.3, 0.6)
            fill = accent if s.chance(0.6) else toward(ground, ink, 0.12)
            sheet.box(left, y, left + wide, y + size * 2, fill, round_)
            s.label(sheet, s.body, (left + 6, y, left + wide - 6, y + size * 2), s.ink_on(ground, fill, 30), 0.5)
            y += size * s.between(2.6, 3.6)
            continue
        x = left + (right - left) * 0.35 if beside else left
        end = x - size * 0.5 if beside else right
        s.label(sheet, s.body, (left, y, end, y + size * 1.9), ink, 0.53, 1.0 if beside else 0.0)
        y += 0 if beside else size * 1.9
        sheet.box(x, y, right, y + size * 1.9, toward(ground, ink, 0.3), round_, 1.2)
        text = figures.figure(s.rng) if s.chance(0.5) else None
        s.label(sheet, s.body, (x + size * 0.5, y, right - size * 0.5, y + size * 1.9), ink, 0.53, 0.0, text)
        y += size * s.between(2.3, 3.0)
