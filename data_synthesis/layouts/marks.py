"""Marks that are not text, and must not be taken for it: arrows, pictograms, bar codes, logos, screws."""

import math

import cv2
import numpy as np

from tadisr.data_synthesis.layouts.canvas import Canvas, Color

_UNIT = 64  # coordinates of the pictograms


def _polygon(coverage: np.ndarray, points: np.ndarray | list[tuple[float, float]], value: int = 255) -> None:
    scale = np.asarray(coverage.shape[::-1], np.float32) / _UNIT * 16
    cv2.fillPoly(coverage, [np.round(np.asarray(points, np.float32) * scale).astype(np.int32)], value, cv2.LINE_AA, 4)


def _disc(coverage: np.ndarray, x: float, y: float, radius: float, value: int = 255) -> None:
    scale = coverage.shape[0] / _UNIT * 16
    cv2.circle(coverage, (int(x * scale), int(y * scale)), int(radius * scale), value, -1, cv2.LINE_AA, 4)


def arrow(canvas: Canvas, x: float, y: float, size: float, color: Color, angle: float = 0.0, thin: float = 0.5) -> None:
    """An arrow in a square box with its centre at (x, y); angle 0 points right, 90 down."""
    half = 5 + 9 * thin
    points = np.array(
        [(4, 32 - half / 2), (36, 32 - half / 2), (36, 32 - 16 - half / 3), (61, 32), (36, 32 + 16 + half / 3),
         (36, 32 + half / 2), (4, 32 + half / 2)], np.float32
    )  # fmt: skip
    turn = cv2.getRotationMatrix2D((32, 32), -angle, 1.0)
    points = points @ turn[:, :2].T + turn[:, 2]
    canvas.shape(x - size / 2, y - size / 2, x + size / 2, y + size / 2, lambda c: _polygon(c, points), color)


def _star(points: int, inner: float, outer: float, turn: float = 0.0, y: float = 32) -> np.ndarray:
    """The corners of a star with its middle at (32, y)."""
    angles = np.arange(2 * points) * math.pi / points - turn
    radii = np.where(np.arange(2 * points) % 2, inner, outer)
    return np.stack([32 + radii * np.cos(angles), y + radii * np.sin(angles)], axis=-1)


def _leaf() -> np.ndarray:
    ts = np.linspace(0, math.pi, 12)
    right = np.stack([32 + 20 * np.sin(ts), 60 - 54 * ts / math.pi], axis=-1)
    left = np.stack([32 - 16 * np.sin(ts[::-1]), 60 - 54 * ts[::-1] / math.pi], axis=-1)
    return np.concatenate([right, left])


TICK = 5
# Discs (x, y, radius) and polygons, each of which fills, or where its value is 0, clears.
_PICTOGRAMS: list[list[tuple[tuple[float, float, float] | list[tuple[float, float]] | np.ndarray, int]]] = [
    [((32, 32, 30), 255), ((32, 32, 23), 0), ([(10, 18), (17, 11), (54, 46), (47, 53)], 255)],  # ring with a bar
    [([(32, 4), (62, 58), (2, 58)], 255), ([(32, 16), (52, 52), (12, 52)], 0),  # warning triangle
     ([(29, 26), (35, 26), (33.5, 42), (30.5, 42)], 255), ((32, 47, 2.6), 255)],
    [(_star(5, 13, 31, math.pi / 2, 33), 255)],
    [((32, 9, 7), 255), ([(22, 18), (42, 18), (44, 40), (39, 40), (38, 62), (33, 62), (32, 44), (31, 62), (26, 62),
      (25, 40), (20, 40)], 255)],  # standing figure
    [([(32, 6), (60, 32), (52, 32), (52, 58), (38, 58), (38, 40), (26, 40), (26, 58), (12, 58), (12, 32),
       (4, 32)], 255)],  # house
    [([(6, 34), (14, 26), (26, 40), (52, 12), (60, 20), (26, 56)], 255)],  # tick
    [([(24, 4), (40, 4), (40, 24), (60, 24), (60, 40), (40, 40), (40, 60), (24, 60), (24, 40), (4, 40), (4, 24),
       (24, 24)], 255)],  # cross of a pharmacy
    [([(6, 16), (58, 16), (58, 48), (6, 48)], 255),  # bus
     *(([(left, 21), (left + 11, 21), (left + 11, 32), (left, 32)], 0) for left in (10, 24, 38)),
     ((18, 50, 6), 255), ((46, 50, 6), 255)],
    [((32, 42, 17), 255), ([(32, 4), (46, 33), (18, 33)], 255)],  # drop
    [([(10, 18), (44, 18), (40, 54), (14, 54)], 255), ((46, 32, 10), 255), ((46, 32, 6), 0),  # cup
     ([(10, 18), (43, 18), (39, 54), (14, 54)], 255)],
    [((24, 32, 20), 255), ((40, 32, 20), 255), ((24, 32, 14), 0)],  # rings, as of a trade mark
    [(_leaf(), 255), ([(31, 62), (33, 62), (33, 22), (31, 22)], 0)],  # leaf, flame
]  # fmt: skip


def pictogram(
    canvas: Canvas, x: float, y: float, size: float, color: Color, rng: np.random.Generator, kind: int | None = None
) -> None:
    """One of a dozen simple figures, any or the one asked for, with its centre at (x, y)."""
    figure = _PICTOGRAMS[int(rng.integers(12)) if kind is None else kind]

    def draw(c: np.ndarray) -> None:
        for part, value in figure:
            if isinstance(part, tuple):
                _disc(c, *part, value)
            else:
                _polygon(c, part, value)

    canvas.shape(x - size / 2, y - size / 2, x + size / 2, y + size / 2, draw, color)


def bar_code(
    canvas: Canvas, x0: float, y0: float, x1: float, y1: float, color: Color, rng: np.random.Generator
) -> None:
    """Bars of one to four modules."""
    widths = rng.choice([1, 1, 2, 3, 4], 56).cumsum()
    edges = x0 + (x1 - x0) * widths / widths[-1]
    for left, right in zip(edges[::2], edges[1::2], strict=True):
        canvas.box(left, y0, right, y1, color)


def matrix_code(canvas: Canvas, x: float, y: float, size: float, color: Color, rng: np.random.Generator) -> None:
    """A code of 21 to 29 modules with its three finder patterns, top left at (x, y)."""
    n = int(rng.choice([21, 25, 29]))
    modules = rng.integers(0, 2, (n, n)).astype(np.uint8)
    finder = np.pad(np.pad(np.pad(np.ones((3, 3), np.uint8), 1), 1, constant_values=1), (0, 1))
    for rows, columns, flip in ((0, 0, np.s_[:, :]), (0, n - 8, np.s_[:, ::-1]), (n - 8, 0, np.s_[::-1, :])):
        modules[rows : rows + 8, columns : columns + 8] = finder[flip]

    def draw(c: np.ndarray) -> None:
        c[:] = cv2.resize(modules * 255, c.shape[::-1], interpolation=cv2.INTER_NEAREST)

    canvas.shape(x, y, x + size, y + size, draw, color)


def rule(canvas: Canvas, x0: float, x1: float, y: float, color: Color, width: float = 1.0, dash: float = 0.0) -> None:
    """A horizontal line, whole or of dashes of `dash` pixels."""
    for left in np.arange(x0, x1, dash * 1.8) if dash > 0 else [x0]:
        canvas.box(left, y - width / 2, min(left + dash, x1) if dash > 0 else x1, y + width / 2, color)


def screws(canvas: Canvas, inset: float, radius: float, rng: np.random.Generator) -> None:
    """A screw head in each corner."""
    h, w = canvas.size
    metal = np.array([0.62, 0.62, 0.6], np.float32) * np.float32(rng.uniform(0.6, 1.3))
    for x, y in ((inset, inset), (w - inset, inset), (inset, h - inset), (w - inset, h - inset)):
        canvas.box(x - radius, y - radius + 1, x + radius + 1, y + radius + 1, metal * 0.3, radius, opacity=0.6)
        canvas.box(x - radius, y - radius, x + radius, y + radius, metal.clip(0, 1), radius)
        canvas.box(x - radius * 0.7, y - radius * 0.15, x + radius * 0.7, y + radius * 0.15, metal * 0.4)


def burst(canvas: Canvas, x: float, y: float, radius: float, color: Color, rng: np.random.Generator) -> None:
    """A disc or a many-pointed star, as prices stand in."""
    points = int(rng.choice([0, 0, 14, 20]))

    def draw(c: np.ndarray) -> None:
        if points:
            _polygon(c, _star(points, 26, 31.5))
        else:
            _disc(c, 32, 32, 31)

    canvas.shape(x - radius, y - radius, x + radius, y + radius, draw, color)
