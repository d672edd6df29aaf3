"""Training crops from FTSR data sets."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.read import open_pages
from tadisr.data_synthesis.tones import photographic_tones


class Triplet(NamedTuple):
    """One page: HR image (H, W, 3), mask (H, W) and LR image (H/scale, W/scale, 3) or None, all uint8."""

    name: str
    hr: np.ndarray
    mask: np.ndarray
    lr: np.ndarray | None = None


def to_tensors(hr: np.ndarray, mask: np.ndarray, lr: np.ndarray) -> dict[str, torch.Tensor]:
    """uint8 (H, W, 3), (H, W), (h, w, 3) to float32 (C, H, W) in [0, 1]."""

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255

    return {"hr": tensor(hr), "lr": tensor(lr), "mask": tensor(mask[..., None])}


def one_line(error: Exception) -> str:
    """What went wrong, without line breaks; of an error in a data worker only what was raised there."""
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].split(": ", 1)[-1]
    return " ".join(text.split())


def zoom(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge a square crop to `size`: as soft as photographs are at their own resolution."""
    if image.shape[0] == size:
        return image
    return cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Cropping:
    """How a crop is cut out of a page and its LR image made."""

    size: int
    """Side in HR pixels."""
    degradation: Degradation | None = field(default_factory=lambda: Degradation.preset("mild"))
    """None: the page's own LR image."""
    text_share: float = 0.85
    augmentation: bool = False
    max_zoom: float = 1.4
    scale: int = 4
    """Of a page's own LR image."""

    def draw(self, page: Triplet, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """hr (3, S, S), lr (3, S/scale, S/scale), mask (1, S, S), float32 in [0, 1].

        Raises:
            ValueError: a page too small, or whose images do not fit each other.
        """
        hr, mask = page.hr, page.mask
        if hr.shape[:2] != mask.shape:
            sizes = [f"{x.shape[1]}x{x.shape[0]}" for x in (mask, hr)]
            raise ValueError(f"{page.name}: the mask is {sizes[0]} and the image {sizes[1]}; they must be of one size.")
        if min(mask.shape) < self.size:
            raise ValueError(f"{page.name} is {hr.shape[1]}x{hr.shape[0]}: crops of {self.size} need larger pages.")
        must_hold_text = rng.random() < self.text_share
        side = round(self.size / rng.uniform(1.0, self.max_zoom)) if self.augmentation else self.size
        step = self.scale if self.degradation is None else 1
        for _ in range(6):
            y, x = (int(rng.integers(0, (length - side) // step + 1)) * step for length in mask.shape)
            place = np.s_[y : y + side, x : x + side]
            if not must_hold_text or (mask[place] > 127).mean() > 0.01:
                break
        hr, mask = (zoom(image[place], self.size) for image in (hr, mask))
        if self.degradation is None:
            return to_tensors(hr, mask, self._stored(page, y, x))
        if self.augmentation:
            hr, mask = _augment(hr, mask, rng)
        hr = np.ascontiguousarray(hr)
        return to_tensors(hr, mask, degrade(hr, self.degradation, rng))

    def _stored(self, page: Triplet, y: int, x: int) -> np.ndarray:
        wanted = tuple(side // self.scale for side in page.mask.shape)
        if page.lr is None or page.lr.shape[:2] != wanted:
            found = "missing" if page.lr is None else f"{page.lr.shape[1]}x{page.lr.shape[0]}"
            raise ValueError(f"{page.name}: the LR image is {found}, not {wanted[1]}x{wanted[0]} (scale {self.scale}).")
        side = self.size // self.scale
        y, x = y // self.scale, x // self.scale
        return page.lr[y : y + side, x : x + side]


def _augment(hr: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    if rng.random() < 0.5:
        hr = hr[..., rng.permutation(3)]
    hr = photographic_tones(hr, rng)
    if rng.random() < 0.25:
        hr = 255 - hr
    if rng.random() < 0.08:  # vertical signs, turned pages
        turns = int(rng.integers(1, 4))
        hr, mask = np.rot90(hr, turns), np.rot90(mask, turns)
    return hr, mask


class ConcatPages:
    """Several FTSR data sets (see `open_pages`) as one, with or without their own LR images."""

    def __init__(self, folders: Sequence[str | Path], with_lr: bool = False, cache: bool = False):
        self.with_lr = with_lr
        self.parts = [open_pages(folder) for folder in folders]
        self._ends = np.cumsum([len(part) for part in self.parts])
        # Decoding a page costs more than degrading a crop: keep them decoded (workers share the memory by forking).
        with ThreadPoolExecutor() as pool:  # OpenCV decodes outside Python's lock
            self._decoded = list(pool.map(self._load, range(len(self)))) if cache else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, i: int) -> tuple:
        part = int(np.searchsorted(self._ends, i, side="right"))
        return self.parts[part], i - int(self._ends[part]) + len(self.parts[part])

    def triplet(self, i: int) -> Triplet:
        return self._load(i) if self._decoded is None else self._decoded[i]

    def _load(self, i: int) -> Triplet:
        part, i = self._find(i)
        return Triplet(part.name(i), part.hr(i), part.mask(i), part.lr(i) if self.with_lr else None)

    def lines(self, i: int) -> list[dict]:
        part, i = self._find(i)
        return part.lines(i)


class FTSRCrops(Dataset):
    """Random crops of FTSR pages, by default with a freshly drawn degradation.

    Item i depends on (seed, i) alone, so a resumed run sees what an uninterrupted one would have seen.

    Each item: what `Cropping.draw` gives, and has_mask (1.0), index (i) and name (of the page).
    """

    def __init__(self, pages: ConcatPages, cropping: Cropping, length: int, seed: int = 0):
        cv2.setNumThreads(1)  # several threads here only get in the way of the training step's
        self.pages, self.cropping, self.length, self.seed = pages, cropping, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.pages)))
        page = self.pages.triplet(number)
        item = self.cropping.draw(page, rng)
        return {**item, "has_mask": torch.tensor(1.0), "index": index, "name": page.name}


class FTSRLines(Dataset):
    """Strips (height x width HR pixels) around horizontal lines of FTSR pages, for the recogniser loss.

    A line's height is drawn from `heights` (HR pixels), and a line at least as high is shrunk to it: what is much
    smaller is illegible at LR, what is larger is legible anyway, and pages have more of the former. `augmentation`:
    photographic tones and inverted colours.

    Each item: hr, lr, mask as in `Cropping.draw`, and box (4,): top, bottom, left, right of the line in the strip,
    pixels.
    """

    def __init__(
        self,
        pages: ConcatPages,
        length: int,
        seed: int = 0,
        size: tuple[int, int] = (64, 256),
        heights: tuple[float, float] = (18.0, 50.0),
        degradation: Degradation | None = None,
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
        # At most twice the wanted height: a strip's width must find room on the page.
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
    """Where a window may start so that it holds [low, high) and stays within [0, limit)."""
    first, last = max(0, high - window), min(low, limit - window)
    return int(rng.integers(min(first, last), max(first, last) + 1))
