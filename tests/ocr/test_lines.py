"""Lines of text: upright or vertical, their height, and how they are cut out."""

import cv2
import numpy as np
import pytest

from tadisr.ocr import crop_line, is_vertical, line_height, upright


def test_lines_are_cut_out_upright():
    image = np.arange(60 * 80, dtype=np.uint32).reshape(60, 80, 1).repeat(3, 2).astype(np.uint8)
    cut = crop_line(image, [[10, 20], [50, 20], [50, 36], [10, 36]])
    assert cut.shape == (16, 40, 3)
    np.testing.assert_array_equal(cut[1:-1, 1:-1], image[21:35, 11:49])
    assert crop_line(image, [[10, 5], [20, 5], [20, 45], [10, 45]]).shape == (10, 40, 3)  # a vertical line is turned
    with pytest.raises(ValueError, match="no area"):
        crop_line(image, [[1, 1]] * 4)


def test_tall_images_are_turned_counter_clockwise():
    tall = np.arange(30 * 20, dtype=np.uint16).reshape(30, 20)
    np.testing.assert_array_equal(upright(tall), tall.T[::-1])
    assert upright(tall[:29]) is not tall and upright(tall[:29]).shape == (29, 20)


def test_lines_half_again_as_tall_as_wide_are_vertical():
    assert is_vertical(30, 20) and not is_vertical(29, 20) and not is_vertical(20, 30)


def test_line_height():
    assert line_height([[0, 0], [40, 0], [40, 12], [0, 12]]) == 12
    assert line_height([[5, 0], [15, 0], [15, 60], [5, 60]]) == 10  # vertical: as wide as its characters
    turned = cv2.boxPoints(((50, 50), (40, 12), 30))  # a tilted line
    order = [1, 2, 3, 0] if np.linalg.norm(turned[0] - turned[1]) < 20 else [0, 1, 2, 3]
    assert line_height(turned[order]) == pytest.approx(12, abs=1e-3)
