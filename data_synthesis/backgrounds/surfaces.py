"""Materials and out-of-focus scenes, painted from noise: what text stands on where there is no photograph.

Each surface is a function (size, rng) -> (H, W, 3) float32 RGB in [0, 1], size = (height, width) in pixels, without
lighting. Colours are given in sRGB. `noise` and `light` are what they are made of.
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

Size = tuple[int, int]


def rgb(color: str) -> np.ndarray:
    """ "#rrggbb" as (3,) float32 in [0, 1]."""
    return np.frombuffer(bytes.fromhex(color[1:]), np.uint8).astype(np.float32) / 255


def pick(colors: str, rng: np.random.Generator, jitter: float = 0.04) -> np.ndarray:
    """One of some colours ("#rrggbb", separated by spaces), moved a little."""
    color = rgb(str(rng.choice(colors.split())))
    return (color + rng.normal(0, jitter, 3) * [0.5, 0.4, 0.6] + rng.normal(0, jitter)).clip(0, 1).astype(np.float32)


def noise(size: Size, scale: float | tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Smooth noise (H, W) of mean 0 and deviation about 1, whose features are `scale` pixels (y, x) large."""
    sy, sx = scale if isinstance(scale, tuple) else (scale, scale)
    field = rng.standard_normal((max(2, round(size[0] / sy)), max(2, round(size[1] / sx))), np.float32)
    if field.shape == size:
        return field
    return cv2.resize(field, size[::-1], interpolation=cv2.INTER_CUBIC if max(sy, sx) > 1.5 else cv2.INTER_LINEAR)


def fractal(size: Size, scale: float, rng: np.random.Generator, octaves: int = 5, rough: float = 0.55) -> np.ndarray:
    """Octaves of noise from `scale` pixels down, each `rough` times as strong; (H, W), deviation about 1."""
    field, power = np.zeros(size, np.float32), 0.0
    for i in range(octaves):
        field += rough**i * noise(size, max(1.0, scale / 2**i), rng)
        power += rough ** (2 * i)
    return field / math.sqrt(power)


def relief(height: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """The brightness (H, W) around 1 of a height field lit from one side."""
    angle = rng.uniform(0, 2 * np.pi)
    dx, dy = cv2.Sobel(height, -1, 1, 0, ksize=3), cv2.Sobel(height, -1, 0, 1, ksize=3)
    return 1 + (strength / 8) * (dx * math.cos(angle) + dy * math.sin(angle))


def light(size: Size, rng: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Uneven light (H, W, 1) around 1: falloff to one side, a vignette and, at times, the soft edge of a shadow."""
    h, w = size
    ys, xs = np.linspace(-1, 1, h, dtype=np.float32)[:, None], np.linspace(-1, 1, w, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    across = math.cos(angle) * xs + math.sin(angle) * ys
    field = 1 + strength * rng.uniform(0, 0.22) * across
    field = field * (1 - strength * rng.uniform(0, 0.16) * (xs**2 + ys**2) / 2)
    if rng.random() < 0.3 * strength:
        along = ys * math.cos(angle) - xs * math.sin(angle)
        edge = across * math.cos(1.2) + along * math.sin(1.2) - rng.uniform(-0.6, 0.6)
        edge = edge + 0.05 * noise(size, max(size) / 4, rng)
        shadow = 0.5 + 0.5 * np.tanh(edge / rng.uniform(0.04, 0.4))
        field = field * (1 - strength * rng.uniform(0.12, 0.4) * shadow)
    return field.astype(np.float32)[..., None]


def paint(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Smooth paint, plastic, enamel; at times with a painted dado."""
    color = pick("#e9e6df #d9d4c7 #f2f2f0 #c9d3d8 #b7c4b1 #d8b894 #8ea3b0 #3f5a73 #7b2d26 #2f4f3e #cfa64b #5b5b5e", rng)
    image = np.broadcast_to(color, (*size, 3)).astype(np.float32)
    if rng.random() < 0.25:
        below = int(size[0] * rng.uniform(0.4, 0.9))
        image[below:] = pick("#6b7d7a #7a3b2e #3b4a57 #a39c8c #4d6b57", rng)
        image[below : below + max(1, size[0] // 170)] *= 0.7
    orange_peel = relief(noise(size, rng.uniform(1.5, 4), rng), rng, rng.uniform(0, 0.03))
    return image * (orange_peel + 0.015 * noise(size, 80, rng))[..., None]


def plaster(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Plaster or concrete with pores, stains and, at times, cracks and the joints of slabs."""
    color = pick("#b9b4aa #cbc6bb #9a9a98 #d8d2c4 #a8a6a0 #c9b79c #dcdad5 #8c8880", rng)
    height = fractal(size, rng.uniform(20, 90), rng, 6, rng.uniform(0.6, 0.8))
    shade = relief(height, rng, rng.uniform(0.1, 0.45)) + 0.05 * fractal(size, max(size) / 2, rng, 4)
    pores = noise(size, rng.uniform(2, 5), rng) > rng.uniform(2.2, 3)
    shade = shade - 0.25 * cv2.GaussianBlur(pores.astype(np.float32), (0, 0), 0.8)
    cracks = np.zeros(size, np.uint8)
    if rng.random() < 0.4:
        for _ in range(rng.integers(1, 4)):
            steps = rng.normal(0, 1, (60, 2)).cumsum(0) * 3 + np.outer(np.arange(60), rng.normal(0, 6, 2))
            points = (steps + rng.uniform(0, 1, 2) * size[::-1]).astype(np.int32)
            cv2.polylines(cracks, [points], False, 255, int(rng.integers(1, 3)), cv2.LINE_AA)
    if rng.random() < 0.3:
        x, y = int(size[1] * rng.uniform(0.1, 0.9)), int(size[0] * rng.uniform(0.1, 0.9))
        cv2.line(cracks, (x, 0), (x, size[0]), 255, 2, cv2.LINE_AA)
        cv2.line(cracks, (0, y), (size[1], y), 255, 2, cv2.LINE_AA)
    shade = shade * (1 - cracks.astype(np.float32) / 255 * rng.uniform(0.25, 0.6))
    return color * shade[..., None]


def paper(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Paper: tint, fibres, mottle, folds and crumples."""
    color = pick("#ffffff #fdfcf8 #f8f5ec #f3ead6 #eee3c8 #f4f4f2 #eef1f3 #e9dfc9 #f6efe2", rng, 0.012)
    shade = 1 + 0.012 * fractal(size, 60, rng, 4) + rng.uniform(0.002, 0.015) * noise(size, 1.0, rng)
    if rng.random() < 0.5:
        shade = shade + rng.uniform(0.004, 0.012) * (noise(size, (1, 9), rng) + noise(size, (9, 1), rng))
    if rng.random() < 0.35:
        ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
        facets = np.zeros(size, np.float32)
        for _ in range(int(rng.integers(4, 10))):  # flat, with ridges between them
            angle, place = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1, 2) * size[::-1]
            distance = (xs - place[0]) * math.cos(angle) + (ys - place[1]) * math.sin(angle)
            facets += np.abs(distance + 6 * noise(size, 60, rng)) * rng.uniform(0.01, 0.05)
        shade = shade * relief(cv2.GaussianBlur(facets, (0, 0), 0.8), rng, rng.uniform(0.3, 1.0))
    elif rng.random() < 0.4:
        for axis in range(2):
            for place in rng.uniform(0.1, 0.9, rng.integers(0, 3)):
                distance = (np.arange(size[axis], dtype=np.float32) - place * size[axis]) / size[axis]
                fold = 1 - 0.05 * np.sign(distance) * np.exp(-np.abs(distance) * 14)
                fold = fold - 0.09 * np.exp(-((distance * size[axis] / 1.3) ** 2))
                shade = shade * np.expand_dims(fold.astype(np.float32), 1 - axis)
    return color * shade[..., None]


def cardboard(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Brown board: flutes that show through, specks, scuffs."""
    color = pick("#b08a5b #a67c4e #c19a6b #9c7a52 #bfa07a", rng, 0.02)
    along = np.sin(np.arange(size[1], dtype=np.float32) * (2 * np.pi / rng.uniform(7, 12)))
    shade = 1 + 0.012 * along + 0.03 * fractal(size, 90, rng, 4) + 0.025 * noise(size, (1, 6), rng)
    shade = shade - 0.12 * (noise(size, 1.6, rng) > 3).astype(np.float32)
    return color * shade[..., None]


def wood(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Planks with grain, knots' swirls and gaps, lying or standing."""
    stand = rng.random() < 0.4
    h, w = size[::-1] if stand else size
    light_tone, dark_tone = (
        rgb(c) for c in rng.choice([("#c89f6b", "#8a5a2e"), ("#a87a4a", "#5e3a1c"), ("#7a5436", "#3a2415"),
                                    ("#d9c3a0", "#a98a5e"), ("#b8b0a4", "#7c746a"), ("#5b3a26", "#2a1810")])
    )  # fmt: skip
    boards = int(rng.integers(1, 7))
    ys = np.arange(h, dtype=np.float32)[:, None]
    board = np.minimum((ys * boards / h).astype(int), boards - 1)
    bend = fractal((h, w), 160, rng, 3) * 10 + noise((h, w), (14, 240), rng) * 5 + board * 37
    rings = np.sin((ys + bend) * (2 * np.pi / rng.uniform(7, 22)))
    tone = 0.5 + 0.26 * rings + 0.2 * noise((h, w), (1.4, 60), rng) + rng.normal(0, 0.12, boards)[board]
    image = dark_tone + (light_tone - dark_tone) * tone.clip(-0.3, 1.3)[..., None].astype(np.float32)
    for y in (round(i * h / boards) for i in range(1, boards)):
        image[max(0, y - 1) : y + 1] *= 0.35
    image *= (1 - 0.12 * (noise((h, w), (1, 25), rng) > 1.6))[..., None]
    return np.ascontiguousarray(image.transpose(1, 0, 2)) if stand else image


def bricks(size: Size, rng: np.random.Generator) -> np.ndarray:
    """A wall of bricks (staggered) or of tiles (in a grid)."""
    tiles = rng.random() < 0.5
    if tiles:
        bh = rng.uniform(28, 150)
        bw, joint = bh * float(rng.choice([1, 1, 2])), rng.uniform(1.5, 4)
        colors, mortars = "#e8ecec #d5dbdb #f0efe9 #9fb6bd #c9b9a4 #41606b #8a8d8f", "#9c9c98 #cfcfca"
        spreads = (0.005, 0.04)
    else:
        bh, joint = rng.uniform(22, 60), rng.uniform(3, 7)
        bw = bh * rng.uniform(2.2, 3.2)
        colors, mortars = "#9b4a36 #8a3f2f #a8624a #7d4a3c #b5a394 #d8d4cc #6e5a50", "#b3aba0 #8d877e"
        spreads = (0.04, 0.12)
    base, mortar, spread = pick(colors, rng), pick(mortars, rng), rng.uniform(*spreads)
    wobble = 0 if tiles else 1.2 * noise(size, 14, rng)
    ys = np.arange(size[0], dtype=np.float32)[:, None] + wobble + rng.uniform(0, bh)
    row = np.floor(ys / bh)
    xs = np.arange(size[1], dtype=np.float32) + wobble + (0 if tiles else bw / 2) * (row % 2) + rng.uniform(0, bw)
    column = np.floor(xs / bw)
    edges = np.minimum(ys - row * bh, bh - ys + row * bh), np.minimum(xs - column * bw, bw - xs + column * bw)
    inside = (np.minimum(*edges) - joint / 2).clip(0, 1)
    shades = rng.normal(0, spread, (64, 64)).astype(np.float32)
    shade = 1 + shades[row.astype(int) % 64, column.astype(int) % 64]
    height = inside * 2 + fractal(size, 24, rng, 4, 0.7) * (0.04 if tiles else 0.5)
    image = mortar + (base * shade[..., None] - mortar) * inside[..., None]
    return image * relief(height, rng, rng.uniform(0.1, 0.3))[..., None]


def metal(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Brushed or painted sheet metal, roller shutters, corrugated iron."""
    color = pick("#b9bcc0 #8f959b #d3d5d7 #6e747a #a89b84 #4a4e53 #3d5a80 #7d8f7a", rng)
    kind = rng.random()
    if kind < 0.45:
        shade = 1 + 0.05 * noise(size, (1, 120), rng) + 0.02 * noise(size, (1, 12), rng)
        band = np.linspace(-1, 1, size[0], dtype=np.float32)[:, None]
        shade = shade + rng.uniform(0, 0.25) * np.exp(-((band - rng.uniform(-1, 1)) ** 2) / 0.1)
    else:
        pitch = rng.uniform(12, 48)
        phase = np.arange(size[int(kind > 0.75)], dtype=np.float32) / pitch % 1
        slats = 0.85 + 0.25 * phase - 0.5 * (phase > 0.93) if kind < 0.75 else 1 + 0.22 * np.sin(phase * 2 * np.pi)
        shade = np.expand_dims(slats, 1 - int(kind > 0.75)) + 0.03 * fractal(size, 70, rng, 5)
        shade = shade - 0.15 * (fractal(size, 60, rng, 5, 0.7) > 2.1)
    return color * shade[..., None].astype(np.float32)


def fabric(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Woven cloth with soft folds."""
    color = pick("#2f3e55 #7a2f35 #d9d2c5 #4d5b4a #8c8f94 #c8b48c #22252a #efece4 #345a7a", rng)
    ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
    pitch = 2 * np.pi / rng.uniform(2.5, 5)
    weave = np.sin(xs * pitch) * np.sin(ys * pitch) + 0.6 * noise(size, (1, 5), rng) + 0.6 * noise(size, (5, 1), rng)
    folds = fractal(size, rng.uniform(120, 260), rng, 2)
    shade = (1 + rng.uniform(0.02, 0.07) * weave) * relief(folds, rng, rng.uniform(2, 8))
    return color * shade[..., None]


def asphalt(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Asphalt, gravel, granite: grains of many sizes; at times a painted line."""
    color = pick("#6b6b6a #7d7b77 #565759 #8f8a82 #a39d93", rng)
    grain = fractal(size, rng.uniform(4, 12), rng, 4, 0.9)
    shade = relief(grain, rng, rng.uniform(0.15, 0.4)) + rng.uniform(0.04, 0.1) * grain + 0.04 * noise(size, 120, rng)
    image = color * shade[..., None]
    if rng.random() < 0.3:
        line = np.zeros(size, np.uint8)
        ends = (rng.uniform(0, 1, (2, 2)) * [size[1], size[0]] * [1, 0] + [[0, 0], [0, size[0]]]).astype(int)
        cv2.line(line, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, max(4, size[1] // 12), cv2.LINE_AA)
        worn = line.astype(np.float32) / 255 * (grain > -1.1 + 0.4 * noise(size, 60, rng))
        image += (pick("#e8e6df #d9b44a", rng) * shade[..., None] - image) * worn[..., None] * 0.85
    return image


SURFACES: dict[str, Callable[[Size, np.random.Generator], np.ndarray]] = {
    surface.__name__: surface for surface in (paint, plaster, paper, cardboard, wood, bricks, metal, fabric, asphalt)
}
