"""Colours of drawn pages made like those of photographs."""

from typing import NamedTuple

import cv2
import numpy as np

PERCENTILES = (1, 99)
"""Of the luma: what becomes `Tones.dark` and `Tones.light`."""
MOST_GAIN = 5.0


class Tones(NamedTuple):
    """How an image is to look."""

    saturation: float
    """Share that is kept."""
    contrast: tuple[float, float] | None
    """What the darkest and the lightest luma become, 0 to 255; None: they stay."""


def draw_tones(rng: np.random.Generator) -> Tones:
    """Tones as photographs have them."""
    saturation = rng.uniform(0, 0.7) if rng.random() < 0.85 else 0.0
    return Tones(saturation, (rng.uniform(0, 70), rng.uniform(170, 255)) if rng.random() < 0.75 else None)


def photographic_tones(image: np.ndarray, rng: np.random.Generator | Tones) -> np.ndarray:
    """Less saturation, down to gray, and more contrast: (H, W, 3) uint8 RGB to the same.

    Drawn colours are more saturated than photographed colours, and their luma differs less. After JPEG's halving of the
    chroma and the noise, little is left of such strokes, and a network learns to smooth. In photographs most text is
    nearly black on nearly white. The tones are drawn by a generator, or given.
    """
    keep, contrast = draw_tones(rng) if isinstance(rng, np.random.Generator) else rng
    image = np.ascontiguousarray(image)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    image = cv2.addWeighted(image, keep, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - keep, 0)
    if contrast:
        low, high = np.percentile(gray, PERCENTILES)
        dark, light = contrast
        gain = min((light - dark) / max(high - low, 1.0), MOST_GAIN)
        image = cv2.convertScaleAbs(cv2.addWeighted(image, gain, image, 0, dark - gain * low))
    return image
