"""`tadisr upscale` plans first: what headers, names and options show is said before a model is loaded."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from PIL import Image

from helpers.command_line import child, never, noise, three, tree
from helpers.encoded_images import png
from tadisr.commands import plan as limits
from tadisr.pipelines import inputs

PLAN = (
    "import sys, atexit\n"
    "from tadisr.cli import main\n"
    "atexit.register(lambda: print('loaded', {'torch', 'diffusers', 'cv2'} & set(sys.modules)))\n"
    "sys.exit(main(sys.argv[1:]))"
)


@pytest.fixture
def plan(run, monkeypatch):
    """`run`, but no model may be loaded."""
    monkeypatch.setattr("tadisr.loading.load.load", never)
    return run


@pytest.fixture
def dry_run(call):
    """What would be done: the exit code, and the lines on stdout but the last."""

    def dry_run(*arguments):
        code, out, _ = call(*arguments, "--dry-run")
        return code, out.splitlines()[:-1]

    return dry_run


def flat(name, width, height, mode="L", **options):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (width, height)).save(name, **options)


def pages(name, *sizes):
    first, *others = (Image.fromarray(noise(*size, seed=i)) for i, size in enumerate(sizes))
    first.save(name, save_all=True, append_images=others)


def test_planning_loads_no_torch(tmp_path):
    Image.fromarray(noise()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("text")
    done = child(PLAN, "upscale", "a.png", "b.png", "--dry-run", cwd=tmp_path)
    assert done.returncode == 1 and "b.png is empty" in done.stderr
    assert done.stdout.splitlines()[0] == "a.png: 13 x 9 to 52 x 36: tadisr-output/a.png"
    assert done.stdout.splitlines()[1].startswith(
        "1 to restore, 1 failed; 0.0 megapixels, memory for the largest 0.00 GB"
    )
    assert done.stdout.splitlines()[-1] == "loaded set()"
    done = child(PLAN, "upscale", "b.png", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout == "loaded set()\n" and tree(tmp_path) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    ("size", "output", "limit"),
    [((4100, 8), "w.webp", 16383), ((8, 4100), "w.webp", 16383), ((17000, 2), "w.jpg", 65500)],
)
def test_formats_have_limits(plan, size, output, limit):
    flat("a.png", *size)
    code, lines = plan("a.png", "-o", output)
    assert code == 1 and f"cannot write {output}: " in lines[0] and f"at most {limit} a side" in lines[0]
    assert lines[1:] == ["tadisr: 0 of 1 restored"]


def test_memory_is_reckoned_by_the_header(plan):
    Path("a.png").write_bytes(png(12000, 12000, 8, 2, []))  # a header, and no pixels
    code, lines = plan("a.png", "-o", "out", "--scale", 50)
    assert code == 1 and lines[0].startswith("tadisr: a.png would take 8640.0 GB of memory, and ")


@pytest.mark.parametrize(
    ("letters", "option", "suffix"),
    [(247, (), "_mask.png"), (244, ("--compare",), "_compare.png"), (251, ("--no-mask", "--format", "webp"), ".webp")],
)
def test_names_that_get_too_long(plan, letters, option, suffix):
    name = "n" * letters
    flat(f"{name}.png", 8, 8)
    code, lines = plan(f"{name}.png", "-o", "out", *option)
    assert code == 1 and lines == [
        f"tadisr: the name {name}{suffix} has 256 bytes, and 255 are possible: rename the input",
        "tadisr: 0 of 1 restored",
    ]
    assert not Path("out").exists()


def test_letters_of_several_bytes_count(plan):
    flat(f"{'字' * 83}.png", 8, 8)
    code, lines = plan(f"{'字' * 83}.png", "-o", "out")
    assert code == 1 and "has 258 bytes" in lines[0]


def test_mistakes_of_inputs_come_together_and_first(call):
    three()
    Path("in/b.png").write_text("text")
    flat("in/c.png", 12000, 12000)
    flat("in/d.gif", 8, 8)
    code, _, lines = call("in", "-o", "out", "--scale", 20)
    assert code == 1 and lines[-1] == "tadisr: 2 of 4 restored, in out"
    assert lines[0].startswith("tadisr: in/b.png is empty") and lines[1].startswith("tadisr: in/c.png would take")
    assert lines[2].startswith("tadisr: 1 of 2: in/a.png: restored in")


def test_a_warning_where_the_disk_may_not_hold_it(run, monkeypatch):
    Image.fromarray(noise(40, 40)).save("a.png")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(20_000))
    code, lines = run("a.png", "-o", "out")
    assert code == 0 and lines[0].startswith("tadisr: the outputs take about") and lines[0].endswith("they may not fit")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2_000))
    code, lines = run("a.png", "-o", "out2")
    assert code == 2 and len(lines) == 1 and lines[0].endswith("make room there or choose another folder")


def test_what_a_folder_holds_beside_images_is_named(run):
    three()
    for name, data in {
        "IMG_1.jxl": b"\xff\x0a" + bytes(20),
        "IMG_2.jxl": b"\xff\x0a" + bytes(20),
        "scan.pdf": b"%PDF-1.7\n",
        "old.tga": bytes(18),
        "notes.txt": b"no picture",
    }.items():
        (Path("in") / name).write_bytes(data)
    code, lines = run("in", "-o", "out")
    assert code == 1 and len(lines) == 4 and lines[-1] == "tadisr: 3 of 3 restored, in out"
    assert lines[0].startswith("tadisr: left out: in/IMG_1.jxl") and lines[0].endswith("; also in/IMG_2.jxl")
    assert lines[1].startswith("tadisr: left out: in/old.tga")
    assert lines[2].startswith("tadisr: left out: in/scan.pdf") and "PDF" in lines[2]


def test_a_folder_of_nothing_but_others(plan):
    Path("in").mkdir()
    for name in ("a.pdf", "b.pdf"):
        (Path("in") / name).write_bytes(b"%PDF-1.7")
    for arguments in (["in"], ["in/*", "-o", "x.png"]):
        code, lines = plan(*arguments)
        assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: nothing to restore: in/a.pdf")
        assert lines[0].endswith("; also in/b.pdf")


def test_a_file_with_two_names_is_restored_once(run):
    three()
    os.symlink("a.png", "in/link.png")
    os.symlink(".", "in/again")
    code, lines = run("in/**", "in/link.png", "-o", "out", "--no-mask")
    assert code == 0 and tree("out") == ["a.png", "b.png", "c.png"]
    assert lines == [
        "tadisr: in/link.png is the same file as in/a.png: each file is restored once",
        "tadisr: 3 of 3 restored, in out",
    ]


def test_all_pages_of_a_tiff(run):
    pages("scan.tif", (9, 13), (5, 4), (6, 7))
    assert run("scan.tif", "-o", "out") == (0, ["tadisr: 3 of 3 restored, in out"])
    assert [name for name in tree("out") if "mask" not in name] == [f"scan_00{i}.png" for i in (1, 2, 3)]
    for i, (height, width) in enumerate([(9, 13), (5, 4), (6, 7)], 1):
        with Image.open(f"out/scan_00{i}.png") as image:
            assert image.size == (4 * width, 4 * height)
    assert run("scan.tif", "-o", "one.png", "--pages", "first", "--no-mask") == (
        0,
        [
            "tadisr: scan.tif holds 3 frames or pages, and only the first is restored: --pages all takes all",
            "tadisr: 1 of 1 restored: one.png",
        ],
    )
    assert run("scan.tif", "-o", "x/y.jpg", "--no-mask")[0] == 0
    assert tree("x") == ["y_001.jpg", "y_002.jpg", "y_003.jpg"]


def test_pages_are_bounded(plan, monkeypatch):
    monkeypatch.setattr("tadisr.commands.plan.MOST_PAGES", 2)
    pages("scan.tif", (9, 13), (5, 4), (6, 7))
    code, lines = plan("scan.tif", "-o", "out")
    assert code == 1 and lines[0] == "tadisr: scan.tif holds more than 2 pages: split it, or add --pages first"


def test_one_page_that_is_damaged_costs_no_other(run):
    pages("scan.tif", (40, 40), (40, 40))
    Path("scan.tif").write_bytes(Path("scan.tif").read_bytes()[:-4000])
    code, lines = run("scan.tif", "-o", "out", "--no-mask")
    assert code == 1 and len(lines) == 2 and "scan.tif" in lines[0] and lines[1] == "tadisr: 1 of 2 restored, in out"
    assert tree("out") == ["scan_001.png"]


@pytest.mark.parametrize(
    ("option", "size"),
    [
        (("--width", 100), "100 x 69"),
        (("--width", 10), "10 x 7"),
        (("--height", 90), "130 x 90"),
        (("--scale", 2.5), "32 x 22"),
        ((), "52 x 36"),
        (("--keep-size",), "13 x 9"),
        (("--max-side", 51), "51 x 35"),
        (("--max-side", 52), "52 x 36"),
        (("--max-side", 53), "52 x 36"),
        (("--max-side", 5), "5 x 3"),
        (("--max-side", 20, "--height", 9), "13 x 9"),
        (("--max-side", 20, "--height", 90), "20 x 14"),
        (("--max-side", 12, "--keep-size"), "12 x 8"),
        (("--max-side", 14, "--keep-size"), "13 x 9"),
    ],
)
def test_sizes(dry_run, option, size):
    flat("a.png", 13, 9)
    assert dry_run("a.png", "-o", "out", *option) == (0, [f"a.png: 13 x 9 to {size}: out/a.png"])


def test_a_dry_run_says_megapixels(call):
    flat("a.png", 1000, 800)
    flat("b.png", 500, 400)
    last = call("a.png", "b.png", "-o", "out", "--dry-run")[1].splitlines()[-1]
    assert last.startswith("2 to restore; 16 megapixels, memory for the largest 0.31 GB, on the disk about 0.0")


@pytest.mark.parametrize(
    ("name", "kind", "given", "made"),
    [
        ("a.jpg", "JPEG", "same", "a.jpg"),
        ("a.JPEG", "JPEG", "same", "a.jpeg"),
        ("a.png", "JPEG", "same", "a.jpg"),  # the file's format, not its name's
        ("a.tiff", "TIFF", "same", "a.tiff"),
        ("a.webp", "WEBP", "same", "a.webp"),
        ("a.avif", "AVIF", "same", "a.avif"),
        ("a.jpg", "JPEG", "avif", "a.avif"),
        ("a.bmp", "BMP", "same", "a.png"),
        ("a.gif", "GIF", "jpg", "a.jpg"),
        ("a.jpg", "JPEG", "tif", "a.tif"),
    ],
)
def test_formats(dry_run, name, kind, given, made):
    Image.fromarray(noise()).save(name, kind)
    assert dry_run(name, "-o", "out", "--format", given) == (0, [f"{name}: 13 x 9 to 52 x 36: out/{made}"])


def test_a_pillow_without_avif_is_one_line(plan, monkeypatch):
    three()
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "avif")
    for arguments in (["in", "-o", "out", "--format", "avif"], ["in/a.png", "-o", "x.avif"]):
        code, lines = plan(*arguments)
        assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: cannot write AVIF files, which the ")


def test_limits_are_the_pipelines():
    assert (limits.MAX_SCALE, limits.LEAST_TILE) == (inputs.MAX_SCALE, inputs.MIN_SIDE)


def test_factors_have_a_limit(plan):
    flat("a.png", 20, 10)
    assert plan("a.png", "-o", "out", "--width", 2001)[1][0] == (
        "tadisr: a.png has a width of 20 pixels: --width 2001 is too much for it"
    )
