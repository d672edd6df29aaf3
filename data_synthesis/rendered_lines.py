"""Rendered text lines for TextDiff: drawn when a training asks for them, or written as a database like TextZoom's.

A line is one word (or number, code, short phrase) of 1 to 16 characters on a photograph or a painted surface. As in
TextZoom it is resized to 32x128, whatever its aspect. Its LR image is the degraded HR image. Line i depends on the
seed, the split and i, on the installed fonts, photographs and word list, and on nothing else.
"""

import json
import multiprocessing
import string
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.backgrounds import SURFACES, crop_photo, procedural, shrink_photo
from tadisr.data_synthesis.degrade import AnyDegradation, Degradation, degrade
from tadisr.data_synthesis.sources import Sample, split_names, split_of
from tadisr.data_synthesis.text.corpus import LatinCorpus, number
from tadisr.data_synthesis.text.effects import Effects, paint
from tadisr.data_synthesis.text.fonts import Fonts, discover_fonts
from tadisr.data_synthesis.text.render import draw_block
from tadisr.data_synthesis.text.shapes import Shapes
from tadisr.data_synthesis.tones import photographic_tones
from tadisr.datasets.line_items import to_tensors, with_mask
from tadisr.datasets.textzoom import HR_SIZE, Line, resize, write_textzoom
from tadisr.evaluation.text_lines import str_filt
from tadisr.io.atomic import write_atomically

SPLITS = ("train", "validation", "test")
MASKS = ("stroke", "mean", "mean_polarity")
MAX_CHARS = 16
_DICTIONARIES = ("/usr/share/dict/american-english", "/usr/share/dict/words")
"""Word lists of Debian's packages. The first that exists is used; without any, the words of the built-in corpus."""
_LETTERS = string.ascii_letters + string.digits
_SHAPES = Shapes(
    stacked=0, sideways=0, spacing=(0.02, 0.2), curved=0.04, arc=(15, 60), waved=0.01, rotated=0.4, angle=2.5, steep=0,
    perspective=0.3, tilt=30,
)  # fmt: skip
_EFFECTS = Effects(
    neon=0.03, raised=0.05, engraved=0.03, opacity=(0.7, 0.95), worn_share=(0.02, 0.1), min_contrast=0.25
)
_FREE = {"kind": "free"}
_PHOTO_SIDE = 800  # pixels of a photograph's long side, to which it is shrunk once


def _severity(sigma: tuple[float, float], noise: tuple[float, float], quality: tuple[int, int]) -> AnyDegradation:
    """One pass of blur (sigma in HR pixels), reduction by 2, noise and JPEG."""
    second = {
        "sigma": sigma, "noise_sigma": noise, "jpeg_quality": quality, "jpeg_prob": 0.6,
        "kernels": {"aniso": 0.8, "disk": 0.1, "motion": 0.1},
    }  # fmt: skip
    return Degradation.from_dict({"preset": "mild", "scale": 2, "first_prob": 0.0, "second": second})


SEVERITIES = {
    "easy": _severity((1.2, 2.8), (0.3, 4.0), (60, 95)),
    "medium": _severity((2.1, 3.3), (0.3, 5.0), (50, 95)),
    "hard": _severity((2.7, 3.9), (0.3, 6.0), (40, 95)),
}


@dataclass(frozen=True)
class LineMaterials:
    """What the lines of one split are made of.

    No two splits share a font family or a label; train and validation share their photographs.
    """

    fonts: Fonts
    words: tuple[str, ...]
    photos: tuple[int, ...]
    """Numbers of the free photographs; empty: surfaces are painted."""


@cache
def line_materials(split: str, fonts: tuple[str, ...] = (), photos: bool = True) -> LineMaterials:
    """The materials of a split, kept for the next call. `fonts` are folders; none: the installed fonts.

    ValueError: no font family with Latin letters and digits is left for the split.
    """
    found = _fonts(fonts)
    if not found[split]:
        raise ValueError(
            f"No font family with Latin letters is left for {split}: the splits share none; install at least three, "
            "e.g. fonts-dejavu, fonts-liberation and fonts-noto-core."
        )
    numbers: tuple[int, ...] = ()
    if photos:
        names = (source := opened.source(_FREE)).names()
        apart = set(split_names(names, source.name)[1])
        numbers = tuple(i for i, name in enumerate(names) if (name in apart) == (split == "test"))
    dictionary = next(filter(Path.is_file, map(Path, _DICTIONARIES)), None)
    entries = dictionary.read_text(encoding="utf-8").split() if dictionary else []
    words = tuple(word for word in entries if word.isascii() and len(word) <= MAX_CHARS and "'" not in word)
    return LineMaterials(found[split], words, numbers)


@cache
def _fonts(folders: tuple[str, ...]) -> dict[str, Fonts]:
    """The fonts with Latin letters and digits, by split."""
    found = discover_fonts(folders)
    latin = [font for font in found if font.covers(_LETTERS)]
    # as synthesised pages in Latin: no line for training is set in a family of their test split
    families = opened.split_families(latin, [LatinCorpus()])
    parts = (*split_names(sorted(families["train"]), "validation"), families["test"] - families["train"])
    return {
        split: Fonts([font for font in latin if font.family in set(part)], found.where)
        for split, part in zip(SPLITS, parts, strict=True)
    }


@lru_cache(maxsize=64)
def _photo(i: int) -> np.ndarray:
    sample = opened.source(_FREE)[i]
    assert isinstance(sample, Sample)
    return shrink_photo(sample.image, _PHOTO_SIDE)


def label_split(label: str) -> str:
    """The split of a label. It depends on letters and digits alone, so "Exit", "EXIT" and "exit!" stay together."""
    key = str_filt(label)
    if split_of(key, "textdiff labels") == "test":
        return "test"
    return "validation" if split_of(key, "textdiff validation labels") == "test" else "train"


def draw_label(split: str, words: Sequence[str], rng: np.random.Generator) -> str:
    """A label of 1 to 16 printable ASCII characters, at least one of them a letter or digit.

    Seven in ten are words, one or two are numbers, one is letters and digits in any order, one is a line of the corpus.
    """
    corpus = LatinCorpus()
    while True:
        kind = rng.random()
        if kind < 0.7:
            if words and rng.random() < 0.7:
                # the shorter of two: words on signs are shorter than words in dictionaries
                text = min((words[int(i)] for i in rng.integers(len(words), size=2)), key=len)
            else:
                text = str(rng.choice(corpus.text(rng, MAX_CHARS).split()))
            case = rng.random()
            text = text.upper() if case < 0.4 else text.title() if case < 0.6 else text.lower() if case < 0.8 else text
        elif kind < 0.84:
            text = number(rng) if rng.random() < 0.6 else str(rng.integers(10 ** int(rng.integers(1, 6))))
        elif kind < 0.92:
            alphabet = _LETTERS if rng.random() < 0.5 else string.ascii_uppercase + string.digits
            text = "".join(alphabet[i] for i in rng.integers(len(alphabet), size=rng.integers(1, 9)))
        else:
            text = corpus.text(rng, MAX_CHARS)
        if len(text) <= MAX_CHARS and text.isascii() and str_filt(text) and label_split(text) == split:
            return text


def render(label: str, materials: LineMaterials, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A text line: HR (32, 128, 3) uint8 RGB and its stroke mask (32, 128) uint8, the exact coverage."""
    size = float(rng.uniform(26, 44))
    glyphs = draw_block([label], materials.fonts.pick(label, rng), size, _SHAPES.draw(rng))
    height, width = glyphs.fill.shape
    # boxes of words are tight around the ink, or leave up to a third of an em
    top, bottom, left, right = (int(pad) for pad in size * np.abs(rng.normal(0, [0.08, 0.08, 0.14, 0.14])))
    canvas = (top + height + bottom, left + width + right)
    # half of the backgrounds are smooth, as most signs are
    kind = rng.random()
    if kind < 0.5:
        image = SURFACES["paint" if kind < 0.4 else "paper"](canvas, rng).clip(0, 1).astype(np.float32)
    elif kind < 0.75 and materials.photos:
        image = crop_photo(_photo(materials.photos[rng.integers(len(materials.photos))]), canvas, rng)
    else:
        image = procedural(canvas, rng)
    mask = np.zeros(canvas, np.float32)
    mask[top : top + height, left : left + width] = paint(image, glyphs, _EFFECTS.draw(rng), rng, (top, left))
    pixels = (image * 255 + 0.5).clip(0, 255).astype(np.uint8)
    if rng.random() < 0.8:
        pixels = photographic_tones(pixels, rng)
    return resize(pixels, HR_SIZE), resize((mask * 255 + 0.5).astype(np.uint8), HR_SIZE)


class RenderedLines(Dataset):
    """Rendered lines as `to_tensors` items: {"lr" (3, 16, 64), "hr" (3, 32, 128), "mask" (1, 32, 128), "label"}.

    Args:
        length: number of lines; a longer set begins with the lines of a shorter one.
        split: train, validation or test.
        severity: of the degradation, one of `SEVERITIES`; mixed: all of them, each as often.
        mask: `stroke`, the exact coverage of the strokes, or the paper's rule, see `mean_mask`.
        fonts: folders of fonts; none: the installed fonts.
        photos: put a quarter of the lines on free photographs, if any are installed.

    Raises:
        ValueError: an unknown split, severity or mask; see `line_materials`.
    """

    def __init__(
        self,
        length: int,
        split: str = "train",
        seed: int = 0,
        severity: str = "mixed",
        mask: str = "stroke",
        fonts: Sequence[str | Path] = (),
        photos: bool = True,
    ):
        severities = (*SEVERITIES, "mixed")
        for name, value, known in ("split", split, SPLITS), ("severity", severity, severities), ("mask", mask, MASKS):
            if value not in known:
                raise ValueError(f"No {name} {value!r}: choose one of {', '.join(known)}.")
        if length < 1 or seed < 0:
            raise ValueError(f"length must be at least 1 and seed at least 0, not {length} and {seed}.")
        cv2.setNumThreads(1)  # more threads here would slow the training step's threads
        self.length, self.split, self.seed, self.severity, self.mask = length, split, seed, severity, mask
        self._materials = (split, tuple(map(str, fonts)), photos)
        line_materials(*self._materials)  # forked data workers share it

    def __len__(self) -> int:
        return self.length

    def line(self, index: int) -> Line:
        """Line `index` as uint8 arrays. The HR image and the label do not depend on the severity."""
        if not 0 <= index < self.length:
            raise IndexError(f"There are {self.length} lines, not {index}.")
        key = [self.seed, SPLITS.index(self.split), index]
        rng, worse = (np.random.default_rng([*key, stream]) for stream in (0, 1))
        materials = line_materials(*self._materials)
        label = draw_label(self.split, materials.words, rng)
        hr, mask = render(label, materials, rng)
        severity = str(worse.choice(list(SEVERITIES))) if self.severity == "mixed" else self.severity
        return with_mask(Line(degrade(hr, SEVERITIES[severity], worse), hr, label, mask), self.mask)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor | str]:
        return to_tensors(self.line(index))


def export(lines: RenderedLines, folder: str | Path, num_proc: int = 1) -> None:
    """Write a database of TextZoom's layout with masks, and `info.json`, which says how to make it again.

    FileExistsError: there is a database in the folder.
    """
    with multiprocessing.get_context("spawn").Pool(num_proc) if num_proc > 1 else nullcontext() as pool:
        drawn = pool.imap(lines.line, range(len(lines)), 16) if pool else map(lines.line, range(len(lines)))
        write_textzoom(folder, drawn, len(lines))
    materials = line_materials(*lines._materials)
    info = {
        "num": len(lines), "split": lines.split, "seed": lines.seed, "severity": lines.severity, "mask": lines.mask,
        "font_families": sorted({font.family for font in materials.fonts}),
        "photographs": len(materials.photos), "dictionary_words": len(materials.words),
    }  # fmt: skip
    write_atomically(Path(folder) / "info.json", json.dumps(info, indent=1, ensure_ascii=False) + "\n")
