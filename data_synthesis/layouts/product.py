"""Things with print on them: packages, bottles, price tags on shelves, book covers and rows of spines."""

import numpy as np

from tadisr.data_synthesis.backgrounds.scenes import out_of_focus, shelves
from tadisr.data_synthesis.backgrounds.surfaces import SURFACES
from tadisr.data_synthesis.layouts import figures, marks
from tadisr.data_synthesis.layouts.camera import lay, view, weather
from tadisr.data_synthesis.layouts.canvas import Canvas, box_coverage
from tadisr.data_synthesis.layouts.palette import PAPERS, PRINTS, SHOPS
from tadisr.data_synthesis.layouts.typesetting import Setter


def product(page: Canvas, s: Setter) -> None:
    """One of them in front of the background."""
    if s.chance(0.4):
        page.image[:] = out_of_focus(page.image, s.rng).clip(0, 1)
    elif s.chance(0.3):  # an advertisement's empty background
        page.image[:] = s.between(0.85, 1.0)
    s.one_of([_bottles, _package, _package, _spines, _cover, _price_tags])(page, s)


def _front(s: Setter, h: float, w: float) -> Canvas:
    """The front of a package: brand, name, claims, amount."""
    panel, (_, ink, accent), h, w = s.blank(h, w, PRINTS + SHOPS)
    pad, y, foot = w * 0.07, h * s.between(0.04, 0.12), h * 0.84
    if s.chance(0.35):
        top, bottom = h * s.between(0.35, 0.5), h * s.between(0.65, 0.8)
        panel.picture(0, top, w, bottom, s.picture(bottom - top, w))
        panel.take(np.array([[0, top], [w, top], [w, bottom], [0, bottom]], np.float32))
    if s.chance(0.4):
        panel.box(0, foot, w, h, accent)
    if s.chance(0.3):
        marks.pictogram(panel, w / 2, y + w * 0.1, w * 0.18, accent, s.rng)
        y += w * 0.22
    for i in range(int(s.rng.integers(3, 9))):
        size = min(s.em(0, h * 0.2) * (1.5 if i == 0 else 1), w * 0.35, s.style.font_size[1])
        if y + size * 1.2 > foot:
            break
        color, voice = ink if s.chance(0.7) else accent, s.head if i < 2 else s.body
        s.line(panel, voice, pad, w - pad, y + size, size, color, 0.5, effect=s.effect() if i == 0 else None)
        y += size * s.between(1.25, 1.7)
        strip = np.array([[pad, y], [w - pad, y], [w - pad, y + 2], [pad, y + 2]], np.float32)
        if s.chance(0.15) and panel.is_free(strip):
            marks.rule(panel, w * 0.25, w * 0.75, y, ink, 1.2)
            y += 5
    text = figures.amount(s.rng) if s.chance(0.6) else None
    s.label(panel, s.body, (pad, foot, w - pad, h), ink, 0.5, s.one_of([0.0, 0.5, 1.0]), text)
    return panel


def _package(page: Canvas, s: Setter) -> None:
    """A box, seen at an angle, with one of its sides."""
    h, w = page.size
    high, wide = h * s.between(0.6, 1.0), w * s.between(0.5, 0.95)
    panel = _front(s, high, wide)
    weather(panel, s, 0.8)
    x, y = (w - wide) * s.rng.random(), (h - high) * s.rng.random()
    corners = view((x, y, x + wide, y + high), s.rng, 3.0, 0.1)
    if s.chance(0.6):
        near = [1, 2] if s.chance(0.5) else [0, 3]
        depth = wide * s.between(0.08, 0.25) * (1 if near[0] else -1)
        far = corners[near] + np.array([[depth, high * 0.04], [depth, -high * 0.05]], np.float32)
        side = np.concatenate([corners[near], far[::-1]])
        page.polygon(side + np.array([[0, 0], [0, 0], [4, 9], [4, 0]], np.float32), np.zeros(3, np.float32), 0.35)
        page.polygon(side, panel.image[:, 0 if near[0] == 0 else -1].mean(axis=0) * np.float32(s.between(0.4, 0.75)))
    page.mount(panel, corners, s.between(0.2, 0.5), (s.between(-5, 5), s.between(1, 7)))


def _bottles(page: Canvas, s: Setter) -> None:
    """Bottles, tubes or tins side by side, round and shining."""
    h, w = page.size
    count = int(s.rng.integers(1, 4))
    wide = w / count * s.between(0.7, 0.92)
    tone = s.colors(SHOPS).ground
    for i in range(count):
        x, top = (i + 0.5) * w / count - wide / 2, h * s.between(-0.1, 0.25)
        body = Canvas.of(h * 1.1 - top, wide, tone)
        bh, bw = body.size
        upper, lower = bh * s.between(0.12, 0.3), bh * s.between(0.88, 1.0)
        label = _front(s, lower - upper, wide)
        body.mount(label, np.array([[0, upper], [bw, upper], [bw, lower], [0, lower]], np.float32))
        body.box(0, upper * 0.8, bw, upper * 0.83, np.zeros(3, np.float32), opacity=0.4)  # the lid's edge
        xs = np.linspace(-1, 1, bw, dtype=np.float32)
        shine = np.exp(-(((xs + s.between(-0.5, 0.5)) / 0.12) ** 2))
        round_light = (0.35 + 0.75 * np.sqrt((1 - xs**2).clip(0)) + 0.3 * shine)[None, :, None]
        body.image = (body.image * round_light).clip(0, 1)
        body.alpha = box_coverage(0, 0, bw, bh, wide * s.between(0.05, 0.25), 0, slice(0, bh), slice(0, bw))
        corners = np.array([[x, top], [x + wide, top], [x + wide, top + bh], [x, top + bh]], np.float32)
        page.mount(body, corners, 0.3, (s.between(-8, 8), 3))


def _price_tags(page: Canvas, s: Setter) -> None:
    """A shelf's edge with tags: names, prices, bar codes; the goods above it out of focus."""
    h, w = page.size
    page.image[:] = out_of_focus(shelves((h, w), s.rng), s.rng).clip(0, 1)
    tall = max(h * s.between(0.28, 0.5), 5 * s.style.font_size[0])
    top = h * s.between(0.3, 0.6)
    strip = Canvas.of(tall * 1.15, w * 1.2, np.full(3, s.between(0.55, 0.9), np.float32))
    x, long = tall * 0.1, strip.size[1]
    colors = s.colors(PAPERS + SHOPS)
    while x < long:
        wide = tall * s.between(1.1, 1.8)
        strip.box(x, tall * 0.06, x + wide, tall * 1.06, colors.ground, 4)
        x0, x1 = x + wide * 0.06, x + wide * 0.94
        s.label(strip, s.body, (x0, tall * 0.1, x1, tall * 0.4), colors.ink, 0.7, 0.0)
        s.label(strip, s.head, (x0, tall * 0.4, x1, tall * 0.82), colors.accent, 0.75, 1.0, figures.price(s.rng))
        if s.chance(0.5):
            marks.bar_code(strip, x0, tall * 0.84, x0 + wide * 0.4, tall, colors.ink, s.rng)
        x += wide + tall * s.between(0.06, 0.4)
    weather(strip, s, 0.7)
    page.mount(strip, view((-0.1 * w, top, 1.1 * w, top + tall * 1.15), s.rng, 2.5, 0.08), 0.5, (0, 8))


def _cover(page: Canvas, s: Setter) -> None:
    """A book's front."""
    h, w = page.size
    ground, ink, accent = s.colors(PRINTS)
    panel = Canvas.of(h * s.between(0.75, 1.05), w * s.between(0.55, 0.85), ground)
    high, wide = panel.size
    if s.chance(0.4):
        panel.picture(0, 0, wide, high, s.picture(high, wide))
        panel.image += (ground - panel.image) * np.float32(s.between(0.2, 0.7))
    if s.chance(0.5):
        inset = wide * 0.05
        panel.box(inset, inset, wide - inset, high - inset, accent, 0, s.between(1, 3))
    pad, y, effect = wide * 0.1, high * s.between(0.08, 0.2), s.effect()
    size = s.em(34, wide * 0.26)
    for _ in range(int(s.rng.integers(1, 4))):
        s.line(panel, s.head, pad, wide - pad, y + size, size, ink, 0.5, effect=effect)
        y += size * 1.3
    size *= s.between(0.5, 0.7)
    for _ in range(int(s.rng.integers(1, 4))):
        y += max(size, s.smallest(s.body)) * 1.7
        s.line(panel, s.body, pad, wide - pad, y, size, accent, 0.5)
    if s.chance(0.4) and high * 0.85 - y > wide * 0.4:
        marks.pictogram(panel, wide / 2, (y + high * 0.87) / 2, wide * 0.3, accent, s.rng)
    s.label(panel, s.body, (pad, high * 0.88, wide - pad, high * 0.97), ink, 0.6)
    panel.image[:, : max(2, int(wide * 0.02))] *= 0.8  # the hinge
    weather(panel, s, 0.8)
    x, y = (w - wide) * s.rng.random(), (h - high) * s.rng.random()
    lay(page, panel, s, (x, y, x + wide, y + high), 5, 0.09)


def _spines(page: Canvas, s: Setter) -> None:
    """Books on a shelf: titles that run down their spines."""
    h, w = page.size
    shelf = h * s.between(0.9, 1.05)
    page.image[:] = np.array([0.1, 0.09, 0.08], np.float32)
    if shelf < h:
        page.picture(0, shelf, w, h, SURFACES["wood"]((max(2, int(h - shelf)), w), s.rng))
    x = -w * 0.02
    while x < w:
        thick = s.em(0, 80) * s.between(1.4, 1.9)
        tall = shelf * s.between(0.75, 1.05)
        corners = view((x, shelf - tall, x + thick - 1, shelf), s.rng, 0.4, 0.02)
        spine, (_, ink, accent), high, long = s.blank(thick, tall, PRINTS + SHOPS)  # it lies, its top is on the left
        end = long * s.between(0.6, 0.72)
        voice, align = s.voice(s.chance(0.3)), s.one_of([0.0, 0.5])
        s.label(spine, voice, (long * 0.06, 0, end, high), ink, s.between(0.5, 0.68), align)
        s.label(spine, s.body, (end + high * 0.3, 0, long * 0.96, high), accent, s.between(0.35, 0.5), 1.0)
        for left, right in ((0.025, 0.04), (0.972, 0.98)):
            if s.chance(0.4):
                spine.box(long * left, 0, long * right, high, accent)
        ys = np.linspace(-1, 1, high, dtype=np.float32)[:, None, None]
        spine.image = (spine.image * (1.08 - 0.45 * np.abs(ys) ** 3)).clip(0, 1)
        page.mount(spine, corners[[1, 2, 3, 0]], 0.3, (2, 0))
        x += thick
