"""`tadisr upscale`: every input gets the right answer or one line, and nothing is ever half-written."""

import errno
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers import tiny
from helpers.command_line import bicubic, never, noise, opened, pillows, three, tree
from helpers.encoded_images import encoded, png
from tadisr.trust import check, retrace


@pytest.mark.parametrize("scale", [4, 1, 3])
@pytest.mark.parametrize("size", [(1, 1), (200, 3), (3, 200), (7, 5)])
def test_any_size(run, size, scale):
    pixels = noise(*size).reshape(*size, 3)
    Image.fromarray(pixels).save("a.png")
    assert run("a.png", "-o", "out", "--scale", scale, "--tile", 64) == (
        0,
        ["tadisr: 1 of 1 restored: out/a.png"],
    )
    image, mask = opened("out/a.png"), opened("out/a_mask.png", "L")
    assert image.shape == (size[0] * scale, size[1] * scale, 3) and mask.shape == image.shape[:2]
    assert np.abs(image - bicubic(pixels, scale)).max() <= 1
    assert tree("out") == ["a.png", "a_mask.png"]


@pytest.mark.parametrize(
    ("option", "size"),
    [
        (("--scale", 2.5), (32, 22)),
        (("--scale", 0.5), (6, 4)),
        (("--width", 100), (100, 69)),
        (("--height", 9), (13, 9)),
        (("--keep-size",), (13, 9)),
        (("--max-side", 40), (40, 28)),
    ],
)
def test_sizes_that_are_no_multiple(run, option, size):
    Image.fromarray(np.full((9, 13, 3), (200, 100, 50), np.uint8)).save("a.png")
    assert run("a.png", "-o", "out", *option) == (0, ["tadisr: 1 of 1 restored: out/a.png"])
    assert opened("out/a.png").shape == (*size[::-1], 3) and opened("out/a_mask.png", "L").shape == size[::-1]
    assert np.abs(opened("out/a.png") - (200, 100, 50)).max() <= 1


def test_the_longer_side_of_a_page_that_stands(run):
    Image.fromarray(noise(13, 9)).save("a.png")
    assert run("a.png", "-o", "out", "--max-side", 40)[0] == 0
    assert opened("out/a.png").shape == (40, 28, 3) and opened("out/a_mask.png", "L").shape == (40, 28)


def palette(pixels):
    return Image.fromarray(pixels).quantize(8)


def rotated(path, pixels):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    Image.fromarray(np.rot90(pixels)).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "save", "expected", "tolerance"),
    [
        ("palette.png", lambda p, x: palette(x).save(p), lambda x: np.array(palette(x).convert("RGB")), 0),
        (
            "16-bit-colour.png",
            lambda p, x: p.write_bytes(png(13, 9, 16, 2, [r.tobytes() for r in (x.astype(">u2") * 257)])),
            lambda x: x,
            0,
        ),
        (
            "cmyk.tif",
            lambda p, x: Image.fromarray(x).convert("CMYK").save(p),
            lambda x: x,
            0,
        ),
        ("rotated.png", rotated, lambda x: x, 0),
        ("photo.jpg", lambda p, x: Image.fromarray(x).save(p, quality=100, subsampling=0), lambda x: x, 6),
    ],
)
def test_kinds_of_image(run, name, save, expected, tolerance):
    pixels = noise()
    save(Path(name), pixels)
    assert run(name, "-o", "out")[0] == 0
    wanted = np.broadcast_to(expected(pixels), pixels.shape).astype(np.uint8)
    assert np.abs(opened(f"out/{Path(name).stem}.png") - bicubic(wanted)).max() <= tolerance + 1


@pytest.mark.parametrize(
    ("name", "save", "expected"),
    [
        ("gray.png", lambda p, x: Image.fromarray(x).save(p), lambda x: x),
        ("one-bit.png", lambda p, x: Image.fromarray(x > 99).save(p), lambda x: (x > 99) * 255),
        ("16-bit.png", lambda p, x: Image.fromarray(x * np.uint16(257)).save(p), lambda x: x),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".avif"])
def test_gray_stays_gray(run, name, save, expected, suffix):
    pixels = np.repeat(np.repeat(noise(5, 6, 1), 2, 0), 2, 1)
    save(Path(name), pixels)
    assert run(name, "-o", f"out/a{suffix}", "--compare")[0] == 0
    with Image.open(f"out/a{suffix}") as image:
        assert image.mode == ("RGB" if suffix == ".webp" else "L")  # WebP has no gray
        restored = np.asarray(image.convert("L")).astype(int)
    wanted = bicubic(np.dstack([np.uint8(expected(pixels))] * 3))[..., 0]
    assert np.abs(restored - wanted).max() <= (12 if suffix in (".jpg", ".avif") else 1)
    assert opened("out/a_compare.png").shape == (40, 3 * 48, 3)


@pytest.mark.parametrize("visible", [False, True])
def test_alpha_is_kept(run, visible):
    pixels = noise(channels=4)
    pixels[..., 3] = pixels[..., 3] // 2 + 100 if visible else 0
    Image.fromarray(pixels).save("a.png")
    assert run("a.png", "-o", "out")[0] == 0
    image = opened("out/a.png", "RGBA")
    alpha = bicubic(pixels[..., 3:].repeat(3, 2))[..., 0].clip(max=pixels[..., 3].max())
    assert np.abs(image[..., 3] - alpha).max() <= 2
    assert np.abs(image[..., :3] - bicubic(pixels[..., :3])).max() <= 1  # colour also where nothing shows


def test_avif_in_and_out(run):
    exif = Image.Exif()
    exif[0x010E] = "a description"
    pixels = np.array(Image.fromarray(noise(3, 4, 4)).resize((24, 18)))
    pixels[..., 3] = pixels[..., 3] // 2 + 100
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
    Image.fromarray(pixels).save("a.avif", quality=100, subsampling="4:4:4", exif=exif, xmp=xmp)
    assert run("a.avif", "-o", "out", "--format", "same", "--quality", 95) == (
        0,
        ["tadisr: 1 of 1 restored: out/a.avif"],
    )
    with Image.open("out/a.avif") as image:
        assert image.getexif()[0x010E] == "a description" and image.info["xmp"] == xmp
    restored = opened("out/a.avif", "RGBA")
    assert np.abs(restored[..., :3] - bicubic(pixels[..., :3])).mean() < 3
    assert np.abs(restored[..., 3] - bicubic(pixels[..., 3:].repeat(3, 2))[..., 0]).mean() < 3


def test_gray_and_transparent(run):
    gray = np.dstack([noise(channels=1), np.full((9, 13), 200, np.uint8)])
    Image.fromarray(gray, "LA").save("a.png")
    assert run("a.png", "-o", "out")[0] == 0
    assert (opened("out/a.png", "LA")[..., 1] == 200).all()


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (255, 0)])
def test_a_comparison_shows_what_a_person_sees(run, ink, ground):
    """Text that is in the alpha alone, on colours that nobody sees."""
    pixels = np.full((16, 24, 4), ink, np.uint8)
    pixels[..., 3] = 0
    pixels[4:12, 4:20, 3] = 255
    Image.fromarray(pixels).save("a.png")
    assert run("a.png", "-o", "out", "--compare", "--no-mask")[0] == 0
    left, middle, _ = np.split(opened("out/a_compare.png"), 3, axis=1)
    assert run("a.png", "-o", "a.jpg", "--no-mask") == (
        0,
        [
            "tadisr: a.png is transparent, and JPEG cannot be: it is laid on one colour",
            "tadisr: 1 of 1 restored: a.jpg",
        ],
    )
    with Image.open("a.jpg") as image:
        jpeg = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(jpeg - middle).max() <= 20
    for panel in (left, middle):
        assert np.abs(panel[:4] - ground).max() <= 1 and np.abs(panel[28:36, 40:60] - ink).max() <= 1


def test_palette_with_a_transparent_colour(run):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.save("a.png", transparency=1)
    assert run("a.png", "-o", "out")[0] == 0
    assert opened("out/a.png", "RGBA")[[0, 0], [0, -1], 3].tolist() == [255, 0]


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animation_gives_its_first_frame_and_says_so(run, name):
    first, *others = (Image.new("RGB", (6, 4), colour) for colour in ("white", "red", "blue"))
    first.save(name, save_all=True, append_images=others)
    assert run(name, "-o", "out") == (
        0,
        [
            f"tadisr: {name} holds 3 frames or pages, and only the first is restored: --pages all takes all",
            "tadisr: 1 of 1 restored: out/a.png",
        ],
    )
    assert opened("out/a.png").min() >= 250
    assert run(name, "-o", "all", "--pages", "all", "--no-mask") == (0, ["tadisr: 3 of 3 restored, in all"])
    assert tree("all") == ["a_001.png", "a_002.png", "a_003.png"]


BAD = {
    "truncated.png": encoded("PNG")[:2000],
    "truncated.jpg": encoded("JPEG")[:1000],
    "text.png": b"not an image\n" * 20,
    "empty.jpg": b"",
    "bomb.png": png(60000, 60000, 8, 2, []),
}


def test_mixed_folder(run):
    for name, data in BAD.items():
        (Path("in") / name).parent.mkdir(exist_ok=True)
        (Path("in") / name).write_bytes(data)
    for name in ("a", "m", "z"):  # before, between and after the bad ones
        Image.fromarray(noise()).save(f"in/{name}.png")
    Path("in/notes.txt").write_text("no image, and not named like one")
    code, lines = run("in", "-o", "out")
    assert code == 1 and len(lines) == len(BAD) + 1
    for name, line in zip(sorted(BAD), lines, strict=False):
        assert line.startswith("tadisr: ") and f"in/{name}" in line
    assert lines[-1] == "tadisr: 3 of 8 restored, in out"
    assert tree("out") == ["a.png", "a_mask.png", "m.png", "m_mask.png", "z.png", "z_mask.png"]


@pytest.mark.parametrize("name", BAD)
def test_nothing_restored(run, name):
    Path(name).write_bytes(BAD[name])
    code, lines = run(name, "-o", "out")
    assert code == 1 and len(lines) == 2 and name in lines[0] and lines[1] == "tadisr: 0 of 1 restored"
    assert not Path("out").exists()


def test_files_folders_and_patterns(run):
    for name in ("a.png", "in/b.png", "deep/er/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise()).save(name)
    assert run("a.png", "in", "deep/**", "-o", "out", "--no-mask") == (0, ["tadisr: 3 of 3 restored, in out"])
    assert tree("out") == ["a.png", "b.png", "er/c.png"]


def test_one_output_file(run):
    Image.fromarray(noise()).save("a.png")
    assert run("a.png", "-o", "new/x.webp", "--compare") == (0, ["tadisr: 1 of 1 restored: new/x.webp"])
    assert tree("new") == ["x.webp", "x_compare.png", "x_mask.png"]
    assert np.abs(opened("new/x.webp") - bicubic(noise())).max() <= 1


def test_default_folder(run):
    Image.fromarray(noise()).save("a.png")
    assert run("a.png", "--no-mask") == (0, ["tadisr: 1 of 1 restored: tadisr-output/a.png"])


def test_compare_shows_bicubic_restored_and_overlay(run):
    Image.fromarray(noise()).save("a.png")
    assert run("a.png", "-o", "out", "--compare")[0] == 0
    restored, mask = opened("out/a.png"), opened("out/a_mask.png", "L")[..., None] / 255
    left, middle, right = np.split(opened("out/a_compare.png"), 3, axis=1)
    assert np.array_equal(left, pillows(noise())) and np.array_equal(middle, restored)
    assert mask.max() > 0.6 and mask.min() < 0.4
    assert np.abs(right - (restored * (1 - mask / 2) + mask / 2 * [255, 0, 0])).max() <= 1


def test_tiles_agree_with_the_whole(run):
    Image.fromarray(noise(40, 50)).save("a.png")
    assert run("a.png", "-o", "tiled", "--tile", 80)[0] == run("a.png", "-o", "whole", "--tile", "none")[0] == 0
    assert np.abs(opened("tiled/a.png") - opened("whole/a.png")).max() <= 1


def test_skip_existing(run):
    Path("in").mkdir()
    for i, name in enumerate("abc"):
        Image.fromarray(noise(seed=i)).save(f"in/{name}.png")
    assert run("in", "-o", "out")[0] == 0
    os.remove("out/b_mask.png")  # as if stopped before it was complete
    before = {name: os.stat(f"out/{name}").st_ino for name in tree("out")}
    assert run("in", "-o", "out", "--skip-existing") == (
        0,
        [
            "tadisr: 2 skipped: their outputs exist, and were made in the same way",
            "tadisr: 1 of 1 restored: out/b.png",
        ],
    )  # fmt: skip
    changed = {name for name in tree("out") if os.stat(f"out/{name}").st_ino != before.get(name)}
    assert changed == {"b.png", "b_mask.png"}
    assert run("in", "-o", "out", "--skip-existing") == (
        0, ["tadisr: nothing to do: every output exists, and was made in the same way"]
    )  # fmt: skip


MISTAKES = [
    ([], "INPUT"),
    (["a.png", "--bogus"], "--bogus"),
    (["a.png", "--scale", "x"], "--scale"),
    (["a.png", "--scale", "nan"], "--scale must be a number above 0 and at most 100, not nan"),
    (["a.png", "--scale", "101"], "--scale must be a number above 0 and at most 100, not 101"),
    (["a.png", "--scale", "2", "--width", "100"], "--width: not allowed with argument --scale"),
    (["a.png", "--scale", "2", "--keep-size"], "--keep-size: not allowed with argument --scale"),
    (["a.png", "--keep-size", "--height", "20"], "--height: not allowed with argument --keep-size"),
    (["a.png", "--width", "0"], "--width must be at least 1, not 0"),
    (["a.png", "--max-side", "0"], "--max-side must be at least 1, not 0"),
    (["a.png", "--tile", "63"], "--tile must be auto, none or at least 64 output pixels, not 63"),
    (["a.png", "--tile", "none", "--overlap", "-1"], "from 0 to half a tile, not -1 for --tile none"),
    (["a.png", "--quality", "90"], "--quality is for jpg, webp and avif: add --format jpg"),
    (["a.png", "--quality", "101", "--format", "jpg"], "--quality must be from 1 to 100, not 101"),
    (["a.png", "-o", "x.png", "--format", "jpg"], "--format jpg and the name x.png contradict one another"),
    (["a.png", "-o", f"{'x' * 300}.png"], "has 304 bytes"),
    (["a.png", "missing.png", "gone.png"], "no image at 'missing.png', 'gone.png'"),
    (["a.png", "--metadata", "all"], "--metadata"),
    (
        ["a.png", "--skip-exsting"],
        "no option --skip-exsting: did you mean --skip-existing?",
    ),
    (["a.png", "--tile", "big"], "expected a number, auto or none"),
    (["a.png", "--dtype", "int4"], "--dtype"),
    (["missing.png"], "no image at 'missing.png'"),
    (["empty"], "no image at 'empty'"),
    (["a.png", "-o", "a.png"], "would replace the input a.png"),
    (["a.png", "-o", "."], "would replace the input a.png"),
    (["a.png", "b.png", "-o", "x.png"], "there are 2 inputs"),
    (["a.png", "-o", "x.gif"], "ending in .png"),
    (["a.png", "-o", "file"], "name a folder"),
    (["a.png", "-o", "file/out"], "cannot write in file/out: Not a directory"),
    (["a.png", "-o", "dangling"], "cannot write in dangling: No such file"),
    pytest.param(
        ["a.png", "-o", "/proc/tadisr/out"],
        "cannot write in /proc/tadisr/out: ",
        marks=pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder that root cannot write"),
    ),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_are_one_line_before_any_model_loads(run, monkeypatch, arguments, message):
    for name in ("a.png", "b.png"):
        Image.fromarray(noise()).save(name)
    Path("empty").mkdir()
    Path("file").touch()
    Path("dangling").symlink_to("nowhere")
    monkeypatch.setattr("tadisr.loading.load.load", never)
    code, lines = run(*arguments)
    assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: ") and message in lines[0]
    assert tree() == ["a.png", "b.png", "file"]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--scale", "0", "scale must be"),
        ("--scale", "-4", "scale must be"),
        ("--tile", "0", "tile must be"),
        ("--tile", "-64", "tile must be"),
        ("--tile", "63", "at least 64"),
        ("--min-score", "0.3", "--min-score is for reports: add --report"),
        ("--model", "textdiff-tiny", "holds a TextDiffPipeline, not a TADiSRPipeline"),
        ("--overlap", "-1", "overlap must be"),
        ("--device", "bogus", "cannot use device bogus: "),
        ("--device", "meta", "cannot use device meta: "),
        ("--device", "cuda:99", "cannot use device cuda:99: "),
        ("--device", "", "cannot use device : "),
        ("--model", "tadisr-huge", "cannot load tadisr-huge: No model tadisr-huge"),
        ("--model", "/nowhere/model", "cannot load /nowhere/model: No model"),
        ("--model", "empty", "cannot load empty: empty holds neither"),
        ("--model", "nobody/nothing", "cannot load nobody/nothing: the Hub cannot be reached: check the name and the"),
    ],
)
def test_options_that_cannot_work(run, monkeypatch, option, value, message):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    Image.fromarray(noise()).save("a.png")
    Path("empty").mkdir()
    code, lines = run("a.png", "-o", "out", option, value)
    assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: ") and message in lines[0]
    assert tree() == ["a.png"] and not Path("out").exists()


def test_damaged_model(run, model):
    shutil.copytree(model, "damaged")
    weights = next(Path("damaged/unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    Image.fromarray(noise()).save("a.png")
    code, lines = run("a.png", "-o", "out", "--model", "damaged")
    assert code == 2 and len(lines) == 1 and lines[0].startswith("tadisr: cannot load damaged: ")


def test_an_adapter_whose_base_is_elsewhere(run, tmp_path, capfd):
    base = tiny.sd(tmp_path)
    base.save_pretrained("base")
    tiny.on_base(base, base_model="not/here").save_pretrained("adapter")
    Image.fromarray(noise()).save("a.png")
    capfd.readouterr()  # the bars of saving
    code, lines = run("a.png", "-o", "out", "--model", "adapter", "--base-model", "nowhere")
    assert code == 2 and len(lines) == 1
    assert "The adapter's base nowhere is missing or incomplete" in lines[0] and "give --base-model FOLDER" in lines[0]
    code, lines = run("a.png", "-o", "out", "--model", "adapter", "--base-model", "base", "--dtype", "float32")
    assert code == 0 and lines == ["tadisr: 1 of 1 restored: out/a.png"]
    pipe = tadisr.TADiSRPipeline.from_pretrained("adapter", base_model="base")
    expected = np.asarray(pipe(Image.open("a.png")).images[0])
    assert np.array_equal(opened("out/a.png"), expected)


def test_a_base_for_a_whole_model(run):
    Image.fromarray(noise()).save("a.png")
    code, lines = run("a.png", "-o", "out", "--base-model", "nowhere")
    assert code == 2 and len(lines) == 1 and "is no adapter: leave base_model out" in lines[0]


def test_small_tiles_have_small_overlaps(run):
    Image.fromarray(noise(40, 20)).save("a.png")
    assert run("a.png", "-o", "out", "--tile", 64)[0] == 0
    code, lines = run("a.png", "-o", "out", "--tile", 64, "--overlap", 33)
    assert code == 2 and "--overlap must be from 0 to half a tile, not 33 for --tile 64" in lines[0]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_disk_that_is_full_from_the_start(run, monkeypatch):
    three()
    monkeypatch.setattr("tadisr.loading.load.load", never)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115
    code, lines = run("in", "-o", "out")
    assert code == 2 and len(lines) == 1 and "cannot write in out: No space left on device" in lines[0]


def test_disk_that_fills_up_ends_the_run(run, monkeypatch):
    three()
    calls = []

    def fsync(_file):
        calls.append(1)
        if len(calls) > 3:  # a's mask and image, b's mask, and no more
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    code, lines = run("in", "-o", "out")
    assert code == 1 and len(lines) == 2 and len(calls) == 4
    assert "cannot write out/b.png: No space left on device" in lines[0]
    assert lines[1] == "tadisr: 1 of 3 restored, in out; 1 left: the same command with --skip-existing goes on"
    assert tree("out") == ["a.png", "a_mask.png", "b_mask.png"]
    monkeypatch.setattr(os, "fsync", lambda _file: None)  # room again
    assert run("in", "-o", "out", "--skip-existing") == (
        0,
        ["tadisr: 1 skipped: their outputs exist, and were made in the same way", "tadisr: 2 of 2 restored, in out"],
    )


def test_one_output_that_cannot_be_written_does_not_end_the_run(run):
    three()
    os.makedirs("out/b.png")  # a folder in its place
    code, lines = run("in", "-o", "out")
    assert code == 1 and "cannot write out/b.png: Is a directory" in lines[0]
    assert lines[1:] == ["tadisr: 2 of 3 restored, in out"]


def test_too_large_for_the_memory_is_seen_before_the_work(run):
    three()
    Image.new("L", (10000, 10000)).save("in/b.png")
    code, lines = run("in", "-o", "out", "--scale", 40)
    assert code == 1 and lines[0].startswith("tadisr: in/b.png would take 3840.0 GB of memory")
    assert lines[1:] == ["tadisr: 2 of 3 restored, in out"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory.\nTried to allocate"), RuntimeError("a bug")]
)
def test_errors_of_the_model(run, monkeypatch, error):
    three()
    real = tadisr.TADiSRPipeline.restore

    def restore(self, lr, *arguments):
        if lr.shape[-1] == 5:
            raise error
        return real(self, lr, *arguments)

    monkeypatch.setattr(tadisr.TADiSRPipeline, "restore", restore)
    Image.fromarray(noise(5, 5)).save("in/b.png")
    if "bug" in str(error):  # ours, so its traceback is wanted
        with pytest.raises(RuntimeError, match="a bug"):
            run("in", "-o", "out")
        return
    code, lines = run("in", "-o", "out")
    assert code == 1 and lines == [
        "tadisr: in/b.png: not enough memory: try a smaller --tile, or crop or shrink the image",
        "tadisr: 2 of 3 restored, in out",
    ]


def test_only_text(run):
    """A wall without text is enlarged, and what is said and recorded tells."""
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save("a.png")
    code, said = run("a.png", "-o", "out", "--only-text")
    assert code == 0 and said == [
        "tadisr: a.png: only its text was restored, 0 % of it; the rest is enlarged bicubically",
        "tadisr: 1 of 1 restored: out/a.png",
    ]
    assert (opened("out/a.png") == 90).all() and not opened("out/a_mask.png", "L").any()
    _, said = run("a.png", "-o", "out", "--skip-existing")
    assert "tadisr: 1 restored anew: their outputs were made with or without --only-text" in said
    message = "tadisr: --only-text does not go with --reduction or --text-mask: leave one of them out"
    assert run("a.png", "--only-text", "--reduction", 2) == (2, [message])


def test_only_text_without_an_engine(run, monkeypatch):
    def missing():
        raise ImportError("Checking text needs RapidOCR and RapidFuzz: pip install 'tadisr[ocr]'.")

    monkeypatch.setattr("tadisr.trust.check.trust_engine", missing)
    three()
    assert run("in", "--only-text")[0] == 2
    assert run("in", "--only-text")[1][-1].startswith("tadisr: --only-text: Checking text needs RapidOCR and RapidFuzz")


def test_abstain(run, monkeypatch):
    """Doubtful lines are kept, counted, recorded, and reported as such, without reading twice."""
    page = np.asarray(Image.open(Path(__file__).parents[2] / "demo/example.png").convert("RGB").resize((192, 96), 3))
    Image.fromarray(page).save("a.png")
    tadisr.load("tadisr-tiny", "cpu")  # by its runtime the name below is bound, whatever ran before this test
    read, check_text = [], check.check_text
    monkeypatch.setattr(check, "check_text", lambda *args: read.append(1) or check_text(*args))
    options = ("a.png", "-o", "out", "--model", "tadisr-tiny", "--report", "--abstain")
    code, said = run(*options)
    assert code == 0 and not read, "the result was read twice"
    report = json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))
    kept = report["counts"]["kept"]
    assert kept and any("kept as in the input, enlarged" in line for line in said)
    assert [line["verdict"] for line in report["lines"]].count("kept") == kept
    _, said = run(*options[:-1], "--skip-existing")
    assert read
    assert "tadisr: 1 restored anew: their outputs were made with or without --abstain" in said
    message = "tadisr: --abstain does not go with --text-mask: what a person drew is not doubted"
    assert run("a.png", "--abstain", "--text-mask", "m.png") == (2, [message])


def test_retrace(run, monkeypatch):
    """What reads as surely in the input is drawn so, counted, recorded, and reported as such."""
    monkeypatch.setattr(retrace, "LEAST_SCORE", 0.0)
    page = np.asarray(Image.open(Path(__file__).parents[2] / "demo/example.png").convert("RGB").resize((192, 96), 3))
    Image.fromarray(page).save("a.png")
    options = ("a.png", "-o", "out", "--model", "tadisr-tiny", "--report", "--retrace")
    code, said = run(*options)
    report = json.loads(Path("out/a_report.json").read_text(encoding="utf-8"))
    retraced = report["counts"]["retraced"]
    assert code == 0 and retraced and any("drawn as the input surely reads" in line for line in said)
    assert [line["verdict"] for line in report["lines"]].count("retraced") == retraced
    _, said = run(*options[:-1], "--skip-existing")
    assert "tadisr: 1 restored anew: their outputs were made with or without --retrace" in said
    tiny.lean().save_pretrained("plain")
    message = "tadisr: --retrace is for models that follow masks, and plain does not: leave it out"
    assert run("a.png", "-o", "out", "--model", "plain", "--retrace") == (2, [message])
