"""What pages are drawn from: photographs, crops, fonts and corpora of one split, opened when they are needed."""

from functools import lru_cache

import numpy as np

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.backgrounds import crop_photo, shrink_photo
from tadisr.data_synthesis.judging.crops import Crop, read_crop
from tadisr.data_synthesis.judging.judge import Selection
from tadisr.data_synthesis.pages.compose import Materials
from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import Sample, Source
from tadisr.data_synthesis.text.fonts import Fonts


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
