"""What a source is: samples in a fixed order, decoded one at a time."""

import hashlib
import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

PHOTO_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
"""Of images in data sets. Other commands read more (`tadisr.io.images`), but a data set must stay what it was."""
SPLITS = ("train", "test")
_ORIENTATION = 0x0112  # the EXIF tag; from 5 on, width and height are exchanged


@dataclass
class Sample:
    """One image and what is known of the text in it."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB."""
    name: str
    """Stable and unique within its source. A crop is "PHOTOGRAPH#NUMBER"."""
    mask: np.ndarray | None = None
    """(H, W) uint8, 255 where strokes are; None where the source has no masks."""
    text: str | None = None
    """What a cropped line says."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """[{"text": str, "quad": [[x, y] * 4]}], pixels, from the text's own top left clockwise."""


@dataclass
class Pair:
    """The same scene twice. Each image has the size of its file; the sizes need not be equal."""

    lr: Sample
    hr: Sample
    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    """As in `Sample`, in pixels of `hr`."""


class Source(ABC):
    """Samples of one dataset, always in the same order. Cheap to open and to pickle; images are decoded on access."""

    name: str
    kind: str = "backgrounds"
    """What the samples are for: "backgrounds", "crops" (with text and usually masks) or "pairs"."""
    licence: str
    home: str
    version: str
    layout: str
    """What the folder given as `path` must hold, if the dataset has to be downloaded."""

    @classmethod
    def missing(cls, path: Path | None) -> FileNotFoundError:
        """The error that says what to download, where it belongs and what is there instead."""
        if path is None:
            problem = f"{cls.name} needs a path."
        elif not path.exists():
            problem = f"{cls.name} is not in {path}, which does not exist."
        elif path.is_file():
            problem = f"{cls.name} is not in {path}, which holds one file."
        else:
            names = sorted(entry.name + "/" * entry.is_dir() for entry in path.iterdir())
            shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            problem = f"{cls.name} is not in {path}, which holds {shown or 'nothing'}."
        return FileNotFoundError(
            f"{problem} Download it from {cls.home} ({cls.licence}) and give as path the folder with {cls.layout}."
        )

    @classmethod
    def find_root(cls, path: str | None) -> Path:
        """The folder `path`; without one, the error that `missing` makes."""
        root = None if path is None else Path(path).expanduser()
        if root is None or not root.is_dir():
            raise cls.missing(root)
        return root

    @classmethod
    def check_split(cls, split: str, *known: str) -> None:
        """Refuse a split that the dataset does not have."""
        if split not in known:
            raise ValueError(f"{cls.name} has no split {split!r}: known are {', '.join(known)}.")

    @abstractmethod
    def names(self) -> list[str]:
        """Every sample's name, in order; no image is decoded."""

    def __len__(self) -> int:
        return len(self.names())

    @abstractmethod
    def __getitem__(self, i: int) -> Sample | Pair:
        """Sample i. ValueError: its image, mask or annotation cannot be read; the message names the file."""

    @abstractmethod
    def size(self, i: int) -> tuple[int, int]:
        """(H, W) of sample i (of the HR image of a pair), from the file's header wherever that suffices."""

    def licence_of(self, i: int) -> str:
        """The licence of sample i, where it differs from sample to sample."""
        return self.licence


def open_image(file: Path | bytes, where: str = "", rotate: bool = True) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright as EXIF says unless `rotate` is off; `where` names it in errors instead of its path.

    ValueError: not an image, cut off, or of more than 8 bits a channel where 8 would clip it.
    """
    with _opened(file, where) as image:
        return np.asarray((ImageOps.exif_transpose(image) if rotate else image).convert("RGB"))


def open_gray(file: Path | bytes, where: str = "") -> np.ndarray:
    """(H, W) uint8: the stored values of a gray or palette image (labels), the luma of a coloured one.

    Errors are those of `open_image`.
    """
    with _opened(file, where) as image:
        return np.asarray(image if image.mode in ("L", "P") else image.convert("L"))


def image_size(file: Path | bytes, where: str = "") -> tuple[int, int]:
    """(H, W) as `open_image` would give it, read from the header; ValueError without one."""
    with _opened(file, where) as image:
        exif = Image.Image.getexif(image)  # PNG's own version decodes the pixels first
        return image.size if exif.get(_ORIENTATION, 1) >= 5 else (image.height, image.width)


@contextmanager
def _opened(file: Path | bytes, where: str) -> Iterator[Image.Image]:
    """The PIL image. Every error while it is open becomes a ValueError."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            if image.mode.startswith(("I", "F")):  # 32-bit pixels, or "I;16..."
                raise ValueError(f"it has more than 8 bits a channel ({image.mode})")
            yield image
    except MemoryError:
        raise
    except Exception as error:  # bad files make PIL raise OSError, SyntaxError, struct.error and others
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{where or file} cannot be read as an image: {reason}") from None


def _hash(name: str, source: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{source}/{name}".encode(), digest_size=8).digest(), "big")


def _photograph(name: str) -> str:
    return re.sub(r"#\d+$", "", name)


def split_of(name: str, source: str = "") -> str:
    """ "test" for one name in ten, else "train", by a hash of the source's and the item's name.

    Crops of one photograph ("PHOTOGRAPH#NUMBER") stay together.
    """
    return SPLITS[_hash(_photograph(name), source) < 2**64 // 10]


def split_names(names: Sequence[str], source: str = "") -> tuple[list[str], list[str]]:
    """(train, test), each in the order given, by `split_of`.

    Of fewer than ten photographs, or where the rule leaves none for testing, the one with the smallest hash is for
    testing; a single one is for training.
    """
    photographs = {_photograph(name) for name in names}
    test = {name for name in photographs if split_of(name, source) == "test"}
    if len(photographs) < 10 or not test:
        test = {min(photographs, key=lambda name: (_hash(name, source), name))} if len(photographs) > 1 else set()
    train, for_test = ([name for name in names if (_photograph(name) in test) == chosen] for chosen in (False, True))
    return train, for_test
