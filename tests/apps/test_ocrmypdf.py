"""The plugin for OCRmyPDF: in its own pipeline, with Tesseract where that is installed."""

import argparse
import io
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

import tadisr

ocrmypdf = pytest.importorskip("ocrmypdf")
plugin = pytest.importorskip("tadisr.apps.ocrmypdf")

PAGE = SimpleNamespace(options=SimpleNamespace())


def a_page(dpi, mode="L"):
    """Two lines of 10 points."""
    big = Image.new("L", (1600, 700), 250)
    font = ImageFont.load_default(83)  # 10 points at 600 dpi
    for i, line in enumerate(("Every page is restored", "before it is read 1984")):
        ImageDraw.Draw(big).text((100, 100 + 200 * i), line, 20, font)
    page = big.resize((1600 * dpi // 600, 700 * dpi // 600), Image.Resampling.BOX).convert(mode)
    page.info["dpi"] = (dpi, dpi)
    return page


@pytest.mark.parametrize(("dpi", "factor"), [(75, 4), (100, 3), (60, 4), (200, 1.5)])
def test_pages_reach_300_dpi_or_four_times_their_size(dpi, factor):
    page = a_page(dpi)
    made = plugin.filter_ocr_image(PAGE, page)
    assert made.mode == "L" and made.size == (round(page.width * factor), round(page.height * factor))
    assert made.info["dpi"] == pytest.approx((dpi * factor, dpi * factor), rel=0.01)
    wanted = tadisr.load("tadisr-tiny").restore(np.asarray(page.convert("RGB")), scale=float(factor)).image
    assert np.abs(np.asarray(made).astype(int) - wanted.mean(2)).max() <= 2


def test_pages_that_are_fine_enough_stay():
    page = a_page(250)
    assert plugin.filter_ocr_image(PAGE, page) is None
    bounded = SimpleNamespace(options=SimpleNamespace(max_ocr_image_mpixels=0.1))
    small = a_page(75)
    assert plugin.filter_ocr_image(bounded, small).width * 2 < 8 * small.width
    options = SimpleNamespace(tadisr_dpi=600, tadisr_model="tadisr-tiny")
    assert plugin.filter_ocr_image(SimpleNamespace(options=options), page).width == round(2.4 * page.width)
    color = a_page(100, "RGB")
    assert plugin.filter_ocr_image(PAGE, color).mode == "RGB"


def test_options():
    parser = argparse.ArgumentParser()
    plugin.add_options(parser)
    args = parser.parse_args(["--tadisr-dpi", "400"])
    assert (args.tadisr_dpi, args.tadisr_model) == (400, "tadisr-tiny")


@pytest.mark.skipif(not shutil.which("tesseract"), reason="needs Tesseract: apt-get install tesseract-ocr")
def test_in_the_pipeline_of_ocrmypdf(tmp_path, monkeypatch):
    img2pdf = pytest.importorskip("img2pdf")
    data, seen = io.BytesIO(), []
    a_page(75).save(data, "PNG", dpi=(75, 75))
    (tmp_path / "scan.pdf").write_bytes(img2pdf.convert(data.getvalue()))
    monkeypatch.setattr(plugin, "_load", lambda name, load=plugin._load: seen.append(name) or load(name))
    ocrmypdf.ocr(
        tmp_path / "scan.pdf", tmp_path / "out.pdf", plugins=["tadisr.apps.ocrmypdf"], output_type="pdf",
        sidecar=tmp_path / "text.txt", progress_bar=False, jobs=1, use_threads=True, language=["eng"],
    )  # fmt: skip
    assert "before it is read 1984" in (tmp_path / "text.txt").read_text() and seen == ["tadisr-tiny"]


def test_a_model_that_is_none():
    options = SimpleNamespace(tadisr_model="nothing")
    with pytest.raises(ocrmypdf.exceptions.BadArgsError, match="--tadisr-model nothing: No model nothing"):
        plugin.filter_ocr_image(SimpleNamespace(options=options), a_page(75))
