"""Font families, split between training and testing."""

import re
from collections.abc import Sequence

from tadisr.data_synthesis.sources import split_names
from tadisr.data_synthesis.text.corpus import Corpus
from tadisr.data_synthesis.text.fonts import Font


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
