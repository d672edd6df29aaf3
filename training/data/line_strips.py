"""Strips around text lines of FTSR pages, for the recogniser loss."""

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis.degrade import AnyDegradation, Degradation, degrade
from tadisr.training.data.page_crops import ConcatPages, photographic_tones, to_tensors


class FTSRLines(Dataset):
    """Strips around horizontal lines of FTSR pages, for the recogniser loss.

    Each strip's line height is drawn from `heights`, and a line at least as high is shrunk to it. Much smaller lines
    are illegible at LR, larger ones are legible anyway, and pages have more small lines than large ones.

    Each item: hr, lr, mask as in `Cropping.draw`, and box (4,): top, bottom, left, right of the line in the strip,
    pixels. Item i depends on (seed, i) alone.

    Args:
        size: height and width of a strip, HR pixels.
        heights: smallest and largest height of a line in its strip, HR pixels.
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
    ):
        self.augmentation = augmentation
        self.pages, self.size, self.length, self.seed = pages, size, length, seed
        self.degradation = degradation or Degradation.preset("mild")
        boxes: list[tuple[int, ...]] = []
        for number in range(len(pages)):
            for line in pages.lines(number):
                quad = np.array(line["quad"])
                (left, top), (right, bottom) = quad.min(0), quad.max(0)
                high, slant = bottom - top, abs(quad[1, 1] - quad[0, 1])
                if high >= heights[0] and right - left >= 1.5 * high and slant <= 0.2 * high:
                    boxes.append((number, int(top), int(np.ceil(bottom)), int(left), int(np.ceil(right))))
        if not boxes:
            raise ValueError(f"The pages hold no horizontal lines of {heights[0]:g} pixels or more.")
        boxes.sort(key=lambda box: box[2] - box[1])
        self.boxes = np.array(boxes)
        tallest = self.boxes[-1, 2] - self.boxes[-1, 1]
        self.heights = heights[0], min(heights[1], float(tallest))

    def __len__(self) -> int:
        return self.length

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """(page, top, bottom, left, right) of a line, and the factor that shrinks its page."""
        wanted = rng.uniform(*self.heights)
        # At most twice the wanted height: a larger strip finds no room on its page.
        first, last = np.searchsorted(self.boxes[:, 2] - self.boxes[:, 1], (wanted, 2 * wanted))
        box = self.boxes[rng.integers(first, max(last, first + 1))]
        return box, wanted / (box[2] - box[1])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, 1, index])
        (number, *box), factor = self._draw(rng)
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
        box = np.array([top - y, bottom - y, left - x, right - x]) * factor + (-2, 2, -2, 2)
        limits = np.repeat(self.size, 2)
        box = np.clip(np.rint(box).astype(np.int64), 0, limits)
        return {**to_tensors(hr, mask, degrade(hr, self.degradation, rng)), "box": torch.from_numpy(box)}


def _start(low: int, high: int, window: int, limit: int, rng: np.random.Generator) -> int:
    """A random start of a window that holds [low, high), or lies within it, and stays within [0, limit)."""
    first, last = max(0, high - window), min(low, limit - window)
    return int(rng.integers(min(first, last), max(first, last) + 1))
