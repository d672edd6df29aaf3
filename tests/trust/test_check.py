"""Which lines of a restored photo to check: the rules and the readings."""

import json
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.metrics.text import agreement
from tadisr.ocr import Reading, TextLine, load_engine
from tadisr.trust import check as trust
from tadisr.trust.check import BOTH, INPUT, OUTPUT, Thresholds, check_line, check_text, match_lines


@pytest.fixture(scope="module")
def engine():
    return load_engine("rapidocr", threads=1, params={"Det.limit_side_len": 320})  # small pages, quickly searched


def page(texts: dict[tuple[int, int], str], size: int = 36) -> np.ndarray:
    """Paper-white (200, 400, 3) uint8 with dark texts, each with its top left at (x, y)."""
    image = Image.new("RGB", (400, 200), (235, 235, 230))
    for corner, text in texts.items():
        ImageDraw.Draw(image).text(corner, text, fill=(30, 30, 60), font=ImageFont.load_default(size), anchor="lt")
    return np.asarray(image)


def quad(left, top, right, bottom):
    return np.float32([[left, top], [right, top], [right, bottom], [left, bottom]])


def read(text, score=0.95):
    return Reading(text, score)


# ---- the rules


def judged(found_in, before, after, thresholds):
    return check_line(quad(0, 0, 50, 10), found_in, before, after, thresholds).reason


@pytest.mark.parametrize(
    ("found_in", "before", "after", "reason"),
    [
        (BOTH, read("Exit 12", 0.98), read("Exit 12", 0.98), None),
        (BOTH, read("Exit 12", 0.97), read("EXIT12", 0.99), None),  # case and spaces are no difference, nor is a gain
        (BOTH, read("￥５3.0", 0.98), read("¥53.0", 0.98), None),
        (BOTH, read("Exit 12", 0.96), read("Exit 12", 0.99), trust.UNSURE),
        (BOTH, read("Exit 12", 0.99), read("Exit 12", 0.96), trust.UNSURE),
        (BOTH, read("Exit 12", 0.95), read("Exit 12", 0.84), trust.CONFIDENCE_FELL),
        (BOTH, read("Exit 12", 0.45), read("Exit 12", 0.49), trust.HARDLY_LEGIBLE),
        (BOTH, read("Exit 12"), read("Exit 72"), trust.READINGS_DIFFER),
        (BOTH, read("53.0"), read("530"), trust.READINGS_DIFFER),  # punctuation is
        (BOTH, read("", 0.0), read("Exit 12"), trust.READINGS_DIFFER),
        (OUTPUT, read("Exit 12"), read("Exit 12"), trust.ONLY_IN_OUTPUT),
        (INPUT, read("Exit 12"), read("Exit 12"), trust.ONLY_IN_INPUT),
    ],
)
def test_why_a_line_is_to_be_checked(found_in, before, after, reason):
    assert judged(found_in, before, after, Thresholds()) == reason


def test_thresholds_decide():
    one_wrong = (BOTH, read("Exit 12"), read("Exit 72"))
    assert agreement("Exit 12", "Exit 72") == pytest.approx(10 / 12)
    assert judged(*one_wrong, Thresholds(min_agreement=0.83, sure_score=0.95)) is None
    assert judged(*one_wrong, Thresholds(min_agreement=0.83, sure_score=0.951)) == trust.UNSURE
    assert judged(*one_wrong, Thresholds(min_agreement=0.84)) == trust.READINGS_DIFFER
    fell = (BOTH, read("Exit", 0.9), read("Exit", 0.6))
    assert judged(*fell, Thresholds(max_score_drop=0.31, sure_score=0.6)) is None
    assert judged(*fell, Thresholds(max_score_drop=0.29)) == trust.CONFIDENCE_FELL
    assert judged(*fell, Thresholds(max_score_drop=1, min_score=0.7)) == trust.HARDLY_LEGIBLE


@pytest.mark.parametrize("name", ["min_agreement", "max_score_drop", "min_score", "sure_score", "min_overlap"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_thresholds_that_cannot_be(name, value):
    with pytest.raises(ValueError, match=f"{name} must be between 0 and 1, not"):
        Thresholds(**{name: value})


def test_regions_of_both_pictures():
    def lines(*quads):
        return [TextLine("x", one, 1.0) for one in quads]

    whole, left, right, other = quad(0, 0, 100, 20), quad(0, 1, 48, 19), quad(52, 1, 100, 19), quad(0, 50, 90, 70)
    assert [found for _, found in match_lines(lines(left, right), lines(whole), 0.5)] == [BOTH], "found in two parts"
    assert [found for _, found in match_lines(lines(whole), lines(left, right), 0.5)] == [BOTH, BOTH]
    regions = match_lines(lines(left, other), lines(whole), 0.5)  # less than half of the whole is covered
    assert [found for _, found in regions] == [OUTPUT, INPUT]
    assert regions[0][0] is whole and regions[1][0] is other
    assert [found for _, found in match_lines(lines(left), lines(whole), 0.4)] == [BOTH]
    shifted = quad(0, 9, 100, 29)
    assert [found for _, found in match_lines(lines(shifted), lines(whole), 0.5)] == [BOTH, BOTH]
    flat, bow = quad(5, 0, 50, 0), np.float32([[0, 0], [50, 20], [50, 0], [0, 20]])  # clipped at the border; crossed
    assert match_lines(lines(flat), lines(flat, bow), 0.5) == []
    assert match_lines([], [], 0.5) == []


def test_a_line_that_has_lost_a_part_is_read_as_a_whole():
    def lines(*quads):
        return [TextLine("x", one, 1.0) for one in quads]

    whole, part, other = quad(0, 0, 100, 20), quad(0, 0, 60, 20), quad(0, 50, 90, 70)
    assert match_lines(lines(whole, other), lines(part, other), 0.5) == [(whole, BOTH), (other, BOTH)]
    assert match_lines(lines(part), lines(whole), 0.5) == [(whole, BOTH)], "nor is one that has gained a part"
    pieces = lines(quad(0, 0, 30, 20), other, quad(40, 0, 70, 20))
    assert match_lines(lines(whole), pieces, 0.5) == [(whole, BOTH), (other, OUTPUT)], "once"


# ---- the readings


def test_an_unchanged_page_agrees(engine):
    image = page({(30, 30): "Exit 2047", (150, 120): "North gate"})
    report = check_text(image, image, engine=engine)
    assert [line.output.text.replace(" ", "") for line in report.lines] == ["Exit2047", "Northgate"]
    for line, corner in zip(report.lines, [(30, 30), (150, 120)], strict=True):
        assert (line.found_in, line.agreement, line.verdict, line.reason) == (BOTH, 1.0, "agree", None)
        assert line.input == line.output and line.output.score > 0.9
        np.testing.assert_allclose(line.quad[0], corner, atol=12)
    assert report.to_check == [] and report.error is None and report.size == (200, 400)
    assert report.engine == engine.describe()


def test_what_changed_is_found(engine):
    before = page({(20, 15): "Platform 9", (20, 75): "North gate", (20, 135): "to the lake"})
    after = page({(20, 15): "Platform 3", (20, 75): "North gate", (240, 135): "Bus 38"})
    report = check_text(before, after, engine=engine)
    found = {line.output.text.replace(" ", "") or line.input.text.replace(" ", ""): line for line in report.lines}
    assert found["Platform3"].input.text.replace(" ", "") == "Platform9"
    assert found["Platform3"].reason == trust.READINGS_DIFFER
    assert found["Northgate"].verdict == "agree"
    assert found["Bus38"].reason == trust.ONLY_IN_OUTPUT and found["Bus38"].input == Reading("", 0.0)
    assert found["tothelake"].reason == trust.ONLY_IN_INPUT and found["tothelake"].output == Reading("", 0.0)
    assert len(report.to_check) == 3 and len(report.lines) == 4
    assert report.lines[-1] is found["tothelake"], "what only the input has comes last"


class RecordingEngine:
    """Another engine, that remembers the sizes that it searched."""

    def __init__(self, engine):
        self.read, self.describe, self._find, self.sizes = engine.read, engine.describe, engine.find, []

    def find(self, image):
        self.sizes.append(image.shape[:2])
        return self._find(image)


@pytest.mark.parametrize(
    ("bounds", "searched"), [((500, 900), 500), ((300, 900), 400), ((100, 300), 300), ((800, 900), 800)]
)
def test_large_photos_are_searched_in_part_size_and_read_in_full(engine, monkeypatch, bounds, searched):
    monkeypatch.setattr(trust, "SEARCH_SIDES", bounds)
    photo = np.asarray(Image.fromarray(page({(30, 30): "Exit 2047"})).resize((800, 400), Image.Resampling.BICUBIC))
    recording = RecordingEngine(engine)
    (line,) = check_text(photo, photo, engine=recording).lines
    assert recording.sizes == [(searched // 2, searched)] * 2
    assert line.output.text.replace(" ", "") == "Exit2047" and line.verdict == "agree"
    np.testing.assert_allclose(line.quad[0], (60, 60), atol=24)  # in pixels of the photo itself


def test_json(engine):
    before, after = page({(20, 15): "Platform 9"}), page({(20, 15): "Platform 3", (20, 75): "中"})
    report = check_text(before, after, Thresholds(min_score=0.25), engine)
    values = report.to_dict()
    assert json.loads(json.dumps(values)) == values
    assert set(values) == {"size", "engine", "thresholds", "counts", "lines", "error"}
    assert values["size"] == [200, 400] and values["thresholds"]["min_score"] == 0.25
    assert values["counts"] == {
        "lines": len(report.lines), "check": len(report.to_check), "agree": len(report.lines) - len(report.to_check),
        "asserted": 0,
        "kept": 0,
        "retraced": 0,
    }  # fmt: skip
    first = values["lines"][0]
    assert first["number"] == 1 and first["verdict"] == "check" and np.shape(first["quad"]) == (4, 2)
    assert first["input"]["text"] != first["output"]["text"] and 0 < first["output"]["score"] <= 1


def test_lines_that_read_the_same():
    """Surely or not; a line that lost confidence does not count."""
    pairs = [(0.99, 0.98), (0.9, 0.9), (0.9, 0.7)]
    lines = [
        check_line(quad(0, 0, 50, 10), BOTH, read("Exit", before), read("Exit", after), Thresholds())
        for before, after in pairs
    ]
    assert [line.verdict for line in lines] == ["agree", "check", "check"]
    assert [line.reads_the_same for line in lines] == [True, True, False]


def test_what_a_person_asserted_is_not_read():
    agreed, wrong, other = (
        check_line(quad(10, top, 200, top + 20), BOTH, read(before, 0.99), read("Gate 7", 0.98), Thresholds())
        for top, before in ((10, "Gate 7"), (50, "Cate 1"), (90, "Gate 7"))
    )
    report = trust.TrustReport((200, 400), {}, Thresholds(), [agreed, wrong, other])
    asserted = [(quad(5, 52, 230, 68), "Gate 7"), (quad(10, 150, 90, 170), "Exit")]
    marked = trust.with_asserted(report, asserted)
    assert marked.lines[:1] + marked.lines[2:3] == [agreed, other] and marked.to_check == []
    second, last = marked.lines[1], marked.lines[3]
    assert [line.asserted for line in (second, last)] == ["Gate 7", "Exit"]
    assert second.input == wrong.input and last.input.text == "" and second.quad == asserted[0][0].tolist()
    assert all(line.output == Reading("", 0.0) and line.verdict == "asserted" for line in (second, last))
    values = marked.to_dict()
    assert values["counts"] == {"lines": 4, "check": 0, "agree": 2, "asserted": 2, "kept": 0, "retraced": 0}
    assert values["lines"][1]["asserted"] == "Gate 7" and values["lines"][0]["asserted"] is None


@pytest.mark.parametrize("found", [(10, 50, 60, 70), (10, 50, 400, 70)])
def test_a_line_that_meets_an_asserted_one_is_not_read_either(found):
    """A part of it, or it with what stands beside it."""
    line = check_line(quad(*found), BOTH, read("Gate"), read("Gate"), Thresholds())
    report = trust.TrustReport((200, 400), {}, Thresholds(), [line])
    (only,) = trust.with_asserted(report, [(quad(10, 50, 120, 70), "Gate 7")]).lines
    assert only.verdict == "asserted" and only.input.text == "Gate" and only.output.text == ""


def test_a_blank_photo_has_no_lines(engine):
    blank = page({})
    report = check_text(blank, blank, engine=engine)
    assert report.lines == [] and report.error is None
    assert report.to_dict()["counts"] == {"lines": 0, "check": 0, "agree": 0, "asserted": 0, "kept": 0, "retraced": 0}


class BrokenEngine:
    """Finds nothing, because it fails as a runtime fails."""

    def find(self, image):
        raise RuntimeError("onnxruntime:\n out of memory")

    def read(self, lines):
        raise AssertionError

    def describe(self):
        return {"engine": "broken"}


def test_an_engine_that_fails_is_reported_not_raised():
    report = check_text(page({}), page({}), engine=BrokenEngine())
    assert report.error == "onnxruntime: out of memory" and report.lines == []
    assert report.to_dict()["error"] == report.error


def test_the_input_is_enlarged(engine):
    after = page({(20, 15): "Platform 9"})
    for size in ((100, 50), (133, 67), (400, 200)):  # to the restored photo's size, rounded sides included
        before = np.asarray(Image.fromarray(after).resize(size, Image.Resampling.BICUBIC))
        (line,) = check_text(before, after, Thresholds(max_score_drop=1), engine).lines
        enlarged = np.asarray(Image.fromarray(before).resize((400, 200), Image.Resampling.BICUBIC))
        assert line == check_text(enlarged, after, Thresholds(max_score_drop=1), engine).lines[0]
        assert line.found_in == BOTH and line.verdict == "agree"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            np.zeros((5, 10, 3), np.uint8),
            np.zeros((20, 60, 3), np.uint8),
            "restored version, got 10 x 5 and 60 x 20",
        ),
        (np.zeros((20, 40, 3), np.uint8), np.zeros((20, 44, 3), np.uint8), "restored version, got 40 x 20 and 44"),
        (np.zeros((20, 40, 3), np.float32), np.zeros((20, 40, 3), np.uint8), "uint8 RGB image .* got float32"),
        (np.zeros((20, 40, 3), np.uint8), np.zeros((20, 40), np.uint8), r"uint8 RGB image .* got uint8 \(20, 40\)"),
    ],
)
def test_other_arrays_are_refused(before, after, message, engine):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        check_text(before, after, engine=engine)


def test_transparent_images_are_read_as_they_are_seen(engine):
    after = page({(20, 15): "Platform 9"})
    for color in (0, 255):
        image = np.dstack([np.full_like(after, color), 255 - after[..., 0]])
        (line,) = check_text(image, image, engine=engine).lines
        assert line.verdict == "agree" and line.input.text.replace(" ", "") == "Platform9"


def test_rounded_sides_of_narrow_images():
    for (height, width), scale in (((101, 11), 2.5), ((11, 101), 2.5), ((1000, 1), 1.4), ((101, 11), 0.5)):
        before = np.zeros((height, width, 3), np.uint8)
        after = np.zeros((round(height * scale), round(width * scale), 3), np.uint8)
        enlarged, same = trust.as_read(before, after)
        assert enlarged.shape == after.shape and same is after


@pytest.mark.parametrize("image", [Image.new("RGB", (40, 20)), "photo.png", None])
def test_what_is_no_array_is_refused(image, engine):
    with pytest.raises(TypeError, match="Expected an array, got .*np.asarray"):
        check_text(image, np.zeros((20, 40, 3), np.uint8), engine=engine)


def test_the_engine_is_loaded_once():
    assert trust.trust_engine() is trust.trust_engine()


@pytest.mark.parametrize("missing", ["rapidocr", "rapidfuzz"])
def test_missing_packages_say_what_to_install(monkeypatch, missing):
    trust._engine.cache_clear()
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[ocr\]'"):
        trust.trust_engine()
