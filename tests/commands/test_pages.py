"""`tadisr upscale` makes one TIFF of a TIFF's pages: whole or not at all, and it goes on where a run ended."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

import tadisr
from helpers.command_line import bicubic, never, noise, tree
from tadisr.io.images import read_header, read_image, read_made_by

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIZES = [(9, 13), (5, 4), (6, 7)]
KEPT = "tadisr: 2 of 3 restored, in .; 1 left: the same command with --skip-existing goes on"


def pages(name="scan.tif", sizes=SIZES):
    """A TIFF of pages of these sizes."""
    first, *others = (Image.fromarray(noise(*size, seed=i)) for i, size in enumerate(sizes))
    first.save(name, save_all=True, append_images=others)


@pytest.fixture
def stopping(monkeypatch):
    """Has the page of that width raise an error, once."""
    restore = tadisr.TADiSRPipeline.restore

    def stop_at(width, error):
        def restored(self, lr, *arguments, **options):
            if lr.shape[-1] == width and not calls:
                calls.append(width)
                raise error
            return restore(self, lr, *arguments, **options)

        calls = []
        monkeypatch.setattr(tadisr.TADiSRPipeline, "restore", restored)

    return stop_at


def are_right(path, sizes=SIZES, numbers=(0, 1, 2)):
    assert read_header(path).frames == len(sizes)
    for page, (size, number) in enumerate(zip(sizes, numbers, strict=True)):
        loaded = read_image(path, page=page)
        assert np.abs(loaded.rgb - bicubic(noise(*size, seed=number))).max() <= 1
        assert f" page={number + 1} " in read_made_by(path, page)


def test_one_tiff_of_several_pages(run):
    pages()
    assert run("scan.tif", "-o", "out.tif") == (0, ["tadisr: 3 of 3 restored: out.tif"])
    assert tree() == ["out.tif", "out_001_mask.png", "out_002_mask.png", "out_003_mask.png", "scan.tif"]
    are_right("out.tif")
    for option, name in (("tif", "scan.tif"), ("same", "scan.tif")):
        assert run("scan.tif", "-o", option, "--format", option, "--no-mask")[0] == 0 and tree(option) == [name]
        are_right(f"{option}/{name}")
    assert (
        run("scan.tif", "-o", "one.tif", "--pages", "first", "--no-mask")[1][-1] == "tadisr: 1 of 1 restored: one.tif"
    )
    assert read_header("one.tif").frames == 1


def test_pages_keep_what_they_are(run):
    """One bit, gray of 16 bits, colours with alpha: as outputs of one page have them."""
    bits, gray = noise(8, 9, 1) > 99, noise(6, 7, 1) * np.uint16(257)
    rgba = np.dstack([noise(5, 4), np.full((5, 4), 200, np.uint8)])
    for number, (image, options) in enumerate(
        ((Image.fromarray(bits), {}), (Image.fromarray(gray), {}), (Image.fromarray(rgba), {"icc_profile": SRGB}))
    ):
        image.save(f"{number}.tif", dpi=(100 * number + 100, 50), **options)
    with tifffile.TiffWriter("scan.tif") as file:
        for number in range(3):
            with tifffile.TiffFile(f"{number}.tif") as one:
                page, dpi = one.pages[0], (100 * number + 100, 50)
            extra = {"iccprofile": SRGB, "extrasamples": [2]} if number == 2 else {}
            values = tifffile.imread(f"{number}.tif")
            file.write(values, resolution=dpi, resolutionunit="INCH", photometric=page.photometric, **extra)
    assert run("scan.tif", "-o", "out.tif", "--no-mask")[0] == 0
    for number in range(3):
        assert run(f"{number}.tif", "-o", f"single{number}.tif", "--no-mask")[0] == 0
        single, page = read_image(f"single{number}.tif"), read_image("out.tif", page=number)
        assert np.array_equal(single.pixels, page.pixels) and single.gray == page.gray == (number < 2)
        assert single.icc_profile == page.icc_profile and (page.icc_profile is None) == (number < 2)
        assert np.allclose(page.metadata.dpi, (400 * number + 400, 200), atol=0.01)


def test_an_interrupted_run_leaves_no_broken_file_and_goes_on(call, run, stopping):
    pages()
    Path("out.tif").write_bytes(b"earlier")
    stopping(7, KeyboardInterrupt())
    code, out, lines = call("scan.tif", "-o", "out.tif", "--no-mask", "--json")
    assert code == 130 and KEPT in lines and Path("out.tif").read_bytes() == b"earlier"
    parts = [".out.tif.parts/0001.tif", ".out.tif.parts/0002.tif"]
    assert [image["outputs"].get("image") for image in json.loads(out)["images"]] == [*parts, "out.tif"]
    assert tree() == [*parts, "out.tif", "scan.tif"]
    assert run("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing") == (
        0,
        [
            "tadisr: 1 restored anew: their outputs were made by something that left no record",
            "tadisr: 2 skipped: their outputs exist, and were made in the same way",
            "tadisr: 1 of 1 restored: out.tif",
        ],
    )
    assert tree() == ["out.tif", "scan.tif"]
    are_right("out.tif")
    same = ["tadisr: nothing to do: every output exists, and was made in the same way"]
    assert run("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing") == (0, same)
    code, lines = run("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing", "--scale", 2)
    assert code == 0 and lines[0] == "tadisr: 3 restored anew: their outputs were made at another size"
    assert read_header("out.tif", page=1).width == 8


def test_parts_that_are_all_there_are_joined(call, run, monkeypatch):
    pages()
    replace = os.replace

    def full(old, new):
        if str(new) == "out.tif":
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        code, lines = run("scan.tif", "-o", "out.tif", "--no-mask")
    assert code == 1 and lines == [
        "tadisr: cannot write out.tif: No space left on device: make room there or choose another folder. What is "
        "restored is kept: the same command with --skip-existing goes on",
        "tadisr: 0 of 3 restored",
    ]
    assert len(tree()) == 4
    monkeypatch.setattr("tadisr.loading.load.load", never)
    same = ["tadisr: nothing to do: every output exists, and was made in the same way"]
    code, out, _ = call("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing", "--dry-run")
    assert code == 0 and out.startswith("0 to restore, 3 skipped") and len(tree()) == 4
    assert run("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing") == (0, same)
    assert tree() == ["out.tif", "scan.tif"]
    are_right("out.tif")


def test_a_page_that_fails_costs_no_other(run, stopping):
    pages()
    stopping(4, MemoryError())
    code, lines = run("scan.tif", "-o", "out.tif", "--no-mask")
    assert code == 1 and lines == [
        "tadisr: scan.tif, page 2: not enough memory: try a smaller --tile, or crop or shrink the image",
        "tadisr: out.tif is without page 2 of scan.tif",
        "tadisr: 2 of 3 restored: out.tif",
    ]
    are_right("out.tif", [SIZES[0], SIZES[2]], (0, 2))
    assert run("scan.tif", "-o", "out.tif", "--no-mask", "--skip-existing") == (
        0,
        [
            "tadisr: 1 restored anew: their outputs were made without this page",
            "tadisr: 2 skipped: their outputs exist, and were made in the same way",
            "tadisr: 1 of 1 restored: out.tif",
        ],
    )
    are_right("out.tif")
    stopping(4, MemoryError())  # what was there and is still right is not lost
    assert run("scan.tif", "-o", "out.tif", "--no-mask")[0] == 1
    are_right("out.tif")


def test_a_dry_run_of_pages(call):
    pages()
    code, out, _ = call("scan.tif", "-o", "out", "--format", "tif", "--dry-run")
    assert code == 0 and out.splitlines()[1] == "scan.tif, page 2: 4 x 5 to 16 x 20: out/scan.tif"
    assert not Path("out").exists()
