"""What is evaluated on: pairs of an LR and an HR image, and the lines of text in them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tadisr.io.images import IMAGE_SUFFIXES

ENGINE, ANNOTATION = "engine", "annotation"


@dataclass
class Line:
    """A line of text in an HR image."""

    text: str
    quad: np.ndarray
    """(4, 2) float32 (x, y), pixels of the HR image, clockwise from the text's top left."""
    source: str = ANNOTATION
    """`ENGINE`: read by an OCR engine; `ANNOTATION`: written by a person or drawn by the synthesiser."""


@dataclass
class Pair:
    """The same scene twice. Images are uint8 RGB, (h, w, 3) and (scale h, scale w, 3)."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    path: str
    """Of the HR image, or where in a data set it lies."""
    lines: list[Line] = field(default_factory=list)
    mask: np.ndarray | None = None
    """(H, W) bool: the text's strokes in the HR image."""


class Pairs(ABC):
    """Pairs in a fixed order, decoded one at a time."""

    name: str
    scale: int
    note: str = ""
    """What was done to the images to make them pairs."""
    find_lines: bool = True
    """Whether text has still to be found in the HR images; False where the data set says what an engine read there."""

    @abstractmethod
    def names(self) -> list[str]:
        """Of every pair, in order; each once."""

    @abstractmethod
    def size(self, i: int) -> tuple[int, int]:
        """(h, w) of LR image i, without decoding it."""

    @abstractmethod
    def __getitem__(self, i: int) -> Pair:
        """Pair i.

        Raises:
            ValueError: an image that cannot be read, or sizes that do not fit; the message names the file.
        """

    def __len__(self) -> int:
        return len(self.names())


def list_images(folder: Path) -> dict[str, Path]:
    """{name without suffix: file} of a folder's images, empty where there is no folder."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise ValueError(f"{path} and {files[path.stem].name} have one name: evaluation needs one of them.")
            files[path.stem] = path
    return files


def check_scale(lr: Path | str, small: tuple, hr: Path | str, large: tuple, scale: int) -> None:
    if large != (small[0] * scale, small[1] * scale):
        raise ValueError(
            f"{hr} has {large[1]} x {large[0]} pixels and {lr} {small[1]} x {small[0]}: "
            f"expected {'the same' if scale == 1 else f'{scale} times as many each way'}."
        )
