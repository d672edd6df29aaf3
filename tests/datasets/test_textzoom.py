"""TextZoom's layout: databases written by the tests are read as they are, and what is damaged is named."""

import io
import re
import resource
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from helpers.source_samples import encoded, text_line, write_lmdb
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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num-samples": b"3"}, "num-samples is 3, but there is no image_hr-000000003"),
        ({"image_lr-000000001": None}, "easy has no key image_lr-000000001: it is not of TextZoom's layout"),
        ({"image_hr-000000001": b"no image"}, "image_hr-000000001 cannot be read as an image: cannot identify"),
        ({"image_hr-000000001": entries(1)["image_hr-000000001"][:200]}, "image_hr-000000001 cannot be read as an"),
    ],
)  # fmt: skip
def test_damaged_databases(tmp_path, changes, message):
    changed = {key: value for key, value in (entries(2) | changes).items() if value is not None}
    with pytest.raises(ValueError, match=message) as error:
        TextZoom(write_lmdb(tmp_path / "easy", changed))[0]
    assert "\n" not in str(error.value)


def test_what_is_no_database(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match="No folder .*nowhere: name one that holds a data.mdb"):
        TextZoom(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is not an LMDB: it has no data.mdb; name one of easy\.$"):
        TextZoom(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is not an LMDB: it has no data.mdb\.$"):
        TextZoom(tmp_path / "empty")


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


def test_a_cut_set_is_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="Expected 3 lines, got 1"):
        write_textzoom(tmp_path / "cut", [TextZoom(folder)[0]], 3)
    with pytest.raises(ValueError, match="has no key num-samples"):
        TextZoom(tmp_path / "cut")


def test_an_image_of_a_few_bytes_and_many_pixels_is_refused(tmp_path):
    Image.new("1", (20_000, 1000)).save(bomb := io.BytesIO(), "PNG")
    changed = entries(1) | {"image_hr-000000001": bomb.getvalue()}
    with pytest.raises(
        ValueError, match="image_hr-000000001 cannot be read as an image: 20000 x 1000 pixels are no line"
    ):
        TextZoom(write_lmdb(tmp_path / "easy", changed))[0]
