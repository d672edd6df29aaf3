"""Inks: true masks, enough contrast on anything, and what each material looks like."""

from dataclasses import replace
from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.data_synthesis.text import effects
from tadisr.data_synthesis.text.effects import LUMA, VISIBLE, Effects, Ink, Shadow, contrast, paint
from tadisr.data_synthesis.text.fonts import Font
from tadisr.data_synthesis.text.render import Glyphs, draw_block
from tadisr.data_synthesis.text.shapes import Shape

# Libraries that other tests load may have the processor flush subnormal numbers.
reals = partial(st.floats, allow_subnormal=False)

BUILT_IN = Font("")
WORD = draw_block(["Hamburg"], BUILT_IN, 36)
TURNED = draw_block(["Side 12"], BUILT_IN, 22, Shape(angle=15))
SIZE = (110, 230)
AT = (25, 20)


def rng(seed=0):
    return np.random.default_rng(seed)


def surface(kind, seed=0):
    """(110, 230, 3) float32: something to write on."""
    h, w = SIZE
    noise = rng(seed)
    if isinstance(kind, float):
        return np.full((h, w, 3), kind, np.float32)
    if kind == "noise":
        return noise.random((h, w, 3), np.float32)
    if kind == "ramp":
        return np.repeat(np.linspace(0, 1, w, dtype=np.float32)[None, :, None].repeat(h, 0), 3, axis=2)
    if kind == "stripes":
        return np.float32(np.arange(w) // 9 % 2)[None, :, None].repeat(h, 0).repeat(3, 2)
    coarse = noise.random((5, 9, 3), np.float32)  # blotches, as of a photograph out of focus
    return cv2.resize(coarse, (w, h), interpolation=cv2.INTER_CUBIC).clip(0, 1)


SURFACES = st.one_of(reals(0, 1), st.sampled_from(["noise", "ramp", "stripes", "blotches"]))
INKS = st.builds(
    Ink,
    material=st.sampled_from(["paint", "neon", "raised", "engraved"]),
    color=st.none() | st.tuples(*[reals(0, 1)] * 3),
    opacity=reals(0.3, 1),
    outline=st.sampled_from([0.0, 0.0, 0.05]),
    shadow=st.none() | st.builds(Shadow, x=reals(-0.1, 0.1), strength=reals(0, 1)),
    gradient=reals(-1, 1),
    texture=reals(0, 0.3),
    relief=reals(0, 1),
    worn=st.sampled_from([0.0, 0.15]),
    softness=reals(0, 0.8),
    light=reals(-3.1, 3.1),
    min_contrast=reals(0.05, 0.4),
)


def test_one_minus_the_image_is_the_mask_where_black_is_painted_on_white():
    image = np.ones((*SIZE, 3), np.float32)
    mask = paint(image, WORD, Ink(color=(0, 0, 0)), rng(), AT)
    h, w = mask.shape
    area = np.zeros(SIZE, np.float32)
    area[AT[0] : AT[0] + h, AT[1] : AT[1] + w] = mask
    np.testing.assert_allclose(1 - image, np.repeat(area[..., None], 3, axis=2), atol=1e-6)
    np.testing.assert_array_equal(mask, WORD.fill)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    worn=st.sampled_from([0.0, 0.1, 0.3]),
    softness=st.sampled_from([0.0, 0.4, 0.8]),
    opacity=reals(0.4, 1),
    color=st.tuples(*[reals(0, 0.4)] * 3),
    seed=st.integers(0, 99),
)
def test_masks_are_the_coverage_with_which_ink_was_blended(worn, softness, opacity, color, seed):
    image = surface(1.0)
    ink = Ink(color=color, opacity=opacity, worn=worn, softness=softness, min_contrast=0.0)
    mask = paint(image, TURNED, ink, rng(seed))
    assert mask.shape == TURNED.fill.shape and mask.dtype == np.float32
    assert mask.min() >= 0 and mask.max() <= 1
    painted = image[: mask.shape[0], : mask.shape[1]]
    expected = 1 + mask[..., None] * np.float32(opacity) * (np.float32(color) - 1)
    np.testing.assert_allclose(painted, expected, atol=2e-6)
    assert (image[mask.shape[0] :] == 1).all() and (image[:, mask.shape[1] :] == 1).all()
    if not worn:
        assert mask.sum() == pytest.approx(TURNED.fill.sum(), rel=1e-3)
    else:
        assert (
            1 - worn - 0.05 < mask.sum() / TURNED.fill.sum() < 1 - worn / 100
        )  # where wear hits the ground alone, little ink is lost


def steps_to_neighbours(image, mask, at):
    """Luminance steps from the strokes' well covered pixels to the nearest pixels without ink."""
    full = np.zeros(image.shape[:2], np.float32)
    full[at[0] : at[0] + mask.shape[0], at[1] : at[1] + mask.shape[1]] = mask
    luma = image @ LUMA
    bare = full < 0.02
    _, labels = cv2.distanceTransformWithLabels(
        (~bare).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros(labels.max() + 1)
    nearest[labels[bare]] = luma[bare]
    strokes = full >= 0.8 * full.max()
    return np.abs(luma[strokes] - nearest[labels[strokes]])


@settings(deadline=None, derandomize=True, max_examples=250)
@given(ink=INKS, kind=SURFACES, seed=st.integers(0, 999))
def test_every_ink_stands_out_on_every_surface(ink, kind, seed):
    image = surface(kind, seed)
    before = image.copy()
    compared = []

    def note(*arrays):
        compared.append([array.copy() for array in arrays])
        return contrast(*arrays)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(effects, "contrast", note)
        mask = paint(image, WORD, ink, rng(seed), AT)
    assert image.dtype == np.float32 and image.min() >= 0 and image.max() <= 1
    place = np.s_[AT[0] : AT[0] + mask.shape[0], AT[1] : AT[1] + mask.shape[1]]
    # against what the letters stand on, shadow, border and glow included
    beneath, painted, cover = compared[-1]
    assert contrast(beneath, painted, cover) >= ink.min_contrast - 1e-6
    np.testing.assert_array_equal(painted[cover > 0], image[place][mask > 0])
    # and, where there is nothing of that, against what was there
    if isinstance(kind, float) and not ink.outline and not ink.shadow and ink.material != "neon":
        assert contrast(before[place], image[place], mask) >= ink.min_contrast - 1e-5
    if kind != "noise" and not ink.outline and not ink.shadow and ink.material != "engraved":
        steps = steps_to_neighbours(image, mask, AT)
        assert np.mean(steps > 0.7 * ink.min_contrast) > VISIBLE - 0.25


def test_contrast_is_the_step_that_nine_tenths_exceed():
    before = np.full((10, 10, 3), 0.5, np.float32)
    mask = np.zeros((10, 10), np.float32)
    mask[:, :5] = 1
    after = before.copy()
    after[:, :5] = 0.8
    assert contrast(before, after, mask) == pytest.approx(0.3, abs=1e-6)
    after[0, :4] = 0.5  # 4 of 50 pixels are not seen
    assert contrast(before, after, mask) == pytest.approx(0.3, abs=1e-6)
    after[:2, :5] = 0.5  # 10 of 50
    assert contrast(before, after, mask) == pytest.approx(0, abs=1e-6)
    thin = mask * 0.5  # half covered strokes: the step is that of the ink, not of the pixels
    assert contrast(before, before + thin[..., None] * np.float32(0.3), thin) == pytest.approx(0.3, abs=1e-6)


def test_a_wanted_colour_is_kept_where_it_can_be_seen():
    red = (0.8, 0.1, 0.1)
    image = surface(1.0)
    mask = paint(image, WORD, Ink(color=red), rng())
    inked = image[: mask.shape[0], : mask.shape[1]][mask == 1]
    np.testing.assert_allclose(inked, np.broadcast_to(np.float32(red), inked.shape), atol=1e-6)
    hidden = np.full((*SIZE, 3), red, np.float32)
    paint(hidden, WORD, Ink(color=red), rng())
    assert (
        contrast(
            np.full_like(hidden, red)[: mask.shape[0], : mask.shape[1]], hidden[: mask.shape[0], : mask.shape[1]], mask
        )
        >= 0.16
    )


def test_letters_get_a_border_where_no_colour_is_seen_everywhere():
    image = surface("stripes") * np.float32(0.5) + np.float32(0.3)
    mask = paint(image, WORD, Ink(min_contrast=0.4), rng())
    grown = cv2.dilate((mask > 0.05).astype(np.uint8), np.ones((3, 3))) > 0
    around = (image[: mask.shape[0], : mask.shape[1]] @ LUMA)[grown & (mask < 0.01)]
    assert around.std() < 0.1  # no longer stripes of 0.3 and 0.8


def changed(ink, level, seed=0, reach=30):
    """Luminance change by the ink around the word, and the mask, both (H, W)."""
    image = surface(level)
    mask = paint(image, WORD, ink, rng(seed), AT)
    full = np.zeros(SIZE, np.float32)
    full[AT[0] : AT[0] + mask.shape[0], AT[1] : AT[1] + mask.shape[1]] = mask
    return image @ LUMA - np.float32(level), full


def test_shadows_fall_where_they_should_and_are_not_in_the_mask():
    change, mask = changed(Ink(color=(1, 1, 1), shadow=Shadow(0.2, 0.2, 0.01, 0.8)), 0.7)
    shadow = (change < -0.1) & (mask < 0.01)
    ys, xs = np.nonzero(shadow)
    inked = np.nonzero(mask > 0.5)
    assert ys.max() - inked[0].max() == pytest.approx(7, abs=2) and xs.max() - inked[1].max() == pytest.approx(7, abs=2)
    assert mask.sum() == pytest.approx(WORD.fill.sum())
    faint, _ = changed(Ink(color=(1, 1, 1), opacity=0.5, min_contrast=0.1, shadow=Shadow(0.2, 0.2, 0.01, 0.8)), 0.7)
    assert faint[shadow].min() == pytest.approx(change[shadow].min() / 2, rel=0.01)  # light comes through


def test_neon_glows_on_dark_and_is_paint_on_bright():
    change, mask = changed(Ink(material="neon"), 0.1)
    near = cv2.dilate(mask, np.ones((7, 7))) > 0.5
    assert change[mask > 0.9].mean() > 0.4
    assert change[near & (mask < 0.01)].mean() > 0.1 > change[~near].mean() > 0
    change, mask = changed(Ink(material="neon"), 0.9)
    assert np.abs(change[mask == 0]).max() < 1e-6


@pytest.mark.parametrize(("material", "sign"), [("raised", 1), ("engraved", -1)])
def test_light_from_above_shows_whether_letters_are_raised_or_cut(material, sign):
    bar = np.zeros((60, 120), np.float32)
    bar[20:40, 10:110] = 1
    glyphs = Glyphs(bar, [("-", np.float32([[10, 20], [110, 20], [110, 40], [10, 40]]))], 60.0)
    image = surface(0.6)
    paint(image, glyphs, Ink(material=material, color=(0.4, 0.4, 0.4), light=-np.pi / 2, min_contrast=0.05), rng())
    luma = image @ LUMA
    top, middle = luma[20, 60], luma[30, 60]
    assert sign * (top - middle) > 0.02  # the upper edge of raised letters is lit, that of cut ones is in the shade


def test_engraving_darkens_the_material_and_keeps_its_texture():
    image = surface("blotches", 3) * np.float32(0.3) + np.float32(0.6)
    before = image.copy()
    mask = paint(image, WORD, Ink(material="engraved"), rng())
    inside = mask > 0.99
    ratio = (image[: mask.shape[0], : mask.shape[1]] / before[: mask.shape[0], : mask.shape[1]])[inside]
    assert ratio.max() < 0.9 and ratio.std(axis=1).max() < 1e-3  # all channels alike: shade, not paint


def test_gradients_textures_and_relief_vary_the_ink():
    flat = Ink(color=(0.2, 0.3, 0.7))
    spread = {}
    for name, ink in {
        "flat": flat,
        "gradient": replace(flat, gradient=0.6),
        "texture": replace(flat, texture=0.15),
    }.items():
        change, mask = changed(ink, 1.0)
        spread[name] = change[mask == 1].std()
        rows = [change[y][mask[y] == 1].mean() for y in (38, 55)]
        if name == "gradient":
            assert rows[1] - rows[0] > 0.1  # lighter below
    assert spread["flat"] < 1e-6 and spread["gradient"] > 0.05 and spread["texture"] > 0.02
    image = surface(0.9)
    image[::4] *= np.float32(0.8)  # a surface with grooves
    mask = paint(image, WORD, replace(flat, relief=1.0), rng())
    inked = (image[: mask.shape[0], : mask.shape[1]] @ LUMA)[mask > 0.99]
    assert inked.std() > 0.02


def test_painting_follows_the_generator_alone_and_reaches_no_further_than_it_says():
    for seed in range(12):
        ink = Effects(neon=0.2, raised=0.2, engraved=0.2, worn=0.5, outline=0.5).draw(rng(seed))
        assert ink == Effects(neon=0.2, raised=0.2, engraved=0.2, worn=0.5, outline=0.5).draw(rng(seed))
        one, two, crop = (surface(0.2, seed) for _ in range(3))
        masks = [paint(image, WORD, ink, rng(seed), AT) for image in (one, two)]
        assert (one == two).all() and (masks[0] == masks[1]).all()


def test_effects_come_as_often_as_asked():
    inks = [Effects().draw(rng(seed)) for seed in range(3000)]

    def share(test):
        return sum(map(test, inks)) / len(inks)

    assert share(lambda i: i.material == "neon") == pytest.approx(0.05, abs=0.015)
    assert share(lambda i: i.material == "raised") == pytest.approx(0.06, abs=0.015)
    assert share(lambda i: i.material == "engraved") == pytest.approx(0.05, abs=0.015)
    assert share(lambda i: i.opacity < 1) == pytest.approx(0.15 * 0.84, abs=0.02)
    assert share(lambda i: i.softness > 0) == pytest.approx(0.6, abs=0.03)
    plain = Effects(0, 0, 0, outline=0, shadow=0, gradient=0, texture=0, relief=0, transparent=0, worn=0, soft=0)
    assert all(replace(plain.draw(rng(seed)), light=-2.2) == Ink() for seed in range(20))


def test_text_must_fit_and_have_ink():
    image = surface(0.5)
    for at in ((-1, 0), (0, -1), (90, 0), (0, 200)):
        with pytest.raises(ValueError, match="do not fit into an image"):
            paint(image, WORD, Ink(), rng(), at)
    with pytest.raises(ValueError, match="no ink in these glyphs"):
        paint(image, Glyphs(np.zeros((9, 9), np.float32), []), Ink(), rng())
    assert (image == np.float32(0.5)).all()
    for value in (-0.1, 0.5):
        with pytest.raises(ValueError, match="min_contrast lies between 0 and 0.4"):
            Ink(min_contrast=value)
