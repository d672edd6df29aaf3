"""The tables of a report: known answers from hand-made records."""

import json
import math

import numpy as np
import pytest

from tadisr.evaluation.pairs import ANNOTATION, ENGINE
from tadisr.evaluation.records import Records
from tadisr.evaluation.summary import build_report
from tadisr.metrics.segmentation import boundary_f, mask_counts


def record(image, text, bicubic, mine, source=ENGINE, height=20.0, script="latin", other=None):
    """A line's record: what the judge "a" reads on each version; `other`: what "b" reads on (bicubic, mine, hr)."""
    versions = {"bicubic": bicubic, "mine": mine, "hr": text}
    read = {name: {"a": {"text": said, "score": 0.9}} for name, said in versions.items()}
    for name, said in zip(versions, other or (), strict=bool(other)):
        read[name]["b"] = {"text": said, "score": 0.5}
    quad = [[0, 0], [9, 0], [9, 9], [0, 9]]
    return {"image": str(image), "index": 0, "quad": quad, "text": text, "source": source,
            "script": script, "height": height, "read": read}  # fmt: skip


def image(number, bicubic, mine, lpips=(None, None)):
    methods = {
        name: {"psnr": psnr, "ssim": min(psnr, 100) / 100, "lpips": distance}
        for name, psnr, distance in zip(
            ("bicubic", "mine", "hr"), (bicubic, mine, math.inf), (*lpips, 0.0), strict=True
        )
    }
    return {"name": str(number), "hr": f"{number}.png", "size": [8, 8], "methods": methods}


@pytest.fixture
def records():
    return Records(
        images=[image(0, 20.0, 23.0), image(1, 30.0, 31.0)],
        lines=[
            record(0, "abcd", "abxd", "abcd", other=("ab", "abcd", "abcd")),
            record(0, "12", "", "12", height=40.0, script="digits", other=("", "", "")),
            record(1, "二等座", "二等庄", "二等庄", height=64.0, script="chinese", other=("二", "二等座", "二等")),
            record(1, "Exit", "Exit", "Exlt", source=ANNOTATION, other=("Ex", "Exit", "Exit")),
            record(1, "", "x", "", other=("x", "", "")),
        ],
        seconds={"bicubic": 0.5},
    )


def test_means_by_hand(records):
    methods = build_report(records, ["a"])["methods"]
    assert list(methods) == ["bicubic", "mine", "hr"]
    bicubic, mine, hr = methods.values()
    assert bicubic["psnr"] == 25 and mine["psnr"] == 27 and hr["psnr"] is None  # infinite
    assert bicubic["lpips"] is None and hr["lpips"] == 0 and bicubic["fid"] is None
    assert bicubic["ocr_a"] == pytest.approx((6 / 8 + 0 + 4 / 6) / 3, abs=1e-6)
    assert mine["ocr_a"] == pytest.approx((1 + 1 + 4 / 6) / 3, abs=1e-6)
    assert bicubic["ocr_a_levenshtein"] == pytest.approx((7 / 8 + 0 + 5 / 6) / 3, abs=1e-6)
    assert (bicubic["exact"], mine["exact"], hr["exact"]) == pytest.approx((0, 2 / 3, 1), abs=1e-6)
    assert (bicubic["ned"], mine["ned"], bicubic["accuracy"], mine["accuracy"]) == (1, 0.75, 1, 0)
    assert (bicubic["n_images"], bicubic["n_lines"], bicubic["n_annotated"]) == (2, 3, 1)  # the empty line is out
    assert bicubic["seconds"] == 0.5 and hr["seconds"] is None
    assert mine["delta"]["psnr"] == 2 and mine["delta"]["ned"] == -0.25 and bicubic["delta"]["ocr_a"] == 0
    assert hr["delta"]["psnr"] is None


def test_lines_harmed_and_helped():
    """Of what is read right in the LR image and of the rest; by each engine's own readings."""
    read = [("abcd", "abcd"), ("abcd", "abxd"), ("abcd", "a"), ("ab", "abcd"), ("x", "y")]
    lines = [record(0, "abcd", *pair, other=("abcd", "abcd", "abcd")) for pair in read]
    lines.append(
        record(1, "abcd", "abcd", "", ANNOTATION, other=("", "", ""))
    )  # of engines' lines alone, where there are any
    images = [image(0, 1.0, 1.0), image(1, 1.0, 1.0)]
    lr, mine, hr = build_report(Records(images, lines), ["a", "b"])["methods"].values()
    assert (mine["harm_rate"], mine["help_rate"]) == pytest.approx((2 / 3, 1 / 2), abs=1e-6)
    assert (mine["engines"]["b"]["harm_rate"], mine["engines"]["b"]["help_rate"]) == (0, None)
    assert {row[rate] for row in (lr, hr) for rate in ("harm_rate", "help_rate")} == {None}
    assert "harm_rate" not in mine["delta"] and "harm_rate" in mine["intervals"]
    annotated = build_report(Records(images, lines[-1:]), ["a"])["methods"]["mine"]
    assert (annotated["harm_rate"], annotated["help_rate"]) == (1, None)


def test_what_verdicts_are_worth():
    """The same reading before and after is called fine; the text says whether it is right."""
    read = [("abcd", "abcd"), ("abxd", "abxd"), ("abxd", "abcd"), ("abcd", "abxd")]
    lines = [record(number % 2, "abcd", *pair) for number, pair in enumerate(read)]
    for line in lines:
        for engines in line["read"].values():
            engines["a"]["score"] = 0.98
    images = [image(0, 1.0, 1.0), image(1, 1.0, 1.0)]
    lr, mine, hr = build_report(Records(images, lines), ["a"])["methods"].values()
    assert lr["trust"] is None and hr["trust"] is None
    expected = {
        "truth": ENGINE,
        "fine": 2,
        "right": 0.5,
        "to_check": 2,
        "wrong": 0.5,
        "sure_score": None,
        "also_read_by": {},
    }
    assert {**mine["trust"], "interval": None} == {**expected, "interval": None}
    assert mine["trust"]["interval"] == [0, 1]
    lines.append(record(0, "abcd", "abcd", "abcd", ANNOTATION))  # what was annotated is the better truth
    for engines in lines[-1]["read"].values():
        engines["a"]["score"] = 0.98
    trust = build_report(Records(images, lines), ["a"])["methods"]["mine"]["trust"]
    assert (trust["truth"], trust["fine"], trust["right"], trust["wrong"]) == (ANNOTATION, 1, 1, None)
    assert build_report(Records(images), ["a"])["methods"]["mine"]["trust"] is None


def test_the_confidence_from_which_lines_are_fine():
    """40 lines that read the same: the 30 surer ones are right, of the others every second."""
    lines = []
    for number in range(40):
        text = "abcd" if number < 30 or number % 2 else "abxd"
        line = record(number % 2, "abcd", text, text)
        for engines in line["read"].values():
            engines["a"]["score"] = 0.99 - number / 100
        lines.append(line)
    images = [image(0, 1.0, 1.0), image(1, 1.0, 1.0)]
    trust = build_report(Records(images, lines), ["a"])["methods"]["mine"]["trust"]
    assert trust["sure_score"] == pytest.approx(0.70) and trust["fine"] == 3
    for line in lines:
        line["read"] |= {name: {**read, "b": {"text": "abcd", "score": 0.9}} for name, read in line["read"].items()}
    trust = build_report(Records(images, lines), ["a", "b"])["methods"]["mine"]["trust"]
    assert trust["also_read_by"] == {"b": {"fine": 35, "right": 1}}


def test_splits_by_hand(records):
    methods = build_report(records, ["a"])["methods"]
    assert methods["bicubic"]["by_script"] == {
        "latin": {"ocr_a": 0.75, "exact": 0, "n": 1},
        "chinese": {"ocr_a": pytest.approx(4 / 6, abs=1e-6), "exact": 0, "n": 1},
        "digits": {"ocr_a": 0, "exact": 0, "n": 1},
    }
    heights = {(part["low"], part["high"]): (part["n"], part["ocr_a"]) for part in methods["mine"]["by_height"]}
    assert heights[4, 6] == (1, 1) and heights[8, 11] == (1, 1) and heights[6, 8] == (0, None)
    assert heights[15, 20] == (1, pytest.approx(4 / 6, abs=1e-6)) and heights[28, None] == (0, None)
    methods = build_report(records, ["a"], scale=2)["methods"]  # LR pixels
    assert {part["low"]: part["n"] for part in methods["mine"]["by_height"] if part["n"]} == {8: 1, 20: 1, 28: 1}
    assert methods["mine"]["legible_from"] is None  # no class holds enough lines


@pytest.mark.parametrize(
    ("legible", "expected"), [((16, 24, 32, 48), 4), ((24, 48), 11), ((16, 32, 48), 8), ((), None)]
)
def test_the_smallest_legible_height(legible, expected):
    heights = (16, 24, 32, 48)
    lines = [
        record(0, "abcd", "abcd" if h in legible else "wxyz", "", height=float(h)) for h in heights for _ in range(5)
    ]
    lines.append(record(0, "abcd", "", "", height=70.0))  # too few to count
    report = build_report(Records(images=[image(0, 1.0, 1.0)], lines=lines), ["a"])
    assert report["methods"]["bicubic"]["legible_from"] == expected


def test_a_second_opinion_by_hand(records):
    methods = build_report(records, ["a", "b"])["methods"]
    assert methods["bicubic"]["engines"]["b"] == {
        "ocr_a": pytest.approx(
            (4 / 6 + 2 / 3) / 2, abs=1e-6
        ),  # "ab" of "abcd", "二" of "二等"; of "12" it reads nothing
        "ocr_a_levenshtein": pytest.approx((4 / 6 + 2 / 3) / 2, abs=1e-6),
        "exact": 0,
        "harm_rate": None,
        "help_rate": None,
        "ocr_a_annotated": pytest.approx(4 / 6, abs=1e-6),
        "ned": 0.5,
        "accuracy": 0,
        "n_lines": 2,
        "n_annotated": 1,
    }
    assert methods["hr"]["engines"]["b"]["ocr_a"] == 1
    assert list(methods["mine"]["engines"]) == ["b"]


def test_annotated_text_alone():
    """TIGER's and TEXTS-Diff's forms, the mean of all readers, and the splits, where no engine found a line."""
    texts = [("abcd", "abxd", "abcd"), ("wxyz", "wxyz", "wx")]
    lines = [record(i % 2, *text, ANNOTATION, other=("", text[0], text[0])) for i, text in enumerate(texts)]
    report = build_report(Records([image(0, 1.0, 1.0), image(1, 1.0, 1.0)], lines), ["a", "b"])
    bicubic, mine, _ = report["methods"].values()
    assert (bicubic["ocr_a"], bicubic["n_lines"], bicubic["n_annotated"]) == (None, 0, 2)
    assert bicubic["ocr_a_annotated"] == pytest.approx((6 / 8 + 1) / 2)
    assert mine["ocr_a_annotated"] == pytest.approx((1 + 4 / 6) / 2, abs=1e-6)
    assert mine["accuracy"] == 0.5 and (mine["harm_rate"], mine["help_rate"]) == (1, 1)
    assert mine["readers"] == pytest.approx((mine["ocr_a_annotated"] + 1) / 2, abs=1e-6)
    assert mine["by_script"] == {"latin": {"ocr_a": mine["ocr_a_annotated"], "exact": 0.5, "n": 2}}
    assert ("ocr_a_annotated", 2) in {(one["metric"], one["n"]) for one in report["paired"]}


def test_scripts_that_an_engine_cannot_read_do_not_count():
    """20 Greek lines of which "a" reads nothing even in HR, and one Latin line; "b" reads all of them."""
    lines = [record(0, "abcd", "abcd", "abcd", ANNOTATION, other=("abcd", "abcd", "abcd"))]
    for _ in range(20):
        line = record(1, "έξοδος", "x", "x", ANNOTATION, script="greek", other=("έξ", "έξοδος", "έξοδος"))
        line["read"]["hr"]["a"]["text"] = "x"
        lines.append(line)
    images = [image(0, 1.0, 1.0), image(1, 1.0, 1.0)]
    mine = build_report(Records(images, lines), ["a", "b"])["methods"]["mine"]
    assert (mine["n_annotated"], mine["ocr_a_annotated"], list(mine["by_script"])) == (1, 1, ["latin"])
    assert (mine["engines"]["b"]["n_annotated"], mine["engines"]["b"]["help_rate"]) == (21, 1)
    few = build_report(Records(images, lines[:-1]), ["a", "b"])["methods"]["mine"]
    assert few["n_annotated"] == 20  # 19 lines do not show it


def test_normalisation_is_applied():
    lines = [record(0, "Exit 12", "EXIT-12", "exit 12"), record(0, "—", "-", "")]
    made = [build_report(Records([image(0, 1.0, 1.0)], lines), ["a"], rule) for rule in ("none", "alnum")]
    assert [report["methods"]["bicubic"]["exact"] for report in made] == [0, 1]
    assert [report["methods"]["bicubic"]["n_lines"] for report in made] == [2, 1]  # a dash alone is no text then


def test_pairs_of_methods_by_hand(records):
    paired = {(one["a"], one["b"], one["metric"]): one for one in build_report(records, ["a"])["paired"]}
    assert {key[:2] for key in paired} == {("bicubic", "mine")}
    assert {key[2] for key in paired} == {"psnr", "ssim", "ocr_a", "exact", "ocr_a_annotated", "ned", "accuracy"}
    assert paired["bicubic", "mine", "psnr"]["difference"] == 2 and paired["bicubic", "mine", "psnr"]["n"] == 2
    ocr_a = paired["bicubic", "mine", "ocr_a"]
    assert ocr_a["difference"] == pytest.approx((0.25 + 1 + 0) / 3, abs=1e-6) and ocr_a["n"] == 3
    assert paired["bicubic", "mine", "ned"]["p"] is None  # one image alone


def test_an_image_that_equals_its_hr_has_no_finite_mean():
    images = [image(0, 20.0, math.inf), image(1, 20.0, 30.0)]
    report = build_report(Records(images=images), ["a"])
    assert report["methods"]["mine"]["psnr"] is None and report["methods"]["mine"]["delta"]["psnr"] is None
    assert {one["metric"] for one in report["paired"]} == {"ssim"}
    json.dumps(report, allow_nan=False)


def test_nothing_but_one_image():
    report = build_report(Records(images=[image(0, 20.0, 21.0)]), ["a"])
    row = report["methods"]["mine"]
    assert row["psnr"] == 21 and row["ocr_a"] is None and row["n_lines"] == 0 and row["by_script"] == {}
    assert set(row["intervals"].values()) == {None} and report["paired"][0]["p"] is None


def test_mask_scores_by_hand():
    records = Records(images=[image(0, 1.0, 1.0), image(1, 1.0, 1.0)])
    truth = np.zeros((20, 20), bool)
    truth[5:15, 5:15] = True
    half = truth & (np.arange(20) < 10)
    records.mask_counts["mine"] = [mask_counts(mask.astype(np.float32), truth) for mask in (half, truth)]
    records.boundary_f["mine"] = [boundary_f(mask, truth) for mask in (half, truth)]
    mask = build_report(records, ["a"])["methods"]["mine"]["mask"]
    assert mask["iou"] == 0.75 and mask["f"] == pytest.approx(2 * 0.75 / 1.75, abs=1e-6)
    assert mask["boundary_f"] == pytest.approx((boundary_f(half, truth) + 1) / 2, abs=1e-6)
