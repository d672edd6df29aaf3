"""Writing so that nothing half-written is ever seen."""

import os
from pathlib import Path

import cv2
import numpy as np


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a uint8 image, RGB (H, W, 3) or gray (H, W)."""
    if image.ndim == 3:
        image = image[..., ::-1]
    ok, data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise RuntimeError("OpenCV could not write a PNG.")
    return data.tobytes()


def write_atomically(path: Path, data: bytes) -> None:
    """Nothing half-written ever stands under `path`.

    Raises:
        OSError: no space, no permission; the temporary file is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # "no space left" does not say where
        raise
