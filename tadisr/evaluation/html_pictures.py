"""The pictures of report.html: lines cut out and whole images made small, as data URIs, within a budget."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from tadisr.evaluation.records import Report
from tadisr.ocr import crop_line

Images = Callable[[str, str], np.ndarray]

LINE_SIZE = (1000, 96)  # largest width and height of a line's picture, in pixels
IMAGE_SIDE = 384  # largest side of a whole image's picture, in pixels
LINE_PIXELS, IMAGE_PIXELS = 60e6, 60e6  # budgets of pixels for lines and for whole images: about 11 and 5 MB
QUALITY = 85  # of WebP


class Picture(NamedTuple):
    uri: str
    width: int
    height: int

    @property
    def shown_width(self) -> int:
        """In CSS pixels: small text is enlarged to a height of 56, up to 3 times."""
        return round(self.width * min(max(1.0, 56 / self.height), 3.0))


class Pictures:
    """Pictures of lines and of whole images. Those that changed most come first, until the page's budget is spent.

    `lines` is {(line number, method): picture}, `images` is {(image name, method): picture}.
    """

    def __init__(self, report: Report, methods: list[str], images: Images):
        self.lines: dict[tuple[int, str], Picture] = {}
        self.images: dict[tuple[str, str], Picture] = {}
        change = []
        for line in report["lines"]:
            known = [score for name in methods[:-1] if (score := line["ocr_a"].get(name)) is not None]
            change.append(max(known) - min(known) if known else 0.0)
        sizes = [len(methods) * _area(line["quad"]) for line in report["lines"]]
        wanted = _within(LINE_PIXELS, sizes, change)
        of_image: dict[str, list[int]] = {image["name"]: [] for image in report["images"]}
        for i, line in enumerate(report["lines"]):
            of_image[line["image"]].append(i)
        sizes = [len(methods) * min(IMAGE_SIDE**2, math.prod(image["size"])) for image in report["images"]]
        change = [max((change[i] for i in of_image[image["name"]]), default=0) for image in report["images"]]
        whole = _within(IMAGE_PIXELS, sizes, change)
        for number, (name, numbers) in enumerate(of_image.items()):
            numbers = wanted.intersection(numbers)
            if not numbers and number not in whole:
                continue
            for method in methods:
                pixels = images(method, name)
                if number in whole:
                    self.images[name, method] = _picture(pixels, (IMAGE_SIDE, IMAGE_SIDE))
                for i in numbers:
                    self.lines[i, method] = _picture(crop_line(pixels, _widen(report["lines"][i]["quad"])), LINE_SIZE)


def _area(quad: list[list[float]]) -> float:
    """Approximate number of pixels of a line's picture; infinite for a box that is too thin to be cut out."""
    a, b, c, d = np.asarray(quad, float)
    width, height = max(math.dist(a, b), math.dist(c, d)), max(math.dist(a, d), math.dist(b, c))
    if min(width, height) < 1:
        return math.inf
    scale = min(1.0, LINE_SIZE[1] / min(width, height), LINE_SIZE[0] / max(width, height))
    return width * height * scale**2


def _within(budget: float, sizes: Sequence[float], urgency: Sequence[float]) -> set[int]:
    """The most urgent items that fit into a budget."""
    chosen = set()
    for i in sorted(range(len(sizes)), key=lambda i: -urgency[i]):
        if sizes[i] <= budget:
            budget -= sizes[i]
            chosen.add(i)
    return chosen


def _widen(quad: list[list[float]]) -> np.ndarray:
    """A quad with a margin that shows the ground around the letters: 0.15 of the shorter side, all around."""
    corners = np.asarray(quad, np.float32)
    a, b, c, d = corners
    right, down = b - a + c - d, d - a + c - b
    margin = 0.075 * min(np.linalg.norm(right), np.linalg.norm(down))
    right, down = (margin * side / max(np.linalg.norm(side), 1e-6) for side in (right, down))
    return corners + np.stack([-right - down, right - down, right + down, down - right])


def _picture(pixels: np.ndarray, most: tuple[int, int]) -> Picture:
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.thumbnail(most, Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=QUALITY, method=2)
    return Picture(f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}", *image.size)
