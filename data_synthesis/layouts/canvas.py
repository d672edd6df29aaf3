"""Something that is written on: a page, a panel, a sheet of paper. Shapes, text, and canvases mounted on canvases."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from tadisr.data_synthesis.text.effects import Ink, paint
from tadisr.data_synthesis.text.fonts import Font
from tadisr.data_synthesis.text.render import Glyphs

_SLACK = 1.0  # pixels by which a line may stick out and still count as whole: its strokes' anti-aliased border
Color = np.ndarray  # (3,) float32 RGB in [0, 1]


class Canvas:
    """An image with its text.

    image: (H, W, 3) float32 RGB in [0, 1]. alpha: (H, W) float32, 0 where the canvas itself is cut away, or None.
    mask: (H, W) float32, coverage of the strokes. taken: (H, W) uint8, 1 where no text may be put any more.
    lines: [{"text", "quad" (4, 2) float32, "font"}], corners (x, y) clockwise from the text's own top left. The text
        is "" where something covers part of the line.
    """

    def __init__(self, image: np.ndarray):
        self.image = image
        self.alpha: np.ndarray | None = None
        self.mask = np.zeros(image.shape[:2], np.float32)
        self.taken = np.zeros(image.shape[:2], np.uint8)
        self.lines: list[dict] = []

    @classmethod
    def of(cls, height: float, width: float, color: Color) -> "Canvas":
        """A canvas of one colour."""
        return cls(np.full((max(4, round(height)), max(4, round(width)), 3), color, np.float32))

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[:2]

    def _window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """The pixels that the box touches, clipped to the canvas."""
        h, w = self.size
        left, top = min(max(0, math.floor(x0)), w), min(max(0, math.floor(y0)), h)
        return slice(top, max(top, min(h, math.ceil(y1)))), slice(left, max(left, min(w, math.ceil(x1))))

    def _cover(self, window: tuple[slice, slice], color: Color | np.ndarray, cover: np.ndarray) -> None:
        """Blend a colour, or an image, over the pixels of the window and its text; cover (h, w) in [0, 1]."""
        area = self.image[window]
        area += (color - area) * cover[..., None]
        if not self.lines:
            return
        lost = self.mask[window] * cover
        if lost.max(initial=0) > 0.2:
            all_lost = np.zeros_like(self.mask)
            all_lost[window] = lost
            for line in self.lines:
                polygon, place = self._polygon(line["quad"])
                if (all_lost[place] * polygon).sum() > 0.1 * (self.mask[place] * polygon).sum():
                    line["text"] = ""  # nobody can say what a line reads that has lost a tenth of its ink
        self.mask[window] -= lost

    def box(
        self, x0: float, y0: float, x1: float, y1: float, color: Color | np.ndarray, radius: float = 0.0,
        line: float = 0.0, opacity: float = 1.0,
    ) -> None:  # fmt: skip
        """A rectangle with round corners, filled or, where `line` > 0, its frame of that width (inside the edge)."""
        rows, columns = window = self._window(x0, y0, x1, y1)
        if rows.start != rows.stop and columns.start != columns.stop:
            self._cover(window, color, box_coverage(x0, y0, x1, y1, radius, line, rows, columns) * opacity)

    def shape(
        self, x0: float, y0: float, x1: float, y1: float, draw: Callable, color: Color, opacity: float = 1.0
    ) -> None:
        """Blend what `draw(coverage)` draws into a uint8 canvas of the box's size, 0 to 255."""
        h, w, x, y = round(y1 - y0), round(x1 - x0), round(x0), round(y0)
        if min(h, w) < 1:
            return
        coverage = np.zeros((h, w), np.uint8)
        draw(coverage)
        rows, columns = window = self._window(x, y, x + w, y + h)
        part = coverage[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        self._cover(window, color, part * np.float32(opacity / 255))

    def picture(self, x0: float, y0: float, x1: float, y1: float, image: np.ndarray, radius: float = 0.0) -> None:
        """An image stretched over the box."""
        window = self._window(x0, y0, x1, y1)
        h, w = self.image[window].shape[:2]
        if min(h, w) > 0:
            self.box(x0, y0, x1, y1, cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), radius)

    def polygon(self, points: np.ndarray, color: Color, opacity: float = 1.0) -> None:
        """A filled polygon, points (N, 2) as (x, y)."""
        points = np.asarray(points, np.float32)
        (x0, y0), (x1, y1) = np.floor(points.min(axis=0)), np.ceil(points.max(axis=0))
        corners = np.round((points - [x0, y0]) * 16).astype(np.int32)
        self.shape(x0, y0, x1, y1, lambda c: cv2.fillPoly(c, [corners], 255, cv2.LINE_AA, 4), color, opacity)

    def is_free(self, quad: np.ndarray) -> bool:
        """Whether no text and no mounted canvas is within the polygon."""
        polygon, window = self._polygon(quad)
        return not (self.taken[window] & polygon).any()

    def visible_lines(self) -> list[dict]:
        """The lines of which something is seen.

        A line that the border cuts has the text "" and an upright quad, of whole pixels, around its visible part.
        """
        h, w = self.size
        frame, seen = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32), []
        for line in self.lines:
            quad, text = line["quad"].astype(np.float32), line["text"]
            if (quad < -_SLACK).any() or (quad > np.array([w, h], np.float32) + _SLACK).any():
                area, part = cv2.intersectConvexConvex(quad, frame)
                if area < 1:
                    continue
                (x0, y0), (x1, y1) = np.floor(part.min(axis=(0, 1))), np.ceil(part.max(axis=(0, 1)))
                quad, text = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32), ""
            quad = quad.clip(0, [w, h]).astype(np.float32)
            polygon, window = self._polygon(quad)
            if (self.mask[window] * polygon).max(initial=0) > 0.1:
                seen.append({**line, "text": text, "quad": quad})
        return seen

    def take(self, quad: np.ndarray) -> None:
        """Keep text off the polygon from now on."""
        polygon, window = self._polygon(quad)
        self.taken[window] |= polygon

    def _polygon(self, quad: np.ndarray) -> tuple[np.ndarray, tuple[slice, slice]]:
        rows, columns = window = self._window(*quad.min(axis=0), *(quad.max(axis=0) + 1))
        polygon = np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.uint8)
        if polygon.size:
            corners = np.round((quad - [columns.start, rows.start]) * 16).astype(np.int32)
            cv2.fillConvexPoly(polygon, corners, 1, shift=4)
        return polygon, window

    def put(
        self, glyphs: Glyphs, x: int, y: int, color: Color, font: Font, effect: Ink | None = None,
        rng: np.random.Generator | None = None,
    ) -> bool:  # fmt: skip
        """Paint drawn text with its array's top left at (x, y), unless its lines would meet other text.

        effect: how the letters are made, which may replace the colour; None: flat. Text that the canvas cuts is flat.
        """
        quads = [quad + np.array([x, y], np.float32) for _, quad in glyphs.lines]
        if not all(self.is_free(quad) for quad in quads):
            return False
        gh, gw = glyphs.fill.shape
        rows, columns = window = self._window(x, y, x + gw, y + gh)
        if rows.start == rows.stop or columns.start == columns.stop:
            return False
        cover = glyphs.fill[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        if effect is not None and rng is not None and cover.shape == glyphs.fill.shape:
            if effect.material != "engraved":
                effect = replace(effect, color=tuple(float(c) for c in color))
            cover = paint(self.image, glyphs, effect, rng, (y, x))
        else:
            area = self.image[window]
            area += (color - area) * cover[..., None]
        np.maximum(self.mask[window], cover, out=self.mask[window])
        for (text, _), quad in zip(glyphs.lines, quads, strict=True):
            self.take(quad)
            self.lines.append({"text": text, "quad": quad, "font": Path(font.path).name or font.family})
        return True

    def mount(
        self, other: "Canvas", corners: np.ndarray, shade: float = 0.0, fall: tuple[float, float] = (2, 4)
    ) -> None:
        """Draw `other` so that its corners come to lie at `corners` (4, 2), with its text, mask and lines.

        shade: darkness, 0 to 1, of the soft shadow that it casts by `fall` (x, y) pixels.
        """
        h, w = other.size
        source = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
        rows, columns = window = self._window(*corners.min(axis=0) - 1, *(corners.max(axis=0) + 1))
        wh = (columns.stop - columns.start, rows.stop - rows.start)
        if min(wh) < 1:
            return
        origin = np.array([columns.start, rows.start], np.float32)
        matrix = cv2.getPerspectiveTransform(source, (corners - origin).astype(np.float32))
        # pixel centres lie at +0.5: the matrix maps corners, warpPerspective maps centres
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        matrix = np.linalg.inv(half) @ matrix @ half
        alpha = np.pad(np.ones(other.size, np.float32) if other.alpha is None else other.alpha, 1)
        shifted = matrix @ np.array([[1, 0, -1], [0, 1, -1], [0, 0, 1]])
        alpha = cv2.warpPerspective(alpha, shifted, wh, flags=cv2.INTER_LINEAR)
        if shade > 0:
            self._cast_shadow(corners, alpha, origin, shade, fall)
        area = self.image[window]
        image = cv2.warpPerspective(other.image, matrix, wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        area += (image - area) * alpha[..., None]
        np.clip(area, 0, 1, out=area)
        mask = cv2.warpPerspective(other.mask, matrix, wh, flags=cv2.INTER_CUBIC).clip(0, 1) * alpha
        self.mask[window] = np.maximum(self.mask[window] * (1 - alpha), mask)
        moved = cv2.getPerspectiveTransform(source, corners.astype(np.float32))
        for line in other.visible_lines():
            self.lines.append({**line, "quad": cv2.perspectiveTransform(line["quad"][None], moved)[0]})
        self.take(corners)

    def _cast_shadow(
        self, corners: np.ndarray, alpha: np.ndarray, origin: np.ndarray, shade: float, fall: tuple[float, float]
    ) -> None:
        """Darken by the shadow of a shape, alpha (h, w) with its top left at `origin`."""
        blur = max(1.0, 0.6 * math.hypot(*fall))
        low, high = corners.min(axis=0) + fall - 3 * blur, corners.max(axis=0) + fall + 3 * blur
        rows, columns = window = self._window(*low, *high)
        shadow = np.zeros(self.image[window].shape[:2], np.float32)
        if not shadow.size:
            return
        shift = np.array(
            [[1, 0, origin[0] + fall[0] - columns.start], [0, 1, origin[1] + fall[1] - rows.start]], np.float32
        )
        cv2.warpAffine(alpha, shift, shadow.shape[::-1], dst=shadow, flags=cv2.INTER_LINEAR)
        self.image[window] *= 1 - shade * cv2.GaussianBlur(shadow, (0, 0), blur)[..., None]


def box_coverage(
    x0: float, y0: float, x1: float, y1: float, radius: float, line: float, rows: slice, columns: slice
) -> np.ndarray:
    """Coverage (rows, columns) float32 of a rounded rectangle, or of its frame, at the given pixels, anti-aliased."""
    half_w, half_h = (x1 - x0) / 2, (y1 - y0) / 2
    radius = max(0.0, min(radius, half_w, half_h))
    # how far a pixel's centre lies outside the rectangle that the corners' centres span
    xs = np.abs(np.arange(columns.start, columns.stop, dtype=np.float32) + 0.5 - (x0 + half_w)) - (half_w - radius)
    ys = np.abs(np.arange(rows.start, rows.stop, dtype=np.float32) + 0.5 - (y0 + half_h)) - (half_h - radius)
    if radius < 0.5 and line <= 0:
        return (0.5 - ys - radius).clip(0, 1)[:, None] * (0.5 - xs - radius).clip(0, 1)
    outside = np.hypot(ys.clip(0)[:, None], xs.clip(0)) + np.minimum(np.maximum(ys[:, None], xs), 0) - radius
    if line > 0:
        outside = np.abs(outside + line / 2) - line / 2
    return (0.5 - outside).clip(0, 1)
