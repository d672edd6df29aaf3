"""TextZoom's layout: databases written by the tests are read as they are, and what is damaged is named."""

import io
import os
import pickle
import re
import resource
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import DataLoader

from helpers.source_samples import encoded, text_line, write_lmdb
from tadisr.datasets.line_items import TextZoomLines, mean_mask, open_subsets, with_mask
from tadisr.datasets.textzoom import Line, TextZoom, write_textzoom

LABELS = ("OPEN", "Exit 7", "Café", "50%")


def pictures(number):
    """HR (40, W, 3) and LR of the same size, as TextZoom's capture leaves them: not 32x128, not 16x64."""
    hr, _ = text_line(LABELS[number - 1], 40, number)
    return hr, cv2.GaussianBlur(hr, (0, 0), 2)


def entries(count=4):
    found = {"num-samples": str(count).encode()}
    for number in range(1, count + 1):
        hr, lr = pictures(number)
        kind = "PNG" if number % 2 else "JPEG"
        found |= {
            f"image_hr-{number:09d}": encoded(hr, kind),
            f"image_lr-{number:09d}": encoded(lr, kind),
            f"label-{number:09d}": LABELS[number - 1].encode(),
        }
    return found


@pytest.fixture
def folder(tmp_path):
    return write_lmdb(tmp_path / "easy", entries())


def shrunk(image, size):
    return np.asarray(Image.fromarray(image).resize(size, Image.BICUBIC))


def test_samples_in_order_at_the_paper_s_sizes(folder):
    data = TextZoom(folder)
    assert len(data) == 4 and [line.label for line in data] == list(LABELS)
    hr, lr = pictures(1)
    first = data[0]
    assert first.hr.dtype == np.uint8 and first.mask is None
    np.testing.assert_array_equal(first.hr, shrunk(hr, (128, 32)))
    np.testing.assert_array_equal(first.lr, shrunk(lr, (64, 16)))
    np.testing.assert_array_equal(data[-4].lr, first.lr)
    stored = np.asarray(Image.open(io.BytesIO(encoded(pictures(2)[0], "JPEG"))))
    np.testing.assert_array_equal(data[1].hr, shrunk(stored, (128, 32)))
    for i in (4, -5):
        with pytest.raises(IndexError, match=f"has 4 samples, not {i}"):
            data[i]


def test_reading_leaves_nothing_behind(folder):
    (folder / "lock.mdb").unlink()
    assert TextZoom(folder)[0].label == "OPEN"
    assert os.listdir(folder) == ["data.mdb"]


def test_readers_share_a_database_and_survive_forks_and_pickles(folder):
    one, other = TextZoom(folder), TextZoom(folder)
    assert one[1].label == other[1].label == pickle.loads(pickle.dumps(one))[1].label
    lines = TextZoomLines(folder)
    before = lines[0]  # opened in this process before workers are forked off it
    for context in ("fork", "spawn"):
        loader = DataLoader(lines, 2, num_workers=2, multiprocessing_context=context)
        batches = list(loader)
        assert [label for batch in batches for label in batch["label"]] == list(LABELS)
        assert torch.equal(batches[0]["hr"][0], before["hr"])
    assert one[2].label == LABELS[2]  # the workers closed their copies only


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


def replaced(**changes):
    return {key: value for key, value in (entries(2) | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num-samples": None}, "easy has no key num-samples: it is not of TextZoom's layout"),
        ({"num-samples": b"many"}, "num-samples is b'many', not a number"),
        ({"num-samples": b"-1"}, "num-samples is b'-1', not a number"),
        ({"num-samples": b"3"}, "num-samples is 3, but there is no image_hr-000000003"),
        ({"image_lr-000000001": None}, "has no key image_lr-000000001"),
        ({"label-000000001": None}, "has no key label-000000001"),
        ({"label-000000001": "出口".encode("gbk")}, "label-000000001 is not UTF-8"),
        ({"image_hr-000000001": b"no image"}, "image_hr-000000001 cannot be read as an image: cannot identify"),
        ({"image_hr-000000001": entries(1)["image_hr-000000001"][:200]}, "image_hr-000000001 cannot be read as an"),
    ],
)  # fmt: skip
def test_damaged_databases(tmp_path, changes, message):
    folder = write_lmdb(tmp_path / "easy", replaced(**changes))
    with pytest.raises(ValueError, match=message) as error:
        TextZoom(folder)[0]
    assert "\n" not in str(error.value)


def test_what_is_no_database(tmp_path, folder, monkeypatch):
    with pytest.raises(FileNotFoundError, match="No folder .*nowhere: name one that holds a data.mdb"):
        TextZoom(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not an LMDB: it has no data.mdb; name one of easy\.$"):
        TextZoom(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not an LMDB: it has no data.mdb\.$"):
        TextZoom(tmp_path / "empty")
    (tmp_path / "empty" / "data.mdb").write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match="empty is not an LMDB: .*INVALID"):
        TextZoom(tmp_path / "empty")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ImportError, match=r"needs the package lmdb: pip install 'tadisr\[synth\]'"):
        TextZoom(folder)


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


@settings(deadline=None, max_examples=15)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=20), max_size=4), st.integers(0, 99), st.booleans())
def test_what_is_written_is_read(tmp_path_factory, labels, seed, masks):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: rng.integers(0, 256, shape, np.uint8)  # noqa: E731
    lines = [Line(draw(16, 64, 3), draw(32, 128, 3), label, draw(32, 128) if masks else None) for label in labels]
    folder = tmp_path_factory.mktemp("set") / "new"
    write_textzoom(folder, iter(lines), len(lines))
    again = TextZoom(folder)
    assert len(again) == len(lines)
    for line, read in zip(lines, again, strict=True):
        assert read.label == line.label
        np.testing.assert_array_equal(read.lr, line.lr)
        np.testing.assert_array_equal(read.hr, line.hr)
        np.testing.assert_array_equal(read.mask, line.mask)


def test_a_full_disk_is_no_traceback_and_leaves_nothing(tmp_path):
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # noqa: E731
    command = [sys.executable, "-m", "tadisr", "synthesize-lines", "-o", str(tmp_path / "out"), "--num", "40"]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert re.search(r"tadisr: .*data.mdb cannot be written: ", done.stderr)
    assert not (tmp_path / "out/data.mdb").exists()


def test_writing_is_refused_or_left_visibly_cut(tmp_path, folder):
    line = TextZoom(folder)[0]
    with pytest.raises(FileExistsError, match="a database in .*easy already: name another folder"):
        write_textzoom(folder, [line], 1)
    with pytest.raises(ValueError, match="Expected 3 lines, got 1"):
        write_textzoom(tmp_path / "cut", [line], 3)
    with pytest.raises(ValueError, match="has no key num-samples"):
        TextZoom(tmp_path / "cut")
