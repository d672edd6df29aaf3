"""Lines of text in a whole photo: cut out upright, refined, and their changes blended back.

Photos are uint8 RGB (H, W, 3). A box is a quad: (4, 2) float32 corners (x, y) in pixels, clockwise from the text's top
left; in JSON {"quad": [[x, y], [x, y], [x, y], [x, y]]}.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from tadisr.io.structured import read_json
from tadisr.ocr import OCREngine

MARGIN = 0.15
"""Width of the border around a box in which changes fade away, as a share of the box's shorter side."""
_MAX_SIDE = 32_000  # pixels: OpenCV warps no larger images

Refiner = Callable[[list[np.ndarray]], Sequence[np.ndarray]]
"""Lines (h, w, 3) float32 in [0, 1] to the same lines, sharper, such as `TextDiffPipeline.refine`."""


def read_boxes(path: str | os.PathLike) -> list[np.ndarray]:
    """The quads of a JSON file, a list of {"quad": ...}; other keys are ignored. A ValueError says what is wrong."""
    boxes = read_json(Path(path))
    if not isinstance(boxes, list):
        raise ValueError(f'{path}: expected a list of {{"quad": [[x, y], ...]}}, got {type(boxes).__name__}.')
    quads = []
    for number, box in enumerate(boxes, 1):
        try:
            quad = np.asarray(box["quad"], np.float32)
        except (KeyError, TypeError, ValueError):
            quad = np.empty(0, np.float32)
        if quad.shape != (4, 2) or not np.isfinite(quad).all():
            raise ValueError(
                f'{path}: box {number} is not {{"quad": [[x, y], [x, y], [x, y], [x, y]]}}, four corners in pixels.'
            )
        try:
            plan_cut(quad)
        except ValueError as error:
            raise ValueError(f"{path}: box {number}: {error}") from None
        quads.append(quad)
    return quads


def check_quads(quads: Sequence[np.ndarray], height: int, width: int) -> None:
    """Raise ValueError for a quad that `plan_cut` refuses, or that lies outside a photo of that size."""
    for quad in quads:
        rows, columns = _place(plan_cut(quad), height, width)
        if rows.start >= rows.stop or columns.start >= columns.stop:
            raise ValueError(f"The line {quad.tolist()} lies outside the photo of {width} x {height}.")


def find_boxes(photo: np.ndarray, engine: OCREngine) -> list[np.ndarray]:
    """The quads of the lines that an OCR engine finds in a photo."""
    quads = []
    for line in engine.find(photo):
        with suppress(ValueError):  # a box that is clipped to the photo can have no area
            plan_cut(line.quad)
            quads.append(line.quad)
    return quads


class Cut(NamedTuple):
    """How a line is cut out: `matrix` maps points of the photo to points of the upright line with its margin."""

    matrix: np.ndarray  # (3, 3)
    width: int
    height: int
    margin: int

    def outline(self) -> np.ndarray:
        """The cut's corners in the photo, homogeneous (4, 3); beyond the horizon the third number is negative."""
        w, h = self.width, self.height
        return np.array([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], float) @ np.linalg.inv(self.matrix).T

    def feather(self) -> np.ndarray:
        """Weights of the change, (height, width) float32: 1 in the box, falling to 0 over the margin."""
        rise = 0.5 - 0.5 * np.cos(np.pi * (np.arange(self.margin, dtype=np.float32) + 0.5) / self.margin)
        rows, columns = (
            np.concatenate([rise, np.ones(side - 2 * self.margin, np.float32), rise[::-1]])
            for side in (self.height, self.width)
        )
        return np.outer(rows, columns)


def plan_cut(quad: np.ndarray) -> Cut:
    """Plan the upright rectangle for a quad, with its margin. Upright quads of whole numbers keep their pixels.

    ValueError unless the corners go clockwise around a convex area of at least 1 x 1 pixels.
    """
    sides = np.roll(quad, -1, axis=0).astype(float) - quad  # vectors: top, right, bottom, left
    before = np.roll(sides, 1, axis=0)
    turns = before[:, 0] * sides[:, 1] - before[:, 1] * sides[:, 0]
    lengths = np.linalg.norm(sides, axis=1)
    width, height = round(lengths[::2].max()), round(lengths[1::2].max())
    if not (turns > 0).all() or min(width, height) < 1:
        raise ValueError(
            f"The corners {quad.tolist()} do not go clockwise around a line of text, from its top left, at least a "
            "pixel apart."
        )
    margin = max(1, round(MARGIN * min(width, height)))
    if max(width, height) + 2 * margin > _MAX_SIDE:
        raise ValueError(f"The line {quad.tolist()} is longer than {_MAX_SIDE} pixels: split its box.")
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) + np.float32(margin)
    matrix = cv2.getPerspectiveTransform(np.asarray(quad, np.float32), corners)
    cut = Cut(matrix, width + 2 * margin, height + 2 * margin, margin)
    if (cut.outline()[:, 2] <= 0).any():
        raise ValueError(f"The line {quad.tolist()} narrows to nothing at one end: give it a less slanted box.")
    return cut


def refine_lines(photo: np.ndarray, quads: Sequence[np.ndarray], refiner: Refiner) -> np.ndarray:
    """Refine the lines of a photo; pixels that no line changes stay bit-identical.

    The refiner's changes are added to the photo, not its lines, so cutting out costs no sharpness. A change fades away
    over a margin around its box. Where boxes overlap, their changes are averaged. Quads may reach beyond the photo. The
    refiner gets all lines at once, each as an upright rectangle of its size in the photo; a vertical line is tall.
    Quads that `plan_cut` refuses, and those outside the photo, are a ValueError.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or not photo.size:
        raise ValueError(f"Expected a uint8 RGB photo (H, W, 3), got {photo.dtype} {photo.shape}.")
    quads = [np.asarray(quad, np.float32) for quad in quads]
    check_quads(quads, *photo.shape[:2])
    cuts, lines = [], []
    for quad in quads:
        cut = plan_cut(quad)
        rows, columns = place = _place(cut, *photo.shape[:2])
        part, size = photo[place].astype(np.float32) / 255, (cut.width, cut.height)
        matrix = cut.matrix @ np.array([[1, 0, columns.start], [0, 1, rows.start], [0, 0, 1]], float)  # for the part
        line = cv2.warpPerspective(part, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        lines.append(line.clip(0, 1))
        cuts.append((cut, matrix, place))
    if not lines:
        return photo.copy()
    refined = refiner(lines)
    if [np.shape(line) for line in refined] != [line.shape for line in lines]:
        raise ValueError("The refiner changed the size or the number of the lines.")

    # The system gives these arrays memory only where they are written: little for a large photo with little text.
    change, weight = np.zeros(photo.shape, np.float32), np.zeros(photo.shape[:2], np.float32)
    for (cut, matrix, place), before, after in zip(cuts, lines, refined, strict=True):
        feather = cut.feather()
        difference = (np.asarray(after, np.float32) - before) * feather[..., None]
        back: dict[str, Any] = {"M": matrix, "dsize": weight[place].shape[::-1], "borderMode": cv2.BORDER_CONSTANT}
        flags = cv2.WARP_INVERSE_MAP
        change[place] += cv2.warpPerspective(difference, flags=flags | cv2.INTER_CUBIC, **back)
        weight[place] += cv2.warpPerspective(feather, flags=flags | cv2.INTER_LINEAR, **back)
    result = photo.copy()
    for _, _, place in cuts:  # where places overlap, the same values are written twice
        mean = change[place] / np.maximum(weight[place], 1)[..., None]
        result[place] = np.rint(photo[place] + 255 * mean).clip(0, 255)
    return result


def _place(cut: Cut, height: int, width: int) -> tuple[slice, slice]:
    """Rows and columns of the photo that a cut touches, and a few around them for interpolation."""
    corners = cut.outline()
    corners = corners[:, :2] / corners[:, 2:]
    left, top = (np.floor(corners.min(0)) - 3).clip(0, (width, height)).astype(int)
    right, bottom = (np.ceil(corners.max(0)) + 4).clip(0, (width, height)).astype(int)
    return slice(top, bottom), slice(left, right)
