"""Blur kernels: the families of Real-ESRGAN, and disk (defocus) and line (motion).

A kernel is float32, sums to 1, has odd sides and is symmetric about its centre, so it never shifts an image. A vector
(k,) is a separable kernel, the outer product of the vector with itself. Other kernels are (ky, kx). Widths are in
pixels. An `angle` turns the first axis from +x towards +y (down), in radians.
"""

import math

import numpy as np

_NEGLIGIBLE = 1e-5
"""A generalised Gaussian is cut where its weights have fallen to this share of the weight in its centre."""


def _radius(size: int | None, sigma: float, reach: float) -> int:
    """Pixels from the centre to the border: `reach` sigmas within the odd `size`. None: three sigmas, at least 1."""
    return max(1, math.ceil(3 * sigma)) if size is None else int(min(size // 2, reach * sigma + 1e-9))


def _ellipse(sigma_x: float, sigma_y: float, angle: float, size: int | None, reach: float) -> np.ndarray:
    """Squared distances from the centre, in sigmas, (ky, kx), in a box of sides as `_radius` says."""
    c, s = math.cos(angle), math.sin(angle)
    spread = math.hypot(sigma_x * s, sigma_y * c), math.hypot(sigma_x * c, sigma_y * s)  # down, right
    radii = (_radius(size, sigma, reach) for sigma in spread)
    y, x = (np.arange(-radius, radius + 1, dtype=np.float64) for radius in radii)
    u, v = sigma_x**-2, sigma_y**-2
    cross = np.outer(y, (2 * c * s * (u - v)) * x)
    return cross + (c * c * u + s * s * v) * x**2 + ((s * s * u + c * c * v) * y**2)[:, None]


def _normalised(weights: np.ndarray) -> np.ndarray:
    return (weights / weights.sum()).astype(np.float32)


def _gaussian_reach(beta: float) -> float:
    return (-2 * math.log(_NEGLIGIBLE)) ** (0.5 / beta)


def gaussian_vector(sigma: float, size: int | None = None) -> np.ndarray:
    """An isotropic Gaussian, (k,): exp(-r^2 / (2 sigma^2)). For `size` see `gaussian_kernel`."""
    radius = _radius(size, sigma, _gaussian_reach(1))
    return _normalised(np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2))


def gaussian_kernel(
    sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0, size: int | None = None
) -> np.ndarray:
    """A generalised Gaussian, (ky, kx): exp(-q^beta / 2), where q is the squared distance in sigmas.

    With beta 1 it is a Gaussian. `size` is the odd side of the square to which the published model cuts the kernel;
    negligible weights within the square are left out, too. None: three sigmas to each side.
    """
    q = _ellipse(sigma_x, sigma_y, angle, size, _gaussian_reach(beta))
    return _normalised(np.exp(-0.5 * (q if beta == 1 else q**beta)))


def plateau_kernel(
    sigma_x: float, sigma_y: float, angle: float = 0.0, beta: float = 1.0, size: int | None = None
) -> np.ndarray:
    """A plateau, (ky, kx): 1 / (1 + q^beta). It has long tails and fills the square of side `size`."""
    return _normalised(1 / (1 + _ellipse(sigma_x, sigma_y, angle, size, math.inf) ** beta))


def sinc_kernel(cutoff: float, size: int) -> np.ndarray:
    """The circular low-pass filter, which rings, (size, size). `cutoff`: radians per pixel, 0 to pi; `size`: odd."""
    import torch

    offsets = np.arange(size) - size // 2
    r = np.hypot(offsets, offsets[:, None])
    r[size // 2, size // 2] = 1  # replaced below by the limit
    weights = cutoff * torch.special.bessel_j1(torch.from_numpy(cutoff * r)).numpy() / (2 * np.pi * r)
    weights[size // 2, size // 2] = cutoff**2 / (4 * np.pi)
    return _normalised(weights)


def disk_kernel(diameter: float) -> np.ndarray:
    """Defocus: each pixel's share of a disk, (k, k)."""
    radius = max(1, math.ceil((diameter - 1) / 2))
    fine = 9  # points per pixel side
    points = (np.arange((2 * radius + 1) * fine) + 0.5) / fine - radius - 0.5
    inside = (np.hypot(points, points[:, None]) <= diameter / 2).astype(np.float64)
    return _normalised(inside.reshape(2 * radius + 1, fine, 2 * radius + 1, fine).sum((1, 3)))


def motion_kernel(length: int, angle: float) -> np.ndarray:
    """Motion: `length` points on a straight line, one pixel apart, each shared between four pixels, (k, k)."""
    radius = length // 2 + 1
    kernel = np.zeros((2 * radius + 1, 2 * radius + 1))
    along = np.arange(length) - (length - 1) / 2
    x, y = along * math.cos(angle) + radius, along * math.sin(angle) + radius
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            share = np.abs(1 - dx - (x - left)) * np.abs(1 - dy - (y - top))
            np.add.at(kernel, (top + dy, left + dx), share)
    return _normalised(kernel)
