"""Places as a camera sees them: streets, shops, greenery and skies, in and out of focus."""

from collections.abc import Callable

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import Size, fractal, noise, pick


def _vertical_gradient(size: Size, *colors: np.ndarray) -> np.ndarray:
    """(H, W, 3) from the first colour at the top to the last at the bottom."""
    stops = np.linspace(0, 1, len(colors))
    rows = np.linspace(0, 1, size[0])
    ramp = np.stack([np.interp(rows, stops, np.array(colors)[:, c]) for c in range(3)], axis=-1)
    return np.repeat(ramp[:, None].astype(np.float32), size[1], axis=1)


def sky(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Clear, cloudy or evening sky."""
    top, bottom = (
        pick(c, rng, 0.03)
        for c in rng.choice([("#3f78b5", "#bcd6ea"), ("#7ea6c9", "#e6eef2"), ("#aab4bd", "#dfe3e6"),
                             ("#3a4a6b", "#e2a77a"), ("#8894a0", "#c6ccd1"), ("#1b2436", "#46506a")])
    )  # fmt: skip
    image = _vertical_gradient(size, top, bottom)
    clouds = fractal(size, max(size) * rng.uniform(0.3, 0.7), rng, 6, 0.55) + rng.uniform(-1.5, 0.5)
    cover = (clouds * 0.7).clip(0, 1)[..., None] * rng.uniform(0.4, 0.9)
    return image + (np.array([0.93, 0.94, 0.95], np.float32) - image) * cover


def foliage(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Leaves and grass: layers of small bright and dark blades."""
    dark, lit = pick("#1c2a14 #22331b #2a2f18", rng), pick("#6f8f3c #7fa05a #9aa04a #55803a", rng)
    scale = rng.uniform(8, 30)
    tone = fractal(size, scale * 5, rng, 3) * 0.5
    for _ in range(4):
        layer = noise(size, (scale * rng.uniform(0.5, 1.2), scale * rng.uniform(0.3, 1)), rng)
        tone = np.maximum(tone, layer * rng.uniform(0.6, 1.1))
    tone = (0.25 + 0.3 * tone + 0.08 * noise(size, 2, rng)).clip(0, 1.2)
    return dark + (lit - dark) * tone[..., None]


def street(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Fronts of buildings with rows of windows, a pavement, and passers-by as dark shapes."""
    h, w = size
    image = sky(size, rng)
    x = int(-w * rng.uniform(0, 0.3))
    while x < w:
        width, top = int(w * rng.uniform(0.2, 0.6)), int(h * rng.uniform(-0.4, 0.35))
        front = image[max(top, 0) :, max(x, 0) : x + width]
        front[:] = pick("#b9a68c #8e7f70 #c9c3b8 #7a6a5c #5d666e #a58a78 #d6cfc2 #474b52", rng)
        step = w * rng.uniform(0.06, 0.16)
        glass = pick("#2b3640 #46555f #1f252b #8fa0aa", rng)
        frame = 1.25 if rng.random() < 0.5 else 0.75
        for wy in np.arange(top + step * 0.4, h * 0.75, step * rng.uniform(1.2, 1.8)):
            for wx in np.arange(x + step * 0.3, x + width - step * 0.6, step):
                y0, x0, y1, x1 = (int(v) for v in (wy, wx, wy + step * 0.8, wx + step * 0.6))
                if y1 > 0 and x1 > 0:
                    b = max(1, w // 170)
                    image[max(y0 - b, 0) : y1 + b, max(x0 - b, 0) : x1 + b] *= frame
                    image[max(y0, 0) : y1, max(x0, 0) : x1] = glass * rng.uniform(0.7, 1.5)
        x += width
    ground = int(h * rng.uniform(0.72, 0.95))
    image[ground:] = pick("#7a7873 #8f8b84 #5c5b58 #a19a8e", rng)
    for _ in range(rng.integers(0, 6)):
        x, tall = rng.uniform(0, w), h * rng.uniform(0.15, 0.4)
        color = tuple(map(float, pick("#1f2329 #3b2a28 #5a6672 #7d2f2f #d8d4cc #26364a", rng)))
        foot = ground + h * rng.uniform(0, 0.1)
        cv2.ellipse(image, ((x, foot - tall * 0.45), (tall * 0.28, tall), 0.0), color, -1)
        cv2.circle(image, (int(x), int(foot - tall * 1.02)), int(tall * 0.1), (0.6, 0.45, 0.36), -1)
    return image * (1 + 0.04 * fractal(size, 30, rng, 5))[..., None]


def shelves(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Shop shelves: rows of bright boxes and bottles on boards."""
    h, w = size
    image = np.full((h, w, 3), pick("#3a3632 #5c564e #26282b #8a8378", rng), np.float32)
    step = h * rng.uniform(0.16, 0.34)
    for bottom in np.arange(step * rng.uniform(0.5, 1), h + step, step):
        x = -w * 0.05
        while x < w:
            width, tall = step * rng.uniform(0.2, 0.6), step * rng.uniform(0.5, 0.85)
            y0, x0 = int(bottom - tall), int(x)
            color = pick("#b33a2e #d8a13a #e8e2d4 #2f6b4f #2f4f86 #7a3f5c #e07b39 #4f8fa8 #f3f0ea #6b4a32", rng)
            box = image[max(y0, 0) : int(max(bottom, 0)), max(x0, 0) : int(max(x + width, 0))]
            if box.size:
                round_light = 0.75 + 0.4 * np.sin(np.linspace(0.3, 2.6, box.shape[1], dtype=np.float32))
                box[:] = color * round_light[None, :, None]
                band = slice(int(box.shape[0] * 0.4), int(box.shape[0] * 0.7))
                box[band] = box[band] * 0.4 + 0.6 * pick("#ffffff #1f1f1f #f2d26b #c0392b", rng)
            x += width * rng.uniform(1.03, 1.3)
        image[int(max(bottom, 0)) : int(bottom + step * 0.08)] = pick("#a39a8c #d5d0c6 #4a3f33", rng)
    return image


def room(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A room's wall, floor, a window's glare and a few pieces of furniture."""
    h, w = size
    image = _vertical_gradient(size, pick("#cfc7ba #b9b5ae #8d8880 #d9d6d0", rng), pick("#a79e90 #8f8a82 #6b665e", rng))
    floor = int(h * rng.uniform(0.55, 0.85))
    image[floor:] = pick("#7d5f43 #9a8468 #5c5854 #a39888", rng)
    for _ in range(rng.integers(2, 7)):
        bw, bh = w * rng.uniform(0.08, 0.4), h * rng.uniform(0.08, 0.5)
        x, y = int(rng.uniform(-0.1, 1) * w), int(max(0, rng.uniform(floor - bh, floor + h * 0.15)))
        color = pick("#3a2f28 #5b4636 #8a7a66 #2c3238 #a8a29a #6b2f2a", rng)
        image[y : int(y + bh), max(0, x) : int(max(0, x + bw))] = color
    if rng.random() < 0.6:
        x, y, ww, wh = (int(v) for v in rng.uniform([0, 0, 0.15, 0.2], [0.8, 0.3, 0.4, 0.5]) * [w, h, w, h])
        image[y : y + wh, x : x + ww] = np.array([0.95, 0.96, 0.93], np.float32)
    return image


def night(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Lamps far out of focus: discs of light on the dark."""
    h, w = size
    image = _vertical_gradient(size, pick("#0d1018 #1a1512 #101a26", rng), pick("#2a2018 #141a26 #33281f", rng))
    lamps = pick("#ffb45a #ffd9a0 #ff7a4a #9ac4ff #fff2dc", rng, 0.0)
    radius = max(size) * rng.uniform(0.015, 0.06)
    for _ in range(rng.integers(12, 45)):
        x, y, r = rng.uniform(0, w), rng.normal(0.55, 0.22) * h, radius * rng.uniform(0.6, 1.3)
        color = lamps if rng.random() < 0.6 else pick("#ff4a3a #4aff9a #5aa0ff #ffe08a #ffffff", rng)
        disc = np.zeros(size, np.uint8)
        cv2.circle(disc, (int(x * 16), int(y * 16)), int(r * 16), 255, -1, cv2.LINE_AA, 4)
        place = tuple(slice(max(0, int(middle - r - 2)), max(0, int(middle + r + 3))) for middle in (y, x))
        image[place] += disc[place][..., None].astype(np.float32) / 255 * color * rng.uniform(0.15, 0.55)
    return image


def glass(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A shop window: the dim inside and, over it, streaks and shapes that are reflected."""
    inside = cv2.GaussianBlur(shelves(size, rng) if rng.random() < 0.5 else room(size, rng), (0, 0), rng.uniform(2, 5))
    outside = cv2.GaussianBlur(street(size, rng), (0, 0), rng.uniform(1.5, 6))
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    streak = np.sin((xs + ys * rng.uniform(-0.6, 0.6)) / size[1] * rng.uniform(3, 9) + rng.uniform(0, 6)) > 0.3
    amount = rng.uniform(0.1, 0.3) + 0.08 * cv2.GaussianBlur(streak.astype(np.float32), (0, 0), 3)
    return inside * rng.uniform(0.5, 0.9) + outside * amount[..., None]


SCENES: dict[str, Callable[[Size, np.random.Generator], np.ndarray]] = {
    scene.__name__: scene for scene in (sky, foliage, street, shelves, room, night, glass)
}


def out_of_focus(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The scene behind what the lens is set on: blurred by a disc of 0.5 to 4 % of the long side."""
    radius = max(1, round(max(image.shape[:2]) * float(rng.uniform(0.005, 0.04))))
    disc = np.zeros((2 * radius + 1,) * 2, np.float32)
    cv2.circle(disc, (radius, radius), radius, 1.0, -1)
    if radius <= 6:
        return cv2.filter2D(image, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    # a large disc costs its area: on a smaller copy nobody sees the difference
    shrink = 6 / radius
    small = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    disc = cv2.resize(disc, (13, 13), interpolation=cv2.INTER_AREA)
    small = cv2.filter2D(small, -1, disc / disc.sum(), borderType=cv2.BORDER_REFLECT)
    return cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC)
