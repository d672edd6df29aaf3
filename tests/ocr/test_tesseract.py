"""Tesseract behind the OCR protocol; needs the program (Debian: tesseract-ocr, tesseract-ocr-chi-sim)."""

import hashlib
import shutil

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from tadisr.ocr import Reading, crop_line, load_engine

needs_tesseract = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")


def line(text, size=36):
    font = ImageFont.load_default(size)
    image = Image.new("RGB", (round(font.getlength(text)) + size, round(1.5 * size)), "white")
    ImageDraw.Draw(image).text((size // 2, size // 4), text, fill=(40, 10, 20), font=font, anchor="lt")
    return np.asarray(image)


@pytest.fixture(scope="module")
def engine():
    return load_engine("tesseract", languages=("eng",))


@needs_tesseract
def test_lines_are_read_in_order_and_each_for_itself(engine):
    texts = ["Exit 2047", "North gate", "PLATFORM", "Tickets", "a line that is much longer than others"]
    lines = [line(text) for text in texts]
    readings = engine.read(lines)
    assert [reading.text for reading in readings] == texts
    assert all(0.5 < reading.score <= 1 for reading in readings)
    assert engine.read(lines[::-1])[::-1] == readings
    assert load_engine("tesseract", languages=("eng",), workers=4).read(lines) == readings
    assert engine.read(lines[1:2]) == readings[1:2] and engine.read([]) == []


@needs_tesseract
def test_lines_are_found_where_they_are(engine):
    image = np.full((200, 400, 3), 255, np.uint8)
    for top, text in ((20, "Exit 2047"), (120, "North gate")):
        crop = line(text)
        image[top : top + crop.shape[0], 30 : 30 + crop.shape[1]] = crop
    found = engine.find(image)
    assert [one.text for one in found] == ["Exit 2047", "North gate"]
    assert [one.quad.dtype for one in found] == [np.float32] * 2
    readings = engine.read(
        [crop_line(image, one.quad + np.float32([[-5, -5], [5, -5], [5, 5], [-5, 5]])) for one in found]
    )
    assert [reading.text for reading in readings] == ["Exit 2047", "North gate"]
    assert engine.find(np.full((50, 60, 3), 255, np.uint8)) == []


@needs_tesseract
def test_engine_says_what_it_is(engine):
    described = engine.describe()
    assert described["engine"] == "tesseract" and described["packages"]["tesseract"][0].isdigit()
    content = (engine._models / "eng.traineddata").read_bytes()
    assert described["models"] == {"eng.traineddata": hashlib.sha256(content).hexdigest()}


@needs_tesseract
def test_what_cannot_be_read_is_refused(engine):
    for image in (np.zeros((20, 40), np.uint8), np.zeros((20, 40, 3), np.float32), np.zeros((0, 40, 3), np.uint8)):
        with pytest.raises(ValueError, match=r"Expected a uint8 RGB image \(H, W, 3\), got"):
            engine.read([image])
    with pytest.raises(ImportError, match="Tesseract has no model xx_y .Debian: apt install tesseract-ocr-xx-y"):
        load_engine("tesseract", languages=("eng", "xx_y"))
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        load_engine("tesseract", workers=0)


def test_a_missing_program_says_what_to_install():
    with pytest.raises(ImportError, match="There is no program tesseract-9: install Tesseract .Debian: apt install"):
        load_engine("tesseract", program="tesseract-9")


# ---- a program of that command line, which says what the test wants

PROGRAM = """#!/bin/sh
case "$*" in
    --list-langs) cat "$0.langs" ;;
    --version) echo "tesseract 5.3.0" ;;
    *) cat "$0.tsv" || { echo "no  such\nthing" >&2; exit 1; } ;;
esac
"""
HEADER = ["level", "page_num", "block_num", "par_num", "line_num", "word_num", "left", "top", "width", "height", "conf",
          "text"]  # fmt: skip
BLANK = np.full((20, 40, 3), 255, np.uint8)


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "tesseract"
    path.write_text(PROGRAM)
    path.chmod(0o755)
    path.with_name("tesseract.langs").write_text(f'List of available languages in "{tmp_path}/" (1):\neng\n')
    return path


def answer(program, *rows):
    """Let it answer with Tesseract's table of words: (page, line, left, top, width, height, confidence, text)."""
    table = [HEADER, [2, 1, 1, 1, 1, 0, 0, 0, 9, 9, -1, ""]]  # levels above words have no text
    table += [[5, page, 1, 1, line, 1, *rest] for page, line, *rest in rows]
    program.with_name("tesseract.tsv").write_text("".join("\t".join(map(str, row)) + "\n" for row in table))


def test_words_are_joined_without_spaces_in_chinese(program):
    words = (("二", 100), ("等座", 75), (" ", 95), ("Exit", 50), ("12", 75))
    answer(program, *((2, 1, 0, 0, 9, 9, score, text) for text, score in words))
    readings = load_engine("tesseract", languages="eng", program=str(program)).read([BLANK, BLANK])
    assert readings == [Reading("", 0.0), Reading("二等座 Exit 12", 0.75)]


def test_a_line_is_as_large_as_its_words(program):
    answer(
        program, (1, 1, 30, 20, 50, 10, 90, "Exit"), (1, 2, 5, 80, 20, 9, 80, "gate"), (1, 1, 90, 18, 20, 13, 70, "12")
    )
    first, second = load_engine("tesseract", languages="eng", program=str(program)).find(BLANK)
    assert (first.text, first.score, second.text) == ("Exit 12", pytest.approx(0.8), "gate")
    assert first.quad.dtype == np.float32 and first.quad.tolist() == [[30, 18], [110, 18], [110, 31], [30, 31]]


def test_failures_of_the_program_are_told(program):
    engine = load_engine("tesseract", languages="eng", program=str(program))
    with pytest.raises(RuntimeError, match="tesseract failed: .*no such thing"):
        engine.read([BLANK])


def test_a_program_that_does_not_say_where_its_models_are(program):
    program.with_name("tesseract.langs").write_text("List of available languages (1):\neng\n")
    with pytest.raises(ImportError, match="does not name the folder of its models: install Tesseract 5"):
        load_engine("tesseract", languages="eng", program=str(program))
