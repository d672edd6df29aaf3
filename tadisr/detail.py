"""How much of an image's resolution is real: photos are often larger than what they show.

A lens out of focus, a moving hand or an earlier enlargement leave fewer details than an image has pixels. The edges of
such an image are wider than those that a network was trained on. Reduced first, they are as wide.

The blur is measured at the strongest edges: blurred a little more, a sharp edge loses much of its gradient and a soft
one little (Zhuo and Sim, Pattern Recognition 2011). Noise and compression make edges look sharp at full size. So the
same is done at a half, a quarter and an eighth of the size, as long as edges are soft there.
"""

import numpy as np
from PIL import Image

LARGEST_REDUCTION = 8
_SIGMA = 0.8  # of the blur that edges are tested with, pixels of a level
_SOFT = 0.7  # pixels of a level: edges of that blur are as sharp at half the size
_LEFT = 1.1  # pixels: the blur that an image is reduced to
_SHARPEST = 20  # percentile over edges: an image that is sharp in some places keeps its size
_STRONG = 0.3  # of the strongest gradient
_ABOVE_NOISE = 6.5  # times the gradient of quiet places: five standard deviations
_LEAST_GRADIENT = 0.6  # gray levels a pixel
_LEAST_EDGES = 12
_LEAST_SIDE = 24
_KERNEL = np.exp(-np.square(np.arange(-3, 4)) / (2 * _SIGMA**2))
_KERNEL = (_KERNEL / _KERNEL.sum()).astype(np.float32)


def real_reduction(image: np.ndarray) -> float:
    """How many times smaller an image shows as much: 1 for a sharp one, up to `LARGEST_REDUCTION`.

    Args:
        image: (h, w), (h, w, 3) or (h, w, 4) uint8; alpha is not looked at.
    """
    level, blur = Image.fromarray(image if image.ndim == 2 else image[..., :3]).convert("L"), 0.0
    for power in range(LARGEST_REDUCTION.bit_length()):
        if min(level.size) < _LEAST_SIDE:
            break
        sharpest = _edge_blur(np.asarray(level, np.float32))
        if sharpest is not None:
            if sharpest < _SOFT:
                break
            blur = max(blur, sharpest * 2**power)
        level = level.reduce(2)
    return min(max(1.0, blur / _LEFT), LARGEST_REDUCTION)


def _edge_blur(gray: np.ndarray) -> float | None:
    """The standard deviation of the blur, in pixels, of the sharpest among the strong edges of (h, w) float32.

    None where too few edges rise above the noise.
    """
    once = _blurred(gray)
    gradient, weaker = _gradient(once), _gradient(_blurred(once))
    quiet, strongest = np.percentile(gradient, [25, 99.5])  # the first is that of noise
    strong = gradient > max(_LEAST_GRADIENT, _ABOVE_NOISE * quiet, _STRONG * strongest)
    edges = strong & (gradient >= _largest_around(gradient))
    if np.count_nonzero(edges) < _LEAST_EDGES:
        return None
    ratio = np.square(gradient[edges] / weaker[edges])
    variance = _SIGMA**2 / np.maximum(ratio - 1, 1e-3) - _SIGMA**2
    return float(np.percentile(np.sqrt(np.maximum(variance, 0)), _SHARPEST))


def _blurred(x: np.ndarray) -> np.ndarray:
    for _ in range(2):  # along one axis, and along the other
        padded = np.pad(x, ((3, 3), (0, 0)), "edge")
        x = np.sum([weight * padded[i : i + len(x)] for i, weight in enumerate(_KERNEL)], 0).T
    return x


def _gradient(x: np.ndarray) -> np.ndarray:
    return np.hypot(x[1:-1, 2:] - x[1:-1, :-2], x[2:, 1:-1] - x[:-2, 1:-1]) / 2


def _largest_around(x: np.ndarray) -> np.ndarray:
    for _ in range(2):
        padded = np.pad(x, ((1, 1), (0, 0)))
        x = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:]).T
    return x
