"""Pages: pasted crops that never overlap, masks and quads that go where the pixels go."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.data_synthesis.judging.kept import Crop
from tadisr.data_synthesis.pages.compose import Materials, compose_page, paste_crops
from tadisr.data_synthesis.recipe import PasteStyle, Recipe
from tadisr.data_synthesis.text.corpus import open_corpus
from tadisr.data_synthesis.text.fonts import Font

BUILT_IN = Font("")


def a_crop(h=20, w=60, name="a"):
    """A bright crop with a black bar, which its mask marks."""
    image, mask = np.full((h, w, 3), 250, np.uint8), np.zeros((h, w), np.uint8)
    image[h // 4 : h // 2, w // 4 : w // 2] = 0
    mask[h // 4 : h // 2, w // 4 : w // 2] = 255
    return Crop(image, mask, [{"text": name, "quad": [[0, 0], [w, 0], [w, h], [0, h]]}], name)


def paste(crops, style=None, size=(160, 200), seed=0):
    image, mask = np.full((*size, 3), 100, np.uint8), np.zeros(size, np.uint8)
    lines, names = paste_crops(image, mask, crops, style or PasteStyle(), np.random.default_rng(seed))
    return image, mask, lines, names


@settings(max_examples=40, deadline=None)
@given(
    sides=st.lists(st.tuples(st.integers(4, 300), st.integers(4, 300)), min_size=1, max_size=5),
    seed=st.integers(0, 2**32 - 1),
)
def test_crops_lie_apart_and_inside(sides, seed):
    crops = [a_crop(h, w, str(i)) for i, (h, w) in enumerate(sides)]
    image, mask, lines, names = paste(crops, seed=seed)
    covered = np.zeros(mask.shape, int)
    for line in lines:
        (left, top), (right, bottom) = np.round(line["quad"][0]).astype(int), np.round(line["quad"][2]).astype(int)
        assert 0 <= left < right <= mask.shape[1] and 0 <= top < bottom <= mask.shape[0]
        covered[top:bottom, left:right] += 1
    assert covered.max(initial=0) <= 1
    assert (image[covered == 0] == 100).all() and not mask[covered == 0].any()
    assert [line["text"] for line in lines] == names


def test_the_mask_goes_with_the_pixels():
    image, mask, lines, _ = paste([a_crop(40, 120)], PasteStyle(long_edge=(0.5, 0.6)))
    assert len(lines) == 1
    assert image[mask == 255].max() < 60
    quad = np.round(lines[0]["quad"]).astype(int)
    inside = image[quad[0][1] : quad[2][1], quad[0][0] : quad[2][0]]
    assert inside[mask[quad[0][1] : quad[2][1], quad[0][0] : quad[2][0]] == 0].mean() > 235


def test_scales_are_the_papers():
    lengths = []
    for seed in range(200):
        _, _, lines, _ = paste([a_crop(10, 100)], PasteStyle(max_enlargement=10), (400, 400), seed)
        lengths.append(np.ptp(lines[0]["quad"][:, 0]) / 400)
    assert min(lengths) >= 0.149 and max(lengths) <= 1
    assert np.mean(lengths) == pytest.approx((0.15 + 1) / 2, abs=0.06)  # uniform
    assert np.std(lengths) == pytest.approx(0.85 / 12**0.5, rel=0.12)


def test_crops_are_not_blown_up():
    _, _, lines, _ = paste([a_crop(5, 10)], PasteStyle(long_edge=(1, 1), max_enlargement=2))
    assert np.ptp(lines[0]["quad"][:, 0]) == 20


def test_a_crop_without_room_is_left_out():
    style = PasteStyle(long_edge=(1, 1), max_enlargement=100, tries=3)
    _, _, lines, names = paste([a_crop(160, 200, "all"), a_crop(name="none")], style)
    assert names == ["all"] and len(lines) == 1


@pytest.mark.parametrize("style", [PasteStyle(feather=4), PasteStyle(poisson=1)])
def test_soft_borders(style):
    style.long_edge = (0.9, 0.9)
    hard, mask, _, _ = paste([a_crop(60, 100)], PasteStyle(long_edge=(0.9, 0.9)), seed=3)
    soft, soft_mask, lines, _ = paste([a_crop(60, 100)], style, seed=3)
    if style.feather:
        assert (mask == soft_mask).all()
    (left, top), (right, bottom) = (
        np.round(corner).astype(int) for corner in (lines[0]["quad"][0], lines[0]["quad"][2])
    )
    step = abs(int(soft[(top + bottom) // 2, left, 0]) - int(soft[(top + bottom) // 2, left - 1, 0]))
    hard_step = 150
    assert step < hard_step / 2
    strokes = soft_mask == 255
    assert (
        soft[strokes].mean() + 60
        < soft[top + 8 : bottom - 8, left + 8 : right - 8][~strokes[top + 8 : bottom - 8, left + 8 : right - 8]].mean()
    )


def photo(rng, size):
    return np.full((size, size, 3), 0.25, np.float32), "photos/gray"


def test_pages_depend_on_their_seed():
    materials = Materials(photo, None, [BUILT_IN], [open_corpus("latin")])
    recipe = Recipe(corpora={"latin": 1})
    first, again, other = (compose_page(recipe, materials, 128, np.random.default_rng(s)) for s in (3, 3, 4))
    assert (first.image == again.image).all() and (first.mask == again.mask).all() and first.lines == again.lines
    assert first.image.shape == (128, 128, 3) and first.image.dtype == np.uint8 and first.mask.dtype == np.uint8
    assert not (first.image == other.image).all()


def test_pasted_and_rendered_pages_and_their_sources():
    recipe = Recipe(crops=[{"kind": "ctr"}], rendered=0, photos=1, corpora={"latin": 1})
    materials = Materials(photo, lambda rng: a_crop(name="ctr/1"), [BUILT_IN], [open_corpus("latin")])
    page = compose_page(recipe, materials, 128, np.random.default_rng(0))
    assert page.sources[0] == "photos/gray" and set(page.sources[1:]) == {"ctr/1"}
    assert {line["text"] for line in page.lines} == {"ctr/1"} and page.mask.any()
    recipe.rendered = 1
    page = compose_page(recipe, materials, 128, np.random.default_rng(0))
    assert "ctr/1" not in page.sources and page.lines and page.mask.any()
