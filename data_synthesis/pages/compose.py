"""One HR page: a background, text rendered or pasted onto it, the exact mask, and where each line is.

A quad is four (x, y) corners in pixels, clockwise from the text's own top left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.backgrounds import crop_photo, procedural, shrink_photo
from tadisr.data_synthesis.judging.judge import Selection
from tadisr.data_synthesis.judging.kept import Crop, read_crop
from tadisr.data_synthesis.layouts import write_page
from tadisr.data_synthesis.recipe import PasteStyle, Recipe
from tadisr.data_synthesis.sources import Sample, Source
from tadisr.data_synthesis.text.corpus import Corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts

Place = tuple[int, int, int, int]  # top, left, height, width
_MIN_PASTED = 16  # pixels of a pasted crop's long edge; a crop that would become smaller is left out


@dataclass
class Page:
    """A page, and what it was made of."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    mask: np.ndarray
    """(H, W) uint8, 255 on text."""
    lines: list[dict] = field(default_factory=list)
    """[{"text", "quad"}]."""
    sources: list[str] = field(default_factory=list)
    """Names of photographs, crops and fonts."""


@dataclass
class Materials:
    """What the pages of one split are made of."""

    photo: Callable[[np.random.Generator, int], tuple[np.ndarray, str]] | None
    """(rng, size) to a square photograph, (size, size, 3) float32 in [0, 1], and its name; None if there is none."""
    crop: Callable[[np.random.Generator], Crop] | None
    """A random crop; None if there is none."""
    fonts: Sequence[Font]
    corpora: Sequence[Corpus]


def open_materials(recipe: Recipe, selection: Selection, split: str) -> Materials:
    """The materials of a split's pages."""
    backgrounds, crops = selection.backgrounds[split], selection.crops[split]

    def photo(rng: np.random.Generator, size: int) -> tuple[np.ndarray, str]:
        number, item = backgrounds[rng.integers(len(backgrounds))]
        image, name = _photo(opened.source(recipe.backgrounds[number]), item, size)
        return crop_photo(image, (size, size), rng), name

    def crop(rng: np.random.Generator) -> Crop:
        return read_crop(*crops[rng.integers(len(crops))])

    fonts, corpora = Fonts([]), []
    if families := selection.families[split]:
        fonts, corpora = opened.fonts(tuple(recipe.fonts), families), opened.corpora(recipe, families)
    return Materials(photo if backgrounds else None, crop if crops else None, fonts, corpora)


@lru_cache(maxsize=48)
def _photo(source: Source, item: int, size: int) -> tuple[np.ndarray, str]:
    """A photograph of at most 2048 pixels on the long side, and its name. 48 photographs take 0.6 GB.

    A photograph is larger if its short side would otherwise be shorter than a page's `size`.
    """
    sample = source[item]
    assert isinstance(sample, Sample)
    height, width = sample.image.shape[:2]
    return shrink_photo(sample.image, max(2048, -(-size * max(height, width) // min(height, width)))), sample.name


def compose_page(recipe: Recipe, materials: Materials, size: int, rng: np.random.Generator) -> Page:
    """Make one page of `size` x `size` pixels. The page depends on the arguments alone."""
    sources = []
    if materials.photo and rng.random() < recipe.photos:
        image, name = materials.photo(rng, size)
        sources.append(name)
    else:
        image = procedural((size, size), rng)
    if materials.crop is None or rng.random() < recipe.rendered:
        mask, lines = write_page(image, recipe.text, materials.fonts, materials.corpora, rng)
        sources += sorted({line["font"] for line in lines})
        mask = _to_uint8(mask)
    else:
        image = _to_uint8(image)
        mask = np.zeros(image.shape[:2], np.uint8)
        crops = [materials.crop(rng) for _ in range(rng.integers(recipe.paste.count[0], recipe.paste.count[1] + 1))]
        lines, used = paste_crops(image, mask, crops, recipe.paste, rng)
        sources += used
    lines = [{"text": line["text"], "quad": np.round(line["quad"], 1).tolist()} for line in lines]
    return Page(_to_uint8(image), mask, lines, sources)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else (image * 255 + 0.5).clip(0, 255).astype(np.uint8)


def paste_crops(
    image: np.ndarray, mask: np.ndarray, crops: Sequence[Crop], style: PasteStyle, rng: np.random.Generator
) -> tuple[list[dict], list[str]]:
    """Paste crops onto `image`, and their masks onto `mask`, without overlap.

    A crop that finds no free place in `style.tries` tries shrinks by a tenth and tries again.

    `image`, (H, W, 3) uint8 RGB, and `mask`, (H, W) uint8, are changed in place. Returns the lines of the pasted crops,
    at their places, and the names of the pasted crops.
    """
    height, width = mask.shape
    taken: list[Place] = []
    lines, names = [], []
    for crop in crops:
        longest = max(crop.mask.shape)
        scale = rng.uniform(*style.long_edge) * max(height, width) / longest
        scale = min(scale, style.max_enlargement, height / crop.mask.shape[0], width / crop.mask.shape[1])
        while (place := _free_place(crop, scale, taken, (height, width), style.tries, rng)) is None:
            scale *= 0.9
            if scale * longest < _MIN_PASTED:
                break
        if place is None:
            continue
        top, left, h, w = place
        taken.append(place)
        names.append(crop.name)
        area = np.s_[top : top + h, left : left + w]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        pasted, strokes = (cv2.resize(part, (w, h), interpolation=how) for part in (crop.image, crop.mask))
        _blend(image, area, pasted, style, rng)
        mask[area] = strokes
        factor = np.array([w / crop.mask.shape[1], h / crop.mask.shape[0]], np.float32)
        for line in crop.lines:
            quad = np.asarray(line["quad"], np.float32) * factor + np.array([left, top], np.float32)
            lines.append({"text": line["text"], "quad": quad})
    return lines, names


def _free_place(
    crop: Crop, scale: float, taken: Sequence[Place], size: tuple[int, int], tries: int, rng: np.random.Generator
) -> Place | None:
    h, w = (max(1, round(side * scale)) for side in crop.mask.shape)
    for _ in range(tries):
        top, left = int(rng.integers(0, size[0] - h + 1)), int(rng.integers(0, size[1] - w + 1))
        if all(top >= t + b or t >= top + h or left >= x + r or x >= left + w for t, x, b, r in taken):
            return top, left, h, w
    return None


def _blend(image: np.ndarray, area: tuple, pasted: np.ndarray, style: PasteStyle, rng: np.random.Generator) -> None:
    h, w = pasted.shape[:2]
    if style.poisson and rng.random() < style.poisson and min(h, w) >= 8:
        inner = np.zeros((h, w), np.uint8)
        inner[2:-2, 2:-2] = 255  # Poisson editing takes over the colours of the rim
        there = np.ascontiguousarray(image[area])
        image[area] = cv2.seamlessClone(pasted, there, inner, (w // 2, h // 2), cv2.NORMAL_CLONE)
    elif style.feather:
        ys, xs = (np.minimum(np.arange(n), np.arange(n)[::-1]).astype(np.float32) + 0.5 for n in (h, w))
        alpha = (np.minimum(ys[:, None], xs) / style.feather).clip(0, 1)[..., None]
        image[area] = _to_uint8((image[area] * (1 - alpha) + pasted * alpha) / np.float32(255))
    else:
        image[area] = pasted
