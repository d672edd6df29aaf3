"""Surfaces, scenes and crops of photographs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.data_synthesis.backgrounds import crop_photo, procedural, shrink_photo
from tadisr.data_synthesis.backgrounds.scenes import SCENES, out_of_focus
from tadisr.data_synthesis.backgrounds.surfaces import SURFACES, light, noise

PAINTERS = {**SURFACES, **SCENES}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", PAINTERS)
def test_surfaces_are_images_of_their_size_drawn_from_the_seed(name):
    paint = PAINTERS[name]
    first, again, other = paint((72, 120), rng(1)), paint((72, 120), rng(1)), paint((72, 120), rng(2))
    assert first.shape == (72, 120, 3) and first.dtype == np.float32
    assert np.isfinite(first).all() and 0.02 < first.mean() < 1.1
    assert (first == again).all() and not (first == other).all()
    assert first.std() > 0.002  # not one flat colour


@pytest.mark.parametrize("name", PAINTERS)
def test_surfaces_may_be_tiny(name):
    for size in ((8, 8), (9, 40)):
        assert PAINTERS[name](size, rng()).shape == (*size, 3)


@settings(deadline=None, max_examples=25)
@given(st.integers(8, 150), st.integers(8, 150), st.integers(0, 10**6))
def test_procedural_backgrounds_have_any_size(height, width, seed):
    image = procedural((height, width), rng(seed))
    assert image.shape == (height, width, 3) and image.dtype == np.float32
    assert image.min() >= 0 and image.max() <= 1


def test_procedural_backgrounds_differ_from_page_to_page():
    means = np.array([procedural(48, rng(seed)).mean(axis=(0, 1)) for seed in range(40)])
    assert means.shape == (40, 3)
    assert means.mean(axis=1).std() > 0.1  # bright and dark ones


def test_noise_and_light_have_the_promised_moments():
    field = noise((400, 400), 4.0, rng())
    assert abs(field.mean()) < 0.05 and 0.6 < field.std() < 1.1
    fine = noise((400, 400), 1.0, rng())
    assert fine.std() == pytest.approx(1, abs=0.02)
    steps = [np.abs(np.diff(noise((200, 200), scale, rng()))).mean() for scale in (1.0, 4.0, 16.0)]
    assert steps[0] > 2 * steps[1] > 4 * steps[2]  # the larger the features, the smoother
    lit = light((64, 96), rng())
    assert lit.shape == (64, 96, 1) and lit.min() > 0.4 and lit.max() < 1.3
    np.testing.assert_array_equal(light((64, 96), rng(), 0.0), np.ones((64, 96, 1)))


def test_out_of_focus_keeps_brightness_and_loses_detail():
    image = rng().random((200, 240, 3), np.float32)
    blurred = out_of_focus(image, rng(3))
    assert blurred.shape == image.shape
    assert blurred.mean() == pytest.approx(image.mean(), abs=0.01)
    assert blurred.std() < 0.4 * image.std()


def test_crops_come_from_the_photograph():
    photo = np.zeros((300, 400, 3), np.uint8)
    photo[..., 0] = np.arange(300)[:, None] * 255 // 299  # red says how far down, green how far right
    photo[..., 1] = np.arange(400) * 255 // 399
    for seed in range(12):
        crop = crop_photo(photo, (60, 90), rng(seed))
        assert crop.shape == (60, 90, 3) and crop.dtype == np.float32 and 0 <= crop.min() <= crop.max() <= 1
        high, wide = np.ptp(crop[..., 0]) * 300, np.ptp(crop[..., 1]) * 400
        assert 55 <= high <= 250 and 85 <= wide <= 370  # shrunk by 1 to 4
        assert high / wide == pytest.approx(60 / 90, rel=0.06)  # and not distorted
    assert (crop_photo(photo, 64, rng(1)) == crop_photo(photo, 64, rng(1))).all()
    assert not (crop_photo(photo, 64, rng(1)) == crop_photo(photo, 64, rng(2))).all()


def test_small_photographs_are_enlarged_and_large_ones_shrunk():
    photo = (rng().random((30, 50, 3)) * 255).astype(np.uint8)
    assert crop_photo(photo, (64, 64), rng()).shape == (64, 64, 3)
    assert shrink_photo(photo, 50) is photo
    assert shrink_photo(photo, 25).shape == (15, 25, 3)
