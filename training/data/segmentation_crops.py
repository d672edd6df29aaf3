"""Training crops for text segmenters, from any source with masks, worn as photographs in use are."""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import Dataset

from tadisr.data_synthesis.sources import READERS, Pair, Source, open_source
from tadisr.data_synthesis.tones import photographic_tones
from tadisr.datasets.ftsr import open_pages
from tadisr.training.data.page_crops import to_tensor

_RESIZES = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


class MaskedImages:
    """Images with exact masks, from anywhere.

    Args:
        place: an FTSR data set (see `open_pages`), or `KIND:PATH` for a layout of `data_synthesis.sources`, such as
            `textseg:data/TextSeg`.
        split: "train" or "test", where the source has splits.
    """

    def __init__(self, place: str, split: str = "train"):
        self.place = place
        if named := re.fullmatch(r"([a-z0-9_]{2,}):(.+)", place):
            kind, path = named.groups()
            spec = {"kind": kind, "path": path}
            if kind in READERS and "split" in inspect.signature(READERS[kind]).parameters:
                spec["split"] = split
            self._images = open_source(spec)
        else:
            self._images = open_pages(place, split)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB and (H, W) uint8, 255 on text."""
        if not isinstance(self._images, Source):
            return self._images.hr(i), self._images.mask(i)
        sample = self._images[i]
        if isinstance(sample, Pair) or sample.mask is None:
            raise ValueError(f"{self.place} has no masks to train on.")
        return np.asarray(sample.image), np.asarray(sample.mask)


def wear(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Wear a picture as cameras, resizing and compression do, without changing its size: (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    x = image[..., ::-1].astype(np.float32)  # JPEG must see the true colours
    if rng.random() < 0.5:
        x = cv2.GaussianBlur(x, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.6:
        shrink = float(np.exp(rng.uniform(0, np.log(3.5))))
        small = max(8, round(width / shrink)), max(8, round(height / shrink))
        x = cv2.resize(x, small, interpolation=int(rng.choice(_RESIZES)))
    if rng.random() < 0.5:
        channels = 1 if rng.random() < 0.4 else 3
        x = x + rng.standard_normal((*x.shape[:2], channels), dtype=np.float32) * rng.uniform(1, 14)
    x = x.round().clip(0, 255).astype(np.uint8)
    if rng.random() < 0.7:
        _, data = cv2.imencode(".jpg", x, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))])
        x = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if x.shape[:2] != (height, width):
        x = cv2.resize(x, (width, height), interpolation=int(rng.choice(_RESIZES[1:])))
    return np.ascontiguousarray(x[..., ::-1])


def draw_behind(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw lines, frames, discs and grids, which are no text, around and behind the text of a picture."""
    height, width = mask.shape
    canvas = np.ascontiguousarray(image).copy()
    for _ in range(int(rng.integers(1, 6))):
        color = rng.integers(0, 256, 3).tolist()
        thickness = int(rng.choice([1, 1, 2, 2, 3, 5, 9]))
        a, b = (tuple(int(rng.integers(-20, side + 20)) for side in (width, height)) for _ in range(2))
        shape = rng.integers(5)
        if shape == 0:
            cv2.line(canvas, a, b, color, thickness, cv2.LINE_AA)
        elif shape == 1:
            cv2.rectangle(canvas, a, b, color, int(rng.choice([-1, thickness])))
        elif shape == 2:
            axes = tuple(int(rng.integers(12, 90)) for _ in range(2))
            start = int(rng.integers(360))
            sweep = 360 if rng.random() < 0.5 else int(rng.integers(40, 200))
            fill = -1 if rng.random() < 0.4 else thickness
            cv2.ellipse(canvas, a, axes, rng.uniform(0, 180), start, start + sweep, color, fill, cv2.LINE_AA)
        elif shape == 3:
            points = rng.integers(0, (width, height), (int(rng.integers(3, 6)), 2)).astype(np.int32)
            closed = bool(rng.random() < 0.5)
            cv2.polylines(canvas, [points], closed, color, thickness, cv2.LINE_AA)
        else:  # windows, fences, tables
            step, origin = rng.integers(6, 50, 2), rng.integers(0, 40, 2)
            for x in range(int(origin[0]), width, int(step[0])):
                cv2.line(canvas, (x, 0), (x, height), color, min(thickness, 3))
            if rng.random() < 0.5:
                for y in range(int(origin[1]), height, int(step[1])):
                    cv2.line(canvas, (0, y), (width, y), color, min(thickness, 3))
    text = cv2.dilate(mask, np.ones((3, 3), np.uint8)) > 0
    return np.where(text[..., None], image, canvas)


class SegmentationCrops(Dataset):
    """Random crops at random scales, in random colours, half of them worn.

    Item i depends on (seed, i) alone, so a resumed run sees the same items as an unbroken one.

    Args:
        places: as in `MaskedImages`.
        size: side of the square crops in pixels.
        length: number of crops.
        text_share: share of crops that must hold text.
        photos: photographs without text; `photo_share` of the crops come from them.
        cache: keep every image decoded in memory.

    Each item: image (3, S, S), mask (1, S, S), float32 in [0, 1]; index; name, which says where the crop is from.
    """

    def __init__(
        self,
        places: Sequence[str],
        size: int,
        length: int,
        seed: int = 0,
        text_share: float = 0.9,
        photos: Sequence[Path] = (),
        photo_share: float = 0.08,
        zoom: tuple[float, float] = (0.6, 2.5),
        cache: bool = False,
    ):
        cv2.setNumThreads(1)  # more would only take cores from the training step
        sets = [MaskedImages(place) for place in places]
        self._places = [(one, i) for one in sets for i in range(len(one))]
        if not self._places:
            raise FileNotFoundError(f"No images in {', '.join(places)}.")
        self._decoded = [one[i] for one, i in self._places] if cache else None
        self.size, self.length, self.seed = size, length, seed
        self.text_share, self.zoom = text_share, zoom
        self._photos = [(str(path), _small(path)) for path in photos] if photo_share else []
        self.photo_share = photo_share if self._photos else 0.0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, index])
        image, mask, name = self._crop(rng)
        image, mask = self._recolor(image, rng), np.ascontiguousarray(mask)
        if rng.random() < 0.35:
            image = draw_behind(image, mask, rng)
        if rng.random() < 0.15:  # vertical signs, turned pages
            turns = int(rng.integers(1, 4))
            image, mask = np.rot90(image, turns), np.rot90(mask, turns)
        if rng.random() < 0.6:
            image = wear(np.ascontiguousarray(image), rng)
        return {"image": to_tensor(image), "mask": to_tensor(mask[..., None]), "index": index, "name": name}

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, str]:
        """A crop scaled to (S, S): image, mask, name."""
        if rng.random() < self.photo_share:
            number = int(rng.integers(len(self._photos)))
            name, image = self._photos[number]
            mask = np.zeros(image.shape[:2], np.uint8)
            text_share = 0.0
        else:
            number = int(rng.integers(len(self._places)))
            one, i = self._places[number]
            name = f"{one.place}, image {i}"
            image, mask = self._decoded[number] if self._decoded else one[i]
            text_share = self.text_share
        scale = np.exp(rng.uniform(*np.log(self.zoom)))
        stretch = np.exp(rng.uniform(-0.18, 0.18))
        sides = [
            min(side, max(8, round(self.size / factor)))
            for side, factor in zip(image.shape[:2], (scale * stretch, scale / stretch), strict=True)
        ]
        must_hold_text = rng.random() < text_share
        for _ in range(6):
            y, x = (int(rng.integers(0, whole - side + 1)) for whole, side in zip(image.shape, sides, strict=False))
            place = np.s_[y : y + sides[0], x : x + sides[1]]
            if not must_hold_text or (mask[place] > 127).mean() > 0.01:
                break
        # An image smaller than the crop keeps its shape, and is mirrored to fill the crop.
        factor = min(self.size / side for side in sides)
        shape = [min(self.size, max(1, round(side * factor))) for side in sides]
        if all(side >= 0.8 * self.size for side in shape):
            shape = [self.size, self.size]
        method = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR
        image, mask = (
            cv2.copyMakeBorder(
                cv2.resize(np.ascontiguousarray(part[place]), shape[::-1], interpolation=method),
                *(0, self.size - shape[0], 0, self.size - shape[1]),
                cv2.BORDER_REFLECT,
            )
            for part in (image, mask)
        )
        return image, mask, name

    def _recolor(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if rng.random() < 0.5:
            image = image[..., rng.permutation(3)]
        if rng.random() < 0.6:
            image = photographic_tones(image, rng)
        if rng.random() < 0.3:
            image = 255 - image
        if rng.random() < 0.4:  # exposure, white balance
            levels = np.arange(256, dtype=np.float32)[:, None] / 255
            gamma, gains = np.exp(rng.uniform(-0.5, 0.5)), rng.uniform(0.6, 1.15, 3)
            table = (255 * levels**gamma * gains).clip(0, 255).astype(np.uint8)
            image = cv2.LUT(np.ascontiguousarray(image), table[:, None])
        return np.ascontiguousarray(image)


def _small(path: Path, longest: int = 1280) -> np.ndarray:
    """A photograph, (H, W, 3) uint8 RGB, shrunk to `longest`."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) if path.is_file() else None
    if image is None:
        advice = "install the photographs that photo_list names (docs/install.md), or set photo_share to 0"
        raise FileNotFoundError(f"{path} is missing or not an image: {advice}.")
    scale = min(1.0, longest / max(image.shape[:2]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def photo_list(file: str | Path | None) -> list[Path]:
    """The paths in a text file, one a line; none if `file` is None."""
    if file is None:
        return []
    if not Path(file).is_file():
        raise FileNotFoundError(f"No list of photographs {file}.")
    return [Path(line.strip()) for line in Path(file).read_text(encoding="utf-8").splitlines() if line.strip()]


def validation_images(place: str, limit: int, worn: bool, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """(image, truth) of the first `limit` of a test split, truth boolean. Each image is always worn alike."""
    images = []
    pages = MaskedImages(place, "test")
    for i in range(min(limit, len(pages))):
        image, mask = pages[i]
        images.append((wear(image, np.random.default_rng([seed, i])) if worn else image, mask > 127))
    return images
