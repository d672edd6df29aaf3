"""Training crops from FTSR folders."""

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from tadisr.data_synthesis.degrade import Degradation, degrade
from torch.utils.data import Dataset


def _read(path: Path, flag: int) -> np.ndarray:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or not an image.")
    return image


def _read_page(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """RGB image and mask of a page, given its file in hr/."""
    mask = _read(path.parent.parent / "mask" / path.name, cv2.IMREAD_GRAYSCALE)
    return _read(path, cv2.IMREAD_COLOR)[..., ::-1], mask


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


class FTSRCrops(Dataset):
    """Random crops of FTSR pages with a freshly drawn degradation.

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
        self.pages = [page for folder in folders for page in sorted(Path(folder, "hr").glob("*.png"))]
        if not self.pages:
            raise FileNotFoundError(
                f"No hr/*.png in {', '.join(map(str, folders))}: make pages with `tadisr synthesize`."
            )
        self.size, self.length, self.seed, self.text_share = size, length, seed, text_share
        self.degradation = degradation or Degradation()
        # Decoding a page costs more than degrading a crop: keep them decoded (workers share the memory by forking).
        self.decoded = [_read_page(page) for page in self.pages] if cache else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, index])
        number = int(rng.integers(len(self.pages)))
        page = self.pages[number]
        hr, mask = self.decoded[number] if self.decoded else _read_page(page)
        if min(hr.shape[:2]) < self.size:
            raise ValueError(f"{page} is {hr.shape[1]}x{hr.shape[0]}: crops of {self.size} need larger pages.")
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
        self.degradation = degradation or Degradation()
        self.lines: list[tuple[Path, tuple[int, int, int, int]]] = []
        for folder in map(Path, folders):
            with (folder / "metadata.jsonl").open(encoding="utf-8") as records:
                for record in map(json.loads, records):
                    for line in record["lines"]:
                        quad = np.array(line["quad"])
                        (left, top), (right, bottom) = quad.min(0), quad.max(0)
                        slant = abs(quad[1, 1] - quad[0, 1])
                        if 12 <= bottom - top <= size[0] - 8 and right - left >= 1.5 * (bottom - top) and slant <= 6:
                            box = (int(top), int(np.ceil(bottom)), int(left), int(np.ceil(right)))
                            self.lines.append((folder / "hr" / record["file_name"], box))
        if not self.lines:
            raise FileNotFoundError(f"No horizontal lines in the metadata of {', '.join(map(str, folders))}.")

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.seed, 1, index])
        path, (top, bottom, left, right) = self.lines[rng.integers(len(self.lines))]
        hr, mask = _read_page(path)
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
