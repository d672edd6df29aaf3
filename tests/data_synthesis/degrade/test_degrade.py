"""The whole degradation: nothing moves, an image depends on its seed alone, any size works."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.degradations import centre, photo, rng
from tadisr.data_synthesis.degrade import Degradation, Mixture, Order, Phone, degrade, draw_plan
from tadisr.data_synthesis.degrade.config import KINDS


@pytest.mark.parametrize("kind", [*KINDS, "sinc"])
def test_no_kernel_moves_the_image(kind):
    image = np.zeros((64, 96, 3), np.uint8)
    image[20:41, 40:57] = 255  # centred on (30.5, 48.5)
    sinc = {"sinc_prob": 1.0} if kind == "sinc" else {"sinc_prob": 0.0, "kernels": {kind: 1}}
    quiet = {"resize_weights": (0, 0, 1), "noise_sigma": (0, 0), "gaussian_prob": 1, "jpeg_prob": 0}
    order = Order(**sinc, **quiet)
    config = Degradation(scale=1, first=order, second=replace(order, blur_prob=0), final_sinc_prob=0)
    for seed in range(5):
        np.testing.assert_allclose(centre(degrade(image, config, rng(seed))), (30.5, 48.5), atol=0.02)


@pytest.mark.parametrize("preset", ["real-esrgan", "mild"])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_whole_chain_moves_nothing(preset, scale):
    image = np.full((128, 192, 3), 20, np.uint8)
    image[48:80, 80:112] = 235  # centred on (64, 96)
    config = Degradation.preset(preset)
    quiet = {"noise_sigma": (0, 0), "gaussian_prob": 1, "jpeg_prob": 0}
    config = replace(
        config,
        scale=scale,
        first=replace(config.first, **quiet, resize_range=(0.5, 1.5)),
        second=replace(config.second, **quiet, resize_range=(0.5, 1.2)),
    )
    for seed in range(12):
        lr = degrade(image, config, rng(seed))
        assert lr.shape == (128 // scale, 192 // scale, 3) and lr.dtype == np.uint8
        np.testing.assert_allclose(centre(lr), (64 / scale, 96 / scale), atol=0.1)


@pytest.mark.parametrize("motion_prob", [0.0, 1.0])
def test_a_phone_moves_nothing(motion_prob):
    image = np.full((128, 192, 3), 20, np.uint8)
    image[48:80, 80:112] = 235  # centred on (64, 96)
    phone = Phone(motion_prob, poisson_scale=(0, 0), chroma=(0, 0), webp_prob=0, jpeg_quality=(100, 100))
    for seed in range(12):
        lr = degrade(image, Mixture(((1.0, phone),)), rng(seed))
        assert lr.shape == (32, 48, 3) and lr.dtype == np.uint8
        np.testing.assert_allclose(centre(lr), (16, 24), atol=0.1)


@pytest.mark.parametrize("preset", ["real-esrgan", "mild", "wide"])
def test_an_image_depends_on_its_seed_alone(preset):
    """Not on the images before it, the number of threads, or how it lies in memory."""
    config = Degradation.preset(preset)
    images = [photo(112, 144, seed) for seed in range(8)]
    alone = [degrade(image, config, rng(seed)) for seed, image in enumerate(images)]
    assert all(lr.shape == (28, 36, 3) and lr.dtype == np.uint8 for lr in alone)
    threads = cv2.getNumThreads()
    try:
        for count in (2, 1):
            cv2.setNumThreads(count)
            for seed in (5, 0, 7, 2):
                np.testing.assert_array_equal(degrade(images[seed], config, rng(seed)), alone[seed])
    finally:
        cv2.setNumThreads(threads)
    for seed, image in enumerate(images):
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).transpose(1, 2, 0)
        np.testing.assert_array_equal(degrade(planes, config, rng(seed)), alone[seed])
        assert (alone[seed] != degrade(image, config, rng(seed + 1))).any()


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 12), width=st.integers(1, 12), seed=st.integers(0, 999),
    preset=st.sampled_from(["real-esrgan", "mild", "wide"]),
)  # fmt: skip
def test_any_size_works(height, width, seed, preset):
    config = Degradation.preset(preset)
    image = rng(seed).integers(0, 256, (4 * height, 4 * width, 3), dtype=np.uint8)
    assert degrade(image, config, rng(seed)).shape == (height, width, 3)


def test_wrong_images_are_refused():
    image, config = photo(64, 64), Degradation()
    with pytest.raises(ValueError, match="Expected sides divisible by 4, got 64x63"):
        degrade(image[:63], config, rng())
    with pytest.raises(ValueError, match=r"Expected \(H, W, 3\) uint8, got \(64, 64\) uint8"):
        degrade(image[..., 0], config, rng())
    with pytest.raises(ValueError, match="uint8, got .* float32"):
        degrade(image.astype(np.float32), config, rng())


def test_nothing_to_do_returns_the_image():
    idle = Order(blur_prob=0, resize_weights=(0, 0, 1), noise_sigma=(0, 0), gaussian_prob=1, jpeg_prob=0, sinc_prob=0)
    config = Degradation(scale=1, first=idle, second=idle, final_sinc_prob=0)
    image = photo(17, 23)
    assert draw_plan(config, rng(), 17, 23) == []
    lr = degrade(image, config, rng())
    np.testing.assert_array_equal(lr, image)
    assert not np.shares_memory(lr, image)
