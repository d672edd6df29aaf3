"""`tadisr refine`: the lines of a photo are found, or named in a file, and sharpened."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers import tiny_textdiff
from helpers.command_line import never
from helpers.signs import quick_engine, sign
from tadisr import cli, ocr


def write(path, boxes):
    Path(path).write_text(json.dumps(boxes), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="session")
def engine():
    return quick_engine()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("textdiff")
    tiny_textdiff.textdiff().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(model, tmp_path, monkeypatch, capfd, engine):
    """`tadisr refine ARGUMENTS` in an empty folder with photo.png: its exit code and its lines on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ocr, "load_photo_engine", lambda: engine)  # loaded once, and quick on small photos
    sign("Exit 12", "Platform 9").save("photo.png")

    def run(*arguments):
        code = cli.main(["refine", "--model", model, "--device", "cpu", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert out == ""
        return code, err.splitlines()

    return run


def opened(path, mode="RGB"):
    with Image.open(path) as image:
        assert image.mode == mode
        return np.asarray(image)


def test_lines_are_found_and_refined(run):
    assert run("photo.png", "-o", "out.png") == (0, ["tadisr: 2 lines of text refined at strength 1: out.png"])
    before, after = opened("photo.png"), opened("out.png")
    changed = (before != after).any(2)
    assert changed[10:90, 14:120].mean() > 0.5 and not changed[:, 200:].any() and not changed[105:].any()
    assert {path.name for path in Path().iterdir()} == {"photo.png", "out.png"}


def test_the_bundled_model_by_default(run):
    write("boxes.json", [{"quad": [[10, 10], [110, 10], [110, 40], [10, 40]]}])
    assert cli.main(["refine", "photo.png", "-o", "out.png", "--boxes", "boxes.json", "--device", "cpu"]) == 0
    changed = np.abs(opened("photo.png").astype(int) - opened("out.png"))
    assert 0 < changed[12:38, 12:108].mean() < 20 and not changed[50:].any()


def test_strength_is_that_of_the_whole_change(run):
    tiny_textdiff.textdiff().save_pretrained("own")
    values = json.loads(Path("own/model_index.json").read_text(encoding="utf-8"))
    write("own/model_index.json", values | {"residual_strength": 0.0})
    code, lines = run("photo.png", "-o", "same.png", "--model", "own")
    assert code == 0 and lines == ["tadisr: 2 lines of text refined at strength 0: same.png"]
    code, lines = run("photo.png", "-o", "sharp.png", "--model", "own", "--strength", 1)
    assert code == 0 and lines == ["tadisr: 2 lines of text refined at strength 1: sharp.png"]
    assert np.array_equal(opened("same.png"), opened("photo.png"))
    assert not np.array_equal(opened("sharp.png"), opened("photo.png"))


def test_lines_named_in_a_file(run):
    write("boxes.json", [{"quad": [[10, 10], [110, 10], [110, 40], [10, 40]]}])
    assert run("photo.png", "-o", "out", "--boxes", "boxes.json") == (
        0,
        ["tadisr: 1 line of text refined at strength 1: out/photo.png"],
    )
    changed = (opened("photo.png") != opened("out/photo.png")).any(2)
    assert changed[12:38, 12:108].mean() > 0.5 and not changed[50:].any()


def test_seed_and_steps(run):
    write("boxes.json", [{"quad": [[10, 10], [60, 10], [60, 40], [10, 40]]}])
    results = []
    for arguments in ((), ("--seed", 0, "--steps", 5), ("--seed", 1), ("--steps", 2), ("--temperature", 0)):
        assert run("photo.png", "-o", "out.png", "--boxes", "boxes.json", *arguments)[0] == 0
        results.append(opened("out.png"))
    assert np.array_equal(results[0], results[1])
    assert all(not np.array_equal(results[0], other) for other in results[2:])


def test_what_else_a_photo_holds_is_kept(run):
    photo = sign("Exit 12")
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.save("clear.png", icc_profile=None)
    assert run("clear.png", "-o", "out.png")[0] == 0
    assert np.array_equal(opened("out.png", "RGBA")[..., 3], opened("clear.png", "RGBA")[..., 3])


def test_gray_stays_gray(run):
    sign("Exit 12").convert("L").save("gray.png", dpi=(300, 300))
    assert run("gray.png", "-o", "out.png")[0] == 0
    assert opened("out.png", "L").shape == opened("gray.png", "L").shape
    with Image.open("out.png") as image:
        assert round(float(image.info["dpi"][0])) == 300


def test_nothing_to_refine(run):
    sign().save("empty.png")
    assert run("empty.png", "-o", "a.png") == (0, ["tadisr: no text found, written unchanged: a.png"])
    write("none.json", [])
    assert run("photo.png", "-o", "b.png", "--boxes", "none.json") == (
        0,
        ["tadisr: no boxes, written unchanged: b.png"],
    )
    for one, other in (("a", "empty"), ("b", "photo")):
        assert np.array_equal(opened(f"{one}.png"), opened(f"{other}.png"))


def test_only_the_first_frame(run):
    sign("Exit 12").save("a.tif", save_all=True, append_images=[sign("Two")])
    code, lines = run("a.tif", "-o", "out.png")
    assert code == 1 and lines[0] == "tadisr: a.tif holds 2 frames or pages: only the first was refined"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png"], "cannot read missing.png: No such file"),
        (["."], "cannot read"),
        (["broken.png"], "broken.png is empty, damaged"),
        (["photo.png", "-o", "photo.png"], "photo.png would replace the input photo.png"),
        (["photo.png", "-o", "photo.png/out.png"], "cannot write in photo.png: Not a directory"),
        (["photo.png", "-o", "out.gif"], "cannot write out.gif: name a folder, or a file ending in"),
        (["photo.png", "--steps", "0"], "--steps must be an integer from 1 to 200, not 0"),
        (["photo.png", "--strength", "1.5"], "--strength must be from 0 to 1, not 1.5"),
        (["photo.png", "--temperature", "1.5"], "--temperature must be from 0 to 1, not 1.5"),
        (["photo.png", "--steps", "201"], "--steps must be an integer from 1 to 200, not 201"),
        (["photo.png", "--seed", "-1"], "--seed must be at least 0"),
        (["photo.png", "--device", "tpu9"], "cannot use device tpu9"),
        (["photo.png", "--boxes", "missing.json"], "--boxes: cannot read missing.json: No such file"),
        (["photo.png", "--boxes", "broken.png"], "--boxes: broken.png is not JSON"),
        (["photo.png", "--boxes", "far.json"], "lies outside the photo of 220 x 110"),
        (["photo.png", "--model", "."], "cannot load .: . holds neither a pipeline (model_index.json) nor an adapter"),
        (["photo.png", "--model", "tadisr-tiny"], "holds a TADiSRPipeline, not a TextDiffPipeline"),
        (["photo.png", "--model", "no-such-model"], "cannot load no-such-model: No model no-such-model"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(run, monkeypatch, arguments, message):
    monkeypatch.setattr("tadisr.loading.load.load", never)  # all of them are said before
    Path("broken.png").write_bytes(b"nothing")
    write("far.json", [{"quad": [[530, 520], [610, 520], [610, 540], [530, 540]]}])
    before = {path: path.read_bytes() for path in Path().iterdir()}
    code, lines = run(*arguments, *(() if "-o" in arguments else ("-o", "out.png")))
    assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: ") and message in lines[0]
    assert {path: path.read_bytes() for path in Path().iterdir()} == before


def test_without_an_ocr_engine(model, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    sign("Exit 12").save(tmp_path / "photo.png")
    arguments = [str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.png"), "--model", model, "--device", "cpu"]
    with monkeypatch.context() as patched:
        patched.setattr("tadisr.loading.load.load", never)
        assert cli.main(["refine", *arguments]) == 2
    message = capsys.readouterr().err
    assert "--boxes auto: Reading text needs RapidOCR: pip install 'tadisr[ocr]'" in message
    assert message.count("\n") == 1 and not (tmp_path / "out.png").exists()
    boxes = write(tmp_path / "boxes.json", [{"quad": [[10, 10], [110, 10], [110, 40], [10, 40]]}])
    assert cli.main(["refine", *arguments, "--boxes", boxes]) == 0, "boxes from a file need none"
