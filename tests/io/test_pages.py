"""Pages of PDF and TIFF files as pictures."""

import sys

import numpy as np
import pikepdf
import pytest
from PIL import Image

from helpers.command_line import noise
from tadisr.io import pages
from tadisr.io.images import ImageError


@pytest.fixture
def scans(tmp_path):
    """A PDF of two scans, one of 100 dots per inch and one of 50, and a page that is empty."""
    first, second = (Image.fromarray(noise(height, width)) for height, width in ((110, 85), (40, 60)))
    path = tmp_path / "scans.pdf"
    first.save(path, resolution=100, quality=100, subsampling=0)
    second.convert("L").save(path, resolution=50, append=True)
    with pikepdf.open(path, allow_overwriting_input=True) as pdf:
        pdf.add_blank_page(page_size=(72, 144))
        pdf.save(path)
    return path


def test_a_scan_keeps_its_pixels(scans):
    assert pages.count_pages(scans) == 3
    page = pages.read_page(scans)
    assert page.rgb.shape == (110, 85, 3) and page.metadata.dpi == pytest.approx((100, 100)) and page.frames == 3
    assert np.abs(page.rgb.astype(int) - noise(110, 85)).mean() < 3 and not page.gray and page.alpha is None


def test_other_resolutions(scans):
    coarse, empty = (pages.read_page(scans, number) for number in (1, 2))
    assert coarse.metadata.dpi == (pages.LEAST_DPI,) * 2 and coarse.gray and coarse.rgb.shape[:2] == (58, 87)
    assert empty.metadata.dpi == (pages.USUAL_DPI,) * 2 and empty.rgb.shape[:2] == (300, 150)
    assert empty.rgb.min() == 255


@pytest.mark.parametrize("most", [20_000, 999, 120])
def test_never_more_pixels(scans, most):
    height, width = pages.read_page(scans, 2, most).rgb.shape[:2]
    assert 0.3 * most < height * width <= most


def test_a_pdf_by_another_name(scans):
    path = scans.rename(scans.with_name("download"))
    assert pages.count_pages(path) == 3 and pages.read_page(path, 2).rgb.shape == (300, 150, 3)


def test_pages_of_a_tiff_and_frames(tmp_path):
    images = [Image.fromarray(noise(20 + 4 * i, 30)) for i in range(3)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:])
    assert pages.count_pages(tmp_path / "a.tif") == 3 and pages.count_pages(tmp_path / "a.gif") == 1
    assert np.array_equal(pages.read_page(tmp_path / "a.tif", 2).rgb, noise(28, 30))


def test_files_that_cannot_be_read(scans, tmp_path):
    with pikepdf.open(scans) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="u", owner="o"))
    (tmp_path / "cut.pdf").write_bytes(scans.read_bytes()[:200])
    (tmp_path / "notes.pdf").write_text("no pages")
    (tmp_path / "notes.tif").write_text("no pages")
    for name, said in {
        "locked.pdf": "locked.pdf is encrypted: remove its password first",
        "cut.pdf": "cut.pdf is no PDF, or a damaged one",
        "notes.pdf": "notes.pdf is no PDF, or a damaged one",
        "notes.tif": "notes.tif is empty, damaged, or no image known here",
        "none.pdf": "none.pdf: No such file or directory: check its name",
    }.items():
        for read in (pages.count_pages, pages.read_page):
            with pytest.raises(ImageError, match=said) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    with pytest.raises(ImageError, match=r"has no page 4: it has 3"):
        pages.read_page(scans, 3)


def test_without_pdfium(scans, monkeypatch):
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(ImportError, match=r"PDF pages need pypdfium2: pip install 'tadisr\[documents\]'"):
        pages.count_pages(scans)
