"""Lines of a photo: cut out upright, blended back, nothing else touched."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from helpers.signs import quick_engine, sign
from tadisr.models.textdiff.photo import MARGIN, find_boxes, plan_cut, read_boxes, refine_lines

RECTANGLE = np.float32([[30, 20], [110, 20], [110, 40], [30, 40]])
TURNED = np.float32([[40.3, 15.2], [112.8, 35.9], [107.1, 55.4], [34.6, 34.7]])
SLANTED = np.float32([[20, 30], [120, 22], [118, 60], [24, 50]])
VERTICAL = np.float32([[60, 5], [80, 5], [80, 75], [60, 75]])
QUADS = [RECTANGLE, TURNED, SLANTED, VERTICAL]


def noise(height=80, width=140, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height=80, width=140):
    return cv2.GaussianBlur(noise(height, width), (0, 0), 3)


def same(lines):
    return [line.copy() for line in lines]


def brighter(lines):
    return [line + 0.1 for line in lines]


def outside(quad, shape, margin):
    """Pixels farther than `margin` from a quad."""
    inside = cv2.fillConvexPoly(np.zeros(shape, np.uint8), np.rint(quad).astype(np.int32), 1)
    return cv2.distanceTransform(1 - inside, cv2.DIST_L2, 5) > margin


# ---- geometry


def test_nothing_changes_where_nothing_is_refined():
    photo = noise()
    for quads in ([], [RECTANGLE], QUADS):
        result = refine_lines(photo, quads, same)
        assert np.array_equal(result, photo) and result is not photo


@pytest.mark.parametrize("quad", QUADS)
def test_a_change_is_full_in_the_box_and_fades_outside(quad):
    photo = np.full((80, 140, 3), 100, np.uint8)
    result = refine_lines(photo, [quad], brighter).astype(int)
    inside = cv2.fillConvexPoly(np.zeros((80, 140), np.uint8), np.rint(quad).astype(np.int32), 1)
    core = cv2.erode(inside, np.ones((5, 5)), borderValue=0) > 0
    assert core.any() and np.abs(result[core] - 126).max() <= 1  # 100 + 25.5, rounded
    away = outside(quad, (80, 140), 2 * MARGIN * 40 + 3)
    assert np.array_equal(result[away], photo[away]) and away.sum() > 2000
    assert result.min() >= 100 and result.max() <= 126, "cubic interpolation must not ring at the feather"


def test_lines_come_upright_and_whole():
    """A picture drawn into each quad by its own homography comes out as it was."""
    picture = cv2.resize(smooth(20, 80)[..., ::-1], (80, 20))
    picture[:, :40] //= 3  # left and right differ
    for quad in QUADS[:3]:
        corners = np.float32([[0, 0], [80, 0], [80, 20], [0, 20]])
        matrix = cv2.getPerspectiveTransform(corners, quad)
        photo = cv2.warpPerspective(picture, matrix, (140, 80), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        lines = []
        refine_lines(photo, [quad], lambda given, lines=lines: lines.extend(given) or given)
        margin = plan_cut(quad).margin
        (line,) = lines
        assert line.dtype == np.float32 and line.min() >= 0 and line.max() <= 1
        core = cv2.resize(line[margin:-margin, margin:-margin], (80, 20)) * 255
        assert np.abs(core - picture)[2:-2, 2:-2].mean() < 4


def test_whole_numbered_boxes_keep_their_pixels():
    photo = noise()
    lines = []
    refine_lines(photo, [RECTANGLE, VERTICAL], lambda given: lines.extend(given) or given)
    margin = plan_cut(RECTANGLE).margin
    assert margin == 3
    assert np.array_equal(np.rint(lines[0] * 255), photo[20 - 3 : 40 + 3, 30 - 3 : 110 + 3])
    assert lines[1].shape == (76, 26, 3), "vertical lines come as tall ones"
    target = noise(seed=1)[17:43, 27:113] / np.float32(255)
    result = refine_lines(photo, [RECTANGLE], lambda given: [target])
    assert np.array_equal(result[20:40, 30:110], np.rint(target * 255)[3:-3, 3:-3]), "and so does what is put back"


def test_overlapping_boxes_are_averaged():
    photo = np.full((80, 140, 3), 100, np.uint8)
    shifted = RECTANGLE + np.float32([40, 0])
    twice = refine_lines(photo, [RECTANGLE, RECTANGLE], brighter)
    assert np.array_equal(twice[22:38, 32:108], refine_lines(photo, [RECTANGLE], brighter)[22:38, 32:108])
    changes = iter([0.2, 0.0])
    mixed = refine_lines(photo, [RECTANGLE, shifted], lambda lines: [line + next(changes) for line in lines])
    assert set(mixed[25:35, 40:60].ravel()) == {151} and set(mixed[25:35, 80:100].ravel()) == {126}
    assert set(mixed[25:35, 115:145].ravel()) == {100}
    in_order = refine_lines(photo, [shifted, RECTANGLE], lambda lines: [lines[0], lines[1] + 0.2])
    assert np.array_equal(in_order, mixed), "whatever their order"


def test_values_stay_in_range():
    photo = noise()
    result = refine_lines(photo, [RECTANGLE], lambda lines: [np.ones_like(lines[0])])
    assert result[20:40, 30:110].min() == 255
    result = refine_lines(photo, [RECTANGLE], lambda lines: [line - 2 for line in lines])
    assert result[20:40, 30:110].max() == 0


def test_boxes_may_reach_beyond_the_photo():
    photo = np.full((50, 60, 3), 100, np.uint8)
    quad = np.float32([[-20, -5], [40, -5], [40, 15], [-20, 15]])
    result = refine_lines(photo, [quad], brighter)
    assert (result[:14, :39] == 126).all() and (result[20:] == 100).all()


points = st.tuples(st.integers(-40, 180), st.integers(-40, 120))


@settings(max_examples=60, deadline=None)
@given(st.lists(points, min_size=4, max_size=4))
def test_any_quad_is_refined_or_refused(corners):
    quad = np.float32(corners)
    photo = noise()
    try:
        result = refine_lines(photo, [quad], same)
    except ValueError as error:
        assert str(error).startswith(("The corners", "The line")) and "\n" not in str(error)
    else:
        assert np.array_equal(result, photo)


@settings(max_examples=30, deadline=None)
@given(st.floats(-80, 80), st.floats(20, 100), st.floats(8, 30))
def test_lines_at_any_angle(angle, length, height):
    """Changed in the middle; unchanged far away."""
    photo = np.full((160, 160, 3), 100, np.uint8)
    quad = cv2.boxPoints(((80, 80), (length, height), angle))
    quad = np.roll(quad, -int(np.argmin(quad.sum(1))), axis=0)
    sides = np.roll(quad, -1, axis=0) - quad
    assume(sides[0, 0] * sides[1, 1] - sides[0, 1] * sides[1, 0] > 0)
    result = refine_lines(photo, [quad], brighter)
    assert (np.abs(result[78:83, 78:83].astype(int) - 126) <= 1).all()
    away = outside(quad, (160, 160), 2 * MARGIN * height + 4)
    assert (result[away] == 100).all()


@pytest.mark.parametrize(
    ("quad", "message"),
    [
        (RECTANGLE[::-1], "do not go clockwise"),
        (RECTANGLE[[0, 2, 1, 3]], "do not go clockwise"),
        (RECTANGLE[[0, 0, 2, 3]], "do not go clockwise"),
        ([[0, 0], [0.3, 0], [0.3, 30], [0, 30]], "at least a pixel apart"),
        ([[0, 0], [40_000, 0], [40_000, 30], [0, 30]], "longer than 32000 pixels"),
        ([[0, 0], [100, 49.6], [100, 50.4], [0, 100]], "narrows to nothing"),
        (RECTANGLE + 500, "lies outside the photo of 140 x 80"),
    ],
)
def test_refused_quads(quad, message):
    with pytest.raises(ValueError, match=message):
        refine_lines(noise(), [np.float32(quad)], same)


def test_refused_photos_and_refiners():
    for photo in (noise() / 255, noise()[..., 0], noise()[:0]):
        with pytest.raises(ValueError, match="Expected a uint8 RGB photo"):
            refine_lines(photo, [RECTANGLE], same)
    for refiner in (lambda lines: lines[:-1], lambda lines: [line[1:] for line in lines]):
        with pytest.raises(ValueError, match="changed the size or the number"):
            refine_lines(noise(), [RECTANGLE], refiner)


# ---- boxes


def write(path, boxes):
    Path(path).write_text(json.dumps(boxes), encoding="utf-8")
    return str(path)


def test_boxes_from_a_file(tmp_path):
    path = write(tmp_path / "a.json", [{"quad": QUADS[0].tolist(), "text": "Exit"}, {"quad": QUADS[1].tolist()}])
    assert np.array_equal(read_boxes(path), QUADS[:2])
    assert read_boxes(write(tmp_path / "b.json", [])) == []


NOT_A_QUAD = "box 2 is not"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        ('{"quad": []}', "expected a list of .* got dict"),
        ([[1, 2]], "box 1 is not"),
        ([{"quad": RECTANGLE.tolist()}, {"box": RECTANGLE.tolist()}], NOT_A_QUAD),
        ([{"quad": RECTANGLE.tolist()}, {"quad": [[0, 0], [9, 0], [9, 9]]}], NOT_A_QUAD),
        ([{"quad": RECTANGLE.tolist()}, {"quad": [[0, 0], [9, 0], [9, 9], [0]]}], NOT_A_QUAD),
        ([{"quad": RECTANGLE.tolist()}, {"quad": [[0, 0], [9, 0], [9, 9], [0, float("nan")]]}], NOT_A_QUAD),
        ([{"quad": RECTANGLE.tolist()}, {"quad": [[0, 0], [9, 0], [9, 9], [0, "a"]]}], NOT_A_QUAD),
        ([{"quad": RECTANGLE[::-1].tolist()}], "box 1: The corners .* do not go clockwise"),
    ],
)
def test_files_that_hold_no_boxes(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        read_boxes(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="session")
def engine():
    return quick_engine()


def test_boxes_of_a_photo(engine):
    first, second = find_boxes(np.asarray(sign("Exit 12", "Platform 9")), engine)
    assert first.shape == (4, 2) and first[:, 1].max() < second[:, 1].min() + 5
    assert abs(first[0] - (14, 12)).max() < 12
    assert find_boxes(np.asarray(sign()), engine) == []
