"""The picture of a report: readable without colours, at any size, with any text."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.ocr import Reading
from tadisr.trust import overlay
from tadisr.trust.check import BOTH, READINGS_DIFFER, CheckedLine, Thresholds, TrustReport
from tadisr.trust.overlay import draw_overlay


def quad(left, top, right, bottom):
    return np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])


def checked(box, verdict, text="Exit", score=0.9):
    reason = READINGS_DIFFER if verdict == "check" else None
    return CheckedLine(box.tolist(), BOTH, Reading(text, score), Reading(text, score), 1.0, verdict, reason)


def near(picture, color, tolerance=60):
    """Where a picture has a colour, though mixed with what is below."""
    return np.abs(picture.astype(int) - color).max(-1) < tolerance


def test_boxes_differ_in_more_than_colour():
    photo = np.full((500, 1000, 3), 128, np.uint8)
    report = TrustReport(
        (500, 1000),
        {},
        Thresholds(),
        [checked(quad(200, 100, 700, 150), "agree"), checked(quad(200, 300, 700, 350), "check")],
    )
    picture = draw_overlay(photo, photo, report)
    shown = (picture == 128).all(-1)
    top = np.argmax(shown.sum(1) == 1000)
    left = np.argmax(shown[top])
    box = picture[top : top + 500, left : left + 1000]
    agree, check = near(box, overlay._COLORS["agree"]), near(box, overlay._COLORS["check"])
    assert agree[100, 210:690].all(), "solid"
    share = check[300, 210:690].mean()
    assert 0.4 < share < 0.8 and not check[300, 210:690].all(), "dashed"
    assert not agree[280:370].any() and not check[80:170].any()
    assert check[290:310, 450:550].any(1).sum() > agree[90:110, 450:550].any(1).sum(), "thicker"
    assert (box[110:140, 220:680] == 128).all() and (box[310:340, 220:680] == 128).all(), "the text stays bare"


def test_a_line_that_was_asserted_has_a_mark_and_a_row_of_its_own():
    photo = np.full((500, 1000, 3), 128, np.uint8)
    plain, marked = (
        draw_overlay(photo, photo, TrustReport((500, 1000), {}, Thresholds(), [checked(quad(200, 100, 700, 150), one)]))
        for one in ("agree", "asserted")
    )
    assert marked.shape[0] > plain.shape[0], "the header says what it means"
    start, first = (np.argmax((picture == 128).all(-1).sum(1) == 1000) for picture in (marked, plain))
    badges = [near(picture[at : at + 500, :190], overlay._COLORS[verdict]).sum()
              for picture, at, verdict in ((marked, start, "asserted"), (plain, first, "agree"))]  # fmt: skip
    assert badges[0] > 1.2 * badges[1]


def test_lines_to_check_are_shown_twice():
    red, green = (170, 40, 40), (40, 170, 40)
    before, after = (np.full((200, 400, 3), color, np.uint8) for color in (red, green))
    lines = [checked(quad(20, 20, 200, 50), "agree"), checked(quad(20, 90, 200, 120), "check")]
    report = TrustReport((200, 400), {}, Thresholds(), lines)
    picture = draw_overlay(before, after, report)
    start = np.argmax((picture == green).all(-1).sum(1) == 1000) + 500  # the photo, 2.5 times as large
    rows = picture[start:]
    assert 60 < len(rows) < 200
    middle = rows.shape[1] // 2
    assert (rows[:, :middle] == red).all(-1).sum() > 2000 and not (rows[:, :middle] == green).all(-1).any()
    assert (rows[:, middle:] == green).all(-1).sum() > 2000 and not (rows[:, middle:] == red).all(-1).any()
    agreeing = draw_overlay(before, after, TrustReport((200, 400), {}, Thresholds(), lines[:1]))
    assert len(picture) - len(agreeing) == len(rows)


def test_hundreds_of_lines_are_cut_short():
    photo = np.full((300, 300, 3), 128, np.uint8)
    lines = [checked(quad(10, i, 60, i + 10), "check") for i in range(200)]
    pictures = [
        draw_overlay(photo, photo, TrustReport((300, 300), {}, Thresholds(), lines[:count]))
        for count in (overlay.MAX_ROWS, overlay.MAX_ROWS + 1, 200)
    ]
    assert len(pictures[0]) < len(pictures[1]) == len(pictures[2]) < 8000


@pytest.mark.parametrize("size", [(4, 4), (6, 800), (800, 6), (40, 5000)])
def test_any_size(size):
    photo = np.full((*size, 3), 90, np.uint8)
    box = quad(0, 0, size[1], size[0])
    picture = draw_overlay(photo, photo, TrustReport(size, {}, Thresholds(), [checked(box, "check")]))
    assert picture.dtype == np.uint8 and 720 <= picture.shape[1] <= 2200 and picture.shape[0] < 2200


@settings(deadline=None, max_examples=15)
@given(
    st.text(max_size=30) | st.sampled_from(["限乘当日当次车", "\0\n\u202e", "W" * 500, "\ud800", "", "क्षि"]),
    st.lists(st.tuples(st.integers(-20, 120), st.integers(-20, 90)), min_size=2, max_size=2, unique=True),
    st.sampled_from(["agree", "check"]),
)
def test_any_text_anywhere(text, corners, verdict):
    (left, top), (right, bottom) = corners
    photo = np.full((70, 100, 3), 90, np.uint8)
    line = checked(quad(min(left, right), min(top, bottom), max(left, right) + 2, max(top, bottom) + 2), verdict, text)
    picture = draw_overlay(photo, photo, TrustReport((70, 100), {}, Thresholds(), [line]))
    assert picture.shape[1] >= 720


def test_a_report_without_lines_says_why():
    blank = np.full((200, 400, 3), 235, np.uint8)
    empty, failed = (
        draw_overlay(blank, blank, TrustReport((200, 400), {}, Thresholds(), error=error))
        for error in (None, "out of memory")
    )
    assert empty.shape == failed.shape and not np.array_equal(empty, failed)


def test_a_small_input_is_shown_at_the_restored_size():
    before, after = np.full((20, 40, 3), 60, np.uint8), np.full((80, 160, 3), 160, np.uint8)
    report = TrustReport((80, 160), {}, Thresholds(), [checked(quad(10, 10, 150, 40), "check")])
    enlarged = np.full((80, 160, 3), 60, np.uint8)
    np.testing.assert_array_equal(draw_overlay(before, after, report), draw_overlay(enlarged, after, report))
