"""`--skip-existing` leaves what would be made again as it is; `--json` and the lines say what was done."""

import json
import os
import re
from pathlib import Path

import pytest
from PIL import Image

import tadisr
from helpers import tiny
from helpers.command_line import RUN, child, noise, opened, three, tree
from helpers.signs import quick_engine, small_sign
from tadisr.trust import check as trust

SAME = "tadisr: nothing to do: every output exists, and was made in the same way"


@pytest.mark.parametrize(
    ("name", "first", "then", "how"),
    [
        ("a.png", [], ["--scale", 2], "at another size"),
        ("a.png", ["--scale", 2], [], "at another size"),
        ("a.png", [], ["--color-fix", "adain"], "with another --color-fix"),
        ("a.png", [], ["--fidelity", "1"], "with another --fidelity"),
        ("a.jpg", [], ["--quality", 50], "with another --quality"),
        ("a.webp", ["--quality", 50], [], "with another --quality"),
        ("a.avif", [], ["--quality", 50], "with another --quality"),
        ("a.tif", [], ["--metadata", "none"], "with another --metadata"),
    ],
)
def test_other_options_make_it_anew(run, name, first, then, how):
    Image.fromarray(noise()).save("in.png")
    assert run("in.png", "-o", name, *first)[0] == 0
    assert run("in.png", "-o", name, *first, "--skip-existing", "--tile", 128) == (0, [SAME])
    before = Path(name).read_bytes()
    assert run("in.png", "-o", name, *then, "--skip-existing") == (
        0,
        [f"tadisr: 1 restored anew: their outputs were made {how}", f"tadisr: 1 of 1 restored: {name}"],
    )
    assert Path(name).read_bytes() != before
    assert run("in.png", "-o", name, *then, "--skip-existing") == (0, [SAME])


def test_another_model_and_another_input_make_it_anew(run, model):
    tiny.lean().save_pretrained("other")
    os.symlink(model, "same")
    three()
    assert run("in", "-o", "out")[0] == 0
    assert run("in", "-o", "out", "--skip-existing", "--model", "same") == (0, [SAME])
    Image.fromarray(noise(seed=5)).save("in/b.png")
    assert run("in", "-o", "out", "--skip-existing")[1] == [
        "tadisr: 1 restored anew: their outputs were made of another input",
        "tadisr: 2 skipped: their outputs exist, and were made in the same way",
        "tadisr: 1 of 1 restored: out/b.png",
    ]
    code, lines = run("in", "-o", "out", "--skip-existing", "--model", "other")
    assert code == 0 and lines[0] == "tadisr: 3 restored anew: their outputs were made by another model"


def test_what_others_made_is_made_anew(run):
    three()
    assert run("in", "-o", "out")[0] == 0
    Image.new("RGB", (52, 36)).save("out/a.png")
    Path("out/b_mask.png").write_text("no image")
    assert run("in", "-o", "out", "--skip-existing")[1] == [
        "tadisr: 2 restored anew: their outputs were made by something that left no record",
        "tadisr: 1 skipped: their outputs exist, and were made in the same way",
        "tadisr: 2 of 2 restored, in out",
    ]
    assert opened("out/a.png").max() > 0


def test_pages_are_skipped_one_by_one(run):
    first, *others = (Image.fromarray(noise(5 + i, 7, seed=i)) for i in range(3))
    first.save("scan.tif", save_all=True, append_images=others)
    assert run("scan.tif", "-o", "out")[0] == 0
    os.remove("out/scan_002.png")
    assert run("scan.tif", "-o", "out", "--skip-existing")[1] == [
        "tadisr: 2 skipped: their outputs exist, and were made in the same way",
        "tadisr: 1 of 1 restored: out/scan_002.png",
    ]


def test_other_thresholds_make_the_report_anew(run, monkeypatch):
    engine = quick_engine()
    monkeypatch.setattr(trust, "trust_engine", lambda: engine)
    small_sign("Exit 12").save("a.png")
    assert run("a.png", "-o", "out", "--report")[0] == 0
    assert run("a.png", "-o", "out", "--report", "--skip-existing") == (0, [SAME])
    code, lines = run("a.png", "-o", "out", "--report", "--skip-existing", "--min-score", 0.25)
    assert code == 0 and lines[0] == "tadisr: 1 restored anew: their outputs were made with other thresholds"


def test_json_tells_all(call, model):
    three()
    Path("in/c.png").write_text("text")
    Path("in/d.pdf").write_text("%PDF-1.7")
    (call("in/a.png", "-o", "out"))
    code, out, lines = call("in", "-o", "out", "--json", "--skip-existing", "--scale", 4)
    report = json.loads(out)
    assert code == 1 and lines[-1] == "tadisr: 1 of 2 restored, in out"
    assert report["tadisr"] == tadisr.__version__ and report["error"] is None
    assert report["model"]["name"] == model and re.fullmatch("[0-9a-f]{64}", report["model"]["sha256"])
    assert report["model"]["dtype"] in ("float32", "bfloat16") and report["model"]["device"] == "cpu"
    a, b, c = report["images"]
    assert [image["status"] for image in (a, b, c)] == ["skipped", "restored", "failed"]
    assert b | {"seconds": None} == {
        "input": "in/b.png", "page": 1, "pages": 1, "status": "restored", "error": None, "remarks": [],
        "outputs": {"image": "out/b.png", "mask": "out/b_mask.png"}, "input_size": [9, 13], "size": [36, 52],
        "seconds": None, "lines": None, "lines_to_check": None,
    }  # fmt: skip
    assert 0 < b["seconds"] < 60 and a["seconds"] is None and "in/c.png is empty" in c["error"]
    assert c["outputs"] == {} and c["size"] is None
    assert [left["path"] for left in report["left_out"]] == ["in/d.pdf"]
    totals = report["totals"]
    assert {k: totals[k] for k in ("restored", "skipped", "failed", "not_started", "left_out")} == {
        "restored": 1, "skipped": 1, "failed": 1, "not_started": 0, "left_out": 1,
    }  # fmt: skip


def test_json_tells_the_lines(call, monkeypatch):
    engine = quick_engine()
    monkeypatch.setattr(trust, "trust_engine", lambda: engine)
    small_sign("Exit 12").save("a.png")
    code, out, _ = call("a.png", "-o", "out", "--json", "--report")
    report, written = json.loads(out), json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))
    assert code == 0 and report["totals"]["lines"] == report["images"][0]["lines"] == written["counts"]["lines"] == 1
    assert report["totals"]["lines_to_check"] == written["counts"]["check"] == 0
    assert report["images"][0]["size"] == written["size"]
    assert set(report["images"][0]["outputs"]) == {"image", "mask", "report", "report_picture"}


def test_json_after_an_error(call, monkeypatch):
    three()
    restore = tadisr.TADiSRPipeline.restore

    def stopped(self, lr, *arguments, **options):
        if lr.shape[-1] == 5:
            raise KeyboardInterrupt
        return restore(self, lr, *arguments, **options)

    monkeypatch.setattr(tadisr.TADiSRPipeline, "restore", stopped)
    Image.fromarray(noise(5, 5)).save("in/b.png")
    code, out, _ = call("in", "-o", "out", "--json")
    report = json.loads(out)
    assert code == 130 and report["error"] == "interrupted"
    assert [image["status"] for image in report["images"]] == ["restored", "not started", "not started"]


def test_a_line_for_each_image_where_there_is_no_terminal(call):
    three()
    code, _, lines = call("in", "-o", "out")
    assert code == 0 and len(lines) == 4
    for number, (name, line) in enumerate(zip("abc", lines, strict=False), 1):
        assert re.fullmatch(rf"tadisr: {number} of 3: in/{name}\.png: restored in \d+\.\d s", line)
    assert call("in", "-o", "out", "--quiet") == (0, "", [])
    Path("in/b.png").write_text("text")
    code, _, lines = call("in", "-o", "out", "-q")
    assert code == 1 and len(lines) == 2 and "in/b.png" in lines[0] and lines[1] == "tadisr: 2 of 3 restored, in out"


def test_a_pipe_that_nobody_reads_ends_quietly(tmp_path, model):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    done = child(
        "import os, sys\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, 1)\n" + RUN,
        *["upscale", "a.png", "-o", "out", "--json", "--model", model],
        cwd=tmp_path,
    )
    assert done.returncode == 141 and done.stderr == "tadisr: 1 of 1 restored: out/a.png\n"
    assert tree(tmp_path) == ["a.png", "out/a.png", "out/a_mask.png"]


def test_metadata(run):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.fromarray(noise()).save("a.jpg", exif=exif, dpi=(300, 300), quality=100)
    assert run("a.jpg", "-o", "keep", "--format", "same")[0] == run("a.jpg", "-o", "none", "--metadata", "none")[0] == 0
    with Image.open("keep/a.jpg") as kept, Image.open("none/a.png") as bare:
        assert kept.getexif()[0x010E] == "a description" and 0x010E not in bare.getexif()
        assert [round(float(x)) for x in (*kept.info["dpi"], *bare.info["dpi"])] == [1200] * 4
