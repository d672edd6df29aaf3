"""`tadisr upscale --asserted`: a report in which somebody wrote what lines read."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import opened, three
from tadisr.commands import text_report
from tadisr.io.images import read_made_by

EXAMPLE = Path("demo/example.png").resolve()
SAID = "Region-based segmentations"


def read_report():
    return json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))


def write(report, name="said.json"):
    Path(name).write_text(json.dumps(report), encoding="utf-8")


@pytest.fixture
def report(run):
    """Of a photo that was restored into out/."""
    tiny.lean(mask_prompt=True).save_pretrained("follows")
    with Image.open(EXAMPLE) as image:
        image.convert("RGB").save("a.png")
    assert run("a.png", "-o", "out", "--model", "follows", "--report")[0] in (0, 1)
    return read_report()


def test_a_line_is_drawn_as_somebody_says(run, report):
    before = opened("out/a.png").astype(int)
    line = report["lines"][0]
    assert line["asserted"] is None
    line["asserted"] = SAID
    write(report)
    options = ("a.png", "-o", "out", "--model", "follows", "--report", "--asserted", "said.json", "--skip-existing")
    code, said = run(*options)
    assert code == 0 and said[0].endswith("restored anew: their outputs were made with another --asserted")
    changed = np.abs(opened("out/a.png") - before).max(2)
    (left, top), (right, bottom) = (
        np.array(line["quad"]).min(0).astype(int),
        np.array(line["quad"]).max(0).astype(int),
    )
    assert changed[top:bottom, left:right].max() > 0
    (found,) = (one for one in read_report()["lines"] if one["verdict"] == "asserted")
    assert found["asserted"] == SAID and found["output"] == {"text": "", "score": 0.0}
    assert "asserted=%5B%22Region-based%20segmentations%22%5D" in read_made_by(Path("out/a.png"))
    assert "nothing to do" in run(*options)[1][0]


def test_without_opencv(run, report, monkeypatch):
    monkeypatch.setattr(text_report, "find_spec", lambda name: None)
    code, lines = run("a.png", "-o", "out", "--model", "follows", "--asserted", "out/a_report.json")
    assert (code, lines) == (2, ["tadisr: --asserted needs OpenCV: pip install 'tadisr[ocr]'"])


def test_at_another_size(run, report):
    report["lines"][0]["asserted"] = SAID
    write(report)
    code, _ = run("a.png", "-o", "half", "--model", "follows", "--asserted", "said.json", "--scale", "2")
    assert code == 0 and opened("half/a.png").shape[0] * 2 == report["size"][0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["in/a.png", "--asserted", "none.json"], "--asserted none.json: "),
        (["in/a.png", "--asserted", "other.json"], "--asserted other.json: it is no report of tadisr upscale --report"),
        (["in/a.png", "--asserted", "empty.json"], 'write what a line says into its "asserted", in quotes'),
        (["in/a.png", "--asserted", "said.json", "--abstain"], "--asserted does not go with --only-text, --abstain"),
        (
            ["in/a.png", "--asserted", "said.json", "--backend", "ray"],
            "--asserted is for one image: leave out --backend ray",
        ),
        (["in", "--asserted", "said.json"], "--asserted is for one image, not for "),
        (["in/a.png", "--asserted", "said.json"], "--asserted said.json: The model takes no mask prompt"),
        (["in/a.png", "--asserted", "odd.json", "--model", "follows"], "--asserted odd.json: No installed font draws"),
    ],
)
def test_what_cannot_be_followed(run, options, message):
    three()
    line = {"quad": [[1, 1], [30, 1], [30, 12], [1, 12]], "asserted": SAID}
    for name, report in {
        "said.json": {"size": [36, 52], "lines": [line]},
        "odd.json": {"size": [36, 52], "lines": [line | {"asserted": "\U000104a0"}]},
        "empty.json": {"size": [36, 52], "lines": []},
        "other.json": {"lines": 3},
    }.items():
        write(report, name)
    if "follows" in options:
        tiny.lean(mask_prompt=True).save_pretrained("follows")
    code, lines = run("-o", "out", *options)
    assert code == 2 and message in lines[-1]
