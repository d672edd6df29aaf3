"""Images and measures for tests of the degradation."""

import cv2
import numpy as np


def rng(seed=0):
    return np.random.default_rng(seed)


def photo(height, width, seed=0):
    """Soft colours with a hard edge, (height, width, 3) uint8."""
    coarse = rng(seed).uniform(0, 255, (height // 8 + 2, width // 8 + 2, 3)).astype(np.float32)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    image[height // 3 : height // 2, width // 4 : width // 2] = (250, 240, 20)
    return image


def full(kernel):
    return np.outer(kernel, kernel) if kernel.ndim == 1 else kernel


def moments(kernel):
    """Mean and covariance of (x, y) under the kernel."""
    kernel = full(kernel).astype(np.float64)
    y, x = (np.arange(side) - side // 2 for side in kernel.shape)
    points = np.stack([axis.ravel() for axis in np.meshgrid(x, y)])
    mean = points @ kernel.ravel()
    return mean, (points * kernel.ravel()) @ points.T - np.outer(mean, mean)


def centre(image):
    """(y, x) in pixels from the corner of the first pixel, of what is brighter than the border."""
    weight = image[..., 0].astype(np.float64)
    weight -= np.median(weight[0])
    return np.array([(np.arange(n) + 0.5) @ weight.sum(1 - axis) / weight.sum() for axis, n in enumerate(weight.shape)])
