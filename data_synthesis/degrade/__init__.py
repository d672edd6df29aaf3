"""HR to LR: the second-order degradation of Real-ESRGAN (blur, resize, noise and JPEG, twice over), milder ones, and
what phones do.

`draw_plan` draws everything random about one image from that image's generator. Carrying out a plan is deterministic.
So the LR image depends on its seed alone, not on the worker, the images before it or the number of threads.
"""

import math
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np

from tadisr.data_synthesis.degrade import kernels
from tadisr.data_synthesis.degrade.config import AnyDegradation, Degradation, Mixture, Order, Phone, Range
from tadisr.data_synthesis.degrade.steps import (
    MODES,
    Blur,
    Chroma,
    Jpeg,
    Noise,
    Resize,
    Scratch,
    Sharpen,
    Step,
    WebP,
    apply,
)

__all__ = ["AnyDegradation", "Degradation", "Mixture", "Order", "Phone", "degrade", "draw_plan"]


class _Draws:
    """Uniform numbers, taken from a generator in one call. A plan needs up to 42; a call for each would take longer."""

    def __init__(self, rng: np.random.Generator):
        self._next = iter(rng.random(48).tolist()).__next__

    def uniform(self, bounds: Range, factor: float = 1.0) -> float:
        return (bounds[0] + (bounds[1] - bounds[0]) * self._next()) * factor

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int((high - low + 1) * self._next())

    def chance(self, probability: float) -> bool:
        return self._next() < probability

    def choice(self, values: Sequence) -> Any:
        return values[int(len(values) * self._next())]

    def weighted(self, values: Iterable, weights: Sequence[float]) -> Any:
        left, chosen = self._next() * sum(weights), None
        for value, weight in zip(values, weights, strict=True):
            if weight > 0:
                chosen = value
                if left < weight:
                    break
                left -= weight
        return chosen


def _draw_kernel(order: Order, draws: _Draws, factor: float) -> np.ndarray:
    """A blur kernel of the order; its sigmas are multiplied by `factor`."""
    size = draws.choice(order.kernel_sizes) if order.kernel_sizes else None
    if draws.chance(order.sinc_prob) and size:
        return kernels.sinc_kernel(draws.uniform(order.sinc_cutoff if size < 13 else order.sinc_cutoff_large), size)
    kind = draws.weighted(order.kernels, tuple(order.kernels.values()))
    sigma = draws.uniform(order.sigma, factor)
    if kind == "iso":
        return kernels.gaussian_vector(sigma, size)
    if kind in ("disk", "motion"):
        length = max(2, int(2.5 * sigma))
        if kind == "motion":
            return kernels.motion_kernel(length | 1, draws.uniform((0, math.pi)))
        return kernels.disk_kernel(length - 0.5)  # half a pixel less: as wide as OpenCV's ellipse of `length` pixels
    ellipse = sigma, sigma, 0.0
    if kind.endswith("aniso"):
        ellipse = sigma, draws.uniform(order.sigma, factor), draws.uniform((-math.pi, math.pi))
    if kind == "aniso":
        return kernels.gaussian_kernel(*ellipse, size=size)
    family = kind.split("_")[0]
    low, high = order.beta_generalized if family == "generalized" else order.beta_plateau
    beta = draws.uniform((low, 1.0) if draws.chance(order.beta_below_one_prob) else (1.0, high))
    make = kernels.gaussian_kernel if family == "generalized" else kernels.plateau_kernel
    return make(*ellipse, beta, size)


def _draw_round(
    order: Order, draws: _Draws, size: tuple[int, int], base: tuple[int, int], strength: float, sigma_factor: float
) -> tuple[list[Step], tuple[int, int], float]:
    """Blur, resize and noise of one round on an image of `size` (H, W), resized to a multiple of `base` (H, W).

    `strength` multiplies the noise, `sigma_factor` the blur. Returns the steps, the new (H, W) and the multiple.
    """
    steps: list[Step] = []
    if draws.chance(order.blur_prob) and (kernel := _draw_kernel(order, draws, sigma_factor)).size > 1:
        steps.append(Blur(kernel))
    low, high = order.resize_range
    multiple = draws.uniform(draws.weighted(((1.0, high), (low, 1.0), (1.0, 1.0)), order.resize_weights))
    resized = max(1, int(base[0] * multiple)), max(1, int(base[1] * multiple))
    steps += _resize(size, resized, draws.choice(order.resize_modes))
    gaussian = draws.chance(order.gaussian_prob)
    level = draws.uniform(order.noise_sigma if gaussian else order.poisson_scale, strength)
    gray, seed = draws.chance(order.gray_prob), draws.integer(0, 2**53 - 1)
    if level > 0:
        steps.append(Noise("gaussian" if gaussian else "poisson", level, gray, seed))
    return steps, resized, multiple


def _resize(before: tuple[int, int], after: tuple[int, int], mode: str) -> list[Step]:
    return [Resize(*after, mode)] if before != after else []


def _draw_jpeg(order: Order, draws: _Draws) -> list[Step]:
    return [Jpeg(draws.integer(*order.jpeg_quality))] if draws.chance(order.jpeg_prob) else []


def draw_plan(config: AnyDegradation, rng: np.random.Generator, height: int, width: int) -> list[Step]:
    """All steps for one image of height x width HR pixels, with their kernels and the seeds of their noise.

    Steps that would change nothing are left out. `rng` always advances by the same amount.
    """
    draws = _Draws(rng)
    size, lr = (height, width), (height // config.scale, width // config.scale)
    if not isinstance(config, Mixture):
        return _draw_orders(config, draws, size, lr)
    part: Degradation | Phone = draws.weighted((p for _, p in config.parts), [share for share, _ in config.parts])
    if isinstance(part, Phone):
        return _draw_photo(part, draws, size, lr)
    return _draw_orders(part, draws, size, lr)


def _draw_orders(config: Degradation, draws: _Draws, size: tuple[int, int], lr: tuple[int, int]) -> list[Step]:
    """The second-order degradation of an image of `size` (H, W) to `lr`."""
    steps: list[Step] = []
    strength = sigma_factor = 1.0
    if draws.chance(config.first_prob):
        steps, size, multiple = _draw_round(config.first, draws, size, size, 1.0, 1.0)
        steps += _draw_jpeg(config.first, draws)
        strength = sigma_factor = config.second_strength
        if config.second_sigma_in_hr_pixels:
            sigma_factor *= min(multiple, 1.0)
    more, size, _ = _draw_round(config.second, draws, size, lr, strength, sigma_factor)
    codec = _draw_jpeg(config.second, draws)
    final = _resize(size, lr, draws.choice(config.second.resize_modes))
    if draws.chance(config.final_sinc_prob):
        kernel = kernels.sinc_kernel(draws.uniform(config.final_sinc_cutoff), draws.choice(config.final_sinc_sizes))
        final.append(Blur(kernel))
    return steps + more + (final + codec if draws.chance(config.jpeg_last_prob) else codec + final)


def _draw_photo(config: Phone, draws: _Draws, size: tuple[int, int], lr: tuple[int, int]) -> list[Step]:
    """A phone's photograph of an image of `size` (H, W), sent on at the size `lr`."""
    if draws.chance(config.motion_prob):
        kernel = kernels.motion_kernel(draws.integer(*config.motion), draws.uniform((0, math.pi)))
    else:
        kernel = kernels.disk_kernel(2 * draws.uniform(config.defocus))
    steps: list[Step] = [Blur(kernel, light=draws.chance(config.linear_prob))]
    multiple = draws.uniform(config.sensor)
    sensor = min(size[0], int(lr[0] * multiple)), min(size[1], int(lr[1] * multiple))
    steps += _resize(size, sensor, "area")
    steps.append(Noise("poisson", draws.uniform(config.poisson_scale), False, draws.integer(0, 2**53 - 1)))
    steps.append(Chroma(draws.uniform(config.chroma), draws.integer(0, 2**53 - 1)))
    steps.append(Sharpen(draws.uniform(config.halo_sigma), draws.uniform(config.halo)))
    smaller = _resize(sensor, lr, draws.choice(MODES))
    if draws.chance(config.webp_prob):
        return [*steps, *smaller, WebP(draws.integer(*config.webp_quality))]
    first, second = draws.integer(*config.jpeg_quality), draws.integer(*config.jpeg_quality)
    shift = draws.integer(0, 7), draws.integer(0, 7)
    return [*steps, *smaller, Jpeg(first, shift), Jpeg(second)]


_MEMORY = threading.local()


def degrade(image: np.ndarray, config: AnyDegradation, rng: np.random.Generator) -> np.ndarray:
    """The LR image of an HR image.

    (H, W, 3) uint8 RGB, sides divisible by `config.scale` (ValueError for others), to (H / scale, W / scale, 3) uint8
    RGB. `rng` is the image's own generator.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"Expected (H, W, 3) uint8, got {image.shape} {image.dtype}.")
    height, width = image.shape[:2]
    if height % config.scale or width % config.scale or not height or not width:
        raise ValueError(f"Expected sides divisible by {config.scale}, got {width}x{height}.")
    plan = draw_plan(config, rng, height, width)
    bgr = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    scratch = vars(_MEMORY).setdefault("scratch", Scratch())
    return cv2.cvtColor(apply(plan, bgr, scratch), cv2.COLOR_BGR2RGB)
