"""Shared by the readers: lines of text, and folders of images."""

from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from tadisr.io.images import IMAGE_SUFFIXES


class AnnotatedLine(TypedDict):
    """A line of text in an image."""

    text: str
    quad: np.ndarray
    """(4, 2) (x, y) in pixels, clockwise from the text's top left."""


def checked_line(text: Any, quad: Any) -> AnnotatedLine:
    """A line from the values in a file; ValueError unless they are a text and four finite corners."""
    quad = np.asarray(quad, np.float64)
    if not isinstance(text, str) or quad.shape != (4, 2) or not np.isfinite(quad).all():
        raise ValueError(f"expected a text and four (x, y), got {text!r} and an array {quad.shape}")
    return {"text": text, "quad": quad}


def list_images(folder: Path) -> dict[str, Path]:
    """{name without suffix: file} of a folder's images, sorted; empty without a folder, ValueError for equal names."""
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise ValueError(f"{path} and {files[path.stem].name} have one name: remove one of them.")
            files[path.stem] = path
    return files


def check_scale(lr: Path | str, small: tuple[int, ...], hr: Path | str, large: tuple[int, ...], scale: int) -> None:
    """Raise ValueError unless an image `hr` of `large` (height, width) is `scale` times as large as `lr` of `small`."""
    if large != (small[0] * scale, small[1] * scale):
        raise ValueError(
            f"{hr} has {large[1]} x {large[0]} pixels and {lr} {small[1]} x {small[0]}: "
            f"expected {'the same' if scale == 1 else f'{scale} times as many each way'}."
        )
