"""training/tiny/pdf_pages.py: what the pages show is what their lines and masks say."""

import ctypes

import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as raw
import pytest

from helpers.command_line import tree
from tadisr.datasets.ftsr import open_pages
from tadisr.training.tiny import pdf_pages

RED = (200, 20, 20)


def write(pdf, page, text, x, y, size, color):
    thing = raw.FPDFPageObj_NewTextObj(pdf, b"Helvetica", size)
    letters = (text + "\0").encode("utf-16-le")
    raw.FPDFText_SetText(thing, ctypes.cast(letters, raw.FPDF_WIDESTRING))
    raw.FPDFPageObj_SetFillColor(thing, *color, 255)
    raw.FPDFPageObj_Transform(thing, 1, 0, 0, 1, x, y)
    raw.FPDFPage_InsertObject(page, thing)


@pytest.fixture
def pdf(tmp_path):
    """A page of 300 x 200 points: a yellow panel and 8 lines of red text, a line each 22 points."""
    document = pdfium.PdfDocument.new()
    page = document.new_page(300, 200)
    panel = raw.FPDFPageObj_CreateNewRect(20, 20, 260, 160)
    raw.FPDFPageObj_SetFillColor(panel, 250, 240, 120, 255)
    raw.FPDFPath_SetDrawMode(panel, raw.FPDF_FILLMODE_WINDING, False)
    raw.FPDFPage_InsertObject(page, panel)
    for row in range(8):
        write(document, page, f"Row {row} of a page on yellow", 30, 10 + 22 * row, 12, RED)
    raw.FPDFPage_GenerateContent(page)
    (tmp_path / "pdfs" / "some").mkdir(parents=True)
    document.save(tmp_path / "pdfs" / "some" / "page.pdf")
    return tmp_path / "pdfs"


def test_pieces_of_lines(pdf):
    page = pdfium.PdfDocument(pdf / "some" / "page.pdf")[0]
    words = pdf_pages.words(page, np.random.default_rng(0))
    rows = {
        row: [word for word in words if abs((word.box[1] + word.box[3]) / 2 - (186 - 22 * row)) < 8] for row in range(8)
    }
    for row, found in rows.items():
        assert " ".join(word.text for word in found) == f"Row {row} of a page on yellow"
        assert found[0].box[0] == pytest.approx(31, abs=1.5)
    assert len(words) > 8, "lines are cut into pieces"


@pytest.mark.parametrize("flat", [True, False])
def test_the_mask_is_where_the_strokes_are(pdf, flat, monkeypatch):
    monkeypatch.setattr(pdf_pages, "DARK", 0.0)
    monkeypatch.setattr(pdf_pages, "LCD", 0.0)
    page = pdfium.PdfDocument(pdf / "some" / "page.pdf")[0]
    canvas = pdf_pages.sheet(page, (256, 256), flat, np.random.default_rng(1))
    ink = canvas.mask > 0.9
    assert canvas.mask.max() == 1 and 0.005 < ink.mean() < 0.4
    red, green, _ = np.moveaxis(canvas.image, -1, 0)
    assert (red - green)[ink].min() > 0.25, "ink is red"
    assert np.abs(red - green)[canvas.mask == 0].max() < 0.25, "nothing else is"
    for line in canvas.visible_lines():
        (left, top), (right, bottom) = line["quad"].min(0).astype(int), line["quad"].max(0).astype(int)
        assert ink[top:bottom, left:right].any()


def test_a_data_set(pdf, tmp_path, capsys):
    for name in ("once", "twice"):
        pdf_pages.main(
            ["--pdfs", str(pdf), "-o", str(tmp_path / name), "--num", "6", "--size", "128", "--num-proc", "1"]
        )
    assert "6 pages of 1 PDFs" in capsys.readouterr().err
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert tree(once) == tree(twice) and len(tree(once)) == 13
    assert all((once / name).read_bytes() == (twice / name).read_bytes() for name in tree(once))
    pages = open_pages(str(tmp_path / "once"))
    assert len(pages) == 6
    for i in range(6):
        hr, mask, lines = pages.hr(i), pages.mask(i), pages.lines(i)
        assert hr.shape == (128, 128, 3) and mask.shape == (128, 128) and set(np.unique(mask)) == {0, 255}
        texts = [line["text"] for line in lines if line["text"]]
        assert texts and set(" ".join(texts).split()) <= {*["Row", "of", "a", "page", "on", "yellow"], *"01234567"}


def test_mistakes(pdf, tmp_path):
    with pytest.raises(ValueError, match=r"has no folder with PDFs\."):
        pdf_pages.main(["--pdfs", str(tmp_path / "pdfs" / "some"), "-o", str(tmp_path / "out")])
    with pytest.raises(ValueError, match=r"is there already: remove it first\."):
        pdf_pages.main(["--pdfs", str(pdf), "-o", str(pdf)])


@pytest.mark.parametrize(
    ("text", "doubtful"), [("Äëÿ ñàìîãî", True), ("für größere", False), ("中文", False), ("12", False)]
)
def test_letters_of_another_face(text, doubtful):
    assert pdf_pages._doubtful(text) is doubtful
