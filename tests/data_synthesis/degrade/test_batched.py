"""Plans carried out in batches give what the processor gives, image by image."""

import cv2
import numpy as np
import pytest
import torch

from helpers.degradations import photo, rng
from tadisr.data_synthesis.degrade import Degradation, draw_plan, steps
from tadisr.data_synthesis.degrade.batched import degrade_batch
from tadisr.data_synthesis.degrade.kernels import disk_kernel
from tadisr.data_synthesis.degrade.steps import Blur, Chroma, Jpeg, Noise, Resize, Scratch, Sharpen, WebP

SIDE = 64
IMAGES = [np.ascontiguousarray(photo(SIDE + 40, SIDE + 90)[7 * i :, 11 * i :][:SIDE, :SIDE]) for i in range(5)]


def batched(plans, generator=None) -> list[np.ndarray]:
    images = torch.from_numpy(np.stack(IMAGES[: len(plans)])).permute(0, 3, 1, 2)
    return [image.permute(1, 2, 0).numpy() for image in degrade_batch(images, plans, generator)]


def by_the_processor(plans) -> list[np.ndarray]:
    def one(image, plan):
        bgr = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2BGR)
        return cv2.cvtColor(steps.apply(plan, bgr, Scratch()), cv2.COLOR_BGR2RGB).astype(np.float32)

    return [one(*pair) for pair in zip(IMAGES, plans, strict=False)]


@pytest.mark.parametrize("preset", ["mild", "real-esrgan"])
def test_blurs_and_sizes(preset):
    """Two rounds in half of the plans, over sizes of their own, and back to one."""
    config = Degradation.preset(preset)
    config.first_prob = 0.5
    plans = [draw_plan(config, rng(i), SIDE, SIDE) for i in range(5)]
    assert len({len(plan) for plan in plans}) > 1
    plans = [[step for step in plan if isinstance(step, (Blur, Resize))] for plan in plans]
    for found, wanted in zip(batched(plans), by_the_processor(plans), strict=True):
        assert found.shape == wanted.shape == (16, 16, 3)
        assert np.abs(found - wanted).max() <= 1 and np.abs(found - wanted).mean() < 0.02


@pytest.mark.parametrize("quality", [10, 40, 75, 95])
def test_jpeg(quality):
    """Sides that are no multiples of blocks, too. The difference is small beside the error of the codec: coefficients
    halfway between two steps are rounded the other way."""
    for side in (64, 51, 40):
        plans = [[Resize(side, side, "area")] * (side < SIDE) + [Jpeg(quality)]] * 5
        before = by_the_processor([plan[:-1] for plan in plans])
        for found, wanted, image in zip(batched(plans), by_the_processor(plans), before, strict=True):
            assert np.square(found - wanted).mean() < 0.1 * np.square(wanted - image).mean()


@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
@pytest.mark.parametrize("gray", [False, True])
def test_noise(kind, gray):
    plans = [[Noise(kind, strength, gray, 0)] for strength in ((2.0, 8.0, 20.0) if kind == "gaussian" else (0.1, 1, 2))]
    found, wanted = batched(plans, torch.Generator().manual_seed(0)), by_the_processor(plans)
    for one, other, image in zip(found, wanted, IMAGES, strict=False):
        a, b = one - image, other - image
        assert a.std() == pytest.approx(b.std(), rel=0.08) and a.mean() == pytest.approx(
            b.mean(), abs=0.1 * float(b.std())
        )
        apart = [np.abs(x[..., 0] - x[..., 1])[np.all((image > 80) & (image < 175), -1)].mean() for x in (a, b)]
        assert apart[0] == pytest.approx(apart[1], rel=0.15, abs=0.3)
    again = batched(plans, torch.Generator().manual_seed(0))
    assert all(np.array_equal(*pair) for pair in zip(found, again, strict=True))


@pytest.mark.parametrize(
    "step", [Blur(disk_kernel(5.0), light=True), Sharpen(0.8, 0.7), Sharpen(1.5, 0.4), WebP(60)], ids=str
)
def test_what_a_phone_does(step):
    """Images of different sizes, and beside others that do not go through it."""
    plans = [[step], [Resize(51, 51, "area"), step], [Resize(40, 40, "area"), step]]
    plans = [[*plan, Resize(16, 16, "area")] for plan in plans] + [[Resize(16, 16, "area")]]
    for found, wanted in zip(batched(plans), by_the_processor(plans), strict=True):
        assert np.abs(found - wanted).max() <= 2 and np.abs(found - wanted).mean() < 0.1


def test_blocks_of_a_shifted_jpeg():
    plans = [[Jpeg(20, shift)] for shift in ((0, 0), (3, 6), (7, 1))]
    for found, wanted, image in zip(batched(plans), by_the_processor(plans), IMAGES, strict=False):
        assert np.square(found - wanted).mean() < 0.1 * np.square(wanted - image).mean()


def test_blotches_of_colour():
    plans = [[Chroma(sigma, 0)] for sigma in (2.0, 5.0, 9.0)]
    found = batched(plans, torch.Generator().manual_seed(0))
    for one, other, image in zip(found, by_the_processor(plans), IMAGES, strict=False):
        inside = np.all((image > 60) & (image < 195), -1)  # nothing is clipped
        a, b = (one - image)[inside], (other - image)[inside]
        assert a.std() == pytest.approx(b.std(), rel=0.1)
        assert np.abs(a @ (0.299, 0.587, 0.114)).mean() < 0.6


def test_few_levels_are_few_photons():
    flat = torch.full((1, 3, 64, 64), 100.0)
    flat[..., 32:] = 101
    noisy = degrade_batch(flat, [[Noise("poisson", 1.0, False, 0)]], torch.Generator().manual_seed(0))
    assert len(noisy.unique()) < 8, "two levels are one bit: photons come one by one"


@pytest.mark.parametrize("preset", ["mild", "wide"])
def test_mean_damage_of_whole_plans(preset):
    """What is drawn anew, the noise, leaves the same error on average."""
    config = Degradation.preset(preset)
    errors = []
    for seed in range(0, 40, 5):
        plans = [draw_plan(config, rng(seed + i), SIDE, SIDE) for i in range(5)]
        clean = by_the_processor([[Resize(16, 16, "area")]] * 5)
        for found in (batched(plans, torch.Generator().manual_seed(seed)), by_the_processor(plans)):
            errors.append(np.mean([np.abs(a - b).mean() for a, b in zip(found, clean, strict=True)]))
    assert np.mean(errors[::2]) == pytest.approx(np.mean(errors[1::2]), rel=0.03)


def test_what_cannot_be():
    with pytest.raises(ValueError, match="2 square images, one a plan"):
        degrade_batch(torch.zeros(2, 3, 8, 16), [[], []])
    with pytest.raises(ValueError, match=r"end at different sizes: \[8, 16\]"):
        degrade_batch(torch.zeros(2, 3, 16, 16), [[], [Resize(8, 8, "area")]])
