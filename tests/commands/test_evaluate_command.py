"""`tadisr evaluate`: the table on stdout, the reports in the folder, mistakes in one line."""

import json
import os
import shutil
from unittest.mock import Mock

import numpy as np
import pytest

from helpers.command_line import never
from helpers.evaluation_samples import save, write_folder
from tadisr import cli


def evaluate(*arguments):
    return cli.main(["evaluate", *map(str, arguments)])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("sets") / "photos")


def test_three_methods_in_one_run(data, tmp_path, capsys):
    for i in range(3):
        save(tmp_path / "made" / f"{i:03d}.png", np.full((128, 256, 3), 200, np.uint8))
    out = tmp_path / "out" / "here"
    specs = ["bicubic,lanczos", f"flat={tmp_path / 'made'}"]
    more = ("--weights", tmp_path, "--workers", 1, "--trust")
    assert evaluate("--data", data, "--methods", *specs, "-o", out, *more) == 0
    printed = capsys.readouterr()
    table, trust = printed.out.split("\n\n")
    assert trust.startswith("| method | lines called fine |") and len(trust.splitlines()) == 4
    head, _, *rows = table.splitlines()
    cells = [part.strip() for part in head.strip("|").split("|")]
    measured = [cell for cell in cells if cell != "ST-LPIPS ↓"]  # where its extra is installed
    assert [*measured[:3], *measured[5:9]] == [
        "method", "OCR-A against LR [95 %]", "PSNR ↑", "SSIM ↑", "LPIPS ↓", "FID ↓", "OCR-A ↑",
    ]  # fmt: skip
    assert [row.split("|")[2].strip()[:1] for row in rows] == ["–", "+", "-", "–"], "anchors change nothing"
    assert [row.split("|")[1].strip() for row in rows] == ["bicubic (LR)", "lanczos", "flat", "HR"]
    lines = [line.split(":") for line in printed.err.splitlines()]
    progress = [line for line in lines if line[1] == " restored images"]
    assert len(progress) == 9 and progress[-1][2] == " 9 of 9"  # where there is no terminal
    assert [line[:2] for line in lines if line not in progress][:2] == [
        ["tadisr", " LPIPS is left empty"], ["tadisr", " FID is left empty"],
    ]  # fmt: skip
    assert printed.err.splitlines()[-1] == f"tadisr: report.html, report.md and report.json in {out}"
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["data"] == "photos" and list(report["methods"]) == ["bicubic", "lanczos", "flat", "hr"]
    assert report["methods"]["flat"]["ocr_a"] < 0.1 and report["methods"]["flat"]["seconds"] is None
    assert sorted(path.name for path in out.iterdir()) == ["images", "report.html", "report.json", "report.md"]


def test_options_reach_the_report(data, tmp_path):
    out = tmp_path / "out"
    arguments = ["--limit", 2, "--seed", 3, "--normalize", "alnum", "--tile", "none", "--device", "cpu"]
    assert evaluate("--data", data, "--methods", "lanczos", "-o", out, "--weights", tmp_path, *arguments) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(report["images"]) == 2 and report["settings"]["seed"] == 3
    assert report["settings"]["normalization"] == "alnum"


def test_annotated_text_alone_is_the_truth(tmp_path, capsys):
    """No engine finds lines, and the first column is of the annotated text."""
    folder = write_folder(tmp_path / "data", annotated=True)
    out = tmp_path / "out"
    arguments = ("--methods", "lanczos", "-o", out, "--weights", tmp_path, "--truth", "annotation")
    assert evaluate("--data", folder, *arguments) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert "OCR-A, annotated against LR [95 %]" in head and "| OCR-A ↑ |" not in head
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert {line["source"] for line in report["lines"]} == {"annotation"} and len(report["lines"]) == 3
    lanczos = report["methods"]["lanczos"]
    assert lanczos["ocr_a"] is None and lanczos["ocr_a_annotated"] > 0.5 and lanczos["psnr_text"] < lanczos["psnr"]
    assert "## OCR-A by height of the text, in LR pixels" in (out / "report.md").read_text(encoding="utf-8")


def test_an_image_cut_off_costs_no_other(data, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(data, folder)
    cut = folder / "hr" / "001.png"
    cut.write_bytes(cut.read_bytes()[:2000])
    assert evaluate("--data", folder, "--methods", "lanczos", "-o", out, "--workers", 1) == 1
    printed = capsys.readouterr()
    assert "lanczos" in printed.out and f"tadisr: left out: cannot decode {cut}" in printed.err
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert [image["name"] for image in report["images"]] == ["000", "002"]
    assert {line["image"] for line in report["lines"]} == {"000"}


def test_names_that_are_no_utf_8_lose_nothing(data, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(data, folder)
    (folder / "truth.json").unlink()
    name = os.fsdecode(b"\xe9t\xe9.png")
    try:
        for kind in ("hr", "lr"):
            (folder / kind / "002.png").rename(folder / kind / name)
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    assert evaluate("--data", folder, "--methods", "lr=nearest", "-o", out, "--workers", 1) == 0
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert len(report["images"]) == 3 and (out / "report.html").stat().st_size > 1000
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nowhere"], "--weights: no folder nowhere"),
        (["--data", "nowhere"], "No folder nowhere."),
        (["--methods", "sharpest"], "No method sharpest: give nearest, bicubic"),
        (["--methods", "none.pth"], "No model file none.pth"),
        (["--methods", "tadisr-tiny,none.pth"], "No model file none.pth"),
        (["--methods", "tadisr-tiny,x=file"], "No method file: give nearest, bicubic"),
        (["--methods", "tadisr-tiny,x=folder"], "folder holds neither a model nor images"),
        (["--methods", "tadisr-tiny,textdiff-tiny"], "No method textdiff-tiny: give nearest"),
        (["--methods", ","], "--methods names none"),
        (["--split", "tets"], "holds no data set known here: expected hr/ and lr/, data/tets-"),
        (["--engines", "ocrad"], "No OCR engine 'ocrad': choose one of rapidocr, ppocr-v5"),
        (["--limit", "0"], "--limit must be at least 1, not 0"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--scale", "0"], "--scale must be at least 1"),
        (["--scale", "2"], "expected 2 times as many each way"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--tile", "big"], "--tile takes a number or none, not big"),
        (["--tile", "32"], "--tile must be none or at least 64, not 32"),
        (["--device", "quantum"], "cannot use device quantum"),
        (["--normalize", "lower"], "--normalize: invalid choice"),
        (["-o", "file"], "file: File exists"),
    ],
)
def test_mistakes_are_one_line(data, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("tadisr.evaluation.methods.load", never)
    given = {"--data": str(data), "--methods": "lanczos", "-o": "out"} | {arguments[0]: arguments[1]}
    assert evaluate(*(part for pair in given.items() for part in pair)) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err
    assert len(printed.err.splitlines()) == 1 and printed.err.startswith("tadisr: ")


def test_not_enough_memory_is_one_line(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tadisr.evaluation.report.evaluate", Mock(side_effect=MemoryError))
    assert evaluate("--data", str(data), "--methods", "lanczos", "-o", str(tmp_path)) == 2
    assert capsys.readouterr().err.strip() == (
        "tadisr: not enough memory: try a smaller --tile than 1024, or another --device"
    )
