"""Images that are made smaller before they are restored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

import tadisr
from tadisr.detail import real_reduction

EXAMPLE = Path(__file__).resolve().parents[2] / "demo/example.png"


@pytest.fixture(scope="module")
def model():
    return tadisr.load("tadisr-tiny", device="cpu", runtime="onnx")


@pytest.fixture(scope="module")
def photo():
    return np.random.default_rng(0).integers(0, 256, (37, 50, 3), np.uint8)


@pytest.mark.parametrize("scale", [4, 1, 2.5])
def test_the_output_has_the_size_that_it_has_without(model, photo, scale):
    without, reduced = (model.restore(photo, scale=scale, reduction=factor) for factor in (1, 1.7))
    assert reduced.image.shape == without.image.shape and reduced.mask.shape == without.mask.shape
    assert (without.reduction, reduced.reduction) == (1, 1.7)
    assert (reduced.image != without.image).any()


def test_it_is_the_smaller_image_restored_and_resized(model, photo):
    small = Image.fromarray(photo).resize((25, 18), Image.Resampling.LANCZOS)
    restored = Image.fromarray(model.restore(np.asarray(small)).image)
    expected = np.asarray(restored.resize((200, 148), Image.Resampling.BICUBIC))
    assert np.array_equal(model.restore(photo, reduction=2).image, expected)


def test_alpha_is_kept(model, photo):
    image = np.dstack([photo, np.full(photo.shape[:2], 90, np.uint8)])
    image[:10, :, 3] = 0
    made = model.restore(image, reduction=2, scale=1).image
    assert made.shape == image.shape and made[0, 0, 3] < 20 and abs(int(made[-1, -1, 3]) - 90) < 5


def test_auto_asks_the_image(model, photo):
    assert model.restore(photo, reduction="auto").reduction == 1
    page = Image.open(EXAMPLE).convert("RGB")
    soft = np.asarray(page.resize((400, 200)).filter(ImageFilter.GaussianBlur(3)))
    assert model.restore(soft, reduction="auto", scale=1).reduction == real_reduction(soft) > 1


@pytest.mark.parametrize("reduction", [0.5, -1, float("nan"), "much"])
def test_other_reductions_are_refused(model, photo, reduction):
    with pytest.raises(ValueError, match=f'reduction must be "auto" or at least 1, got {reduction!r}.'):
        model.restore(photo, reduction=reduction)
    with pytest.raises(TypeError, match="reduction is for arrays of uint8"):
        model.restore(photo / 255, reduction=2)


def test_a_report_reads_what_is_given_back(model):
    image = Image.open(EXAMPLE).convert("RGB")
    result = model.restore(np.asarray(image), reduction=1.2, scale=2, report=True)
    assert result.report is not None and list(result.report.size) == [2 * image.height, 2 * image.width]
