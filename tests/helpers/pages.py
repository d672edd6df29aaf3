"""Synthesised pages for tests that need some: Latin, in Pillow's built-in face, on painted surfaces."""

from pathlib import Path

import numpy as np

from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.layouts import PageStyle
from tadisr.data_synthesis.pages.compose import Materials, Page, compose_page
from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.text.corpus import open_corpus
from tadisr.data_synthesis.text.fonts import Font
from tadisr.data_synthesis.writing.shards import Job
from tadisr.data_synthesis.writing.synthesize import synthesize

DOCUMENT = {name: 0.0 for name in ("scene", "sign", "poster", "caption", "form", "screen", "product")}


def recipe(**style) -> Recipe:
    """Documents only; `style` goes to PageStyle."""
    return Recipe(
        backgrounds=[], photos=0, corpora={"latin": 1}, text_free_backgrounds=False,
        text=PageStyle(**{**DOCUMENT, "vertical": 0, **style}), degradation=Degradation.preset("mild"),
    )  # fmt: skip


def page(seed: int, size: int, **style) -> Page:
    """One page, and the same for the same arguments."""
    materials = Materials(None, None, [Font("")], [open_corpus("latin")])
    return compose_page(recipe(**style), materials, size, np.random.default_rng(seed))


def low_resolution(image: np.ndarray, seed: int = 0, **options) -> np.ndarray:
    """A mildly degraded LR image."""
    config = Degradation.preset("mild")
    for name, value in options.items():
        setattr(config, name, value)
    return degrade(image, config, np.random.default_rng(seed))


def data_set(folder: Path, num: int, size: int, layout: str = "parquet", **style) -> Path:
    """An FTSR data set: every tenth triplet is for testing."""
    synthesize(folder, Job(recipe(**style), num, seed=0, size=size, layout=layout))
    return folder
