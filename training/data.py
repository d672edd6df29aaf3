"""Training crops from FTSR data sets."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.read import open_pages
from torch.utils.data import Dataset


def _to_tensors(hr: np.ndarray, mask: np.ndarray, lr: np.ndarray) -> dict[str, torch.Tensor]:
    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 255

    return {"hr": tensor(hr), "lr": tensor(lr), "mask": tensor(mask[..., None])}


def photographic_tones(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Less saturation, down to gray, and more contrast, (H, W, 3) uint8 RGB.

    Drawn colours are louder than photographed ones and their luma differs less: JPEG's halved chroma and the noise then
    drown the strokes, and a network learns to smooth. In photographs most text is nearly black on nearly white.
    """
    image = np.ascontiguousarray(image)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    keep = rng.uniform(0, 0.7) if rng.random() < 0.85 else 0.0
    image = cv2.addWeighted(image, keep, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - keep, 0)
    if rng.random() < 0.75:
        low, high = np.percentile(gray, (1, 99))
        dark, light = rng.uniform(0, 70), rng.uniform(170, 255)
        gain = min((light - dark) / max(high - low, 1.0), 5.0)
        image = cv2.convertScaleAbs(cv2.addWeighted(image, gain, image, 0, dark - gain * low))
    return image


def zoom(image: np.ndarray, size: int) -> np.ndarray:
    """Enlarge a square crop to `size`: as soft as photographs are at their own resolution."""
    if image.shape[0] == size:
        return image
    return cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=cv2.INTER_CUBIC)


class ConcatPages:
    """Several sets of pages as one."""

    def __init__(self, parts: Sequence):
        self.parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def _find(self, i: int) -> tuple:
        part = int(np.searchsorted(self._ends, i, side="right"))
        return self.parts[part], i - int(self._ends[part]) + len(self.parts[part])

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """HR image (H, W, 3) uint8 RGB and mask (H, W) uint8."""
        part, i = self._find(i)
        return part.hr(i), part.mask(i)

    def lines(self, i: int) -> list[dict]:
        part, i = self._find(i)
        return part.lines(i)

    def name(self, i: int) -> str:
        part, i = self._find(i)
        return part.name(i)


class FTSRCrops(Dataset):
    """Random crops of FTSR pages (see `open_pages`) with a freshly drawn degradation.

    Item i depends on (seed, i) alone, so a resumed run sees what an uninterrupted one would have seen.

    Each item: hr (3, S, S), lr (3, S/scale, S/scale), mask (1, S, S), float32 in [0, 1].
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        size: int,
        length: int,
        seed: int = 0,
        text_share: float = 0.85,
        max_zoom: float = 1.4,
        cache: bool = False,
        degradation: Degradation | None = None,
    ):
        cv2.setNumThreads(1)  # several threads here only get in the way of the training step's
        self.max_zoom = max_zoom
        self.pages = ConcatPages([open_pages(folder) for folder in folders])
        self.size, self.length, self.seed, self.text_share = size, length, seed, text_share
        self.degradation = degradation or Degradation.preset("mild")
        # Decoding a page costs more than degrading a crop: keep them decoded (workers share the memory by forking).
        self.decoded = [self.pages[i] for i in range(len(self.pages))] if cache else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.pages)))
        hr, mask = self.decoded[number] if self.decoded else self.pages[number]
        if min(hr.shape[:2]) < self.size:
            raise ValueError(
                f"{self.pages.name(number)} is {hr.shape[1]}x{hr.shape[0]}: crops of {self.size} need larger pages."
            )
        must_hold_text = rng.random() < self.text_share
        side = round(self.size / rng.uniform(1.0, self.max_zoom))
        for _ in range(6):
            y, x = (int(rng.integers(0, length - side + 1)) for length in hr.shape[:2])
            place = np.s_[y : y + side, x : x + side]
            if not must_hold_text or (mask[place] > 127).mean() > 0.01:
                break
        hr, mask = (zoom(image[place], self.size) for image in (hr, mask))
        if rng.random() < 0.5:
            hr = hr[..., rng.permutation(3)]
        hr = photographic_tones(hr, rng)
        if rng.random() < 0.25:
            hr = 255 - hr
        if rng.random() < 0.08:  # vertical signs, turned pages
            turns = int(rng.integers(1, 4))
            hr, mask = np.rot90(hr, turns), np.rot90(mask, turns)
        hr = np.ascontiguousarray(hr)
        return _to_tensors(hr, mask, degrade(hr, self.degradation, rng))


class FTSRLines(Dataset):
    """Strips (height x width HR pixels) around horizontal lines of FTSR pages, for the recogniser loss.

    Each item: hr, lr, mask as in `FTSRCrops`, and box (4,): top, bottom, left, right of the line in the strip, pixels.
    """

    def __init__(
        self,
        folders: Sequence[str | Path],
        length: int,
        seed: int = 0,
        size: tuple[int, int] = (64, 256),
        degradation: Degradation | None = None,
    ):
        self.size, self.length, self.seed = size, length, seed
        self.degradation = degradation or Degradation.preset("mild")
        self.pages = ConcatPages([open_pages(folder) for folder in folders])
        self.lines: list[tuple[int, tuple[int, int, int, int]]] = []
        for number in range(len(self.pages)):
            for line in self.pages.lines(number):
                quad = np.array(line["quad"])
                (left, top), (right, bottom) = quad.min(0), quad.max(0)
                slant = abs(quad[1, 1] - quad[0, 1])
                if 12 <= bottom - top <= size[0] - 8 and right - left >= 1.5 * (bottom - top) and slant <= 6:
                    box = (int(top), int(np.ceil(bottom)), int(left), int(np.ceil(right)))
                    self.lines.append((number, box))
        if not self.lines:
            raise FileNotFoundError(f"No horizontal lines in the metadata of {', '.join(map(str, folders))}.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, 1, index])
        number, (top, bottom, left, right) = self.lines[rng.integers(len(self.lines))]
        hr, mask = self.pages[number]
        height, width = self.size
        y = _start(top, bottom, height, hr.shape[0], rng)
        x = _start(left, min(right, left + width), width, hr.shape[1], rng)
        hr, mask = np.ascontiguousarray(hr[y : y + height, x : x + width]), mask[y : y + height, x : x + width]
        hr = photographic_tones(hr, rng)
        if rng.random() < 0.25:
            hr = 255 - hr
        pad = 2
        box = [
            max(top - y - pad, 0),
            min(bottom - y + pad, height),
            max(left - x - pad, 0),
            min(right - x + pad, width),
        ]
        return {**_to_tensors(hr, mask, degrade(hr, self.degradation, rng)), "box": torch.tensor(box)}


def _start(low: int, high: int, window: int, limit: int, rng: np.random.Generator) -> int:
    """Where a window may start so that it holds [low, high) and stays within [0, limit)."""
    first, last = max(0, high - window), min(low, limit - window)
    return int(rng.integers(min(first, last), max(first, last) + 1))
