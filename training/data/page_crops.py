"""Training crops from the pages of FTSR data sets."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis.degrade import AnyDegradation, Degradation, degrade
from tadisr.data_synthesis.tones import Tones, draw_tones, photographic_tones
from tadisr.datasets.ftsr import open_pages
from tadisr.training.data.mask_prompts import draw_prompt, plan_drawing


class Triplet(NamedTuple):
    """One page: HR image (H, W, 3), mask (H, W) and LR image (H/scale, W/scale, 3) or None, all uint8."""

    name: str
    hr: np.ndarray
    mask: np.ndarray
    lr: np.ndarray | None = None


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """uint8 (H, W, C) to float32 (C, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255


def to_tensors(hr: np.ndarray, mask: np.ndarray, lr: np.ndarray) -> dict[str, torch.Tensor]:
    """uint8 (H, W, 3), (H, W), (h, w, 3) to float32 (C, H, W) in [0, 1]."""
    return {"hr": to_tensor(hr), "lr": to_tensor(lr), "mask": to_tensor(mask[..., None])}


def add_prompt(item: dict[str, torch.Tensor], share: float | None, rng: np.random.Generator) -> dict[str, torch.Tensor]:
    """Add mask_prompt (2, S, S) to a crop, and let its mask follow it, see `draw_prompt`; zeros in all but a `share`.

    Without a share the crop stays as it is, and nothing is drawn. It is drawn last, so that the images are the same.
    """
    if share is None:
        return item
    mask = item["mask"]
    height, width = mask.shape[1:]
    if rng.random() >= share:
        return {**item, "mask_prompt": mask.new_zeros(2, height, width)}
    prompt, mask = draw_prompt(mask, plan_drawing((height, width), rng))
    return {**item, "mask": mask, "mask_prompt": prompt}


@dataclass(frozen=True)
class Cropping:
    """The way to cut a crop out of a page, and to make its LR image."""

    size: int
    """Side in HR pixels."""
    degradation: AnyDegradation | None = field(default_factory=lambda: Degradation.preset("mild"))
    """None: the page's own LR image."""
    text_share: float = 0.85
    augmentation: bool = False
    max_zoom: float = 1.4
    scale: int = 4
    """HR pixels per pixel of a page's own LR image, along each side."""
    prompt_share: float | None = None
    """How often a crop is given a mask prompt; None: crops have none at all."""

    def draw(self, page: Triplet, rng: np.random.Generator) -> dict[str, torch.Tensor]:
        """hr (3, S, S), lr (3, S/scale, S/scale), mask (1, S, S), float32 in [0, 1], and what `add_prompt` adds.

        Raises:
            ValueError: a page too small, or whose images do not fit each other.
        """
        self.check(page)
        y, x, side = self.draw_place(page.mask.shape, lambda place: float((page.mask[place] > 127).mean()), rng)
        place = np.s_[y : y + side, x : x + side]
        hr, mask = page.hr[place], page.mask[place]
        if side != self.size:  # enlarged, it is as soft as photographs are at their own resolution
            hr, mask = (
                cv2.resize(np.ascontiguousarray(x), (self.size, self.size), interpolation=cv2.INTER_CUBIC)
                for x in (hr, mask)
            )
        if self.degradation is None:
            return add_prompt(to_tensors(hr, mask, self._stored(page, y, x)), self.prompt_share, rng)
        if self.augmentation:
            hr, mask = _augment(hr, mask, draw_look(rng))
        hr = np.ascontiguousarray(hr)
        return add_prompt(to_tensors(hr, mask, degrade(hr, self.degradation, rng)), self.prompt_share, rng)

    def check(self, page: Triplet) -> None:
        """Raise ValueError for a page too small, or whose image and mask are of different sizes."""
        hr, mask = page.hr, page.mask
        if hr.shape[:2] != mask.shape:
            sizes = [f"{x.shape[1]}x{x.shape[0]}" for x in (mask, hr)]
            raise ValueError(f"{page.name}: the mask is {sizes[0]} and the image {sizes[1]}; they must be of one size.")
        if min(mask.shape) < self.size:
            raise ValueError(f"{page.name} is {hr.shape[1]}x{hr.shape[0]}: crops of {self.size} need larger pages.")

    def draw_place(
        self, shape: tuple[int, ...], text_share: Callable[[tuple[slice, slice]], float], rng: np.random.Generator
    ) -> tuple[int, int, int]:
        """Top, left and side of a crop of a page (H, W), pixels; `text_share` says how much of a place is text."""
        must_hold_text, y, x = rng.random() < self.text_share, 0, 0
        side = round(self.size / rng.uniform(1.0, self.max_zoom)) if self.augmentation else self.size
        step = self.scale if self.degradation is None else 1
        for _ in range(6):
            y, x = (int(rng.integers(0, (length - side) // step + 1)) * step for length in shape)
            if not must_hold_text or text_share(np.s_[y : y + side, x : x + side]) > 0.01:
                break
        return y, x, side

    def _stored(self, page: Triplet, y: int, x: int) -> np.ndarray:
        wanted = tuple(side // self.scale for side in page.mask.shape)
        if page.lr is None or page.lr.shape[:2] != wanted:
            found = "missing" if page.lr is None else f"{page.lr.shape[1]}x{page.lr.shape[0]}"
            raise ValueError(f"{page.name}: the LR image is {found}, not {wanted[1]}x{wanted[0]} (scale {self.scale}).")
        side = self.size // self.scale
        y, x = y // self.scale, x // self.scale
        return page.lr[y : y + side, x : x + side]


class Look(NamedTuple):
    """How a crop is changed to look like another one."""

    channels: np.ndarray
    """The order of the colours, (3,)."""
    tones: Tones
    inverted: bool
    turns: int
    """Quarter turns."""


def draw_look(rng: np.random.Generator) -> Look:
    """Swapped colours, photographic tones, inverted colours, and a few turns: vertical signs, turned pages."""
    channels = rng.permutation(3) if rng.random() < 0.5 else np.arange(3)
    tones, inverted = draw_tones(rng), rng.random() < 0.25
    return Look(channels, tones, inverted, int(rng.integers(1, 4)) if rng.random() < 0.08 else 0)


def _augment(hr: np.ndarray, mask: np.ndarray, look: Look) -> tuple[np.ndarray, np.ndarray]:
    hr = photographic_tones(hr[..., look.channels], look.tones)
    if look.inverted:
        hr = 255 - hr
    return np.rot90(hr, look.turns), np.rot90(mask, look.turns)


class ConcatPages:
    """Several FTSR data sets (see `open_pages`) as one.

    Args:
        folders: the data sets.
        with_lr: read their own LR images, too.
        cache: keep all pages decoded in memory.
    """

    def __init__(self, folders: Sequence[str | Path], with_lr: bool = False, cache: bool = False):
        self.with_lr = with_lr
        self.parts = [open_pages(folder) for folder in folders]
        self._ends = np.cumsum([len(part) for part in self.parts])
        # Decoding a page costs more than degrading a crop. Data workers are forked, so they share the memory.
        with ThreadPoolExecutor() as pool:  # OpenCV decodes outside Python's lock
            self._decoded = list(pool.map(self._load, range(len(self)))) if cache else None

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, i: int) -> tuple:
        part = int(np.searchsorted(self._ends, i, side="right"))
        return self.parts[part], i - int(self._ends[part]) + len(self.parts[part])

    def triplet(self, i: int) -> Triplet:
        """Page i."""
        return self._load(i) if self._decoded is None else self._decoded[i]

    def _load(self, i: int) -> Triplet:
        part, i = self._find(i)
        return Triplet(part.name(i), part.hr(i), part.mask(i), part.lr(i) if self.with_lr else None)

    def lines(self, i: int) -> list[dict]:
        """The lines of text on page i: {"text": ..., "quad": four corners (x, y) in HR pixels}."""
        part, i = self._find(i)
        return part.lines(i)


class FTSRCrops(Dataset):
    """Random crops of FTSR pages, by default with a freshly drawn degradation.

    Item i depends on (seed, i) alone, so a resumed run sees the same items as an unbroken one.

    Each item: the tensors of `Cropping.draw`, has_mask (1.0), index (i) and name (of the page).
    """

    def __init__(self, pages: ConcatPages, cropping: Cropping, length: int, seed: int = 0):
        cv2.setNumThreads(1)  # more would only take cores from the training step
        self.pages, self.cropping, self.length, self.seed = pages, cropping, length, seed

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.pages)))
        page = self.pages.triplet(number)
        item = self.cropping.draw(page, rng)
        return {**item, "has_mask": torch.tensor(1.0), "index": index, "name": page.name}
