"""Image and text metrics against known answers and independent references."""

import numpy as np
import pytest
from rapidfuzz.distance import Indel

from tadisr.metrics.image import mask_iou, psnr, ssim
from tadisr.metrics.text import ocr_accuracy, summarize_lines


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("", "", 1.0),
        ("a", "", 0.0),
        ("abc", "abc", 1.0),
        ("abcd", "abxd", 0.75),
        ("ab", "ba", 0.5),
        ("二等座", "二等庄", 2 / 3),
    ],
)
def test_ocr_accuracy(one, other, expected):
    assert ocr_accuracy(one, other) == ocr_accuracy(other, one) == pytest.approx(expected)
    total = len(one) + len(other)
    assert ocr_accuracy(one, other) == pytest.approx((total - Indel.distance(one, other)) / total if total else 1.0)


def test_line_summary():
    assert summarize_lines(["abcd", "x"], ["abxd", "x"]) == {"ocr_a": 0.875, "exact": 0.5}
    with pytest.raises(ValueError, match="at least 1"):
        summarize_lines([], [])


def test_image_metrics():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (32, 40, 3), dtype=np.uint8)
    assert psnr(image, image) == float("inf") and ssim(image, image) == pytest.approx(1)
    off = np.clip(image.astype(int) + 10, 0, 255).astype(np.uint8)
    expected = 20 * np.log10(255) - 10 * np.log10(np.mean((off.astype(float) - image) ** 2))
    assert psnr(off, image) == pytest.approx(expected, abs=1e-4)
    assert ssim(off, image) < 1
    with pytest.raises(ValueError, match="one size"):
        psnr(image, image[:-1])
    mask = rng.random((9, 9)) > 0.5
    assert mask_iou(mask, mask) == 1 and mask_iou(mask, ~mask) == 0 and mask_iou(mask & False, mask & False) == 1
