"""Windows and blending."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.tiling import (
    TilePlan,
    auto_tile,
    blend_weights,
    group_by_size,
    regions_around,
    run_tiled,
    tile_grid,
    windows,
)

SIDES = st.integers(1, 60)
TILES = st.integers(1, 40).flatmap(lambda tile: st.tuples(st.just(tile), st.integers(0, tile - 1)))


def enlarge(image, scale):
    return image.repeat(scale, -1).repeat(scale, -2)


@settings(deadline=None, max_examples=100)
@given(length=st.integers(1, 3000), tile=TILES)
def test_windows_cover_everything_and_never_shrink(length, tile):
    tile, overlap = tile
    spans = windows(length, tile, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == length
    assert {stop - start for start, stop in spans} == {min(tile, length)}
    for (start, stop), (after, _) in zip(spans, spans[1:], strict=False):
        assert start < after <= stop - overlap
    assert len(spans) == len(set(spans)) == max(1, -(-(length - overlap) // (tile - overlap)) if length > tile else 1)


@settings(deadline=None, max_examples=25)
@given(height=SIDES, width=SIDES, tile=TILES, scale=st.integers(1, 3))
def test_the_identity_reproduces_the_image(height, width, tile, scale):
    image = np.random.default_rng(0).random((1, 2, height, width), np.float32)
    shapes = set()

    def function(part):
        shapes.add(tuple(part.shape))
        return enlarge(part, scale), enlarge(part[:, :1] * -3, scale)

    one, other = run_tiled(function, image, *tile, scale)
    assert shapes == {(1, 2, min(tile[0], height), min(tile[0], width))}
    np.testing.assert_allclose(one, enlarge(image, scale), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(other, enlarge(image[:, :1] * -3, scale), atol=1e-5, rtol=1e-5)


@settings(deadline=None, max_examples=15)
@given(height=SIDES, width=SIDES, tile=TILES, batch=st.integers(2, 9))
def test_tiles_in_batches_are_the_same(height, width, tile, batch):
    image = np.random.default_rng(0).random((1, 2, height, width), np.float32)
    sizes = []

    def function(part):
        sizes.append(len(part))
        return part.cumsum(-1), part[:, :1]  # not the same wherever a tile begins

    one_by_one = run_tiled(function, image, *tile, 1)
    count = len(sizes)
    assert set(sizes) == {1}
    sizes.clear()
    for one, other in zip(one_by_one, run_tiled(function, image, *tile, 1, batch=batch), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, rtol=1e-5)
    assert sum(sizes) == count and max(sizes) == min(batch, count) and set(sizes[:-1]) <= {batch}
    pair = run_tiled(function, np.concatenate([image[..., ::-1], image]), *tile, 1, batch=batch)
    for one, both in zip(one_by_one, pair, strict=True):
        np.testing.assert_allclose(one, both[1:], atol=1e-5, rtol=1e-5)


def test_plans():
    """What is asked for stays; what is automatic is as much as fits, and as is faster."""
    for tile, batch, whole, fits, expected in (
        ("auto", None, 4000, 768, (768, 1)),
        ("auto", None, 300, 768, (300, 1)),
        (None, None, 4000, 768, (4000, 1)),
        (256, None, 4000, 768, (256, 4)),
        (256, None, 4000, 256, (256, 1)),
        (256, 3, 4000, 256, (256, 3)),
        (1024, None, 4000, 256, (1024, 1)),
    ):
        plan = TilePlan(tile, batch, whole, fits)
        assert (plan.side, plan.batch) == expected


@settings(deadline=None, max_examples=15)
@given(height=SIDES, width=SIDES, tile=TILES, scale=st.integers(1, 3))
def test_a_constant_stays_constant(height, width, tile, scale):
    image = np.full((1, 1, height, width), 0.7, np.float32)
    (result,) = run_tiled(lambda part: (enlarge(part, scale),), image, *tile, scale)
    assert result.shape == (1, 1, height * scale, width * scale)
    assert abs(result - 0.7).max() < 5e-6


@pytest.mark.parametrize("size", [(200, 900), (900, 200), (383, 385), (1, 1000)])
def test_a_side_shorter_than_the_tile(size):
    """The official code divides zero by zero here."""
    image = np.random.default_rng(0).random((1, 1, *size), np.float32)
    (result,) = run_tiled(lambda part: (part,), image, 384, 64, 1)
    np.testing.assert_allclose(result, image, atol=1e-5, rtol=1e-5)


def test_seams_are_ramps():
    """Tiles that disagree: the result goes from one to the other over the overlap, without a step."""
    values, image = iter([0.0, 1.0]), np.zeros((1, 1, 4, 40), np.float32)
    (result,) = run_tiled(lambda part: (np.full_like(part, next(values)),), image, 30, 20, 1)
    row = result[0, 0, 2]
    assert abs(row[:10]).max() == 0 and abs(row[30:] - 1).max() < 1e-6
    steps = np.diff(row)
    assert steps.min() >= 0 and steps.max() < 0.1


def test_one_tile_is_untouched():
    image = np.random.default_rng(0).random((1, 3, 5, 7), np.float32)
    results = run_tiled(lambda part: (part.astype(np.float64),), image, 8, 3, 1)
    assert np.array_equal(results[0], image) and results[0].dtype == np.float32


def test_weights_at_the_borders_are_one():
    assert np.array_equal(blend_weights((0, 5), 5, 2), np.ones(5))
    inner = blend_weights((3, 8), 12, 2)
    assert inner[2] == 1 and (inner > 0).all() and inner[0] < inner[1] < 1 and np.array_equal(inner, inner[::-1])
    np.testing.assert_allclose(
        blend_weights((0, 5), 8, 2)[-2:] + blend_weights((3, 8), 8, 2)[:2], np.ones(2), rtol=1e-6
    )


def test_grid_goes_row_by_row():
    assert tile_grid(3, 5, 3, 0) == [((0, 3), (0, 3)), ((0, 3), (2, 5))]


@pytest.mark.parametrize("overlap", [-1, 4, 9])
def test_impossible_overlap(overlap):
    with pytest.raises(ValueError, match="overlap must be"):
        windows(10, 4, overlap)


def test_auto_tile_is_bounded_and_shrinks_with_width():
    sides = [auto_tile(16 << 30, 4, widest) for widest in (8, 512, 2**16, 2**30)]
    assert sides == sorted(sides, reverse=True) and sides[-1] == 256
    assert all(256 <= side <= 1024 and side % 64 == 0 for side in sides)


def test_neighbours_of_one_size_go_together():
    images = [np.zeros((1, 3, height, 16)) for height in (16, 16, 16, 8, 16, 600)]
    assert [len(group) for group in group_by_size(images, 4, 1024)] == [3, 1, 1, 1]
    assert [len(group) for group in group_by_size(images, 4, 96)] == [2, 1, 1, 1, 1]


def test_regions_do_not_meet_and_hold_all():
    rng = np.random.default_rng(0)
    quads = [np.array([[0, 0], [w, 0], [w, h], [0, h]]) + rng.integers(-10, 300, 2)
             for w, h in rng.integers(1, 60, (40, 2))]  # fmt: skip
    regions = regions_around(quads, 200, 280, 5)
    covered = np.zeros((200, 280), int)
    for rows, columns in regions:
        covered[slice(*rows), slice(*columns)] += 1
    assert covered.max() == 1 and regions == sorted(regions)
    for quad in quads:
        (left, top), (right, bottom) = quad.min(0), quad.max(0)
        part = covered[max(0, top - 5) : max(0, bottom + 5), max(0, left - 5) : max(0, right + 5)]
        assert part.all()
    assert regions_around([], 10, 10, 3) == []
    assert regions_around([np.array([[20, 20], [30, 30]])], 10, 10, 3) == []
