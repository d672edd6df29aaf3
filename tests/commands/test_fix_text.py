"""`tadisr fix-text` with a toy model, whose mask is as a test wants it."""

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import noise, opened, tree
from tadisr.cli import main
from tadisr.commands import fix_text
from tadisr.loading.load import Restored


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "model"
    tiny.lean().save_pretrained(folder)
    return ["--model", str(folder), "--runtime", "torch", "--device", "cpu", "--dtype", "float32"]


@pytest.fixture(autouse=True)
def images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = noise(24, 40)
    Image.fromarray(small).save("small.png")
    Image.fromarray(small).resize((160, 96), Image.Resampling.NEAREST).save("large.png", dpi=(300, 300))


def masked(monkeypatch, paint):
    """Give every result of the model the mask that `paint` makes of an empty one."""
    load = fix_text.load_restorer

    class Painted:
        def __init__(self, restorer):
            self.restorer = restorer

        def restore(self, image, **options):
            made = self.restorer.restore(image, **options)
            mask = np.zeros_like(made.mask)
            paint(mask)
            return Restored(made.image, mask)

    monkeypatch.setattr(fix_text, "load_restorer", lambda *args: Painted(load(*args)))


def test_text_alone_changes(model, monkeypatch, capsys):
    masked(monkeypatch, lambda mask: mask.__setitem__(np.s_[40:44, 40:60], 255))
    assert main(["fix-text", "small.png", "large.png", "-o", "out.png", *model]) == 0
    changed = (opened("out.png") != opened("large.png")).any(2)
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    assert changed[40:44, 40:60].mean() > 0.9 and rows[0] > 5 and rows[-1] < 80 and columns[-1] < 100
    said = capsys.readouterr().err
    assert said.startswith("tadisr: text rewritten on ") and said.endswith(" of the image: out.png\n")
    with Image.open("out.png") as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_no_text(model, monkeypatch, capsys):
    masked(monkeypatch, lambda mask: None)
    assert main(["fix-text", "small.png", "large.png", *model]) == 0
    assert capsys.readouterr().err == "tadisr: no text found, written unchanged: tadisr-output/large_fixed.png\n"
    assert np.array_equal(opened("tadisr-output/large_fixed.png"), opened("large.png"))


@pytest.mark.parametrize("size", [(100, 60), (161, 97), (158, 95)])
def test_other_factors(model, monkeypatch, size):
    masked(monkeypatch, lambda mask: mask.__setitem__(np.s_[20:30, 20:40], 255))
    with Image.open("large.png") as image:
        image.resize(size).save("other.png")
    assert main(["fix-text", "small.png", "other.png", "-o", "out.png", *model]) == 0
    with Image.open("out.png") as image:
        assert image.size == size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["small.png", "wide.png"],
            "wide.png (160 x 60) is no enlargement of small.png (40 x 24): give",
        ),
        (["large.png", "small.png"], "small.png (40 x 24) is no enlargement of large.png"),
        (["none.png", "large.png"], "none.png"),
        (["small.png", "large.png", "-o", "large.png"], "would replace the input"),
        (["small.png", "large.png", "-o", "small.png"], "would replace the input small.png"),
        (["small.png", "large.png", "--fidelity", "2"], "--fidelity must be from 0 to 1, not 2"),
        (["small.png", "large.png", "--quality", "0"], "--quality must be from 1 to 100, not 0"),
        (["small.png", "large.png", "--model", "nothing"], "No model nothing"),
    ],
)
def test_mistakes(arguments, message, capsys):
    Image.fromarray(noise(60, 160)).save("wide.png")
    before = tree()
    assert main(["fix-text", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and tree() == before
