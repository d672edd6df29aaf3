"""Doubtful lines stay as they are in the input."""

import numpy as np
import pytest
from PIL import Image

import tadisr
from tadisr.ocr import Reading
from tadisr.trust.abstain import is_doubtful, keep_input
from tadisr.trust.check import BOTH, Thresholds, TrustReport, check_line

SIZE = 160, 240  # of the result


def line(box, before, after):
    left, top, right, bottom = box
    quad = np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])
    return check_line(quad, BOTH, Reading(*before), Reading(*after), Thresholds())


WORSE = line((20, 20, 120, 44), ("Exit 12", 0.9), ("Exit 72", 0.8))
BETTER = line((20, 60, 120, 84), ("Ex1t l2", 0.6), ("Exit 12", 0.9))
FINE = line((20, 100, 120, 124), ("Exit 12", 0.98), ("Exit 12", 0.99))
BESIDE = line((20, 40, 120, 58), ("Way in", 0.8), ("Way in", 0.9))


def pictures(channels=3):
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (SIZE[0] // 4, SIZE[1] // 4, channels), np.uint8)
    sr = rng.integers(0, 256, (*SIZE, channels), np.uint8)
    return lr, sr, np.asarray(Image.fromarray(lr).resize(SIZE[::-1], Image.Resampling.BICUBIC))


def report(*lines):
    return TrustReport(SIZE, {}, Thresholds(), list(lines))


@pytest.mark.parametrize("channels", [3, 4])
def test_what_reads_worse_stays_as_it_was(channels):
    lr, sr, enlarged = pictures(channels)
    made, found = keep_input(lr, sr, report(WORSE, BETTER, FINE))
    assert np.array_equal(made[20:44, 20:120], enlarged[20:44, 20:120])
    assert np.array_equal(made[60:], sr[60:]) and np.array_equal(made[:, 150:], sr[:, 150:])
    assert [one.verdict for one in found.lines] == ["kept", "check", "agree"]
    kept = found.lines[0]
    assert kept.output == kept.input == WORSE.input and kept.reason == WORSE.reason
    assert found.to_check == [BETTER] and found.to_dict()["counts"] == {
        "lines": 3, "check": 1, "agree": 1, "asserted": 0, "kept": 1, "retraced": 0,
    }  # fmt: skip


def test_a_trusted_line_that_meets_it_stays_restored():
    lr, sr, enlarged = pictures()
    made, _ = keep_input(lr, sr, report(WORSE, BESIDE))
    assert np.array_equal(made[42:58, 20:120], sr[42:58, 20:120])
    assert np.array_equal(made[20:26, 20:120], enlarged[20:26, 20:120])


def test_no_seam():
    """Around a line one picture passes into the other."""
    lr, sr = np.zeros((40, 60, 3), np.uint8), np.full((*SIZE, 3), 200, np.uint8)
    made, _ = keep_input(lr, sr, report(WORSE))
    assert np.abs(np.diff(made.astype(int), axis=0)).max() < 60 and np.abs(np.diff(made.astype(int), axis=1)).max() < 60
    assert not made[24:40, 24:116].any()


def test_nothing_is_doubtful():
    lr, sr, _ = pictures()
    given = report(BETTER, FINE)
    assert not any(map(is_doubtful, given.lines))
    made, found = keep_input(lr, sr, given)
    assert made is sr and found is given


def test_lines_at_the_border():
    lr, sr, enlarged = pictures()
    made, _ = keep_input(lr, sr, report(line((-6, -4, 90, 30), ("Exit", 0.9), ("Exlt", 0.7))))
    assert made.shape == sr.shape and np.array_equal(made[:30, :90], enlarged[:30, :90])


def test_a_restorer_abstains():
    """Whatever is found: no line that reads otherwise in the result, and not more surely, is left in it."""
    with Image.open(tadisr.weights.BUNDLED.parents[1] / "demo/example.png") as image:
        photo = np.asarray(image.convert("RGB").resize((192, 96), Image.Resampling.BICUBIC))
    restorer = tadisr.load("tadisr-tiny", device="cpu", runtime="onnx")
    plain = restorer.restore(photo, report=True)
    cautious = restorer.restore(photo, abstain=True)
    doubtful = [one for one in plain.report.lines if is_doubtful(one)]
    assert doubtful and cautious.kept == len(doubtful) and plain.kept == 0
    expected, _ = keep_input(photo, plain.image, plain.report)
    assert np.array_equal(cautious.image, expected) and (cautious.image != plain.image).any()
    assert np.array_equal(cautious.mask, plain.mask)
    strict = restorer.restore(photo, abstain=True, report=Thresholds(min_agreement=0.0, max_score_drop=1, min_score=0))
    assert strict.kept <= cautious.kept


def test_what_it_is_not_for():
    restorer = tadisr.load("tadisr-tiny", device="cpu", runtime="onnx")
    with pytest.raises(ValueError, match="abstain is for photos"):
        restorer.restore(np.zeros((8, 8, 3)), abstain=True)
