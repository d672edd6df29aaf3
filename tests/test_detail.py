"""How much of an image's resolution is real."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from tadisr.detail import LARGEST_REDUCTION, real_reduction


def page(side=320, seed=0):
    """Dark lines of text on a light ground, (side, side, 3) uint8."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (side, side), (235, 230, 220))
    draw = ImageDraw.Draw(image)
    for y in range(6, side - 40, 44):
        text = "".join(chr(c) for c in rng.integers(65, 91, 12))
        draw.text((8, y), text, fill=(30, 30, 50), font_size=int(rng.integers(22, 38)))
    return image


def photographed(image, blur, noise=3.0, seed=1):
    """Blurred, noised, and a JPEG."""
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(blur)), np.float32)
    pixels = pixels + np.random.default_rng(seed).normal(0, noise, pixels.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=85)
    return np.asarray(Image.open(file))


@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
def test_sharp_images_keep_their_size(noise):
    assert real_reduction(photographed(page(), 0, noise)) == 1
    assert real_reduction(photographed(page(), 0.5, noise)) == 1


def test_softer_images_are_reduced_by_more():
    factors = [real_reduction(photographed(page(480), blur)) for blur in (1, 3, 5, 8)]
    assert factors[0] == 1 < factors[1] < factors[2] < factors[3] <= LARGEST_REDUCTION


def test_gray_arrays_and_alpha():
    soft = photographed(page(480), 5)
    gray = np.asarray(Image.fromarray(soft).convert("L"))
    assert real_reduction(gray) == real_reduction(soft) > 1
    assert real_reduction(np.dstack([soft, np.zeros_like(gray)])) == real_reduction(soft)


def test_an_image_that_is_sharp_in_one_part_keeps_its_size():
    pixels = np.array(page(480).filter(ImageFilter.GaussianBlur(4)))
    assert real_reduction(pixels) > 1.5
    pixels[:, :240] = np.asarray(page(480))[:, :240]
    assert real_reduction(pixels) == 1


def test_nothing_to_measure():
    rng = np.random.default_rng(0)
    flat = np.full((200, 200, 3), 128, np.uint8)
    noise = np.clip(rng.normal(128, 10, (200, 200, 3)), 0, 255).astype(np.uint8)
    for image in (flat, noise, flat[:10, :10], flat[:1, :1], flat[..., 0]):
        assert real_reduction(image) == 1
