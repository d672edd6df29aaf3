"""Drawn text: exact coverage, boxes that hold the ink, every shape."""

from functools import lru_cache, partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_fonts import write_font
from tadisr.data_synthesis.text.fonts import Font
from tadisr.data_synthesis.text.render import INK, PAD, SMALLEST, draw_block, grow
from tadisr.data_synthesis.text.shapes import Shape, Shapes

# Libraries that other tests load may have the processor flush subnormal numbers.
reals = partial(st.floats, allow_subnormal=False)

BUILT_IN = Font("")


@pytest.fixture(scope="module")
def han(tmp_path_factory):
    """A face with hanzi, their punctuation and two letters."""
    from tadisr.data_synthesis.text.fonts import discover_fonts

    folder = tmp_path_factory.mktemp("fonts")
    write_font(folder / "han.ttf", "汉字，。（）AB", family="Han")
    return discover_fonts([folder])[0]


def outside(glyphs, tolerance):
    """Inked pixels further than `tolerance` pixels from every line's quad."""
    ys, xs = np.nonzero(glyphs.fill > INK)
    return [
        (x, y)
        for x, y in zip(xs + 0.5, ys + 0.5, strict=True)
        if all(
            cv2.pointPolygonTest(np.float32(quad), (float(x), float(y)), True) < -tolerance for _, quad in glyphs.lines
        )
    ]


@lru_cache(maxsize=8)
def reference(text, size, fine=16):
    """Coverage of a line drawn `fine` times as large and averaged."""
    from PIL import Image, ImageDraw

    face = BUILT_IN.load(size * fine)
    image = Image.new("L", (fine * 40 * len(text), fine * 4 * size))
    ImageDraw.Draw(image).text((fine * 10, fine * 2 * size), text, fill=255, font=face, anchor="ls")
    return np.asarray(image, np.float64) / 255


@pytest.mark.parametrize("size", [10, 16, 28])
def test_coverage_is_the_area_that_the_strokes_take_up(size):
    fine = 16
    exact = reference("Rag&5", size)
    fill = draw_block(["Rag&5"], BUILT_IN, size).fill
    assert fill.dtype == np.float32 and fill.min() == 0 and fill.max() <= 1
    assert fill.sum() == pytest.approx(exact.sum() / fine**2, rel=0.02)
    # pixel by pixel, wherever the line was placed within a pixel (without supersampling, hinting moves edges: 0.6)
    ys, xs = np.nonzero(exact)
    best = np.inf
    for dy in range(0, fine, 4):
        for dx in range(0, fine, 4):
            moved = exact[ys.min() - dy - PAD * fine :, xs.min() - dx - PAD * fine :]
            moved = moved[: fill.shape[0] * fine, : fill.shape[1] * fine]
            small = moved.reshape(fill.shape[0], fine, fill.shape[1], fine).mean(axis=(1, 3))
            best = min(best, np.abs(small - fill).mean() / fill.mean())
    assert best < 0.3


@settings(deadline=None, derandomize=True, max_examples=60)
@given(
    text=st.sampled_from(["Hamburg 12", "i", "Quay, St.", "WAVE"]),
    size=reals(12, 70),
    shape=st.builds(
        Shape,
        direction=st.sampled_from(["horizontal", "stacked", "sideways"]),
        spacing=st.sampled_from([0.0, 0.3, -0.03]),
        align=st.sampled_from([0.0, 0.5, 1.0]),
        leading=reals(0.9, 2),
        arc=st.sampled_from([0.0, 40.0, 180.0, -90.0]),
        wave=st.sampled_from([0.0, 0.3]),
        angle=reals(-180, 180),
        pitch=reals(-60, 60),
        yaw=reals(-60, 60),
    ),
    lines=st.integers(1, 3),
)
def test_quads_hold_the_ink_of_every_shape(text, size, shape, lines):
    texts = [text, "next line", "3rd"][:lines]
    glyphs = draw_block(texts, BUILT_IN, size, shape)
    assert [line for line, _ in glyphs.lines] == texts
    assert not outside(glyphs, 1.0)
    edge = np.concatenate([glyphs.fill[: PAD - 1].ravel(), glyphs.fill[:, : PAD - 1].ravel()])
    assert not edge.any() and not glyphs.fill[-1].any() and not glyphs.fill[:, -1].any()
    for _, quad in glyphs.lines:
        assert quad.shape == (4, 2) and quad.dtype == np.float32
        assert cv2.isContourConvex(quad)
        assert cv2.contourArea(quad, oriented=True) > 0  # clockwise, y downwards
        inked = np.zeros(glyphs.fill.shape, np.uint8)
        cv2.fillConvexPoly(inked, np.round(quad).astype(np.int32), 1)
        assert glyphs.fill[inked > 0].max() > 0.2


def test_straight_quads_are_tight_and_whole():
    glyphs = draw_block(["Hamburg 12", "gy"], BUILT_IN, 40, Shape(leading=2, align=1))
    for (_, quad), rows in zip(glyphs.lines, (slice(0, 50), slice(60, None)), strict=True):
        ys, xs = np.nonzero(glyphs.fill[rows] > INK)
        top = rows.start
        assert quad.tolist() == [
            [xs.min(), ys.min() + top],
            [xs.max() + 1, ys.min() + top],
            [xs.max() + 1, ys.max() + 1 + top],
            [xs.min(), ys.max() + 1 + top],
        ]


def test_lines_stand_on_their_baselines():
    low, high = (draw_block([text, "x"], BUILT_IN, 50, Shape(leading=1.5)) for text in ("xxx", "xgx"))
    tops = [glyphs.lines[1][1][0, 1] - glyphs.lines[0][1][0, 1] for glyphs in (low, high)]
    assert tops[0] == pytest.approx(75, abs=1) and tops[1] == pytest.approx(75, abs=1)


def test_alignment_and_spacing():
    for align, corner in ((0.0, 0), (1.0, 1)):
        glyphs = draw_block(["HHHHHH", "H"], BUILT_IN, 30, Shape(align=align))
        sides = [quad[corner, 0] for _, quad in glyphs.lines]
        assert abs(sides[0] - sides[1]) <= 1
    glyphs = draw_block(["HHHHHH", "HH"], BUILT_IN, 30, Shape(align=0.5))
    assert abs(glyphs.lines[0][1][:, 0].mean() - glyphs.lines[1][1][:, 0].mean()) <= 1
    narrow, wide = (draw_block(["HHHH"], BUILT_IN, 40, Shape(spacing=s)).lines[0][1] for s in (0.0, 0.25))
    assert np.ptp(wide[:, 0]) - np.ptp(narrow[:, 0]) == pytest.approx(30, abs=2)


def test_columns_run_from_right_to_left_and_turn_words_and_punctuation(han):
    stacked = draw_block(["汉字", "字"], han, 40, Shape(direction="stacked", leading=1.5))
    first, second = (quad for _, quad in stacked.lines)
    assert np.ptp(first[:, 1]) > 1.8 * np.ptp(first[:, 0])
    assert first[0, 0] - second[0, 0] == pytest.approx(60, abs=3)
    # a word of Latin letters lies on its side, as if drawn by itself and turned
    plain = draw_block(["AB"], BUILT_IN, 96).fill
    turned = draw_block(["AB"], BUILT_IN, 96, Shape(direction="sideways"))
    np.testing.assert_allclose(turned.fill, np.rot90(plain, -1), atol=1e-6)
    quad = turned.lines[0][1]
    assert quad[0, 0] > quad[3, 0] and quad[1, 1] > quad[0, 1]  # begins at the top right, runs down
    # brackets lie across the column, the full stop stands in its upper right
    bracket, flat = (
        draw_block(["（"], han, 96, Shape(direction=direction)).fill for direction in ("stacked", "horizontal")
    )
    np.testing.assert_allclose(bracket, np.rot90(flat, -1), atol=1e-6)
    cell, stop = (draw_block([text], han, 48, Shape(direction="stacked")).lines[0][1] for text in ("汉汉", "汉。"))
    assert np.ptp(stop[:, 0]) - np.ptp(cell[:, 0]) == pytest.approx(0.58 * 48, abs=2)
    mixed = draw_block(["汉AB字"], han, 40, Shape(direction="sideways"))
    assert np.ptp(mixed.lines[0][1][:, 1]) > 3.5 * 40


def test_arcs_turn_up_and_down():
    up, down = (draw_block(["MMMMMMMMMM"], BUILT_IN, 30, Shape(arc=arc)).fill for arc in (120, -120))
    middle = up.shape[1] // 2
    assert np.argmax(up[:, middle - 5 : middle + 5].sum(1) > 0) < 10 < np.argmax(up[:, 5:20].sum(1) > 0)
    assert down.shape == pytest.approx(up.shape, abs=3)
    assert np.argmax(down[::-1, middle - 5 : middle + 5].sum(1) > 0) < 10 < np.argmax(down[::-1, 5:20].sum(1) > 0)
    for arc in (90, -60):  # in the middle of its quad, to a small part of a pixel
        bent = draw_block(["HHHHHH"], BUILT_IN, 30, Shape(arc=arc))
        centre = (bent.fill.sum(axis=0) * (np.arange(bent.fill.shape[1]) + 0.5)).sum() / bent.fill.sum()
        assert centre == pytest.approx(bent.lines[0][1][:, 0].mean(), abs=0.05)
    straight = draw_block(["MMMMMMMMMM"], BUILT_IN, 30).fill
    assert up.sum() == pytest.approx(straight.sum(), rel=0.05)  # bending does not fatten the strokes


def test_turning_keeps_strokes_and_perspective_shrinks_the_far_side():
    straight = draw_block(["Side"], BUILT_IN, 40)
    turned = draw_block(["Side"], BUILT_IN, 40, Shape(angle=30))
    assert turned.fill.sum() == pytest.approx(straight.fill.sum(), rel=0.03)
    quad = turned.lines[0][1]
    assert np.degrees(np.arctan2(*(quad[0] - quad[1])[::-1] * [1, -1])) == pytest.approx(30, abs=1)
    # to a small part of a pixel: the ink's centre, seen from the quad's, turns with it
    offsets = []
    for angle in (0, 90):
        glyphs = draw_block(["Side"], BUILT_IN, 40, Shape(angle=angle, pitch=1e-6))
        ys, xs = np.indices(glyphs.fill.shape) + 0.5
        centre = [(xs * glyphs.fill).sum() / glyphs.fill.sum(), (ys * glyphs.fill).sum() / glyphs.fill.sum()]
        offsets.append(centre - glyphs.lines[0][1].mean(axis=0))
    np.testing.assert_allclose(offsets[1], [offsets[0][1], -offsets[0][0]], atol=0.04)
    far = draw_block(["SideSide"], BUILT_IN, 40, Shape(yaw=50)).lines[0][1]
    left, right = np.linalg.norm(far[0] - far[3]), np.linalg.norm(far[1] - far[2])
    assert max(left, right) > 1.15 * min(left, right)


def test_joined_scripts_are_not_taken_apart(tmp_path):
    from tadisr.data_synthesis.text.fonts import discover_fonts

    write_font(tmp_path / "a.ttf", "بتن", family="Arabic")
    font = discover_fonts([tmp_path])[0]
    plain, spaced = (draw_block(["بتن"], font, 96, Shape(spacing=s)).fill for s in (0.0, 0.5))
    np.testing.assert_array_equal(plain, spaced)
    column = draw_block(["بتن"], font, 96, Shape(direction="stacked")).fill
    np.testing.assert_allclose(column, np.rot90(plain, -1), atol=1e-6)


def test_growing_adds_a_border_of_the_wanted_width():
    square = np.zeros((40, 40), np.float32)
    square[10:30, 10:30] = 1
    for radius in (1.0, 2.5, 4.0):
        grown = grow(square, radius)
        assert grown[20].sum() == pytest.approx(20 + 2 * radius, abs=0.3)
        assert (grown >= square).all() and grown.max() == 1
        assert grown.sum() == pytest.approx(400 + 80 * radius + np.pi * radius**2, rel=0.03)  # round corners


def test_random_shapes_come_as_often_as_asked_and_from_the_generator():
    shapes = [Shapes().draw(np.random.default_rng(seed)) for seed in range(2000)]
    assert shapes[7] == Shapes().draw(np.random.default_rng(7)) and shapes[7] != shapes[8]

    def share(test):
        return sum(map(test, shapes)) / len(shapes)

    assert share(lambda s: s.direction == "stacked") == pytest.approx(0.04, abs=0.015)
    assert share(lambda s: s.arc != 0) == pytest.approx(0.08, abs=0.02)
    assert share(lambda s: s.angle != 0) == pytest.approx(0.25, abs=0.03)
    assert share(lambda s: s.pitch != 0 and s.yaw != 0) == pytest.approx(0.3, abs=0.03)
    nothing = Shapes(0, 0, spaced=0, curved=0, waved=0, rotated=0, perspective=0)
    assert all(
        Shape(leading=s.leading, align=s.align) == s for s in (nothing.draw(np.random.default_rng(i)) for i in range(9))
    )


def test_drawing_needs_text_glyphs_and_room(han):
    for texts in ([], [""], ["a", "  "]):
        with pytest.raises(ValueError, match="Expected lines of text, got"):
            draw_block(texts, BUILT_IN, 20)
    with pytest.raises(ValueError, match=r"built-in face does not draw '\\ue123汉'"):
        draw_block(["ok \ue123汉"], BUILT_IN, 20)
    with pytest.raises(ValueError, match=r"han\.ttf does not draw 'z'"):
        draw_block(["Az"], han, 20)
    with pytest.raises(ValueError, match="at least 4 pixels per em, not 3"):
        draw_block(["a"], BUILT_IN, 3)
    assert SMALLEST["latin"] < SMALLEST["chinese"]
