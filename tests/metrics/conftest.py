"""Shared by the tests of image metrics."""

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (48, 40, 3), dtype=np.uint8), (0, 0), 1.5)
    return image, np.clip(image + rng.normal(0, 8, image.shape), 0, 255).round().astype(np.uint8)
