"""The text of one enlargement in the picture of another."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.transplant import shift_between, text_share, transplant

SIZE = (48, 80)  # LR pixels
LARGE = (192, 320)


def drawn(dx=0.0, dy=0.0, level=60):
    """A page with two words, and its mask: moved by so many pixels, as it is drawn eight times as large."""
    big = Image.new("L", (LARGE[1] * 8, LARGE[0] * 8))
    draw = ImageDraw.Draw(big)
    font = ImageFont.load_default(8 * 30)
    for x, y, word in ((40, 30, "Exit 42"), (60, 100, "Gleis")):
        draw.text((8 * (x + dx), 8 * (y + dy)), word, 255, font)
    mask = np.asarray(big.resize(LARGE[::-1], Image.Resampling.BOX))
    page = 200 - (200 - level) * (mask / 255)
    return np.repeat(np.rint(page)[..., None], 3, 2).astype(np.uint8), mask


def noisy(image, seed=0):
    return (image + np.random.default_rng(seed).normal(0, 6, image.shape)).clip(0, 255).astype(np.uint8)


def test_the_share_covers_text_and_ends():
    _, mask = drawn()
    share = text_share(mask, SIZE)
    assert share.shape == LARGE and share.dtype == np.float32 and share.min() == 0 and share.max() == 1
    assert (share[mask > 64] == 1).all()
    near = np.asarray(Image.fromarray(mask).resize(SIZE[::-1], Image.Resampling.BOX)) > 0
    rows = np.flatnonzero(near.any(1))
    assert not share[: 4 * max(0, rows[0] - 9)].any() and not share[4 * (rows[-1] + 10) :].any()
    assert np.abs(np.diff(share, axis=0)).max() < 0.1 and np.abs(np.diff(share, axis=1)).max() < 0.1  # no seam
    assert not text_share(np.zeros(LARGE, np.uint8), SIZE).any()


@pytest.mark.parametrize("shift", [(0, 0), (2.5, 0), (-1.25, 3), (0, -2)])
def test_shifts_are_measured(shift):
    dx, dy = shift
    image, mask = drawn()
    other, _ = drawn(dx, dy)
    found = shift_between(noisy(image), noisy(other, 1), text_share(mask, SIZE))
    assert found == pytest.approx((dy, dx), abs=0.2)


def test_unlike_images_are_not_moved():
    image, mask = drawn()
    share = text_share(mask, SIZE)
    noise = np.random.default_rng(0).integers(0, 256, image.shape, np.uint8)
    assert shift_between(image, noise, share) == (0, 0)
    assert shift_between(image, np.zeros_like(image), share) == (0, 0)


def test_text_is_ours_and_all_else_theirs():
    ours, mask = drawn()
    theirs, _ = drawn(3, -2, level=150)  # moved, faint, and of another colour
    theirs = np.clip(theirs.astype(int) + (25, 0, -20), 0, 255).astype(np.uint8)
    theirs[170:, 280:] = 7  # far from text
    fixed = transplant(theirs, ours, mask, SIZE)
    wanted, _ = drawn(3, -2)
    moved_share = text_share(drawn(3, -2)[1], SIZE)
    assert np.array_equal(fixed[moved_share == 0], theirs[moved_share == 0])
    text = drawn(3, -2)[1] > 200
    assert np.abs(fixed[text].mean(0) - fixed[text].mean()).max() < 30
    assert np.abs(fixed[text].astype(int).mean() - wanted[text].mean()) < 35 < theirs[text].mean() - wanted[text].mean()
    ground = (moved_share == 1) & (drawn(3, -2)[1] == 0)
    assert np.abs(fixed[ground].mean(0) - theirs[ground].mean(0)).max() < 8  # their colours


def test_without_text_the_image_stays():
    image, _ = drawn()
    assert transplant(image, noisy(image), np.zeros(LARGE, np.uint8), SIZE) is image


def test_images_of_other_sizes_are_refused():
    image, mask = drawn()
    with pytest.raises(ValueError, match="must be of one size"):
        transplant(image[1:], image, mask, SIZE)
