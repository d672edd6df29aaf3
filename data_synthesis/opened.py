"""What a process opens once and then uses again and again: sources, fonts and corpora; how fonts are split."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import Source, open_source, split_names
from tadisr.data_synthesis.text.corpus import Corpus, open_corpus
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts


def source(spec: dict) -> Source:
    """The source that one entry of a recipe's `backgrounds` or `crops` describes; see `open_source`."""
    return _source(json.dumps(spec, sort_keys=True))


@lru_cache(maxsize=16)
def _source(spec: str) -> Source:
    return open_source(json.loads(spec))


@lru_cache(maxsize=4)
def fonts(folders: tuple[str, ...], families: frozenset[str] | None = None) -> Fonts:
    """The fonts of `folders` (none: the installed fonts), or only those of `families`."""
    if families is None:
        return discover_fonts(folders)
    found = fonts(folders)
    return Fonts([font for font in found if font.family in families], found.where)


def corpora(recipe: Recipe, families: frozenset[str] | None = None) -> list[Corpus]:
    """The recipe's corpora, each as often as its weight says."""
    # The cache would take two files of one relative name for the same file.
    places = [str(Path(name).absolute()) if Path(name).is_file() else name for name in recipe.corpora]
    return _corpora(tuple(zip(places, recipe.corpora.values(), strict=True)), tuple(recipe.fonts), families)


@lru_cache(maxsize=4)
def _corpora(
    weights: tuple[tuple[str, int], ...], folders: tuple[str, ...], families: frozenset[str] | None
) -> list[Corpus]:
    return [corpus for name, weight in weights for corpus in [open_corpus(name, fonts(folders, families))] * weight]


def split_families(fonts: Sequence[Font], corpora: Sequence[Corpus]) -> dict[str, frozenset[str]]:
    """The font families of "train" and of "test", such that either split can draw every corpus.

    A family that alone can draw some corpus is in both splits.
    """
    drawing = [
        {_design(font.family) for font in fonts if font.covers(corpus.sample)} for corpus in dict.fromkeys(corpora)
    ]
    apart = [split_names(sorted(designs), "fonts")[1] for designs in drawing]
    test = set().union(*apart)
    shared = set().union(*(designs for designs, for_test in zip(drawing, apart, strict=True) if not for_test))
    alone = set().union(*(designs for designs in drawing if designs <= test))
    families = {font.family for font in fonts}
    return {
        "train": frozenset(family for family in families if _design(family) not in test - alone),
        "test": frozenset(family for family in families if _design(family) in test | shared),
    }


def _design(family: str) -> str:
    """A family's name without the region: "Noto Sans CJK SC" and "Noto Sans CJK JP" share most of their outlines."""
    return re.sub(r" (SC|TC|HK|JP|KR)$", "", family)
