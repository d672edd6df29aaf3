"""Rendered text, its masks, and what degradation does to it."""

import numpy as np
import pytest
from tadisr.data_synthesis.compose import PageStyle, compose_page
from tadisr.data_synthesis.corpus import common_hanzi, random_text
from tadisr.data_synthesis.degrade import Degradation, degrade, gaussian_kernel
from tadisr.data_synthesis.fonts import Font, discover_fonts
from tadisr.data_synthesis.render import draw_text, stack_lines, warp

BUILT_IN = Font("")


def rng(seed=0):
    return np.random.default_rng(seed)


def test_masks_are_the_ink_and_quads_hold_it():
    glyphs = draw_text("Hamburg 12", BUILT_IN, 40)
    text, quad = glyphs.lines[0]
    assert text == "Hamburg 12"
    ys, xs = np.nonzero(glyphs.fill > 0.1)
    assert (xs.min(), ys.min()) == tuple(quad[0].astype(int))
    assert (xs.max() + 1, ys.max() + 1) == tuple(quad[2].astype(int))
    assert 0 < np.mean((glyphs.fill > 0) & (glyphs.fill < 1)) < 0.2  # anti-aliased


def test_outline_surrounds_the_fill():
    glyphs = draw_text("Og", BUILT_IN, 40, outline_width=3)
    assert (glyphs.outline >= glyphs.fill - 1e-6).all()
    assert glyphs.outline.sum() > 1.2 * glyphs.fill.sum()


def test_vertical_lines_stack_and_blocks_keep_every_line():
    line = draw_text("ABC", BUILT_IN, 30, vertical=True)
    assert line.fill.shape[0] > 2 * line.fill.shape[1]
    block = stack_lines([draw_text(word, BUILT_IN, 24) for word in ("one", "three", "i")], 1.3, 0.5)
    assert [text for text, _ in block.lines] == ["one", "three", "i"]
    for _, quad in block.lines:
        (left, top), (right, bottom) = quad[0].astype(int), quad[2].astype(int)
        assert block.fill[top:bottom, left:right].max() > 0.9


def test_warp_moves_quads_with_the_ink():
    warped = warp(draw_text("Side", BUILT_IN, 40), 30, 0.1, rng())
    ys, xs = np.nonzero(warped.fill > 0.2)
    (left, top), (right, bottom) = warped.lines[0][1].min(0), warped.lines[0][1].max(0)
    assert left - 1 <= xs.min() and xs.max() <= right + 1 and top - 1 <= ys.min() and ys.max() <= bottom + 1


def test_no_character_without_a_glyph():
    fonts = discover_fonts()
    assert fonts
    assert not BUILT_IN.covers("汉")
    for font in fonts[:20]:
        assert not font.starts or not font.covers("\U0010fffd")
    assert len(common_hanzi()) == 3755
    for script in ("latin", "chinese", "kana"):
        assert all(random_text(rng(seed), script) for seed in range(50))


def test_pages_depend_on_their_seed_and_masks_on_their_lines():
    style = PageStyle(size=128, chinese=0, kana=0, font_size=(16, 24))
    first, again, other = (compose_page(style, [BUILT_IN], [], rng(seed)) for seed in (3, 3, 4))
    assert (first.image == again.image).all() and first.lines == again.lines
    assert not (first.image == other.image).all()
    covered = np.zeros((128, 128), bool)
    for line in first.lines:
        (left, top), (right, bottom) = np.min(line["quad"], 0) - 2, np.max(line["quad"], 0) + 2
        covered[max(int(top), 0) : int(bottom) + 1, max(int(left), 0) : int(right) + 1] = True
    assert first.lines and first.mask.any()
    assert not first.mask[~covered].any()


def test_text_stands_out_from_its_background():
    style = PageStyle(size=128, chinese=0, kana=0, font_size=(20, 24), photo=0, panel=0, shadow=0, outline=0)
    for seed in range(8):
        page = compose_page(style, [BUILT_IN], [], rng(seed))
        luma = page.image.astype(float) @ [0.299, 0.587, 0.114]
        inside, outside = luma[page.mask > 250], luma[page.mask == 0]
        if len(inside):
            assert abs(inside.mean() - outside.mean()) > 5


@pytest.mark.parametrize("scale", [2, 4])
def test_degradation_shrinks_without_moving(scale):
    image = np.zeros((64, 96, 3), np.uint8)
    image[24:40, 40:56] = 255  # centred on (32, 48)
    d = Degradation(scale=scale, noise_sigma=(0, 0), jpeg=0, blur_kinds=0, second_order=0)
    for seed in range(6):
        lr = degrade(image, d, rng(seed))
        assert lr.shape == (64 // scale, 96 // scale, 3) and lr.dtype == np.uint8
        weight = lr[..., 0].astype(float)
        centre = [
            (np.arange(n) + 0.5) @ weight.sum(axis) / weight.sum() for axis, n in ((1, lr.shape[0]), (0, lr.shape[1]))
        ]
        np.testing.assert_allclose(centre, [32 / scale, 48 / scale], atol=0.1)


def test_degradation_is_drawn_from_the_seed():
    page = compose_page(PageStyle(size=64, chinese=0, kana=0), [BUILT_IN], [], rng())
    same = [degrade(page.image, Degradation(), rng(5)) for _ in range(2)]
    assert (same[0] == same[1]).all()
    assert not (same[0] == degrade(page.image, Degradation(), rng(6))).all()
    with pytest.raises(ValueError, match="divisible by 4"):
        degrade(page.image[:63], Degradation(), rng())


def test_kernels_keep_brightness_and_turn():
    kernel = gaussian_kernel(2.0, 0.6, 0.0)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    turned = gaussian_kernel(2.0, 0.6, np.pi / 2)
    np.testing.assert_allclose(kernel.T, turned, atol=1e-6)
