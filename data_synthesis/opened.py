"""What a process opens once and then uses again and again: sources, fonts and corpora; how fonts are split."""

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tadisr.data_synthesis.recipe import Recipe
from tadisr.data_synthesis.sources import Source, open_source, split_names
from tadisr.data_synthesis.text.corpus import BUILT_IN, Corpus, open_corpus
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
    """The recipe's corpora, each as often as its weight says.

    Built-in ones that no font draws are left out, see `without`. Errors as `open_corpus`, for the first of them where
    none is left, and for a text file.
    """
    # The cache would take two files of one relative name for the same file.
    places = [str(Path(name).absolute()) if Path(name).is_file() else name for name in recipe.corpora]
    return _corpora(tuple(zip(places, recipe.corpora.values(), strict=True)), tuple(recipe.fonts), families)


def without(recipe: Recipe) -> str:
    """Which corpora are left out and why, in one line; empty where all are drawn."""
    missing = {name: why for name in recipe.corpora if (why := _undrawn(name, tuple(recipe.fonts)))}
    return f"the pages are without {' and '.join(missing)}: {next(iter(missing.values()))}" if missing else ""


@lru_cache(maxsize=4)
def _corpora(
    weights: tuple[tuple[str, int], ...], folders: tuple[str, ...], families: frozenset[str] | None
) -> list[Corpus]:
    drawn = [(name, weight) for name, weight in weights if not _undrawn(name, folders)]
    return [
        corpus for name, weight in drawn or weights for corpus in [open_corpus(name, fonts(folders, families))] * weight
    ]


@lru_cache(maxsize=16)
def _undrawn(name: str, folders: tuple[str, ...]) -> str:
    """Why a built-in corpus cannot be drawn, else nothing."""
    if name in BUILT_IN:
        try:
            open_corpus(name, fonts(folders))
        except ValueError as error:
            return str(error)
    return ""


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
