"""Lines of text in images: their shape, and how they are cut out.

Images are uint8 RGB, (H, W, 3); quads are (4, 2) corners (x, y) in pixels, clockwise from the text's top left.
"""

import numpy as np
from numpy.typing import ArrayLike

# cv2 is imported where it is used: it takes longer to import than a command takes to show its help.


def is_vertical(height: float | np.floating, width: float | np.floating) -> bool:
    """Whether a line of that size is a vertical one: at least 1.5 times taller than wide, as in PP-OCR's pipeline."""
    return bool(height >= 1.5 * width)


def upright(line: np.ndarray) -> np.ndarray:
    """The line, turned by 90 degrees counterclockwise if it is a vertical one."""
    return np.rot90(line) if is_vertical(*line.shape[:2]) else line


def clip_quad(quad: ArrayLike, image: np.ndarray) -> np.ndarray:
    """The quad as float32, its corners brought inside the image."""
    return np.asarray(quad, np.float32).clip(0, np.array(image.shape[1::-1], np.float32))


def is_box(quad: np.ndarray) -> bool:
    """Whether a float32 quad has an area to cut out: at the border of an image detectors also give flat boxes."""
    import cv2

    return min(cv2.minAreaRect(quad)[1]) >= 1 and cv2.contourArea(quad) >= 1


def line_height(quad: ArrayLike) -> float:
    """Height of a line's characters in pixels: its quad's extent across the direction of reading.

    The characters of a vertical line are about as high as the line is wide.
    """
    quad = np.asarray(quad, np.float64)
    width = (np.linalg.norm(quad[1] - quad[0]) + np.linalg.norm(quad[2] - quad[3])) / 2
    height = (np.linalg.norm(quad[3] - quad[0]) + np.linalg.norm(quad[2] - quad[1])) / 2
    return float(width if is_vertical(height, width) else height)


def crop_line(image: np.ndarray, quad: ArrayLike) -> np.ndarray:
    """Cut a line out by its corners and make it upright; see `cut_line`."""
    return upright(cut_line(image, quad))


def cut_line(image: np.ndarray, quad: ArrayLike) -> np.ndarray:
    """Cut a line out by its corners, bicubic, as a rectangle; a vertical line stays tall.

    Raises ValueError for a box without area.
    """
    import cv2

    quad = np.asarray(quad, np.float32)
    width = round(max(np.linalg.norm(quad[0] - quad[1]), np.linalg.norm(quad[2] - quad[3])))
    height = round(max(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[1] - quad[2])))
    if width < 1 or height < 1:
        raise ValueError(f"The box {quad.tolist()} has no area.")
    target = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(quad, target)
    return cv2.warpPerspective(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def pad_strip(image: np.ndarray) -> np.ndarray:
    """Widen an image that is more than 8 times longer than wide to a quarter of its length.

    Its right or lower border is repeated. Detectors enlarge the short side to hundreds of pixels: a strip of 300 x 4
    pixels took 74 s and 5 GB. RapidOCR's own padding is above and below only.
    """
    import cv2

    sides = image.shape[:2]
    if max(sides) <= 8 * min(sides):
        return image
    below, right = (max(0, max(sides) // 4 - side) for side in sides)
    return cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
