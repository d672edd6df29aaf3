"""Lines of TextZoom's layout as tensors: for data workers, with masks by a rule, and by the names of the subsets."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from helpers.source_samples import encoded, text_line, write_lmdb
from tadisr.datasets.line_items import TextZoomLines, mean_mask, open_subsets, with_mask
from tadisr.datasets.textzoom import Line, TextZoom, write_textzoom

LABELS = ("OPEN", "Exit 7", "Café", "50%")


def entries(count=4):
    found = {"num-samples": str(count).encode()}
    for number, label in enumerate(LABELS[:count], 1):
        image = encoded(text_line(label, 40, number)[0])
        found |= {f"image_hr-{number:09d}": image, f"image_lr-{number:09d}": image}
        found[f"label-{number:09d}"] = label.encode()
    return found


@pytest.fixture
def folder(tmp_path):
    return write_lmdb(tmp_path / "easy", entries())


@pytest.mark.parametrize(("context", "workers"), [("fork", 2), ("spawn", 1)])  # a spawned one imports torch
def test_data_workers(folder, context, workers):
    lines = TextZoomLines(folder)
    before = lines[0]  # opened in this process before workers are forked off it
    batches = list(DataLoader(lines, 2, num_workers=workers, multiprocessing_context=context))
    assert [label for batch in batches for label in batch["label"]] == list(LABELS)
    assert torch.equal(batches[0]["hr"][0], before["hr"])
    assert lines[2]["label"] == LABELS[2]  # the workers closed their copies only


def test_tensors(folder):
    lines = TextZoomLines(folder)
    assert len(lines) == 4 and [lines[i]["label"] for i in range(4)] == list(LABELS)
    item = lines[0]
    assert item["lr"].shape == (3, 16, 64) and item["hr"].shape == (3, 32, 128) and item["mask"].shape == (1, 32, 128)
    raw = TextZoom(folder)[0]
    np.testing.assert_array_equal((item["hr"] * 255).round().byte().permute(1, 2, 0), raw.hr)
    np.testing.assert_array_equal(item["mask"][0] * 255, mean_mask(raw.hr))


def test_masks_by_the_mean():
    hr, strokes = text_line("OPEN", 32)
    dark, light = hr, 255 - hr
    text = strokes > 0
    for image in (dark, light):  # as the paper states the rule
        gray = Image.fromarray(image).convert("L")
        mean = np.asarray(gray).mean()
        np.testing.assert_array_equal(mean_mask(image), np.asarray(gray.point(lambda v: 0 if v > mean else 255)))  # noqa: B023
    agreement = [((mean_mask(image, polarity) > 0) == text).mean() for image in (dark, light) for polarity in (0, 1)]
    assert min(agreement[0], agreement[1], agreement[3]) > 0.95
    assert agreement[2] < 0.05  # light text on a dark ground: the plain rule takes the ground
    flat = np.full((8, 8, 3), 90, np.uint8)
    assert mean_mask(flat).all() and not mean_mask(flat, True).any()


def test_mask_rules(tmp_path):
    hr = np.full((32, 128, 3), 20, np.uint8)
    hr[8:24, 16:112] = 230
    exact = np.zeros((32, 128), np.uint8)
    exact[10:20] = 255
    write_textzoom(tmp_path / "own", [Line(hr[::2, ::2], hr, "I", exact)], 1)
    [line] = TextZoom(tmp_path / "own")
    mean, polarity, stored = (with_mask(line, rule).mask for rule in ("mean", "mean_polarity", "exact"))
    np.testing.assert_array_equal(stored, exact)
    assert mean[0, 0] == 255 and mean[16, 64] == 0
    np.testing.assert_array_equal(polarity, 255 - mean)


def test_subsets_stand_in_the_paper_s_order(tmp_path):
    for name in ("medium", "extra", "hard", "easy"):
        write_lmdb(tmp_path / "test" / name, entries(1))
    assert list(open_subsets(tmp_path)) == ["easy", "medium", "hard", "extra"]
    assert list(open_subsets(tmp_path / "test" / "hard")) == ["hard"]
    assert open_subsets(tmp_path)["hard"][0]["label"] == "OPEN"
    write_lmdb(tmp_path / "more" / "easy", entries(1))
    with pytest.raises(ValueError, match=r"several databases of one name \(easy, easy, extra"):
        open_subsets(tmp_path)
    with pytest.raises(FileNotFoundError, match="No LMDB in .*none: expected a data.mdb"):
        open_subsets(tmp_path / "none")
