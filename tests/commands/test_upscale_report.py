"""`tadisr upscale --report`: which lines to check, as JSON and as a picture."""

import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers.command_line import bicubic, never, noise, opened, three, tree
from helpers.signs import quick_engine
from helpers.signs import small_sign as sign
from tadisr import cli
from tadisr.trust import check as trust


@pytest.fixture(scope="session")
def small_engine():
    return quick_engine()


@pytest.fixture
def engine(monkeypatch, small_engine):
    monkeypatch.setattr(trust, "trust_engine", lambda: small_engine)


def test_report(run, engine):
    sign("Exit 12").save("a.png")
    assert run("a.png", "-o", "out", "--report", "--min-score", "0.25") == (
        0,
        ["tadisr: 0 of 1 lines of text to check: see out/a_report.png", "tadisr: 1 of 1 restored: out/a.png"],
    )
    assert tree("out") == ["a.png", "a_mask.png", "a_report.json", "a_report.png"]
    report = json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))
    assert (report["input"], report["output"], report["tadisr"]) == ("a.png", "out/a.png", tadisr.__version__)
    assert report["size"] == [160, 400] and report["error"] is None and report["thresholds"]["min_score"] == 0.25
    assert report["counts"] == {"lines": 1, "check": 0, "agree": 1, "asserted": 0, "kept": 0, "retraced": 0}
    assert report["lines"][0]["output"]["text"].replace(" ", "") == "Exit12"
    picture = opened("out/a_report.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000


def test_the_pipeline_reports_the_same(run, engine, model):
    sign("Exit 12").save("a.png")
    assert run("a.png", "-o", "out", "--report", "--dtype", "float32")[0] == 0
    pipe = tadisr.TADiSRPipeline.from_pretrained(model)
    (report,) = pipe(sign("Exit 12"), report=True).reports
    assert report.to_dict()["lines"] == json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))["lines"]


def test_report_on_what_a_model_changed(run, engine, monkeypatch):
    """Half a line is erased: what is left reads the same in both, so the line must be read where the input has it."""
    for name in ("a", "b"):
        sign("Exit 12").save(f"{name}.png")
    restore = tadisr.TADiSRPipeline.restore

    def erase(self, lr, *arguments):
        image, mask = restore(self, lr, *arguments)
        image[..., 200:] = 1  # the number
        return image, mask

    monkeypatch.setattr(tadisr.TADiSRPipeline, "restore", erase)
    code, lines = run("a.png", "b.png", "-o", "out", "--report")
    assert code == 0 and re.fullmatch(r"tadisr: (\d) of \1 lines of text to check: see the _report.png files", lines[0])
    report = json.loads(Path("out/b_report.json").read_text(encoding="utf-8"))
    assert "12" in report["lines"][0]["input"]["text"] and "12" not in report["lines"][0]["output"]["text"]
    assert report["lines"][0]["verdict"] == "check" and report["counts"]["agree"] == 0


def test_skip_existing_counts_reports(run, engine):
    Image.fromarray(noise()).save("a.png")
    assert run("a.png", "-o", "out")[0] == 0
    assert run("a.png", "-o", "out", "--skip-existing", "--report")[1] == ["tadisr: 1 of 1 restored: out/a.png"]
    assert tree("out") == ["a.png", "a_mask.png", "a_report.json", "a_report.png"]
    assert run("a.png", "-o", "out", "--skip-existing", "--report")[1] == [
        "tadisr: nothing to do: every output exists, and was made in the same way"
    ]


class BrokenEngine:
    """Fails on every photo, as a runtime does."""

    def find(self, image):
        raise RuntimeError("the network ended")

    def describe(self):
        return {"engine": "broken"}


def test_what_cannot_be_read_is_restored_and_reported(run, monkeypatch):
    monkeypatch.setattr(trust, "trust_engine", BrokenEngine)
    three()
    code, lines = run("in", "-o", "out", "--report")
    assert code == 1 and lines == [
        *(
            f"tadisr: in/{name}.png was restored, but not reported on: its text could not be read: the network ended"
            for name in "abc"
        ),
        "tadisr: 3 of 3 restored, in out",
    ]
    assert len(tree("out")) == 3 * 4
    assert json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))["error"] == "the network ended"
    assert np.abs(opened("out/a.png") - bicubic(noise())).max() <= 1


@pytest.mark.parametrize("name", ["a_report.json", "a_report.png"])
def test_a_report_that_cannot_be_written_does_not_cost_the_image(run, engine, name):
    Image.fromarray(noise()).save("a.png")
    os.makedirs(f"out/{name}/in-the-way")
    code, lines = run("a.png", "-o", "out", "--report")
    assert code == 1 and lines == [
        f"tadisr: a.png was restored, but not reported on: cannot write out/{name}: Is a directory: make room there or "
        "choose another folder",
        "tadisr: 1 of 1 restored: out/a.png",
    ]
    assert opened("out/a.png").shape == (36, 52, 3) and not list(Path("out").glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-agreement", "1.5"], "--report: min_agreement must be between 0 and 1, not 1.5"),
        (["--max-score-drop", "-1"], "--report: max_score_drop must be between 0 and 1, not -1.0"),
        (["--min-score", "x"], "--min-score"),
    ],
)
def test_thresholds_that_cannot_be(run, monkeypatch, arguments, message):
    Image.fromarray(noise()).save("a.png")
    monkeypatch.setattr("tadisr.loading.load.load", never)
    code, lines = run("a.png", "-o", "out", "--report", *arguments)
    assert code == 2 and len(lines) == 1 and message in lines[0] and tree() == ["a.png"]


def test_report_without_rapidocr_is_one_line_before_any_work(run, monkeypatch):
    Image.fromarray(noise()).save("a.png")
    monkeypatch.setattr("tadisr.loading.load.load", never)
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    trust._engine.cache_clear()
    code, lines = run("a.png", "-o", "out", "--report")
    assert code == 2 and len(lines) == 1 and "pip install 'tadisr[ocr]'" in lines[0] and tree() == ["a.png"]


def test_a_report_takes_no_other_pictures_name(run, monkeypatch):
    for name in ("a.png", "A_Report.png"):
        Image.fromarray(noise()).save(name)
    monkeypatch.setattr("tadisr.loading.load.load", never)
    code, lines = run("a.png", "A_Report.png", "-o", "out", "--report")
    assert code == 2 and "the report out/a_report.png would meet another picture of that name" in lines[0]
    code, lines = run("a.png", "A_Report.png", "-o", "a_report.png", "--report")
    assert code == 2 and len(lines) == 1


def test_help_tells_the_thresholds(capsys):
    with pytest.raises(SystemExit):
        cli.main(["upscale", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    defaults = trust.Thresholds()
    for name in ("min_agreement", "max_score_drop", "min_score"):
        assert re.search(rf"--{name.replace('_', '-')} X [^(]*\(default: {getattr(defaults, name):g}\)", text), name


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux alone")
def test_report_on_a_file_whose_name_is_no_text(run, monkeypatch, small_engine):
    monkeypatch.setattr(trust, "trust_engine", lambda: small_engine)
    name = os.fsdecode(b"odd-\xff.png")
    Image.fromarray(noise()).save(name)
    assert run(name, "-o", "out", "--report")[0] == 0
    (path,) = Path("out").glob("*.json")
    assert json.loads(path.read_text(encoding="utf-8"))["input"] == name
