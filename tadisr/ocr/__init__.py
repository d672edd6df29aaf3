"""Text detection and recognition behind one small protocol, `OCREngine`; engines by name in `ENGINES`."""

from collections.abc import Callable
from typing import Any

from tadisr.ocr.engine import OCREngine, Reading, TextLine
from tadisr.ocr.lines import crop_line, cut_line, is_box, is_tall, upright
from tadisr.ocr.paddle import PaddleOCREngine
from tadisr.ocr.rapid import RapidOCREngine
from tadisr.ocr.tesseract import TesseractEngine

__all__ = [
    "ENGINES",
    "OCREngine",
    "Reading",
    "TextLine",
    "crop_line",
    "cut_line",
    "is_box",
    "is_tall",
    "load_engine",
    "upright",
]

ENGINES: dict[str, Callable[..., OCREngine]] = {
    "rapidocr": RapidOCREngine,
    "paddleocr": PaddleOCREngine,
    "tesseract": TesseractEngine,
}


def load_engine(name: str = "rapidocr", **options: Any) -> OCREngine:
    """An engine by name; `options` as its class takes them.

    Raises:
        ValueError: an unknown name.
        ImportError: its package or program is not installed.
    """
    if name not in ENGINES:
        raise ValueError(f"No OCR engine {name!r}: choose one of {', '.join(ENGINES)}.")
    return ENGINES[name](**options)
