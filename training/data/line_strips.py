"""Strips around text lines of FTSR pages, for the recogniser losses."""

from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis.degrade import AnyDegradation, Degradation, degrade
from tadisr.training.data.page_crops import ConcatPages, photographic_tones, to_tensors

MARGIN = 2  # pixels of a strip around its line


class FTSRLines(Dataset):
    """Strips around horizontal lines of FTSR pages, for the recogniser losses.

    Each strip's line height is drawn from `heights`, and a line at least as high is shrunk to it. Much smaller lines
    are illegible at LR, larger ones are legible anyway, and pages have more small lines than large ones.

    Each item: hr, lr, mask as in `Cropping.draw`; box (4,): top, bottom, left, right of the line in the strip, pixels;
    and text, the string that the line shows, empty where the strip does not hold all of it. Item i depends on (seed, i)
    alone.

    Args:
        size: height and width of a strip, HR pixels.
        heights: smallest and largest height of a line in its strip, HR pixels.
        whole: draw lines whose text is known and that fit into a strip, where there are any of the height. Of a longer
            line the strip holds a part, and which of its characters these are is not known.
        augmentation: photographic tones and inverted colours.

    Raises:
        ValueError: no horizontal lines of the smallest height or more.
    """

    def __init__(
        self,
        pages: ConcatPages,
        length: int,
        seed: int = 0,
        size: tuple[int, int] = (64, 256),
        heights: tuple[float, float] = (18.0, 50.0),
        degradation: AnyDegradation | None = None,
        augmentation: bool = True,
        whole: bool = False,
    ):
        self.augmentation, self.whole = augmentation, whole
        self.pages, self.size, self.length, self.seed = pages, size, length, seed
        self.degradation = degradation or Degradation.preset("mild")
        boxes: list[tuple[int, ...]] = []
        texts: list[str] = []
        for number in range(len(pages)):
            for line in pages.lines(number):
                quad = np.array(line["quad"])
                (left, top), (right, bottom) = quad.min(0), quad.max(0)
                high, slant = bottom - top, abs(quad[1, 1] - quad[0, 1])
                if high >= heights[0] and right - left >= 1.5 * high and slant <= 0.2 * high:
                    boxes.append((number, int(top), int(np.ceil(bottom)), int(left), int(np.ceil(right))))
                    texts.append(line["text"])
        if not boxes:
            raise ValueError(f"The pages hold no horizontal lines of {heights[0]:g} pixels or more.")
        order = sorted(range(len(boxes)), key=lambda i: boxes[i][2] - boxes[i][1])
        self.boxes, self.texts = np.array(boxes)[order], [texts[i] for i in order]
        self.known = np.array([bool(text.strip()) for text in self.texts])
        tallest = self.boxes[-1, 2] - self.boxes[-1, 1]
        self.heights = heights[0], min(heights[1], float(tallest))

    def __len__(self) -> int:
        return self.length

    def _draw(self, rng: np.random.Generator) -> tuple[int, float]:
        """The number of a line, and the factor that shrinks its page."""
        wanted = rng.uniform(*self.heights)
        heights = self.boxes[:, 2] - self.boxes[:, 1]
        # At most twice the wanted height: a larger strip finds no room on its page.
        first, last = np.searchsorted(heights, (wanted, 2 * wanted))
        last = max(last, first + 1)
        fits = np.empty(0, np.int64)
        if self.whole:
            widths = (self.boxes[first:last, 4] - self.boxes[first:last, 3]) * wanted / heights[first:last]
            fits = np.flatnonzero((widths + 2 * MARGIN <= self.size[1]) & self.known[first:last])
        line = int(first + (rng.choice(fits) if len(fits) else rng.integers(last - first)))
        return line, wanted / heights[line]

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, 1, index])
        line, factor = self._draw(rng)
        number, *box = self.boxes[line]
        page = self.pages.triplet(int(number))
        factor = max(factor, *(side / limit for side, limit in zip(self.size, page.mask.shape, strict=True)))
        height, width = (round(side / factor) for side in self.size)
        top, bottom, left, right = box
        y = _start(top, bottom, height, page.hr.shape[0], rng)
        x = _start(left, min(right, left + width), width, page.hr.shape[1], rng)
        place = np.s_[y : y + height, x : x + width]
        hr, mask = (
            cv2.resize(np.ascontiguousarray(image[place]), self.size[::-1], interpolation=cv2.INTER_AREA)
            for image in (page.hr, page.mask)
        )
        if self.augmentation:
            hr = photographic_tones(hr, rng)
            if rng.random() < 0.25:
                hr = 255 - hr
        seen = x <= left and right <= x + width and y <= top and bottom <= y + height
        box = np.array([top - y, bottom - y, left - x, right - x]) * factor + (-MARGIN, MARGIN, -MARGIN, MARGIN)
        limits = np.repeat(self.size, 2)
        box = np.clip(np.rint(box).astype(np.int64), 0, limits)
        tensors = to_tensors(hr, mask, degrade(hr, self.degradation, rng))
        return {**tensors, "box": torch.from_numpy(box), "text": self.texts[line] if seen else ""}


def _start(low: int, high: int, window: int, limit: int, rng: np.random.Generator) -> int:
    """A random start of a window that holds [low, high), or lies within it, and stays within [0, limit)."""
    first, last = max(0, high - window), min(low, limit - window)
    return int(rng.integers(min(first, last), max(first, last) + 1))
