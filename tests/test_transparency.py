"""Transparent images on plain arrays: colours below what is invisible, flat alpha, and what a person sees."""

import numpy as np
import pytest
from PIL import Image

from tadisr.transparency import bleed, find_ground, on_ground, seen, settle


def disc(side=40, radius=12.0, soft=1.5):
    """Alpha (side, side) float32 of a disc with a soft rim."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return ((radius - np.hypot(y, x)) / soft + 0.5).clip(0, 1).astype(np.float32)


# ---- bleeding


def test_colours_go_on_below_what_is_invisible():
    alpha = disc()
    rgb = np.zeros((40, 40, 3), np.float32)  # black where nothing is seen, as most programs write it
    rgb[alpha > 0] = (1, 0.5, 0)
    assert np.array_equal(bleed(rgb, alpha), np.broadcast_to(np.float32([1, 0.5, 0]), rgb.shape))


def test_visible_pixels_keep_their_colours_and_others_take_the_nearest():
    rng = np.random.default_rng(0)
    rgb = rng.random((9, 14, 3), np.float32)
    alpha = np.where(rng.random((9, 14)) < 0.2, rng.uniform(0.1, 1, (9, 14)), 0).astype(np.float32)
    found = bleed(rgb, alpha)
    assert np.array_equal(found[alpha > 0], rgb[alpha > 0])
    places = np.argwhere(alpha > 0)
    for y, x in np.argwhere(alpha == 0):
        distances = np.hypot(*(places - [y, x]).T)
        source = places[(rgb[tuple(places.T)] == found[y, x]).all(1).argmax()]
        assert np.hypot(*(source - [y, x])) <= distances.min() + 0.5, "OpenCV's distances are nearly exact"


def test_rounding_in_faint_pixels_is_not_believed():
    rgb = np.full((3, 8, 3), 0.6, np.float32)
    alpha = np.float32([[1, 1, 0.5, 2 / 255, 1 / 255, 0, 0, 0]] * 3)
    rgb[alpha < 0.01] = 0, 1, 0
    assert np.allclose(bleed(rgb, alpha), 0.6)
    faint = alpha * np.float32(4 / 255)  # of a watermark that is faint altogether the strongest pixels are
    assert np.allclose(bleed(rgb, faint), 0.6)


@pytest.mark.parametrize("level", [0, 1, 0.3])
def test_nothing_to_bleed(level):
    rgb = np.random.default_rng(0).random((5, 6, 3), np.float32)
    assert bleed(rgb, np.full((5, 6), level, np.float32)) is rgb


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_the_smallest_images(shape):
    alpha = np.zeros(shape, np.float32)
    alpha[0, 0] = 1
    rgb = np.random.default_rng(0).random((*shape, 3), np.float32)
    assert np.array_equal(bleed(rgb, alpha), np.broadcast_to(rgb[0, 0], rgb.shape))


# ---- flat alpha


@pytest.mark.parametrize("scale", [1, 2, 4, 2.5, 0.4])
def test_flat_alpha_is_exact_and_contours_are_left_alone(scale):
    alpha = disc(80, 24)
    size = round(80 * scale)
    large = np.asarray(Image.fromarray(alpha).resize((size, size), Image.Resampling.BICUBIC)).copy()
    noisy = (large + np.random.default_rng(0).uniform(-0.02, 0.02, large.shape)).astype(np.float32)
    settled = noisy.copy()
    settle(settled, alpha)
    middle, corner = round(40 * scale), round(4 * scale)
    assert (settled[:corner, :corner] == 0).all() and (settled[middle - 1 : middle + 2, middle] == 1).all()
    contour = (large > 0.1) & (large < 0.9)
    assert np.array_equal(settled[contour], noisy[contour])
    assert (settled != noisy).mean() > 0.4
    assert np.abs(settled - large).max() < 0.03, "no step where it begins"


def test_half_transparent_flat_alpha():
    alpha = np.full((6, 9), np.float32(128 / 255))
    restored = np.zeros((24, 36), np.float32)
    settle(restored, alpha)
    assert (restored == alpha[0, 0]).all()


# ---- grounds


def ink(color, level=255):
    """Strokes of one colour, (20, 30, 4) uint8."""
    image = np.zeros((20, 30, 4), np.uint8)
    image[4:16:3, 3:27] = (*color, level)
    return image


@pytest.mark.parametrize(
    ("image", "ground"),
    [
        (ink((0, 0, 0)), 1.0),
        (ink((200, 30, 40)), 1.0),
        (ink((255, 255, 255)), 0.0),
        (ink((240, 240, 160)), 0.0),
        (ink((0, 0, 0), 40), 1.0),
        (ink((255, 255, 255), 40), 0.0),
        (np.concatenate([ink((0, 0, 0)), ink((255, 255, 255))]), 0.5),
        (np.zeros((4, 5, 4), np.uint8), 1.0),
    ],
)
def test_the_ground_contrasts(image, ground):
    assert find_ground(image) == ground
    assert find_ground(image.astype(np.float32) / 255) == ground
    (flat,) = seen(image)
    assert flat.shape == (*image.shape[:2], 3) and flat.dtype == np.uint8
    if image[..., 3].any():
        assert flat.astype(int).max() - flat.min() > 35


def test_laying_on_a_ground_is_pillows():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 4), np.uint8)
    for level in (0, 255):
        ground = Image.new("RGBA", (30, 20), (level,) * 3)
        theirs = np.asarray(Image.alpha_composite(ground, Image.fromarray(image)).convert("RGB"))
        assert np.abs(on_ground(image, level / 255).astype(int) - theirs).max() <= 1


def test_versions_are_laid_on_one_ground():
    white, black = ink((255, 255, 255)), ink((0, 0, 0))
    first, second, third = seen(white, black, white[..., :3])
    assert first.max() == 255 and first.min() == 0 and second.max() == 0
    assert third is not None and np.array_equal(third, white[..., :3])
    rgb = white[..., :3].copy()
    assert seen(rgb, rgb)[0] is rgb
