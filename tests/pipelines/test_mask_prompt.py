"""A text mask, drawn or corrected by a person, as a prompt of the pipeline."""

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.arrays import to_planes
from tadisr.pipelines.tile_memory import TileMemory
from tadisr.text_masks import shuffle, to_prompts, unshuffle

TILES = {"tile": 128, "overlap": 32, "output_type": "np"}
COUNT = 2 * 3  # tiles of an image of 60 x 40 pixels


@pytest.fixture(scope="module")
def pipe():
    return tiny.lean(mask_prompt=True)


def a_photo():
    return tiny.photo(60, 40)


def a_mask(height=160, width=240, channels=1):
    """Blocks of text on the left half; with alpha, the right half is for the network to decide."""
    mask = np.zeros((height, width, channels), np.uint8)
    mask[height // 4 : height // 2, width // 8 : width // 4, 0] = 255
    if channels == 2:
        mask[:, : width // 2, 1] = 255
    return mask.squeeze()


@pytest.fixture
def counted(pipe, monkeypatch):
    """How often the parts ran since this was last asked."""
    counts = dict.fromkeys(("encode", "denoise", "decode"), 0)

    def counting(name):
        own = getattr(pipe, name)

        def call(*args):
            counts[name] += 1
            return own(*args)

        return call

    for name in counts:
        monkeypatch.setattr(pipe, name, counting(name))
    monkeypatch.setattr(pipe, "_tiles", TileMemory())

    def since():
        found = tuple(counts.values())
        counts.update(dict.fromkeys(counts, 0))
        return found

    return since


def afresh(pipe, *args, **options):
    """What a call gives that finds nothing."""
    before, pipe._tiles = pipe._tiles, TileMemory()
    try:
        return pipe(*args, **options)
    finally:
        pipe._tiles = before


def equal(one, other):
    return np.array_equal(one.images, other.images) and np.array_equal(one.text_masks, other.text_masks)


# ---- what a mask says


def the_prompt(mask):
    [prompt] = to_prompts(to_planes(mask, keep_alpha=True), [(40, 60)], 4)
    return prompt


def test_masks_become_prompts():
    plain = the_prompt(a_mask())
    assert plain.shape == (1, 2, 160, 240) and plain[:, 1].all() and set(np.unique(plain[:, 0])) == {0.0, 1.0}
    assert np.array_equal(plain[0, 0], a_mask() / np.float32(255))
    for mask in (Image.fromarray(a_mask(channels=2), "LA"), a_mask(channels=2), a_mask(40, 60, 2), a_mask(320, 480, 2)):
        part = the_prompt(mask)
        assert part[0, 1, :, :120].all() and not part[0, :, :, 120:].any()
        assert part[0, 0, 44:76, 34:56].min() > 0.99 and part[0, 0, 90:].max() == 0
    unknown = np.full((160, 240, 2), (255, 127), np.uint8)  # white, where nobody says so
    assert not the_prompt(unknown).any()


def test_pixels_as_channels():
    planes = np.random.default_rng(0).random((2, 3, 8, 12), np.float32)
    squares = unshuffle(planes, 4)
    assert np.array_equal(squares, torch.nn.functional.pixel_unshuffle(torch.from_numpy(planes), 4))
    assert np.array_equal(shuffle(squares, 4), planes)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (a_mask(160, 230), "A text_mask of 230x160 pixels does not fit an image of 60x40"),
        (a_mask(60, 40), "A text_mask of 40x60 pixels does not fit"),
        ([a_mask(), a_mask()], "Expected one text_mask for each of 1 images, got 2"),
        (a_mask().astype(np.int32), "Expected a uint8 array"),
    ],
)
def test_masks_that_do_not_fit(pipe, mask, message):
    with pytest.raises(ValueError, match=message) as error:
        pipe(a_photo(), text_mask=mask)
    assert "\n" not in str(error.value)


def test_models_and_images_that_take_no_mask(pipe):
    with pytest.raises(ValueError, match="The model takes no mask prompt: train one with mask_prompt: true"):
        tiny.lean()(a_photo(), text_mask=a_mask())
    with pytest.raises(ValueError, match="text_mask is for opaque images"):
        pipe(torch.cat([a_photo(), tiny.photo(60, 40, seed=1)[:, :1]], 1), text_mask=a_mask())


# ---- what the image makes of it


@pytest.mark.parametrize("options", [{}, TILES, {"scale": 2.5}, {"scale": 8, "tile": 256}])
def test_you_decide_is_no_prompt(pipe, options):
    options = options | {"output_type": "np"}
    unknown = np.zeros((40, 60, 2), np.uint8)
    without = pipe(a_photo(), tile_batch=1, **options)  # a batch is summed in another order
    assert equal(pipe(a_photo(), text_mask=unknown, **options), without)
    prompted = pipe(a_photo(), text_mask=a_mask(), **options)
    assert prompted.images.shape == without.images.shape
    assert not np.allclose(prompted.images, without.images) and not np.allclose(prompted.text_masks, without.text_masks)


def test_the_image_follows_near_the_prompt_alone(pipe):
    """Without normalisation nothing changes further away than the decoder reaches."""
    photo, mask = tiny.photo(80, 20), np.zeros((80, 320, 2), np.uint8)
    mask[20:40, 20:40] = 255
    without, prompted = (pipe(photo, tile=None, output_type="np", text_mask=given) for given in (None, mask))
    changed = (prompted.images != without.images).any((0, 1, 3)).nonzero()[0]
    assert changed.size and changed.max() < 40 + 36  # see tests/models/test_mask_prompt.py


def test_where_a_mask_is_given_nothing_is_softened(pipe):
    sharp, soft = (pipe(a_photo(), text_mask=a_mask(), fidelity=x, output_type="np").images for x in (1, 0))
    np.testing.assert_allclose(soft, sharp, atol=1e-6)
    left = a_mask(channels=2)
    sharp, soft = (pipe(a_photo(), text_mask=left, fidelity=x, output_type="np").images for x in (1, 0))
    np.testing.assert_allclose(soft[:, :, :120], sharp[:, :, :120], atol=1e-6)
    assert not np.allclose(soft[:, :, 120:], sharp[:, :, 120:], atol=1e-3)


def test_one_mask_for_each_image(pipe):
    photos, masks = (
        [tiny.photo(20, 16, seed) for seed in (0, 1, 2)],
        [a_mask(16, 20), a_mask(64, 80, 2), a_mask(64, 80)],
    )
    together = pipe(photos, text_mask=masks, output_type="np")
    for index, (photo, mask) in enumerate(zip(photos, masks, strict=True)):
        alone = pipe(photo, text_mask=mask, output_type="np")
        np.testing.assert_allclose(alone.images[0], together.images[index], atol=1e-5)


def test_saved_and_loaded(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = TADiSRPipeline.from_pretrained(tmp_path)
    one, other = (p(a_photo(), text_mask=a_mask(), output_type="np") for p in (pipe, again))
    np.testing.assert_allclose(one.images, other.images, atol=1e-6)


# ---- only what a correction touches runs again


def test_only_touched_tiles_are_decoded_again(pipe, counted):
    first = pipe(a_photo(), text_mask=a_mask(), **TILES)
    assert counted() == (COUNT, COUNT, COUNT)
    assert equal(pipe(a_photo(), text_mask=a_mask(), **TILES), first) and counted() == (0, 0, 0)
    corrected = a_mask()
    corrected[150:, 230:] = 255  # in the last tile alone
    again = pipe(a_photo(), text_mask=corrected, **TILES)
    assert counted() == (0, 0, 1)
    assert not equal(again, first) and equal(again, afresh(pipe, a_photo(), text_mask=corrected, **TILES))
    counted()
    assert equal(pipe(a_photo(), text_mask=a_mask(), **TILES), first) and counted() == (0, 0, 1)
    pipe(tiny.photo(60, 40, seed=1), text_mask=a_mask(), **TILES)  # another image
    assert counted() == (COUNT, COUNT, COUNT)
    pipe(a_photo(), **TILES)  # without a mask nothing is kept or looked up
    assert counted()[1] > 0


def test_results_that_are_changed_afterwards_stay_as_they_were_kept(pipe, counted):
    """Of one tile, whose result is the image."""
    options = {"text_mask": a_mask(), "color_fix": "adain", "output_type": "np"}
    first = pipe(a_photo(), **options)
    counted()
    assert equal(pipe(a_photo(), **options), first) and counted() == (0, 0, 0)


def test_other_weights_and_settings_are_other_tiles(pipe, counted):
    def run(**options):
        result = pipe(a_photo(), text_mask=a_mask(), output_type="np", **options)
        return result, counted()[2]

    first, ran = run()
    assert ran == 1 and run(scale=2)[1] == 1
    weight = pipe.unet.conv_in.weight
    with torch.no_grad():
        weight.mul_(1.5)
    try:
        changed, ran = run()
    finally:
        with torch.no_grad():
            weight.div_(1.5)
    assert ran == 1 and not equal(first, changed)


def test_memory_is_bounded(pipe, counted, monkeypatch):
    whole = pipe(a_photo(), text_mask=a_mask(), **TILES)
    kept = pipe._tiles._tiles
    assert len(kept) == COUNT
    size = max(tile.size for tile in kept.values())
    monkeypatch.setattr(pipe, "_tiles", TileMemory(2 * size))
    counted()
    for expected in (COUNT, COUNT - 2):  # the first two stay
        assert equal(pipe(a_photo(), text_mask=a_mask(), **TILES), whole)
        assert counted() == (expected,) * 3 and len(pipe._tiles._tiles) == 2
    pipe(tiny.photo(60, 40, seed=1), text_mask=a_mask(), **TILES)  # takes the place of the image before
    counted()
    pipe(tiny.photo(60, 40, seed=1), text_mask=a_mask(), **TILES)
    assert counted() == (COUNT - 2,) * 3
