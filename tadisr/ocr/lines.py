"""Lines of text as images: cut out, upright.

Images are uint8 RGB, (H, W, 3); quads are four (x, y) corners in pixels.
"""

import cv2
import numpy as np


def is_tall(line: np.ndarray) -> bool:
    """Whether it is taken for a vertical one: at least 1.5 times taller than wide, as in PP-OCR's pipeline."""
    return line.shape[0] >= 1.5 * line.shape[1]


def upright(line: np.ndarray) -> np.ndarray:
    """The line turned by 90 degrees if it is a vertical one."""
    return np.rot90(line) if is_tall(line) else line


def is_box(quad: np.ndarray) -> bool:
    """Whether there is anything to cut out: detectors also give boxes that are clipped to a line at the border."""
    return min(cv2.minAreaRect(quad)[1]) >= 1 and cv2.contourArea(quad) >= 1


def crop_line(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out by its corners and make it upright; `cut_line` leaves it as it lies."""
    return upright(cut_line(image, quad))


def cut_line(image: np.ndarray, quad: np.ndarray) -> np.ndarray:
    """Cut a line out by its corners.

    image: (H, W, 3) uint8. quad: (4, 2) (x, y), clockwise from the text's top left.

    Raises:
        ValueError: a box without area.
    """
    quad = np.asarray(quad, np.float32)
    width = round(max(np.linalg.norm(quad[0] - quad[1]), np.linalg.norm(quad[2] - quad[3])))
    height = round(max(np.linalg.norm(quad[0] - quad[3]), np.linalg.norm(quad[1] - quad[2])))
    if width < 1 or height < 1:
        raise ValueError(f"The box {quad.tolist()} has no area.")
    target = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    return cv2.warpPerspective(
        image,
        cv2.getPerspectiveTransform(quad, target),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )


def pad_strip(image: np.ndarray) -> np.ndarray:
    """Strips more than 8 times longer than wide, their border repeated to the right or below to 4 times.

    Detectors enlarge the short side to hundreds of pixels: a strip of 300 x 4 pixels took 74 s and 5 GB. RapidOCR pads
    likewise, but only above and below.
    """
    height, width = image.shape[:2]
    if max(height, width) > 8 * min(height, width):
        least = max(height, width) // 4
        pad = [max(0, least - side) for side in (height, width)]
        image = cv2.copyMakeBorder(image, 0, pad[0], 0, pad[1], cv2.BORDER_REPLICATE)
    return image
