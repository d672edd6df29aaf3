"""Colours of drawn pages made like those of photographs."""

import cv2
import numpy as np


def photographic_tones(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Less saturation, down to gray, and more contrast: (H, W, 3) uint8 RGB to the same.

    Drawn colours are more saturated than photographed colours, and their luma differs less. After JPEG's halving of the
    chroma and the noise, little is left of such strokes, and a network learns to smooth. In photographs most text is
    nearly black on nearly white.
    """
    image = np.ascontiguousarray(image)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    keep = rng.uniform(0, 0.7) if rng.random() < 0.85 else 0.0
    image = cv2.addWeighted(image, keep, cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB), 1 - keep, 0)
    if rng.random() < 0.75:
        low, high = np.percentile(gray, (1, 99))
        dark, light = rng.uniform(0, 70), rng.uniform(170, 255)
        gain = min((light - dark) / max(high - low, 1.0), 5.0)
        image = cv2.convertScaleAbs(cv2.addWeighted(image, gain, image, 0, dark - gain * low))
    return image
