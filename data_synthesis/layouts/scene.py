"""Signs in their surroundings, near and far: on walls and posts, above shops, on notice boards; words on walls."""

import numpy as np

from tadisr.data_synthesis.backgrounds.scenes import glass, out_of_focus
from tadisr.data_synthesis.backgrounds.surfaces import SURFACES, light
from tadisr.data_synthesis.layouts import signs
from tadisr.data_synthesis.layouts.camera import lay, view
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.palette import DARK, SHOPS, WHITE, draw_palette, luma
from tadisr.data_synthesis.layouts.typesetting import Setter
from tadisr.data_synthesis.text.shapes import Shape, Shapes

_SHAPES = Shapes()


def scene(page: Canvas, s: Setter) -> None:
    """Several signs at once, or a shop, or a notice board."""
    kinds = (_signs, _shop_front, _notice_board)
    kinds[int(s.rng.choice(len(kinds), p=[0.7, 0.17, 0.13]))](page, s)


def _signs(page: Canvas, s: Setter) -> None:
    """Up to four signs on the background, then words wherever there is room."""
    if s.chance(0.35):
        page.image[:] = out_of_focus(page.image, s.rng).clip(0, 1)
    h, w = page.size
    count = int(s.rng.choice([0, 1, 2, 3, 4], p=[0.14, 0.28, 0.28, 0.19, 0.11]))
    for _ in range(count):
        kind = s.one_of(signs.KINDS)
        aspect = signs.aspect_of(kind, s)
        width = w * (s.between(0.4, 0.9) if aspect < 1.5 else s.between(0.12, 0.25))
        height = min(width * aspect, h * 0.8)
        _hang(page, s, kind, height, height / aspect)
    words(page, s, int(s.rng.integers(1, 5)) if count < 2 else int(s.rng.integers(0, 3)))


def sign(page: Canvas, s: Setter) -> None:
    """One sign that fills most of the view."""
    if s.chance(0.7):
        page.image[:] = out_of_focus(page.image, s.rng).clip(0, 1)
    h, w = page.size
    kind = s.one_of(signs.KINDS)
    aspect = signs.aspect_of(kind, s)
    width = s.between(0.8, 1.15) * min(w, h * 0.95 / aspect)
    _hang(page, s, kind, width * aspect, width, tries=1)
    words(page, s, int(s.rng.integers(0, 2)))


def _hang(page: Canvas, s: Setter, kind: signs.Sign, height: float, width: float, tries: int = 10) -> None:
    """Put a sign where nothing is yet; at times on a post."""
    h, w = page.size
    for _ in range(tries):
        x, y = (s.between(min(0, room), max(0, room)) for room in (w - width, h - height))
        corners = view((x, y, x + width, y + height), s.rng, 3.0, 0.11)
        if page.is_free(corners):
            break
    else:
        return
    panel = kind(s, height, width)
    post, thick = x + width * s.between(0.3, 0.7), max(3.0, width * s.between(0.025, 0.07))
    below = np.array([[post, y + height], [post + thick, y + height], [post + thick, h], [post, h]], np.float32)
    if s.chance(0.3) and y + height < h and page.is_free(below):  # a post, lit from one side
        for i in range(int(thick)):
            tone = s.between(0.28, 0.3) + 0.4 * np.sin(np.pi * (i + 1) / (thick + 1))
            page.box(post + i, y + height * 0.5, post + i + 1, h, np.full(3, tone, np.float32))
    if panel.alpha is None and s.chance(0.5):  # the edge of a thick board
        edge = np.array([s.between(-5, 5), s.between(1, 5)], np.float32)
        page.polygon(np.concatenate([corners[[3, 2]], corners[[2, 3]] + edge]), panel.image[-1].mean(axis=0) * 0.5)
    page.mount(panel, corners, s.between(0, 0.45), (s.between(-6, 6), s.between(1, 8)))


def _shop_front(page: Canvas, s: Setter) -> None:
    """A name board, below it an awning or not, and a window with notices stuck to its panes."""
    h, w = page.size
    front = Canvas(SURFACES[s.one_of(["bricks", "plaster", "paint", "wood", "metal"])]((h, w), s.rng).clip(0, 1))
    top = h * s.between(0.0, 0.15)
    tall = max(h * s.between(0.18, 0.32), 2.5 * s.style.font_size[0])
    name = signs.shop(s, tall, w * s.between(0.85, 1.0))
    x = (w - name.size[1]) / 2
    sill, low = top + tall * 1.1, h * s.between(0.85, 1.1)
    left, right = w * s.between(0, 0.08), w * s.between(0.92, 1.0)
    front.picture(left, sill, right, low, glass((max(8, int(low - sill)), max(8, int(right - left))), s.rng))
    frame = draw_palette(SHOPS, s.rng).ground * np.float32(0.7)
    panes = int(s.rng.integers(1, 4))
    for i in range(panes + 1):
        middle = left + (right - left) * i / panes
        front.box(middle - w * 0.012, sill, middle + w * 0.012, low, frame)
    front.mount(name, view((x, top, x + name.size[1], top + tall), s.rng, 0.0, 0.0), 0.5, (0, tall * 0.08))
    if s.chance(0.3):  # a striped awning
        stripe = draw_palette(SHOPS, s.rng).ground
        drop = sill + h * 0.1
        for i in range(12):
            x0, x1 = left + (right - left) * np.array([i, i + 1], np.float32) / 12
            corners = np.array([[x0, sill], [x1, sill], [x1, drop], [x0, drop]], np.float32)
            front.polygon(corners, WHITE if i % 2 else stripe)
        front.take(np.array([[left, sill], [right, sill], [right, drop], [left, drop]], np.float32))
        sill = drop
    wide = (right - left) / panes
    for i in range(panes if wide >= 3 * s.style.font_size[0] else 0):
        kind = s.one_of([signs.notice, signs.sticker, signs.board, None])
        x0, y0 = left + i * wide, s.between(sill, max(sill, low - wide))
        if kind is None:  # letters stuck to the glass itself
            s.label(front, s.voice(), (x0 + 0.1 * wide, y0, x0 + 0.9 * wide, y0 + 0.3 * wide), WHITE)
        else:
            side = wide * s.between(0.5, 0.85)
            _pin(front, s, kind, x0 + (wide - side) * s.rng.random(), y0, side, 1.5)
    front.image = (front.image * light((h, w), s.rng)).clip(0, 1)
    page.mount(front, view((-0.06 * w, -0.06 * h, 1.06 * w, 1.06 * h), s.rng, 1.5, 0.06))


def _notice_board(page: Canvas, s: Setter) -> None:
    """Sheets pinned side by side to cork, wood or a wall."""
    h, w = page.size
    surface = SURFACES[s.one_of(["cardboard", "wood", "plaster", "fabric", "metal", "paint"])]
    page.image[:] = (surface((h, w), s.rng) * light((h, w), s.rng)).clip(0, 1)
    for _ in range(12):
        side = min(h, w) * s.between(0.35, 0.6)
        kind = s.one_of([signs.notice, signs.notice, signs.directory, signs.board, signs.sticker, signs.plate])
        _pin(page, s, kind, s.between(-0.1, 1) * (w - side), s.between(-0.1, 1) * (h - side), side, 4.0)


def _pin(page: Canvas, s: Setter, kind: signs.Sign, x: float, y: float, width: float, turn: float) -> None:
    """Put a sheet there if the place is free, with a pin or none."""
    height = width * signs.aspect_of(kind, s)
    if not page.is_free(np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], np.float32)):
        return
    lay(page, kind(s, height, width), s, (x, y, x + width, y + height), turn, 0.02)
    if turn > 2 and s.chance(0.6):
        color = draw_palette(SHOPS, s.rng).ground
        px, py, r = x + width / 2, y + height * 0.04, max(3.0, width * 0.02)
        page.box(px - r + 1.5, py - r + 2, px + r + 1.5, py + r + 2, DARK, r, opacity=0.5)
        page.box(px - r, py - r, px + r, py + r, color, r)
        page.box(px - r * 0.5, py - r * 0.6, px, py - r * 0.1, WHITE, r, opacity=0.7)


def words(page: Canvas, s: Setter, count: int) -> None:
    """Words painted straight onto what is there, straight or turned or curved; at least one if the page has none."""
    h, w = page.size
    count = max(count, 0 if page.lines else 1)
    for attempt in range(4 * count + 12):
        if count <= 0:
            return
        voice = s.voice(s.chance(0.3))
        shape = _SHAPES.draw(s.rng) if attempt < 8 else Shape()
        downwards = shape.direction != "horizontal"
        size = s.em(0, min(h, w) * (0.35 if attempt < 8 else 0.12)) * (1.25 if voice.wide else 1.0)
        room = s.between(0.3, 0.95) * (h if downwards else w)
        text = voice.text(s.rng, int(room / (size * (1.12 if downwards else voice.advance))))
        glyphs = s.glyphs(text, voice.font, size, shape)
        if glyphs is None or glyphs.fill.shape[0] > h or glyphs.fill.shape[1] > w:
            continue
        gh, gw = glyphs.fill.shape
        for _ in range(6):
            x, y = int(s.rng.integers(0, w - gw + 1)), int(s.rng.integers(0, h - gh + 1))
            color = WHITE if luma(page.image[y : y + gh, x : x + gw].mean(axis=(0, 1))) < 0.55 else DARK
            if s.chance(0.4):
                color = s.rng.uniform(0.05, 0.95, 3).astype(np.float32) * 0.7 + 0.3 * color
            if s.put(page, glyphs, x, y, color, voice.font, s.effect(1.5)):
                count -= 1
                break
