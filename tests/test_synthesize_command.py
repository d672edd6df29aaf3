"""`tadisr synthesize`: the same seed, the same bytes; masks that lie on the text; mistakes in one line."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from tadisr.data_synthesis import ftsr

from tadisr import cli

SIZE = 128


def synthesize(*arguments):
    return cli.main(["synthesize", "--count", "2", "--size", str(SIZE), "--workers", "1", *map(str, arguments)])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "pages"
    assert synthesize("-o", folder) == 0
    return folder


def test_layout(pages):
    names = ["0000000.png", "0000001.png"]
    images = [f"{kind}/{name}" for kind in ("hr", "lr", "mask") for name in names]
    assert sorted(contents(pages)) == sorted([*images, "manifest.json", "metadata.jsonl"])
    for name in names:
        sides = {
            kind: cv2.imread(str(pages / kind / name), cv2.IMREAD_UNCHANGED).shape for kind in ("hr", "mask", "lr")
        }
        assert sides == {"hr": (SIZE, SIZE, 3), "mask": (SIZE, SIZE), "lr": (SIZE // 4, SIZE // 4, 3)}


def test_seed_decides_and_workers_do_not(pages, tmp_path):
    assert synthesize("-o", tmp_path / "same", "--workers", 2, "--seed", 0) == 0
    assert contents(tmp_path / "same") == contents(pages)
    assert synthesize("-o", tmp_path / "other", "--seed", 1) == 0
    other = contents(tmp_path / "other")
    assert not {name for name, data in contents(pages).items() if data == other[name]}


def test_masks_lie_on_the_text(pages):
    lines = 0
    for record in map(json.loads, (pages / "metadata.jsonl").read_text(encoding="utf-8").splitlines()):
        mask = cv2.imread(str(pages / "mask" / record["file_name"]), cv2.IMREAD_GRAYSCALE) / 255
        gray = cv2.imread(str(pages / "hr" / record["file_name"]), cv2.IMREAD_GRAYSCALE) / 255.0
        quads = np.zeros_like(mask, np.uint8)
        for line in record["lines"]:
            quad = np.zeros_like(quads)
            cv2.fillPoly(quad, [np.rint(line["quad"]).astype(np.int32)], 1)
            assert mask[quad > 0].max() > 0.5, line  # every line has its mask
            quads |= quad
            lines += 1
        assert mask[cv2.dilate(quads, np.ones((5, 5))) == 0].max(initial=0) == 0  # and there is no other
        # Where the mask has an edge, the page has one; not where the same mask is moved.
        slopes = np.abs(cv2.Sobel(gray, cv2.CV_64F, 1, 0)) + np.abs(cv2.Sobel(gray, cv2.CV_64F, 0, 1))
        edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3)))
        moved = [np.roll(edges, shift, (0, 1)) for shift in ((4, 0), (-4, 0), (0, 4), (0, -4), (5, 5), (-5, 5))]
        here, *beside = [(slopes * where).sum() / where.sum() for where in (edges, *moved)]
        assert here > 1.1 * max(beside)
    assert lines > 1


def test_photo_list_leaves_out_what_is_missing(tmp_path, monkeypatch, capsys):
    photo = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    for name in ("a.png", "b c.png", "d/e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), photo)
    (tmp_path / "list.txt").write_text("a.png\nmissing.png\n\n  b c.png  \n/nowhere/x.jpg\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    called = {}
    monkeypatch.setattr(ftsr, "synthesize", lambda out, count, **options: called.update(options, out=out, count=count))
    assert synthesize("-o", "out", "--photo-list", "list.txt", "--photos", "d", "--seed", 5, "--workers", 9) == 0
    assert called.pop("style").size == SIZE
    assert called == {
        "out": Path("out"), "count": 2, "seed": 5, "workers": 2,
        "photos": [Path("d/e.png"), Path("a.png"), Path("b c.png")],
    }  # fmt: skip
    assert capsys.readouterr().err.splitlines() == [
        "tadisr: list.txt: 2 of its 4 photos do not exist and are left out",
        "tadisr: 2 pages in out",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "-o/--output"),
        (["-o", "new", "--count", "0"], "--count must be at least 1"),
        (["-o", "new", "--count", "x"], "--count"),
        (["-o", "new", "--size", "130"], "--size must be divisible by 4"),
        (["-o", "new", "--size", "8"], "--size must be at least"),
        (["-o", "new", "--seed", "-1"], "--seed must be at least 0"),
        (["-o", "new", "--workers", "0"], "--workers must be at least 1"),
        (["-o", "new", "--photos", "nowhere"], "No images in nowhere"),
        (["-o", "new", "--photo-list", "nowhere.txt"], "nowhere.txt: No such file"),
        (["-o", "new", "--photo-list", "list.txt"], "none of its 1 photos exist"),
        (["-o", "."], ". is not empty"),
        (["-o", "list.txt"], "list.txt: Not a directory"),
        (["-o", "list.txt/new"], "Not a directory"),
    ],
)
def test_mistakes_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    (tmp_path / "list.txt").write_text("missing.png\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert synthesize(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and err.startswith("tadisr: ") and message in err
    assert [path.name for path in tmp_path.iterdir()] == ["list.txt"]


def test_photo_that_is_none(tmp_path, capfd):
    (tmp_path / "bad.png").write_text("text")
    assert synthesize("-o", tmp_path / "new", "--photos", tmp_path / "bad.png", "--count", 8, "--size", 64) == 2
    assert "bad.png is not an image that OpenCV reads." in capfd.readouterr().err.splitlines()[-1]
