"""Signs as flat panels: plates, direction signs, notices, shop fronts, banners, boards, stickers.

Each is a function (s: the setter, height, width in pixels) -> Canvas with its text.
"""

from collections.abc import Callable

import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import SURFACES
from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.camera import weather
from tadisr.data_synthesis.layouts.canvas import Canvas, box_coverage
from tadisr.data_synthesis.layouts.palette import DARK, SHOPS, SIGNS, WHITE, draw_palette
from tadisr.data_synthesis.layouts.typesetting import Setter

Sign = Callable[[Setter, float, float], Canvas]


def _round_corners(panel: Canvas, radius: float) -> None:
    h, w = panel.size
    panel.alpha = box_coverage(0, 0, w, h, radius, 0, slice(0, h), slice(0, w))


def _textured(panel: Canvas, s: Setter, names: list[str], strength: float) -> None:
    """Let a material's light and shade show through the paint."""
    texture = SURFACES[s.one_of(names)](panel.size, s.rng).mean(axis=2, keepdims=True)
    shade = (texture / max(0.05, float(texture.mean()))).clip(0.5, 1.4) ** np.float32(strength)
    panel.image = (panel.image * shade).clip(0, 1)


def plate(s: Setter, h: float, w: float) -> Canvas:
    """A street's or a door's name, at times with a second line in a strip of its own."""
    panel, (ground, ink, accent), h, w = s.blank(h, w, SIGNS)
    unit = min(h, w)
    pad = 0.14 * unit
    if s.chance(0.6):
        inset, width = unit * s.between(0.03, 0.07), max(1.2, unit * s.between(0.012, 0.03))
        panel.box(inset, inset, w - inset, h - inset, accent, unit * 0.06, width)
    two = h > 2.6 * s.smallest(s.head) and s.chance(0.6)
    split = h * s.between(0.55, 0.7) if two else h
    s.label(panel, s.head, (pad, 0, w - pad, split), ink, s.between(0.5, 0.66), effect=s.effect())
    if two:
        if s.chance(0.4):
            panel.box(0, split, w, h, ink)
            ink = ground
        text = figures.figure(s.rng) if s.chance(0.25) else None
        s.label(panel, s.voice(s.chance(0.6)), (pad, split, w - pad, h), ink, s.between(0.5, 0.66), 0.5, text)
    _round_corners(panel, unit * s.between(0, 0.12))
    if s.chance(0.5):
        marks.screws(panel, unit * 0.08, max(1.5, unit * s.between(0.018, 0.035)), s.rng)
    return weather(panel, s)


def direction(s: Setter, h: float, w: float) -> Canvas:
    """Rows with an arrow, a place and a distance."""
    panel, (_, ink, _), h, w = s.blank(h, w, SIGNS)
    rows = int(s.rng.integers(1, max(2, min(5, int(h / s.em(20, 60) / 1.4)) + 1)))
    pair = s.chance(0.5)  # a second line in small below each name
    voices = s.voice(), s.voice(True)
    for i in range(rows):
        top, bottom = i * h / rows, (i + 1) * h / rows
        step, unit = bottom - top, min(h / rows, w)
        color = ink
        if s.chance(0.15):
            fill = draw_palette(SIGNS, s.rng).ground
            panel.box(0, top, w, bottom, fill)
            color = s.ink_on(ink, fill)
        side, left = unit * s.between(0.42, 0.62), s.chance(0.5)
        x = unit * 0.12 + side / 2 if left else w - unit * 0.12 - side / 2
        if s.chance(0.8):
            angle = s.one_of([180.0, 135.0, 90.0, 270.0, 225.0] if left else [0.0, 45.0, 270.0, 315.0])
            marks.arrow(panel, x, (top + bottom) / 2, side, color, angle, s.between(0.2, 0.9))
        else:
            marks.pictogram(panel, x, (top + bottom) / 2, side, color, s.rng)
        x0, x1 = (unit * 0.24 + side, w - unit * 0.16) if left else (unit * 0.16, w - unit * 0.24 - side)
        if s.chance(0.35) and x1 - x0 > 2.5 * step:
            text = f"{s.rng.integers(1, 400)}{s.one_of(['', ' km', 'km', 'm'])}"
            x = x1 - step * 0.9
            if s.label(panel, voices[0], (x, top, x1, bottom), color, 0.42, 1.0, text):
                x1 = x - 0.1 * step
        align = 0.0 if left or rows > 1 else 0.5
        middle = top + 0.68 * step if pair and step > 3.4 * s.smallest(voices[1]) else bottom
        s.label(panel, voices[0], (x0, top, x1, middle), color, s.between(0.45, 0.62), align)
        if middle < bottom:
            s.label(panel, voices[1], (x0, middle, x1, bottom), color, 0.7, align)
        if i and s.chance(0.7):
            marks.rule(panel, unit * 0.06, w - unit * 0.06, top, ink, max(1.0, unit * 0.012))
    unit = min(h, w)
    if s.chance(0.7):
        panel.box(2, 2, w - 2, h - 2, ink, unit * 0.08, max(1.5, unit * 0.02))
    _round_corners(panel, unit * s.between(0.02, 0.12))
    return weather(panel, s)


def notice(s: Setter, h: float, w: float) -> Canvas:
    """A head band or a pictogram, a headline, a few lines of instructions."""
    ground, ink, accent = s.colors(SIGNS)
    paper = np.full(3, s.between(0.88, 0.98), np.float32) if s.chance(0.6) else ground
    ink, strong = s.ink_on(ink, paper, 30), s.ink_on(ground, paper) if paper is not ground else accent
    panel = Canvas.of(h, w, paper)
    h, w = panel.size
    unit, pad, y = min(h, w), 0.07 * w, 0.06 * h
    if s.chance(0.65):
        band = max(h * s.between(0.16, 0.3), 1.6 * s.smallest(s.head))
        panel.box(0, 0, w, band, strong)
        x0 = pad
        if s.chance(0.5):
            marks.pictogram(panel, pad + band * 0.35, band / 2, band * 0.7, s.ink_on(WHITE, strong), s.rng)
            x0 += band * 0.85
        s.label(panel, s.head, (x0, 0, w - pad, band), paper, s.between(0.5, 0.62))
        y = band + 0.05 * h
    elif s.chance(0.5):
        side = min(h * 0.4, w * 0.6)
        marks.pictogram(panel, w / 2, y + side / 2, side, strong, s.rng)
        y += side * 1.08
    align, voice = s.one_of([0.0, 0.5, 0.5]), s.voice()
    while h - y > 1.7 * s.smallest(voice):
        size = max(s.em(0, min(h * 0.16, w * 0.14)), s.smallest(voice))
        color = ink if s.chance(0.75) else strong
        rows = 1 if s.chance(0.4) else int(s.rng.integers(2, 5))
        end = s.block(panel, voice, pad, w - pad, y, h * 0.97, size, color, align, s.between(1.25, 1.5), rows)
        if end <= y:
            break
        y = end + size * s.between(0, 0.6)
        if s.chance(0.2):
            marks.rule(panel, pad, w - pad, y - size * 0.1, color)
    if s.chance(0.5):
        panel.box(1, 1, w - 1, h - 1, strong, unit * 0.03, max(1.5, unit * s.between(0.008, 0.03)))
    _round_corners(panel, unit * s.one_of([0, 0, 0.04]))
    return weather(panel, s, 0.8)


def shop(s: Setter, h: float, w: float) -> Canvas:
    """The board above a shop: a large name, a mark, a line of what is sold, a telephone number."""
    panel, (_, ink, accent), h, w = s.blank(h, w, SHOPS)
    if s.chance(0.5):
        _textured(panel, s, ["wood", "metal", "paint", "plaster", "fabric"], 0.7)
    small_row = h > 4 * s.style.font_size[0] and s.chance(0.65)
    high = h * (s.between(0.6, 0.74) if small_row else 1.0)
    x0, x1 = 0.05 * w, 0.95 * w
    if s.chance(0.4) and w > 2.5 * h:
        marks.pictogram(panel, x0 + high * 0.4, high * 0.5, high * 0.7, accent, s.rng)
        x0 += high * 0.95
    effect = s.effect(1.7, neon=0.25, raised=0.25)
    s.label(panel, s.head, (x0, 0, x1, high), ink, s.between(0.5, 0.75), effect=effect)
    if small_row:
        if s.chance(0.4):
            panel.box(0, high, w, h, accent)
            accent = ink
        text = figures.phone(s.rng) if s.chance(0.35) else None
        s.label(panel, s.voice(True), (x0, high, x1, h), accent, s.between(0.5, 0.7), 0.5, text)
    weather(panel, s)
    if s.chance(0.3):  # lamps above
        xs = np.linspace(0, 1, w, dtype=np.float32) * s.rng.integers(2, 6) % 1 - 0.5
        ys = np.linspace(0, 1, h, dtype=np.float32)[:, None]
        panel.image *= (0.85 + 0.5 * np.exp(-((xs / 0.28) ** 2) - ys**2 / 0.5))[..., None]
        np.clip(panel.image, 0, 1, out=panel.image)
    return panel


def banner(s: Setter, h: float, w: float) -> Canvas:
    """Cloth or vinyl with one or two large lines, or, where it is tall, a line that runs downwards."""
    panel, (_, ink, accent), h, w = s.blank(h, w, SHOPS)
    effect = s.effect(1.7)
    if h > 1.6 * w:
        s.down(panel, s.head, w / 2, h * 0.04, h * 0.97, w * s.between(0.5, 0.7), ink, effect=effect)
    else:
        rows = 1 if h < 3 * s.style.font_size[0] or s.chance(0.5) else 2
        for i, color in zip(range(rows), (ink, accent), strict=False):
            box = (w * 0.04, i * h / rows, w * 0.96, (i + 1) * h / rows)
            s.label(panel, s.head, box, color, s.between(0.5, 0.66), effect=effect)
    _textured(panel, s, ["fabric"], s.between(0.2, 0.8))
    return panel


def carved(s: Setter, h: float, w: float) -> Canvas:
    """Letters on or in stone, wood or metal."""
    material = SURFACES[s.one_of(["plaster", "wood", "metal", "asphalt", "plaster"])]
    panel = Canvas(material((max(4, round(h)), max(4, round(w))), s.rng).clip(0, 1))
    h, w = panel.size
    ground = panel.image.mean(axis=(0, 1))
    color = s.one_of([DARK, np.array([0.9, 0.86, 0.74], np.float32), ground * np.float32(s.between(0.25, 0.6))])
    y, align = 0.08 * h, s.one_of([0.0, 0.5, 0.5])
    effect = s.effect(2.5, engraved=0.5, raised=0.3, neon=0.0)
    size = s.em(24, h * 0.5)
    while y + 1.3 * size < h:
        s.line(panel, s.head, 0.06 * w, 0.94 * w, y + size, size, color, align, effect=effect)
        y += size * s.between(1.3, 1.6)
        size = s.em(0, size)
    return weather(panel, s, 0.7)


def directory(s: Setter, h: float, w: float) -> Canvas:
    """Coloured strips with a name and a number each, beneath a large figure."""
    panel = Canvas.of(h, w, np.full(3, s.between(0.8, 0.95), np.float32))
    h, w = panel.size
    top = h * s.between(0.2, 0.4)
    panel.box(0, 0, w, top, draw_palette(SIGNS, s.rng).ground)
    text = str(s.rng.integers(1, 100)) if s.chance(0.5) else None
    s.label(panel, s.head, (w * 0.06, 0, w * 0.94, top), WHITE, s.between(0.6, 0.8), 0.0, text)
    voice, share = s.voice(), s.between(0.42, 0.6)
    step = max(1.7 * s.smallest(voice), (h - top) / s.rng.integers(2, 7))
    for y in np.arange(top, h - step * 0.6, step):
        panel.box(0, y, w, y + step * 0.96, draw_palette(SIGNS, s.rng).ground)
        x1 = w * 0.95
        if s.chance(0.6):
            s.label(panel, voice, (w * 0.68, y, x1, y + step), WHITE, share, 1.0, figures.code(s.rng))
            x1 = w * 0.66
        s.label(panel, voice, (w * 0.06, y, x1, y + step), WHITE, share, 0.0)
    return weather(panel, s, 0.6)


def board(s: Setter, h: float, w: float) -> Canvas:
    """A blackboard or a whiteboard with a title and lines, some with a price."""
    dark = s.chance(0.7)
    panel = Canvas.of(h, w, np.asarray([0.13, 0.15, 0.14] if dark else [0.93, 0.93, 0.92], np.float32))
    _textured(panel, s, ["plaster", "paint"], 0.5)
    h, w = panel.size
    frame = min(h, w) * s.between(0.02, 0.05)
    chalks = [WHITE, *np.array([[0.95, 0.9, 0.5], [0.95, 0.65, 0.65], [0.6, 0.85, 0.9]], np.float32)]
    pens = [DARK, *np.array([[0.7, 0.1, 0.1], [0.1, 0.2, 0.6], [0.05, 0.4, 0.2]], np.float32)]
    colors = chalks if dark else pens
    effect = s.effect(2, texture=0.8, worn=0.5, neon=0.0, raised=0.0, engraved=0.0)
    y, pad = 2 * frame, w * 0.08
    size = s.em(24, h * 0.2)
    s.line(panel, s.head, pad, w - pad, y + size, size, s.one_of(colors), 0.5, effect=effect)
    y += 1.5 * size
    size, step = s.em(0, h * 0.12), s.between(1.4, 1.9)
    while y + 1.4 * size < h - frame:
        x1, color = w - pad, s.one_of(colors)
        if s.chance(0.6):
            s.line(panel, s.body, w * 0.68, x1, y + size, size, color, 1.0, figures.price(s.rng))
            x1 = w * 0.66
        s.line(panel, s.body, pad, x1, y + size, size, color)
        y += step * size
    panel.box(0, 0, w, h, np.array([0.45, 0.3, 0.18], np.float32) * np.float32(s.between(0.5, 1.4)), 2, frame)
    return weather(panel, s, 0.6)


def sticker(s: Setter, h: float, w: float) -> Canvas:
    """A round label with a word, a price, or a pictogram and a word."""
    side = min(h, w)
    panel, (_, ink, accent), h, w = s.blank(side, side, SHOPS + SIGNS)
    if s.chance(0.6):
        inset = side * s.between(0.03, 0.06)
        panel.box(inset, inset, w - inset, h - inset, accent, side, max(1.5, side * 0.02))
    if s.chance(0.4):
        marks.pictogram(panel, w / 2, h * 0.36, h * 0.4, ink, s.rng)
        s.label(panel, s.head, (w * 0.16, h * 0.6, w * 0.84, h * 0.88), ink)
    else:
        text = figures.price(s.rng) if s.chance(0.3) else figures.percent(s.rng) if s.chance(0.2) else None
        s.label(panel, s.head, (w * 0.1, h * 0.3, w * 0.9, h * 0.7), ink, s.between(0.6, 0.9), 0.5, text, s.effect())
        for y in (0.15, 0.7):
            if s.chance(0.6):
                s.label(panel, s.body, (w * 0.24, h * y, w * 0.76, h * (y + 0.15)), accent, 0.85)
    _round_corners(panel, side)
    return weather(panel, s, 0.5)


KINDS: tuple[Sign, ...] = (
    plate, plate, direction, direction, notice, notice, shop, shop, banner, carved, directory, board, sticker,
)  # fmt: skip


def aspect_of(kind: Sign, s: Setter) -> float:
    """Height over width that such a sign has."""
    if kind in (plate, shop):
        return s.between(0.22, 0.5)
    if kind is banner:
        return s.between(2.2, 4) if s.head.wide and s.chance(3 * s.style.vertical) else s.between(0.14, 0.35)
    return 1.0 if kind is sticker else s.between(0.45, 1.3)
