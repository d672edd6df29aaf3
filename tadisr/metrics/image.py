"""PSNR and SSIM of 8-bit images, as the benchmarks state them."""

import cv2
import numpy as np
from skimage.metrics import structural_similarity

DEFINITIONS = {
    "psnr": "dB, RGB, 8 bits, whole image without border crop, one mean squared error per image; mean over images",
    "psnr_text": "the same inside the boxes of the lines of text; mean over the images with lines",
    "psnr_rest": "the same outside of them",
    "ssim": "scikit-image's default (7x7 uniform window, sample covariance) on 8-bit luma (BT.601, as OpenCV rounds "
    "it), data range 255, whole image; mean over images",
}
SSIM_WINDOW = 7


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels of two uint8 images (H, W, 3); inf where equal."""
    _check(image, reference)
    error = float(np.mean((image.astype(np.float32) - reference) ** 2))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def psnr_inside(image: np.ndarray, reference: np.ndarray, inside: np.ndarray) -> float | None:
    """`psnr` over the pixels of a mask (H, W) bool; None for an empty mask."""
    _check(image, reference)
    if not inside.any():
        return None
    error = float(np.mean((image[inside].astype(np.float32) - reference[inside]) ** 2))
    return 10 * np.log10(255**2 / error) if error else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray) -> float:
    """Structural similarity of the luma of two uint8 RGB images (H, W, 3); ValueError for a side below 7 pixels."""
    _check(image, reference)
    if min(image.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels, got {image.shape}.")
    gray = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (image, reference)]
    return float(structural_similarity(*gray, data_range=255))  # pyright: ignore[reportArgumentType]: no map is asked for


def _check(image: np.ndarray, reference: np.ndarray) -> None:
    if image.shape != reference.shape or image.dtype != np.uint8 or reference.dtype != np.uint8:
        raise ValueError(
            f"Expected uint8 images of one size, got {image.shape} {image.dtype}, {reference.shape} {reference.dtype}."
        )
