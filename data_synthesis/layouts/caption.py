"""Words over a photograph: quotations, subtitles, labels in boxes, dates, addresses, prices."""

import numpy as np

from tadisr.data_synthesis.layouts import figures
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.palette import DARK, PRINTS, WHITE, draw_palette
from tadisr.data_synthesis.layouts.poster import bubble
from tadisr.data_synthesis.layouts.typesetting import Setter, Voice
from tadisr.data_synthesis.text.effects import Ink


def caption(page: Canvas, s: Setter) -> None:
    """Two or three of them."""
    h, w = page.size
    if s.chance(0.45):  # darkened, so that white letters stand out
        page.image *= s.between(0.35, 0.75)
    if large := s.chance(0.6):
        _quotation(page, s)
    if not large or s.chance(0.3):  # subtitles
        size = s.em(24, h * 0.09)
        rows = int(s.rng.integers(1, 3))
        if s.chance(0.3):  # on a dark bar
            page.box(0, h - size * (1.5 * rows + 0.7), w, h, np.zeros(3, np.float32), opacity=s.between(0.4, 1))
        for i in range(rows):
            _over(page, s, s.body, w * 0.04, h - size * (0.5 + 1.3 * (rows - 1 - i)), size, 0.5)
    if s.chance(0.4):
        size = s.em(0, 36)
        text = figures.date(s.rng) if s.chance(0.6) else None
        y = h - size * 0.6 if s.chance(0.5) else size * 1.5
        _over(page, s, s.voice(), w * 0.04, y, size, s.one_of([0.0, 1.0]), text)
    if s.chance(0.4):  # a label in a coloured box, perhaps round at its ends
        wide, tall = w * s.between(0.25, 0.6), max(2.2 * s.style.font_size[0], h * s.between(0.08, 0.2))
        x, y = (w - wide) * s.rng.random(), (h - tall) * s.rng.random()
        corners = np.array([[x, y], [x + wide, y], [x + wide, y + tall], [x, y + tall]], np.float32)
        if page.is_free(corners):
            ground, ink, _ = draw_palette(PRINTS, s.rng)
            page.box(x, y, x + wide, y + tall, ground, s.between(0, tall / 2), opacity=s.between(0.75, 1))
            s.label(page, s.head, (x + tall * 0.25, y, x + wide - tall * 0.25, y + tall), ink, s.between(0.4, 0.6))
            page.take(corners)
    if s.chance(0.3):
        x, y = w * s.between(0.2, 0.8), h * s.between(0.2, 0.8)
        bubble(page, s, x, y, w * s.between(0.1, 0.17), draw_palette(PRINTS, s.rng).accent)


def _over(
    page: Canvas, s: Setter, voice: Voice, margin: float, baseline: float, size: float, align: float,
    text: str | None = None, effect: Ink | None = None,
) -> None:  # fmt: skip
    """A line in white, black or a colour."""
    color = WHITE if s.chance(0.75) else DARK
    color = draw_palette(PRINTS, s.rng).accent if s.chance(0.15) else color
    s.line(page, voice, margin, page.size[1] - margin, baseline, size, color, align, text, effect or s.effect())


def _quotation(page: Canvas, s: Setter) -> None:
    h, w = page.size
    if s.head.wide and s.chance(2 * s.style.vertical):  # columns from right to left
        size = s.em(24, h * 0.12) * 1.25
        x, top = w * s.between(0.5, 0.92), h * s.between(0.05, 0.3)
        for _ in range(int(s.rng.integers(1, 4))):
            s.down(page, s.head, x, top, h * 0.95, size, WHITE, effect=s.effect())
            x -= size * s.between(1.3, 1.7)
        return
    size = s.em(24, h * 0.16)
    rows = int(s.rng.integers(1, 6))
    y = s.between(0.05, 0.6) * max(h - rows * size * 1.5, 0) + size
    margin, align, effect = w * s.between(0.03, 0.12), s.one_of([0.5, 0.5, 0.0, 1.0]), s.effect(1.5)
    for i in range(rows):
        smaller = size * (s.between(0.5, 0.9) if i and s.chance(0.2) else 1)
        _over(page, s, s.head, margin, y, smaller, align, effect=effect)
        y += size * s.between(1.25, 1.6)
        if y > h - 4:
            break
