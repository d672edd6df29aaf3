"""Photos of which only the text is restored."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tadisr
from tadisr.loading.load import TEXT_MARGIN
from tadisr.trust import check

EXAMPLE = Path(__file__).resolve().parents[2] / "demo/example.png"
SPARE = 40


@pytest.fixture(scope="module")
def model():
    return tadisr.load("tadisr-tiny", device="cpu", runtime="onnx")


@pytest.fixture(scope="module")
def photo():
    """Text in the upper left of a gray wall."""
    page = np.asarray(Image.open(EXAMPLE).convert("RGB"))[:60, :180]
    wall = np.full((200, 420, 3), 128, np.uint8)
    wall[SPARE : SPARE + len(page), SPARE : SPARE + page.shape[1]] = page
    return wall


def bicubic(photo, scale=4):
    h, w = photo.shape[:2]
    return np.asarray(Image.fromarray(photo).resize((w * scale, h * scale), Image.Resampling.BICUBIC))


def test_text_is_restored_and_the_rest_enlarged(model, photo):
    whole, made = model.restore(photo), model.restore(photo, only_text=True)
    assert made.image.shape == whole.image.shape and made.mask.shape == whole.mask.shape
    quads = check.find_text(photo)
    assert 0 < made.share < 0.5 and whole.share == 1 and quads
    assert np.array_equal(made.image[:, 1200:], bicubic(photo)[:, 1200:]) and not made.mask[:, 1200:].any()
    inside = 0
    for quad in quads:  # the network is local: what it sees of a line and its margin decides
        (left, top), (right, bottom) = (quad.min(0) * 4).astype(int), (quad.max(0) * 4).astype(int)
        part = made.image[top:bottom, left:right].astype(int), whole.image[top:bottom, left:right].astype(int)
        assert np.abs(part[0] - part[1]).mean() < 1
        inside += np.abs(part[0] - bicubic(photo)[top:bottom, left:right]).sum()
    assert inside > 0


def test_no_seam(model, photo):
    """Where a region ends, the picture goes over into the enlargement within the margin."""
    made = model.restore(photo, only_text=True).image.astype(int)
    difference = np.abs(made - bicubic(photo)).max(axis=2)
    rows, columns = np.nonzero(difference)
    low, high = min(rows), max(rows)
    assert low > (SPARE - 2 * TEXT_MARGIN) * 4 and max(columns) < (SPARE + 180 + 2 * TEXT_MARGIN) * 4
    assert difference[low : low + 8].max() < 12 and difference[high - 7 : high + 1].max() < 12


@pytest.mark.parametrize("scale", [1, 2.5, 5])
def test_any_size(model, photo, scale):
    made = model.restore(photo[:, :300], only_text=True, scale=scale)
    assert made.image.shape == (round(200 * scale), round(300 * scale), 3) and made.mask.shape == made.image.shape[:2]


def test_nothing_to_restore(model):
    wall = np.full((30, 50, 3), 77, np.uint8)
    made = model.restore(wall, only_text=True)
    assert made.share == 0 and (made.image == 77).all() and made.image.shape == (120, 200, 3) and not made.mask.any()


def test_a_transparent_photo_is_restored_whole(model, photo):
    image = np.dstack([photo[:60, :80], np.full((60, 80), 200, np.uint8)])
    made = model.restore(image, only_text=True)
    assert made.share == 1 and np.array_equal(made.image, model.restore(image).image)


def test_a_report(model, photo):
    report = model.restore(photo, only_text=True, report=True).report
    assert report.error is None and report.lines and report.size == (800, 1680)


def test_mistakes(model, photo):
    with pytest.raises(ValueError, match="only_text does not go with reduction or text_mask"):
        model.restore(photo, only_text=True, reduction=2)
    with pytest.raises(ValueError, match="only_text is for photos"):
        model.restore(photo / 255, only_text=True)
