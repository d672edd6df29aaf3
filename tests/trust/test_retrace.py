"""`retrace`: lines that are read surely in the input are drawn as they are read there."""

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers import tiny
from tadisr.loading.load import Restorer
from tadisr.ocr import Reading
from tadisr.trust import check, retrace

BOX = [[10.0, 10.0], [90.0, 10.0], [90.0, 30.0], [10.0, 30.0]]
THRESHOLDS = check.Thresholds()


def line(before, after, verdict=check.CHECK):
    readings = (Reading(*before), Reading(*after))
    return check.CheckedLine(BOX, check.BOTH, *readings, 0.5, verdict, "because")


def report(*lines):
    return check.TrustReport((120, 160), {}, THRESHOLDS, list(lines))


@pytest.mark.parametrize(
    ("checked", "text"),
    [
        (line(("Inn", 0.6), ("Inn", 0.7), check.AGREE), "Inn"),
        (line(("Inn", 0.96), ("lnn", 0.95)), "Inn"),
        (line(("Inn", 0.96), ("lnn", 0.97)), None),
        (line(("Inn", 0.94), ("lnn", 0.7)), None),
        (line((" ", 0.99), ("lnn", 0.7)), " "),
    ],
)
def test_what_a_line_is_drawn_as(checked, text):
    assert retrace.surest(checked) == text
    assert retrace.lines_to_draw(report(checked)) == ([(0, text)] if text and text.strip() else [])


def test_letters_that_no_face_has_are_not_drawn():
    assert retrace.lines_to_draw(report(line(("\U000104a0", 0.99), ("lnn", 0.7)))) == []


def test_the_report_says_which_lines_were_drawn():
    found = report(
        line(("Inn", 0.6), ("Inn", 0.7), check.AGREE), line(("Inn", 0.96), ("lnn", 0.92)), line(("a", 0.1), ("b", 0.2))
    )
    made = retrace.with_retraced(found, retrace.lines_to_draw(found))
    assert [one.verdict for one in made.lines] == [check.AGREE, check.RETRACED, check.CHECK]
    assert made.lines[1].output == made.lines[1].input == Reading("Inn", 0.96)
    assert made.to_dict()["counts"] == {"lines": 3, "check": 1, "agree": 1, "asserted": 0, "kept": 0, "retraced": 1}
    assert made.lines[0] == found.lines[0] and made.lines[2] == found.lines[2]


@pytest.fixture(scope="module")
def photo():
    with Image.open("demo/example.png") as image:
        return np.asarray(image.convert("RGB").crop((0, 0, 240, 80)))


def test_the_bundled_model_draws_what_it_reads(photo):
    model = tadisr.load("tadisr-tiny", "cpu")
    before, made = model.restore(photo, report=True), model.restore(photo, retrace=True)
    drawn = retrace.lines_to_draw(before.report)
    assert drawn and [one.quad for one in made.report.lines] == [one.quad for one in before.report.lines]
    assert made.retraced == sum(one.verdict == check.RETRACED for one in made.report.lines)
    quads = [quad for quad, _ in retrace.quads_of(before.report, drawn)]
    (left, top), (right, bottom) = quads[0].min(0).astype(int), quads[0].max(0).astype(int)
    assert (made.image[top:bottom, left:right] != before.image[top:bottom, left:right]).any()


def test_nothing_is_sure(photo, monkeypatch):
    monkeypatch.setattr(retrace, "lines_to_draw", lambda found: [])
    model = tadisr.load("tadisr-tiny", "cpu")
    before, made = model.restore(photo, report=True), model.restore(photo, retrace=True)
    assert np.array_equal(before.image, made.image) and made.retraced == 0


def test_a_transparent_photo_is_restored_as_ever(photo):
    model = tadisr.load("tadisr-tiny", "cpu")
    alpha = np.dstack([photo, np.tile(np.arange(240, dtype=np.uint8), (80, 1))])
    assert np.array_equal(model.restore(alpha, retrace=True).image, model.restore(alpha).image)


def test_where_it_cannot_be(photo):
    model = tadisr.load("tadisr-tiny", "cpu")
    for wrong in ({"reduction": 2}, {"only_text": True}, {"abstain": True}, {"text_mask": photo[..., :2]}):
        with pytest.raises(ValueError, match="retrace does not go with reduction, only_text, abstain or text_mask"):
            model.restore(photo, retrace=True, **wrong)
    with pytest.raises(
        ValueError, match=r"retrace is for photos, arrays \(h, w, 3 or 4\) of uint8, and for models that"
    ):
        model.restore(photo / 255, retrace=True)
    with pytest.raises(ValueError, match="retrace is for photos"):
        Restorer("lean", None, tiny.lean()).restore(photo, retrace=True)
