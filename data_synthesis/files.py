"""Images as bytes."""

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
