"""What is set in rows and cells: tables, forms, receipts, menus, tickets."""

import numpy as np

from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.document import blank_sheet, photographed
from tadisr.data_synthesis.layouts.palette import PRINTS, WHITE, Palette
from tadisr.data_synthesis.layouts.typesetting import Setter


def form(page: Canvas, s: Setter) -> None:
    """One of them on a sheet that is larger or smaller than the view."""
    h, w = page.size
    kind = s.one_of([_table, _table, _fields, _receipt, _receipt, _menu, _ticket])
    wide = w * (s.between(0.55, 1.0) if kind is _receipt else s.between(0.85, 1.25))
    high = h * (s.between(0.4, 0.75) if kind is _ticket else s.between(0.9, 1.3))
    sheet, colors = blank_sheet(s, high, wide)
    kind(sheet, s, colors, max(s.em(0, 46), s.smallest(s.body)))
    photographed(page, sheet, s)


def _table(sheet: Canvas, s: Setter, colors: Palette, body: float) -> None:
    """A title, a head row, cells with rulings; figures are flush right."""
    h, w = sheet.size
    pad, y = w * s.between(0.03, 0.08), h * s.between(0.02, 0.08)
    if s.chance(0.7):
        size = body * s.between(1.2, 1.9)
        s.line(sheet, s.head, pad, w - pad, y + size, size, colors.ink, s.one_of([0.0, 0.5]))
        y += size * 1.6
    step = body * s.between(1.5, 2.2)
    columns = max(1, min(int(s.rng.integers(2, 6)), int((w - 2 * pad) / (4.5 * body))))
    shares = s.rng.uniform(0.6, 1.4, columns) * np.where(np.arange(columns) == 0, 1.6, 1)
    edges = pad + (w - 2 * pad) * np.concatenate([[0], (shares / shares.sum()).cumsum()])
    numbers = [None] + [s.one_of(figures.FIGURES) if s.chance(0.75) else None for _ in range(columns - 1)]
    rows, line = int((h - y - pad) / step), s.between(0.8, 2.0)
    stripes, grid, across = s.chance(0.35), s.chance(0.6), s.chance(0.8)
    gray = sheet.image.mean(axis=(0, 1)) * np.float32(0.9)
    head_fill = colors.accent if s.chance(0.4) else gray if s.chance(0.5) else None
    for row in range(rows):
        top, bottom = y + row * step, y + (row + 1) * step
        color, voice = colors.ink, s.body
        if row == 0:
            voice = s.head
            if head_fill is not None:
                sheet.box(pad, top, w - pad, bottom, head_fill)
                color = WHITE if head_fill is colors.accent else colors.ink
        elif stripes and row % 2:
            sheet.box(pad, top, w - pad, bottom, gray, opacity=0.6)
        for i, number in enumerate(numbers):
            if row and s.chance(0.06):
                continue  # an empty cell
            box = (edges[i] + 0.4 * body, top, edges[i + 1] - 0.4 * body, bottom)
            text = number(s.rng) if number and row else None
            s.label(sheet, voice, box, color, body / step, 1.0 if text else 0.0, text)
        if across:
            marks.rule(sheet, pad, w - pad, top, colors.ink, line)
    if across:
        marks.rule(sheet, pad, w - pad, y + rows * step, colors.ink, line)
    if grid:
        for edge in edges:
            sheet.box(edge - line / 2, y, edge + line / 2, y + rows * step, colors.ink)


def _fields(sheet: Canvas, s: Setter, colors: Palette, body: float) -> None:
    """Numbered labels with values on dotted lines or in boxes; boxes to tick; a stamp."""
    h, w = sheet.size
    pad, y, ink = w * 0.06, h * 0.04, colors.ink
    s.line(sheet, s.head, pad, w - pad, y + body * 1.5, body * 1.5, ink, 0.5)
    y += body * 2.7
    hand = s.voice()
    pen = s.ink_on(np.array([0.1, 0.15, 0.5], np.float32), colors.ground) if s.chance(0.4) else ink
    number = 1
    while h - y > 2.2 * body:
        split = pad + (w - 2 * pad) * s.between(0.25, 0.5)
        label = s.body.text(s.rng, max(2, int((split - pad) / (s.body.advance * body)) - 2)).rstrip(":：")
        label = (f"{number}. " if s.chance(0.4) else "") + label + (":" if s.chance(0.5) else "")
        end = s.line(sheet, s.body, pad, split, y + body, body, ink, 0, label) or split
        number += 1
        kind = s.rng.random()
        if kind < 0.15:
            for i in range(3):
                x = split + i * 4 * body
                sheet.box(x, y + body * 0.2, x + body * 0.8, y + body, ink, 0, 1.2)
                if s.chance(0.4):
                    marks.pictogram(sheet, x + body * 0.4, y + body * 0.6, body * 0.9, pen, s.rng, marks.TICK)
                s.line(sheet, s.body, x + body * 1.1, min(x + 3.8 * body, w - pad), y + body, body, ink)
        else:
            if kind < 0.45:
                marks.rule(sheet, end + body * 0.3, w - pad, y + body * 1.2, ink, 1.0, s.between(0, 3))
            elif kind < 0.7:
                sheet.box(split, y - body * 0.2, w - pad, y + body * 1.4, ink, 2, 1.2)
            text = figures.figure(s.rng) if s.chance(0.4) else None
            x = max(end + body * 0.5, split) + 4
            s.line(sheet, hand, x, w - pad - 4, y + body, body * 0.95, pen, 0, text, fill=0.9)
        y += body * s.between(1.8, 2.4)
    if s.chance(0.35):
        _stamp(sheet, s, w * s.between(0.5, 0.8), h * s.between(0.5, 0.8), min(h, w) * 0.16)


def _stamp(sheet: Canvas, s: Setter, x: float, y: float, radius: float) -> None:
    """A ring in red or blue with a line of its own, where nothing is written yet."""
    corners = np.array([x, y], np.float32) + radius * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)
    if sheet.is_free(corners):
        color = np.asarray([0.75, 0.12, 0.15] if s.chance(0.7) else [0.15, 0.2, 0.55], np.float32)
        (left, top), (right, bottom) = corners[0], corners[2]
        sheet.box(left, top, right, bottom, color, radius, max(2.0, radius * 0.06), 0.75)
        s.label(sheet, s.head, (x - radius * 0.8, y - radius * 0.35, x + radius * 0.8, y + radius * 0.35), color)


def _receipt(sheet: Canvas, s: Setter, colors: Palette, body: float) -> None:
    """A shop's name, a date, articles with amounts, a total, a bar code; one size throughout."""
    h, w = sheet.size
    pad, y, step, ink = w * 0.06, h * 0.03, body * s.between(1.3, 1.7), colors.ink
    for i in range(int(s.rng.integers(1, 4))):
        size = body * (1.4 if i == 0 else 1)
        s.line(sheet, s.body, pad, w - pad, y + size, size, ink, 0.5, figures.phone(s.rng) if i == 2 else None)
        y += size * 1.45
    if s.chance(0.6):
        s.line(sheet, s.body, pad, w - pad, y + body, body, ink, 0.0, figures.date(s.rng))
        y += step
    dash = 5.0 * s.chance(0.6)
    marks.rule(sheet, pad, w - pad, y + body * 0.3, ink, 1.2, dash)
    y += body * 0.7
    counted, indented = s.chance(0.5), s.chance(0.4)
    while y < h - 3.5 * step:
        x = pad + (body * 1.5 if indented and s.chance(0.5) else 0)
        if counted:
            text = str(s.rng.integers(1, 30))
            x = (s.line(sheet, s.body, x, x + 2 * body, y + body, body, ink, 0, text) or x) + body * 0.5
        s.line(sheet, s.body, w - pad - 4.5 * body, w - pad, y + body, body, ink, 1.0, figures.price(s.rng))
        s.line(sheet, s.body, x, w - pad - 5 * body, y + body, body, ink)
        y += step
    marks.rule(sheet, pad, w - pad, y + body * 0.2, ink, 1.2, dash)
    size = body * 1.3
    s.line(sheet, s.head, pad, w * 0.5, y + size * 1.3, size, ink)
    s.line(sheet, s.body, w * 0.5, w - pad, y + size * 1.3, size, ink, 1.0, figures.price(s.rng))
    y += size * 1.8
    if h - y > 1.5 * body:
        if s.chance(0.5):
            marks.bar_code(sheet, w * 0.2, y, w * 0.8, min(h - 4, y + body * 2), ink, s.rng)
        else:
            s.line(sheet, s.body, pad, w - pad, y + body, body, ink, 0.5)


def _menu(sheet: Canvas, s: Setter, colors: Palette, body: float) -> None:
    """Sections of dishes with dots that lead to their prices, on paper or on a coloured card."""
    h, w = sheet.size
    if s.chance(0.4):
        colors = s.colors(PRINTS)
        sheet.image[:] = (colors.ground * (sheet.image / sheet.image.mean())).clip(0, 1)
    pad, y = w * 0.07, h * 0.04
    size = min(body * 2, s.style.font_size[1])
    s.line(sheet, s.head, pad, w - pad, y + size, size, colors.accent, 0.5, effect=s.effect())
    y += size * 1.5
    columns = 2 if w > 24 * body and s.chance(0.5) else 1
    wide, top = (w - 2 * pad - body * (columns - 1)) / columns, y
    for column in range(columns):
        x0, y = pad + column * (wide + body), top
        x1 = x0 + wide
        while h - y > 2.5 * body:
            if s.chance(0.25):
                size = body * 1.3
                s.line(sheet, s.head, x0, x1, y + size, size, colors.accent, 0.5 * s.chance(0.3))
                y += size * 1.5
            price = figures.price(s.rng)
            left = x1 - s.body.extent(price, body)[3] - 2
            end = s.line(sheet, s.body, x0, left - body, y + body, body, colors.ink)
            s.line(sheet, s.body, left, x1, y + body, body, colors.ink, 1.0, price)
            if end and s.chance(0.5):
                marks.rule(sheet, end + body * 0.3, left - body * 0.4, y + body * 0.92, colors.ink, 1.6, 2.0)
            y += body * s.between(1.5, 1.9)


def _ticket(sheet: Canvas, s: Setter, colors: Palette, body: float) -> None:
    """A ticket, pass or card: large places and times, small labels above them, a code."""
    h, w = sheet.size
    head = max(h * 0.2, 1.5 * body)
    if banded := s.chance(0.6):
        sheet.box(0, 0, w, head, colors.accent)
    s.label(sheet, s.head, (w * 0.04, 0, w * 0.9, head), WHITE if banded else colors.ink, 0.6, 0.0 if banded else 0.5)
    rows = max(1, min(int(s.rng.integers(2, 4)), int((h - head) / (3.4 * s.smallest(s.body)))))
    columns = int(s.rng.integers(2, 4))
    tall, wide = (h * 0.96 - head) / rows, w * 0.88 / columns
    for i in range(rows * columns):
        x, y = w * (0.04 + 0.94 * (i % columns) / columns), head * 1.1 + i // columns * tall
        if i == rows * columns - 1 and s.chance(0.7):
            if s.chance(0.5):
                marks.matrix_code(sheet, x, y, min(tall * 0.9, wide), colors.ink, s.rng)
            else:
                marks.bar_code(sheet, x, y + tall * 0.2, x + wide, y + tall * 0.8, colors.ink, s.rng)
            continue
        split = y + max(tall * 0.35, s.smallest(s.body) * 1.1)
        s.label(sheet, s.body, (x, y, x + wide, split), colors.accent, 0.7, 0.0)
        text = figures.figure(s.rng) if s.chance(0.5) else None
        s.label(sheet, s.voice(), (x, split, x + wide, y + tall), colors.ink, s.between(0.55, 0.8), 0.0, text)
