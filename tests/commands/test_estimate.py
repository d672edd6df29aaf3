"""The time of a run is said in time, once, and by what was measured."""

import time

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers import tiny
from helpers.command_line import noise
from tadisr.cli import main
from tadisr.commands import estimate as module
from tadisr.commands.estimate import Estimate


@pytest.fixture
def clock(monkeypatch):
    """A clock that only `clock.wait` moves on."""

    class Clock:
        now = 0.0

        def wait(self, seconds):
            self.now += seconds

    clock = Clock()
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock.now)
    return clock


def test_tiles_of_one_image(clock):
    """The first is slow and not counted; the estimate follows from the second."""
    said = []
    estimate = Estimate("image", [(1_500_000, 24_000_000)], said.append)
    clock.wait(100)  # of reading
    estimate.begin(1_500_000)
    for number, _ in enumerate(estimate.of_tiles(range(120))):
        assert said == ([] if number < 2 else ["1 image, 24 megapixels: about 4 minutes"])
        clock.wait(50 if number == 0 else 2 if number == 1 else 9)
    assert len(said) == 1


def test_tiles_in_batches(clock):
    """Tiles of one batch are asked for at once; the work comes after its last."""
    said = []
    estimate = Estimate("image", [(100, 1600)], said.append)
    estimate.begin(100)
    for number, _ in enumerate(estimate.of_tiles(range(32))):
        if number % 4 == 3:
            clock.wait(8)
        assert not said or number >= 8
    assert said == ["1 image, 0.0 megapixels: about 60 seconds"]


def test_images_of_one_tile(clock):
    said = []
    estimate = Estimate("picture", [(100, 1_000_000)] * 3 + [(200, 2_000_000)] * 2000, said.append)
    estimate.leave_out((100, 1_000_000))  # restored by an earlier run
    for number in range(2):
        estimate.begin(100)
        clock.wait(7 if number == 0 else 1.5)
        estimate.reach(1)
    assert said == ["2002 pictures, 4002 megapixels: about 1.7 hours"]


def test_again_with_smaller_tiles(clock):
    """What was begun before the memory was short does not count."""
    said = []
    estimate = Estimate("image", [(100, 100)], said.append)
    estimate.begin(100)
    tiles = estimate.of_tiles(range(10))
    for _ in range(2):
        next(tiles)
        clock.wait(0.5)
    clock.wait(30)
    for _ in estimate.of_tiles(range(40)):
        clock.wait(1)
    assert said == ["1 image, 0.0 megapixels: about 40 seconds"]


@pytest.mark.parametrize("seconds", [0.1, 0.9])
def test_short_runs_say_nothing(clock, seconds):
    said = []
    estimate = Estimate("image", [(100, 100)] * 20, said.append)
    for _ in range(20):
        estimate.begin(100)
        clock.wait(seconds)
        estimate.reach(1)
    assert said == []


def test_nothing_is_said_when_the_work_is_done(clock):
    said = []
    estimate = Estimate("image", [(100, 100)], said.append)
    estimate.begin(100)
    for _ in estimate.of_tiles(range(2)):
        clock.wait(60)
    assert said == []


@pytest.fixture
def slow(monkeypatch):
    """A clock that takes a minute for each tile."""
    real, passed = time.perf_counter, []
    restore = tadisr.TADiSRPipeline.restore_tile

    def restored(self, *arguments, **options):
        passed.append(60)
        return restore(self, *arguments, **options)

    monkeypatch.setattr(tadisr.TADiSRPipeline, "restore_tile", restored)
    monkeypatch.setattr(module.time, "perf_counter", lambda: real() + sum(passed))


def test_the_command_says_it(call, slow):
    for name in "abcd":
        Image.fromarray(noise(40, 50)).save(f"{name}.png")
    inputs = [f"{name}.png" for name in "abcd"]
    _, _, lines = call(*inputs, "-o", "out", "--no-mask")
    assert [line for line in lines if "about" in line] == ["tadisr: 4 images, 0.1 megapixels: about 4 minutes"]
    assert (
        lines[0].startswith("tadisr: 1 of 4") and "about" in lines[1]
    )  # after the second image, the first that counts
    assert call(*inputs, "-o", "out", "--no-mask", "-q")[2] == []


def test_documents_say_it(tmp_path, monkeypatch, slow, capsys):
    pikepdf = pytest.importorskip("pikepdf")
    monkeypatch.chdir(tmp_path)
    tiny.lean().save_pretrained("model")
    pdf = pikepdf.new()
    for seed in range(3):
        pixels = np.ascontiguousarray(noise(40, 40, seed=seed))
        image = pikepdf.Stream(
            pdf, pixels.tobytes(), Type=pikepdf.Name.XObject, Subtype=pikepdf.Name.Image, Width=40, Height=40,
            ColorSpace=pikepdf.Name.DeviceRGB, BitsPerComponent=8,
        )  # fmt: skip
        page = pdf.add_blank_page(page_size=(200, 200))
        page.Resources = pikepdf.Dictionary(XObject=pikepdf.Dictionary(I=image))
        page.Contents = pdf.make_stream(b"q 60 0 0 60 0 0 cm /I Do Q")
    pdf.save("scan.pdf")
    options = ["--model", "model", "--device", "cpu", "--runtime", "torch", "--dtype", "float32"]
    assert main(["upscale", "scan.pdf", "-o", "out.pdf", *options]) == 0
    assert "tadisr: scan.pdf: 3 pictures, 0.1 megapixels: about 3 minutes" in capsys.readouterr().err.splitlines()
