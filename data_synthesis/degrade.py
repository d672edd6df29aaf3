"""HR to LR: blur, resize, noise and JPEG, once or twice (the second-order model of Real-ESRGAN)."""

from dataclasses import dataclass

import cv2
import numpy as np


@dataclass
class Degradation:
    """Ranges that each image draws from, uniformly. Sigmas of blur in HR pixels, of noise in 1/255."""

    scale: int = 4
    blur_sigma: tuple[float, float] = (0.5, 2.3)
    blur_kinds: float = 0.1
    """Share of blurs that are not Gaussian: box (defocus) or line (motion)."""
    noise_sigma: tuple[float, float] = (0.3, 7.0)
    gray_noise: float = 0.3
    jpeg_quality: tuple[int, int] = (45, 95)
    jpeg: float = 0.95
    second_order: float = 0.1
    """Share of images that are degraded twice: a mild first pass at HR size, then the main pass."""


_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)


def gaussian_kernel(sigma_x: float, sigma_y: float, angle: float) -> np.ndarray:
    """An anisotropic Gaussian turned by `angle` radians, (k, k) float32 summing to 1."""
    radius = max(1, int(np.ceil(3 * max(sigma_x, sigma_y))))
    ys, xs = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32)
    u = xs * np.cos(angle) + ys * np.sin(angle)
    v = ys * np.cos(angle) - xs * np.sin(angle)
    kernel = np.exp(-0.5 * ((u / sigma_x) ** 2 + (v / sigma_y) ** 2))
    return (kernel / kernel.sum()).astype(np.float32)


def _blur(image: np.ndarray, d: Degradation, rng: np.random.Generator, strength: float) -> np.ndarray:
    low, high = (s * strength for s in d.blur_sigma)
    if rng.random() < d.blur_kinds:
        length = max(2, int(rng.uniform(low, high) * 2.5))
        if rng.random() < 0.5:
            disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (length, length)).astype(np.float32)
            return cv2.filter2D(image, -1, disk / disk.sum(), borderType=cv2.BORDER_REFLECT_101)
        return cv2.filter2D(image, -1, _line_kernel(length, rng.uniform(0, 180)), borderType=cv2.BORDER_REFLECT_101)
    sigma = rng.uniform(low, high, 2)
    kernel = gaussian_kernel(float(sigma[0]), float(sigma[1]), float(rng.uniform(0, np.pi)))
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT_101)


def _line_kernel(length: int, degrees: float) -> np.ndarray:
    side = length | 1
    kernel = np.zeros((side, side), np.float32)
    kernel[side // 2] = 1
    turn = cv2.getRotationMatrix2D((side // 2, side // 2), degrees, 1)
    kernel = cv2.warpAffine(kernel, turn, (side, side))
    return kernel / kernel.sum()


def _noise(image: np.ndarray, d: Degradation, rng: np.random.Generator, strength: float) -> np.ndarray:
    sigma = rng.uniform(*d.noise_sigma) * strength
    channels = 1 if rng.random() < d.gray_noise else 3
    return image + rng.standard_normal((*image.shape[:2], channels), dtype=np.float32) * sigma


def _jpeg(image: np.ndarray, d: Degradation, rng: np.random.Generator) -> np.ndarray:
    pixels = image.round().clip(0, 255).astype(np.uint8)
    if rng.random() >= d.jpeg:
        return pixels
    quality = int(rng.integers(d.jpeg_quality[0], d.jpeg_quality[1] + 1))
    ok, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not ok:
        raise RuntimeError("OpenCV could not write a JPEG.")
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def degrade(image: np.ndarray, d: Degradation, rng: np.random.Generator) -> np.ndarray:
    """The LR image of an HR image.

    image: (H, W, 3) uint8 RGB, sides divisible by `d.scale`; returns (H/scale, W/scale, 3) uint8 RGB.
    """
    h, w = image.shape[:2]
    if h % d.scale or w % d.scale:
        raise ValueError(f"Expected sides divisible by {d.scale}, got {w}x{h}.")
    # JPEG treats the channels as BGR: chroma subsampling must see the true colours
    x = image[..., ::-1].astype(np.float32)
    strength = 1.0
    if rng.random() < d.second_order:
        middle = rng.uniform(0.5, 1.0)
        x = _blur(x, d, rng, 0.6)
        x = cv2.resize(
            x, (max(1, round(w * middle)), max(1, round(h * middle))), interpolation=int(rng.choice(_INTERPOLATIONS))
        )
        x = _jpeg(_noise(x, d, rng, 0.7), d, rng).astype(np.float32)
        strength = 0.6
    else:
        middle = 1.0
    x = _blur(x, d, rng, strength * middle)
    x = cv2.resize(x, (w // d.scale, h // d.scale), interpolation=int(rng.choice(_INTERPOLATIONS)))
    return np.ascontiguousarray(_jpeg(_noise(x, d, rng, strength), d, rng)[..., ::-1])
