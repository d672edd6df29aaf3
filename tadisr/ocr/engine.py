"""What an OCR engine is and gives, and what several of them share."""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from tadisr.io.hashing import sha256
from tadisr.ocr.lines import clip_quad


class Reading(NamedTuple):
    """The text of one line; `score` is the mean confidence of its characters in [0, 1], 0 where nothing was read."""

    text: str
    score: float


class TextLine(NamedTuple):
    """A line found in an image: text, quad (4, 2) float32 clockwise from its top left, score as in `Reading`."""

    text: str
    quad: np.ndarray
    score: float


class OCREngine(Protocol):
    """Finds and reads text in uint8 RGB images (H, W, 3)."""

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        """Read images that an upright line fills, one reading each."""
        ...

    def find(self, image: np.ndarray) -> list[TextLine]:
        """Find and read the lines of a whole image, in reading order; lines in which nothing is read are left out."""
        ...

    def describe(self) -> dict[str, Any]:
        """Tell what a reading depends on: name, package versions, SHA-256 of each model file. Plain JSON values."""
        ...


def check_image(image: np.ndarray) -> None:
    """Raise ValueError for anything but a non-empty uint8 RGB image."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"Expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}.")


def to_bgr(image: np.ndarray) -> np.ndarray:
    """The image in OpenCV's order of channels; see `check_image`."""
    check_image(image)
    return np.ascontiguousarray(image[..., ::-1])


def to_readings(texts: Iterable[str], scores: Iterable[float]) -> list[Reading]:
    """Readings; an empty text has score 0."""
    return [Reading(text, float(score) if text else 0.0) for text, score in zip(texts, scores, strict=True)]


def to_lines(
    texts: Iterable[str], quads: Iterable[np.ndarray], scores: Iterable[float], image: np.ndarray
) -> list[TextLine]:
    """Lines with their quads clipped to the image; lines without text are left out."""
    return [
        TextLine(text, clip_quad(quad, image), float(score))
        for text, quad, score in zip(texts, quads, scores, strict=True)
        if text.strip()
    ]


def describe_files(engine: str, packages: Iterable[str], models: Iterable[Path]) -> dict[str, Any]:
    """`OCREngine.describe` of an engine that consists of packages and model files."""
    return {
        "engine": engine,
        "packages": {package: version(package) for package in packages},
        "models": {f"{path.parent.name}/{path.name}": sha256(path) for path in models},
    }
