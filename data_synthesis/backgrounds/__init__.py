"""What pages stand on: crops of photographs, or scenes and materials painted from noise."""

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds.scenes import SCENES, out_of_focus
from tadisr.data_synthesis.backgrounds.surfaces import SURFACES, Size, light

_SHARP = {"sky", "foliage", "glass"}  # scenes that can be looked at in focus
_MAX_SHRINK = 4.0  # a photograph's finest detail is rarely sharp at its own resolution


def shrink_photo(image: np.ndarray, longest: int) -> np.ndarray:
    """The photograph (H, W, 3) uint8, with at most `longest` pixels on its long side."""
    if (shrink := longest / max(image.shape[:2])) >= 1:
        return image
    return cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)


def crop_photo(photo: np.ndarray, size: int | Size, rng: np.random.Generator) -> np.ndarray:
    """A random part of a photograph, (height, width, 3) float32 RGB in [0, 1], shrunk by 1 to 4 so that it is sharp.

    photo: (H, W, 3) uint8 RGB. size: (height, width) in pixels, or the side of a square. A photograph that is smaller
    than that is enlarged.
    """
    size = (size, size) if isinstance(size, int) else size
    fits = min(photo.shape[0] / size[0], photo.shape[1] / size[1])
    shrink = rng.uniform(1, min(_MAX_SHRINK, fits)) if fits > 1 else fits
    h, w = (max(1, min(int(side * shrink), limit)) for side, limit in zip(size, photo.shape[:2], strict=True))
    y, x = rng.integers(0, photo.shape[0] - h + 1), rng.integers(0, photo.shape[1] - w + 1)
    # where a crop is enlarged, INTER_AREA would show its pixels as squares
    how = cv2.INTER_AREA if shrink > 1 else cv2.INTER_CUBIC
    return cv2.resize(photo[y : y + h, x : x + w], size[::-1], interpolation=how).astype(np.float32) / 255


def procedural(size: int | Size, rng: np.random.Generator) -> np.ndarray:
    """A lit material or a scene, for a machine without photographs: (H, W, 3) float32 RGB in [0, 1].

    size: (height, width) in pixels, or the side of a square.
    """
    size = (size, size) if isinstance(size, int) else size
    if rng.random() < 0.6:
        image = SURFACES[str(rng.choice(list(SURFACES)))](size, rng)
    else:
        name = str(rng.choice(list(SCENES)))
        image = SCENES[name](size, rng)
        if name not in _SHARP or rng.random() < 0.4:
            image = out_of_focus(image, rng)
    image = image * light(size, rng)
    image += rng.uniform(0, 0.012) * rng.standard_normal((*size, 1), np.float32)  # a sensor's grain
    return image.clip(0, 1).astype(np.float32)
