"""Text detection and recognition behind one small protocol, `OCREngine`.

Images are uint8 RGB, (H, W, 3); quads are four (x, y) corners in pixels. Nothing heavy is imported before an engine is
loaded.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tadisr.ocr.engine import OCREngine, Reading, TextLine
from tadisr.ocr.lines import crop_line, cut_line, is_box, is_vertical, line_height, upright
from tadisr.ocr.paddle import PaddleOCREngine
from tadisr.ocr.rapid import RapidOCREngine
from tadisr.ocr.tesseract import TesseractEngine

__all__ = [
    "ENGINES", "LARGEST_PHOTO", "OCREngine", "Reading", "TextLine", "crop_line", "cut_line", "is_box", "is_vertical",
    "line_height", "load_engine", "load_photo_engine", "upright",
]  # fmt: skip


class _Entry(NamedTuple):
    make: Callable[..., OCREngine]
    on_cores: Callable[[int], dict[str, Any]]  # the options with which it reads fastest on that many processor cores


ENGINES = {
    "rapidocr": _Entry(RapidOCREngine, lambda cores: {"threads": 1, "workers": cores}),
    **{
        f"ppocr-{version}": _Entry(
            partial(RapidOCREngine, version=version), lambda cores: {"threads": 1, "workers": cores}
        )
        for version in ("v5", "v4", "v3")
    },
    "paddleocr": _Entry(PaddleOCREngine, lambda cores: {"threads": cores}),
    "tesseract": _Entry(TesseractEngine, lambda cores: {"workers": cores}),
}

LARGEST_PHOTO = 3000
"""Pixels: the longest side at which `load_photo_engine` searches a photo."""


def load_engine(name: str = "rapidocr", cores: int | None = None, **options: Any) -> OCREngine:
    """Load an engine by its name.

    Args:
        name: one of `ENGINES`.
        cores: processor cores to read on; give 1 in worker processes. None: the engine's own default.
        options: arguments of the engine's class.

    Raises:
        ValueError: an unknown name.
        ImportError: the engine's package or program is not installed.
        TypeError: an option that the class does not have.
    """
    if name not in ENGINES:
        raise ValueError(f"No OCR engine {name!r}: choose one of {', '.join(ENGINES)}.")
    fastest = {} if cores is None else ENGINES[name].on_cores(cores)
    return ENGINES[name].make(**fastest | options)


def load_photo_engine() -> OCREngine:
    """RapidOCR for whole photos: by itself it reduces them to 2000 pixels before it searches them for text."""
    return load_engine("rapidocr", params={"Global.max_side_len": LARGEST_PHOTO})
