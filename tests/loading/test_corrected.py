"""`restore(text_mask=..., first=...)`: only what is near the mask is restored again."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers import tiny
from tadisr.loading.load import CORRECTION_MARGIN, Restorer, _said_in
from tadisr.text_masks import OPAQUE


@pytest.fixture(scope="module")
def model():
    return tadisr.load("tadisr-tiny", "cpu")


@pytest.fixture(scope="module")
def photo():
    """A line with much around it."""
    with Image.open("demo/example.png") as image:
        small = np.asarray(image.convert("RGB").crop((0, 0, 200, 60)))
    return np.pad(small, ((60, 120), (100, 100), (0, 0)), mode="symmetric")


@pytest.fixture(scope="module")
def first(model, photo):
    return model.restore(photo)


@pytest.fixture
def said(first):
    """A bar across a part of the text."""
    mask = np.zeros((*first.image.shape[:2], 2), np.uint8)
    mask[300:340, 500:800, 1] = 255
    mask[316:324, 500:800, 0] = 255
    return mask


def test_near_the_mask_it_is_as_a_whole_call_and_elsewhere_as_it_was(model, photo, first, said):
    whole = model.restore(photo, text_mask=said)
    part = model.restore(photo, text_mask=said, first=first)
    (rows, columns), *more = _said_in(said[..., 1] > 0, 4)
    assert not more and rows == (75 - CORRECTION_MARGIN, 85 + CORRECTION_MARGIN)
    away = np.ones(said.shape[:2], bool)
    away[rows[0] * 4 : rows[1] * 4, columns[0] * 4 : columns[1] * 4] = False
    for name, most in (("image", 4), ("mask", 16)):
        made, wanted, before = (getattr(one, name) for one in (part, whole, first))
        assert np.array_equal(made[away], before[away]), "what is far away changed"
        assert (made[300:340, 500:800] != before[300:340, 500:800]).any(), "the mask changed nothing"
        difference = np.abs(made.astype(int) - wanted)
        assert difference.mean() < 0.1 and np.percentile(difference, 99.9) <= most


def test_a_mask_that_says_nothing_changes_nothing(model, photo, first, said):
    part = model.restore(photo, text_mask=0 * said, first=first)
    assert np.array_equal(part.image, first.image) and np.array_equal(part.mask, first.mask)
    assert part.image is not first.image


def test_what_cannot_be_done_in_parts_is_done_whole(model, photo, first, said):
    everywhere = np.full_like(said, 255)
    small = np.ascontiguousarray(said[::4, ::4])
    for mask in (everywhere, small):
        part, whole = (model.restore(photo, text_mask=mask, **given) for given in ({"first": first}, {}))
        assert np.array_equal(part.image, whole.image) and np.array_equal(part.mask, whole.mask)


@pytest.mark.parametrize("scale", [1, 2])
def test_other_factors(model, photo, first, said, scale):
    first = model.restore(photo, scale=scale)
    said = np.ascontiguousarray(said[:: 4 // scale, :: 4 // scale])
    part, whole = (model.restore(photo, text_mask=said, scale=scale, **given) for given in ({"first": first}, {}))
    assert part.image.shape == first.image.shape and (part.image != first.image).any()
    assert np.abs(part.image.astype(int) - whole.image).mean() < 0.1


def test_several_places_by_torch(said):
    """With the pipeline of PyTorch, and a report."""
    model = Restorer("lean", None, tiny.lean(mask_prompt=True))
    photo = np.random.default_rng(0).integers(0, 256, (240, 400, 3), np.uint8)
    first, counted = model.restore(photo), []
    said[900:910, 1500:1510] = 255
    part = model.restore(
        photo, text_mask=said, first=first, report=True, tile_progress=lambda places: counted.extend(places) or counted
    )
    assert len(counted) == 2 and part.report is not None
    assert (part.image[900:910, 1500:1510] != first.image[900:910, 1500:1510]).any()


def test_mistakes(model, photo, first, said):
    for wrong in ({"text_mask": said, "reduction": 2}, {}, {"text_mask": said, "abstain": True}):
        with pytest.raises(ValueError, match="first goes with text_mask, and not with reduction, only_text or abstain"):
            model.restore(photo, first=first, **wrong)
    alpha = np.dstack([photo, np.arange(photo.shape[1], dtype=np.uint8) * np.ones(photo.shape[:2], np.uint8)])
    with pytest.raises(ValueError, match=OPAQUE):
        model.restore(alpha, text_mask=said, first=replace(first, image=model.restore(alpha).image))
