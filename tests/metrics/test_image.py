"""PSNR and SSIM against scikit-image and their formulas."""

import math

import cv2
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tadisr.metrics.image import psnr, ssim


def test_psnr_and_ssim_against_scikit_image(images):
    image, noisy = images
    assert psnr(noisy, image) == pytest.approx(peak_signal_noise_ratio(image, noisy, data_range=255), abs=1e-4)
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in images]
    assert ssim(noisy, image) == pytest.approx(structural_similarity(*gray, data_range=255, win_size=7))
    assert psnr(image, image) == math.inf and ssim(image, image) == pytest.approx(1)


def test_psnr_of_a_constant_error():
    black = np.zeros((8, 9, 3), np.uint8)
    assert psnr(black + 16, black) == pytest.approx(20 * math.log10(255 / 16))


def test_ssim_by_its_formula():
    """One 7x7 window: the mean over all positions is the formula itself."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 256, (2, 7, 7), dtype=np.uint8)
    colour = [np.repeat(z[..., None], 3, axis=2) for z in (x, y)]
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    covariance = np.cov(x.ravel(), y.ravel(), ddof=1)
    mx, my = x.mean(), y.mean()
    expected = (2 * mx * my + c1) * (2 * covariance[0, 1] + c2)
    expected /= (mx**2 + my**2 + c1) * (covariance[0, 0] + covariance[1, 1] + c2)
    assert ssim(*colour) == pytest.approx(expected, abs=1e-6)


def test_image_metrics_refuse_what_does_not_fit(images):
    image = images[0]
    for metric in (psnr, ssim):
        with pytest.raises(ValueError, match="uint8 images of one size"):
            metric(image, image[:-1])
        with pytest.raises(ValueError, match="uint8 images of one size"):
            metric(image / 255, image)
    with pytest.raises(ValueError, match="at least 7 x 7 pixels"):
        ssim(image[:6], image[:6])
