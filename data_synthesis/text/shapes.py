"""How lines of text run: straight, in columns, around a circle, along a wave, turned, seen at an angle."""

from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np


@dataclass(frozen=True)
class Shape:
    """How lines run. Lengths in em, angles in degrees."""

    direction: Literal["horizontal", "stacked", "sideways"] = "horizontal"
    """`stacked`: columns from right to left, every letter upright; `sideways`: the same, words of Latin letters turned
    by 90 degrees clockwise. Scripts whose letters join (Arabic, Devanagari) are always turned, never stacked."""
    spacing: float = 0.0
    """Space added between letters; scripts whose letters join take none."""
    leading: float = 1.35
    """From one baseline (or column) to the next."""
    align: float = 0.0
    """0 flush left (top, in columns), 0.5 centred, 1 flush right."""
    arc: float = 0.0
    """How far a line turns from end to end, as if around a circle; above 0 it arches up. Short or many lines turn less:
    the circle's radius never falls below one and a half times the block's height."""
    wave: float = 0.0
    """Amplitude of a wave along the line."""
    angle: float = 0.0
    """Turn within the image plane, counter-clockwise."""
    pitch: float = 0.0
    """Turn of the surface about its horizontal axis, seen in perspective."""
    yaw: float = 0.0
    """Turn of the surface about its vertical axis, seen in perspective."""


@dataclass(frozen=True)
class Shapes:
    """How often lines run which way: probabilities, and ranges of the values."""

    stacked: float = 0.04
    sideways: float = 0.03
    spaced: float = 0.15
    spacing: tuple[float, float] = (0.02, 0.35)
    curved: float = 0.08
    arc: tuple[float, float] = (20.0, 150.0)
    waved: float = 0.02
    wave: tuple[float, float] = (0.1, 0.35)
    rotated: float = 0.25
    angle: float = 8.0
    """Standard deviation of the turn, degrees."""
    steep: float = 0.15
    """Share of the turned lines that take any angle up to 60 degrees."""
    perspective: float = 0.3
    tilt: float = 45.0
    """Largest pitch and yaw, degrees."""

    def draw(self, rng: np.random.Generator) -> Shape:
        """A random shape."""
        kind = rng.random()
        stacked, upright = kind < self.stacked, kind >= self.stacked + self.sideways
        bend, sign = rng.random(), rng.choice([1, 1, -1])
        curved, waved = bend < self.curved, self.curved <= bend < self.curved + self.waved
        angle = 0.0
        if rng.random() < self.rotated:
            angle = float(rng.uniform(-60, 60) if rng.random() < self.steep else rng.normal(0, self.angle))
        pitch, yaw = rng.uniform(-self.tilt, self.tilt, 2) * (rng.random() < self.perspective)
        return Shape(
            direction="stacked" if stacked else "horizontal" if upright else "sideways",
            spacing=float(rng.uniform(*self.spacing)) if rng.random() < self.spaced else 0.0,
            leading=float(rng.uniform(1.1, 1.8)),
            align=float(rng.choice([0.0, 0.0, 0.5, 0.5, 1.0])),
            arc=float(sign * rng.uniform(*self.arc)) * (curved and upright),
            wave=float(rng.uniform(*self.wave)) * (waved and upright),
            angle=angle,
            pitch=float(pitch),
            yaw=float(yaw),
        )


@dataclass
class Canvas:
    """Drawn text on its way to its final shape: coverage (H, W), and each line's corners, (4, 2) float32."""

    ink: np.ndarray
    quads: list[np.ndarray] = field(default_factory=list)


def bend(canvas: Canvas, shape: Shape, em: float) -> Canvas:
    """Around a circle, or along a wave. The middle of the block keeps its length."""
    h, w = canvas.ink.shape
    if shape.arc:
        turn = np.deg2rad(min(abs(shape.arc), 330.0))
        radius = float(max(w / turn, 1.5 * h))
        up = 1 if shape.arc > 0 else -1

        def forward(points: np.ndarray) -> np.ndarray:
            a, r = (points[:, 0] - w / 2) / radius, radius + up * (h / 2 - points[:, 1])
            return np.stack([r * np.sin(a), -up * r * np.cos(a)], axis=1)

        def backward(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            r, a = cv2.cartToPolar(-up * y, x)
            a = np.where(a > np.pi, a - np.float32(2 * np.pi), a)
            return w / 2 + a * radius, h / 2 - up * (r - radius)

    else:
        amplitude, period = float(shape.wave * em), float(max(4 * em, w / 2))

        def forward(points: np.ndarray) -> np.ndarray:
            return points + np.stack([0 * points[:, 0], amplitude * np.sin(points[:, 0] * 2 * np.pi / period)], axis=1)

        def backward(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            return x, y - amplitude * np.sin(x * np.float32(2 * np.pi / period))

    def around(quad: np.ndarray) -> np.ndarray:
        """The corners of the box around a bent rectangle."""
        steps = np.linspace(0, 1, 65)[:, None]
        edges = np.concatenate([a + (b - a) * steps for a, b in zip(quad, np.roll(quad, -1, axis=0), strict=True)])
        low, high = forward(edges).min(axis=0) - 1, forward(edges).max(axis=0) + 1
        return np.array([low, (high[0], low[1]), high, (low[0], high[1])], np.float32)

    frame = around(np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32))
    origin = np.floor(frame[0])
    size = np.ceil(frame[2] - origin).astype(int)
    axes = (np.arange(n, dtype=np.float32) + 0.5 + o for n, o in zip(size, origin, strict=True))
    x, y = backward(*np.meshgrid(*axes))
    ink = cv2.remap(canvas.ink, np.asarray(x - 0.5, np.float32), np.asarray(y - 0.5, np.float32), cv2.INTER_LINEAR)
    return Canvas(ink, [np.asarray(around(quad) - origin, np.float32) for quad in canvas.quads])


def tilt(canvas: Canvas, shape: Shape) -> Canvas:
    """Turn the surface in space and look at it from three times its longer side away."""
    h, w = canvas.ink.shape
    rotation = np.eye(3)
    for axis, degrees in ((2, -shape.angle), (0, shape.pitch), (1, shape.yaw)):
        rotation = cv2.Rodrigues(np.deg2rad(degrees) * np.eye(3)[axis])[0] @ rotation
    corners = np.array([[-w / 2, -h / 2, 0], [w / 2, -h / 2, 0], [w / 2, h / 2, 0], [-w / 2, h / 2, 0]])
    seen = corners @ rotation.T
    distance = 3.0 * max(h, w)
    target = seen[:, :2] * distance / (distance + seen[:, 2:])
    target = np.asarray(target - target.min(axis=0) + 1, np.float32)
    size = tuple(np.ceil(target.max(axis=0) + 1).astype(int).tolist())
    matrix = cv2.getPerspectiveTransform(np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32), target)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV's pixel centres have whole coordinates, ours halves
    ink = cv2.warpPerspective(canvas.ink, np.linalg.inv(half) @ matrix @ half, size, flags=cv2.INTER_LINEAR)
    return Canvas(ink, [cv2.perspectiveTransform(quad[None], matrix)[0] for quad in canvas.quads])
