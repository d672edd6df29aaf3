"""What every OCR engine is and gives, and what several of them share.

Images are uint8 RGB, (H, W, 3); quads are four (x, y) corners in pixels.
"""

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from tadisr.io.hashing import sha256


class Reading(NamedTuple):
    """What one line says; `score` is the mean confidence of its characters, in [0, 1], 0 where nothing was read."""

    text: str
    score: float


class TextLine(NamedTuple):
    """A line found in an image: text, quad (4, 2) float32 from its top left clockwise, score as in `Reading`."""

    text: str
    quad: np.ndarray
    score: float


class OCREngine(Protocol):
    """Finds and reads text."""

    def read(self, lines: Sequence[np.ndarray]) -> list[Reading]:
        """What each image says, an upright line filling it."""
        ...

    def find(self, image: np.ndarray) -> list[TextLine]:
        """The lines of a whole image in reading order, without those in which nothing could be read."""
        ...

    def describe(self) -> dict[str, Any]:
        """Name, package versions, and SHA-256 of each model file: what a reading depends on. Plain JSON values."""
        ...


def to_bgr(image: np.ndarray) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"Expected a uint8 RGB image (H, W, 3), got {image.dtype} {image.shape}.")
    return np.ascontiguousarray(image[..., ::-1])


def to_readings(texts: Iterable[str], scores: Iterable[float]) -> list[Reading]:
    return [Reading(text, float(score) if text else 0.0) for text, score in zip(texts, scores, strict=True)]


def to_lines(
    texts: Iterable[str], quads: Iterable[np.ndarray], scores: Iterable[float], image: np.ndarray
) -> list[TextLine]:
    corner = np.float32([image.shape[1], image.shape[0]])
    return [
        TextLine(text, np.asarray(quad, np.float32).clip(0, corner), float(score))
        for text, quad, score in zip(texts, quads, scores, strict=True)
        if text.strip()
    ]


def description(name: str, packages: Iterable[str], files: Iterable[Path]) -> dict[str, Any]:
    return {
        "engine": name,
        "packages": {package: version(package) for package in packages},
        "models": {f"{path.parent.name}/{path.name}": sha256(path) for path in files},
    }
