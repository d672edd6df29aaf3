"""Text recognition behind one small protocol."""

from typing import Protocol

import cv2
import numpy as np


class Recognizer(Protocol):
    """Reads one line of text."""

    def read(self, line: np.ndarray) -> str:
        """The text in an upright line, uint8 RGB (h, w, 3)."""
        ...


class RapidOCRRecognizer:
    """RapidOCR's recogniser; its models come inside its wheel, so it works offline."""

    def __init__(self):
        try:
            from rapidocr import RapidOCR
        except ImportError:
            raise ImportError("Reading text needs RapidOCR: pip install 'tadisr[ocr]'.") from None
        self._engine = RapidOCR(params={"Global.log_level": "error"})

    def read(self, line: np.ndarray) -> str:
        result = self._engine(np.ascontiguousarray(line[..., ::-1]), use_det=False, use_cls=False, use_rec=True)
        return result.txts[0] if result.txts else ""


def crop_line(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out by its corners and make it upright.

    image: (H, W, 3) uint8. quad: (4, 2) (x, y), clockwise from the text's top left. Lines at least 1.5 times taller
    than wide are turned by 90 degrees, as PP-OCR's pipeline does.
    """
    quad = np.asarray(quad, np.float32)
    width = round(max(np.linalg.norm(quad[0] - quad[1]), np.linalg.norm(quad[2] - quad[3])))
    height = round(max(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[1] - quad[2])))
    if width < 1 or height < 1:
        raise ValueError(f"The box {quad.tolist()} has no area.")
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    line = cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, target),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.rot90(line) if height >= 1.5 * width else line
