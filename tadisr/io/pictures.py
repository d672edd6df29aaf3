"""What documents of all kinds have in common: their pictures, which can be replaced."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tadisr.io.images import LoadedImage

LEAST_SIDE = 16  # pixels: what is smaller is a rule, a bullet, a pixel that is stretched


@dataclass(frozen=True)
class Picture:
    """A picture of a document, from its headers."""

    name: str
    """What messages call it."""
    height: int
    width: int
    dpi: float | None
    """Pixels per inch where it is printed largest; None where the document does not say."""
    suffix: str
    """Of the file that can replace it."""
    load: Callable[[Path], LoadedImage]
    """Read it; a folder for temporary files is given. Raises ImageError."""
    digest: Callable[[], str]
    """Of what is stored. Raises ImageError."""


class Document(ABC):
    """An open document; close it, or use it as a context manager.

    Attributes:
        pictures: that can be replaced.
        left: those that cannot, and why, one line each.
        remarks: what a person should know of the result.
    """

    def __init__(self, path: Path):
        self.path = path
        self.pictures: list[Picture] = []
        self.left: list[str] = []
        self.remarks: list[str] = []

    def __enter__(self) -> "Document":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """Write a copy with the pictures of those indices replaced by the files' contents, and say what made it.

        The copy appears whole or not at all. Raises ImageError where it cannot be written.
        """
