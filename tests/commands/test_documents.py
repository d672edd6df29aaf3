"""`tadisr upscale` on PDF files and archives, with a toy model."""

import io
import json
import sys
import zipfile

import pikepdf
import pytest
from pikepdf import Dictionary, Name
from PIL import Image

from helpers import tiny
from helpers.command_line import noise, tree
from tadisr.cli import main
from tadisr.commands import documents


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "model"
    tiny.lean().save_pretrained(folder)
    return ["--model", str(folder), "--runtime", "torch", "--device", "cpu", "--dtype", "float32"]


def a_pdf(path, *sizes, points=60):
    """A page for each size (w, h) of a picture, which is printed so many points wide."""
    pdf = pikepdf.new()
    for seed, (width, height) in enumerate(sizes):
        data = io.BytesIO()
        Image.fromarray(noise(height, width, seed=seed)).save(data, "JPEG")
        image = pikepdf.Stream(pdf, data.getvalue())
        image.Type, image.Subtype, image.Filter = Name.XObject, Name.Image, Name.DCTDecode
        image.Width, image.Height, image.ColorSpace, image.BitsPerComponent = width, height, Name.DeviceRGB, 8
        page = pdf.add_blank_page(page_size=(200, 200))
        page.Resources = Dictionary(XObject=Dictionary(I=image))
        page.Contents = pdf.make_stream(f"q {points} 0 0 {points * height / width} 0 0 cm /I Do Q".encode())
    pdf.save(path)


def sizes(path):
    with pikepdf.open(path) as pdf:
        found = [page.Resources.XObject.I for page in pdf.pages]
        return [pikepdf.PdfImage(image).as_pil_image().size for image in found]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_pdf(model, capsys):
    a_pdf("scan.pdf", (20, 24), (24, 20))
    assert main(["upscale", "scan.pdf", "-o", "better.pdf", *model]) == 0
    assert sizes("better.pdf") == [(80, 96), (96, 80)] and tree() == ["better.pdf", "scan.pdf"]
    assert capsys.readouterr().err.splitlines()[-1] == "tadisr: scan.pdf: 2 pictures restored: better.pdf"
    assert main(["upscale", "scan.pdf", "-o", "better.pdf", "--skip-existing", *model]) == 0
    assert "scan.pdf: skipped: better.pdf is there" in capsys.readouterr().err


def test_resolution_is_bounded(model, capsys):
    a_pdf("scan.pdf", (250, 250), (20, 20))  # 300 and 24 dpi
    assert main(["upscale", "scan.pdf", "-o", "a", *model, "--dpi", "330"]) == 0
    assert "1 pictures restored, 1 left as they are (1 are fine enough: 330 dpi are wanted)" in capsys.readouterr().err
    assert sizes("a/scan.pdf") == [(250, 250), (80, 80)]
    assert main(["upscale", "scan.pdf", "-o", "b", *model, "--dpi", "60"]) == 0
    assert sizes("b/scan.pdf") == [(250, 250), (50, 50)]
    a_pdf("fine.pdf", (20, 20), points=4)
    assert main(["upscale", "fine.pdf", "-o", "c", *model, "--scale", "2"]) == 0  # 360 dpi: who says how much gets it
    assert sizes("c/fine.pdf") == [(40, 40)]


def test_sizes_that_people_ask_for(model, capsys):
    a_pdf("scan.pdf", (250, 200), (20, 24))
    assert main(["upscale", "scan.pdf", "-o", "a", *model, "--max-side", "90"]) == 0
    said = (
        "1 pictures restored, 1 left as they are (1 are fine enough: 600 dpi and at most 90 pixels a side are wanted)"
    )
    assert said in capsys.readouterr().err and sizes("a/scan.pdf") == [(250, 200), (75, 90)]
    assert main(["upscale", "scan.pdf", "-o", "a", *model, "--max-side", "80", "--skip-existing"]) == 0
    assert sizes("a/scan.pdf") == [(250, 200), (67, 80)]  # made anew
    assert main(["upscale", "scan.pdf", "-o", "b", *model, "--keep-size"]) == 0
    assert sizes("b/scan.pdf") == [(250, 200), (20, 24)] and "2 pictures restored" in capsys.readouterr().err


def test_an_interrupted_document_goes_on(model, capsys, monkeypatch):
    a_pdf("scan.pdf", (20, 24), (24, 20), (24, 24))
    assert main(["upscale", "scan.pdf", "-o", "whole.pdf", *model]) == 0
    write, calls = documents.write_image, []

    def stopped(file, *rest):
        calls.append(file)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(file, *rest)

    monkeypatch.setattr(documents, "write_image", stopped)
    assert main(["upscale", "scan.pdf", "-o", "out.pdf", *model]) == 130
    assert "what is restored is kept: the same command goes on" in capsys.readouterr().err
    assert tree() == [".out.pdf.parts/00000.jpg", "scan.pdf", "whole.pdf"]
    assert main(["upscale", "scan.pdf", "-o", "out.pdf", *model]) == 0
    assert [file.name for file in calls[2:]] == ["00001.jpg", "00002.jpg"] and tree() == [
        "out.pdf",
        "scan.pdf",
        "whole.pdf",
    ]
    with pikepdf.open("out.pdf") as one, pikepdf.open("whole.pdf") as other:
        for a, b in zip(one.pages, other.pages, strict=True):
            assert a.Resources.XObject.I.read_raw_bytes() == b.Resources.XObject.I.read_raw_bytes()


def test_a_comic(model, capsys):
    with zipfile.ZipFile("comic.cbz", "w") as archive:
        for name in ("2.png", "1.png"):
            data = io.BytesIO()
            Image.fromarray(noise(20, 24, 1)).save(data, "PNG")
            archive.writestr(name, data.getvalue())
        data = io.BytesIO()
        Image.fromarray(noise(20, 24)).save(data, "AVIF")
        archive.writestr("4.avif", data.getvalue())
        archive.writestr("ComicInfo.xml", "<ComicInfo/>")
        archive.writestr("3.png", b"junk")
    assert main(["upscale", "comic.cbz", *model, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    (one,) = summary["documents"]
    assert (one["status"], one["pictures"], one["left"], one["output"]) == ("restored", 3, 1, "tadisr-output/comic.cbz")
    assert summary["model"]["runtime"] == "torch" and summary["error"] is None
    with zipfile.ZipFile("tadisr-output/comic.cbz") as archive:
        assert archive.namelist() == ["2.png", "1.png", "4.avif", "ComicInfo.xml", "3.png"]
        with Image.open(io.BytesIO(archive.read("1.png"))) as image:
            assert image.size == (96, 80) and image.mode == "L"  # gray stays gray
        with Image.open(io.BytesIO(archive.read("4.avif"))) as image:
            assert image.size == (96, 80) and image.format == "AVIF"


def test_one_bad_document_stops_no_other(model, capsys):
    a_pdf("good.pdf", (20, 24))
    pikepdf.new().save("empty.pdf")
    with open("torn.pdf", "wb") as file:
        file.write(b"%PDF-1.7\n")
    assert main(["upscale", "torn.pdf", "empty.pdf", "none.pdf", "good.pdf", "-o", "out", *model]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("tadisr: torn.pdf is no PDF, or a damaged one (")
    assert lines[1] == "tadisr: empty.pdf holds no pictures to restore: text that fonts draw is sharp at any size"
    assert lines[2].startswith("tadisr: cannot read none.pdf: No such file")
    assert sizes("out/good.pdf") == [(80, 96)]


def test_a_picture_that_fails_stays(model, capsys, monkeypatch):
    a_pdf("scan.pdf", (20, 24), (24, 20))
    with pikepdf.open("scan.pdf", allow_overwriting_input=True) as pdf:
        pdf.pages[0].Resources.XObject.I.write(b"no JPEG", filter=Name.DCTDecode)
        pdf.save()
    assert main(["upscale", "scan.pdf", "-o", "out.pdf", *model]) == 1
    said = capsys.readouterr().err
    assert "scan.pdf: 1 pictures restored, 1 left as they are" in said and "page 1, picture 1 cannot be read" in said
    with pikepdf.open("out.pdf") as pdf:
        assert [page.Resources.XObject.I.Width for page in pdf.pages] == [20, 96]


def test_a_dry_run(model, capsys):
    a_pdf("scan.pdf", (20, 24))
    assert main(["upscale", "scan.pdf", "--dry-run", *model]) == 0
    assert capsys.readouterr().out == "scan.pdf: 1 pictures, 0.0 megapixels restored, to tadisr-output/scan.pdf\n"
    assert tree() == ["scan.pdf"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scan.pdf", "photo.png"], "scan.pdf is a document, and other inputs are not"),
        (["scan.pdf", "-o", "scan.pdf"], "would replace the input"),
        (["scan.pdf", "-o", "out.png"], "stays a .pdf file: out.png cannot be its name"),
        (["scan.pdf", "-o", "out.cbz"], "stays a .pdf file: out.cbz cannot be its name"),
        (["scan.pdf", "a/scan.pdf"], "two of the documents have one name"),
        (["scan.pdf", "a/scan.pdf", "-o", "out.pdf"], "is one file, but there are 2 inputs"),
        (["scan.pdf", "--report"], "--report is for images, not for documents"),
        (["scan.pdf", "--width", "99"], "--width is for images"),
        (["scan.pdf", "--metadata", "none"], "--metadata none is for images"),
        (["scan.pdf", "--max-side", "0"], "--max-side must be at least 1, not 0"),
        (["scan.pdf", "--dpi", "0"], "--dpi must be at least 1, not 0"),
        (["scan.pdf", "--scale", "0"], "--scale must be a number above 0"),
        (["photo.png", "--dpi", "300"], "--dpi is for documents"),
    ],
)
def test_mistakes(arguments, message, folder, capsys):
    (folder / "a").mkdir()
    a_pdf("scan.pdf", (20, 24))
    a_pdf("a/scan.pdf", (20, 24))
    Image.fromarray(noise()).save("photo.png")
    before = tree()
    assert main(["upscale", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and tree() == before


def test_without_pikepdf(capsys, monkeypatch):
    a_pdf("scan.pdf", (20, 24))
    monkeypatch.setitem(sys.modules, "pikepdf", None)
    monkeypatch.delitem(sys.modules, "tadisr.io.pdf", raising=False)
    assert main(["upscale", "scan.pdf"]) == 1
    assert capsys.readouterr().err == "tadisr: PDF files need pikepdf: pip install 'tadisr[documents]'.\n"


def test_too_large_a_picture_stays(model, capsys, monkeypatch):
    a_pdf("scan.pdf", (20, 24))
    monkeypatch.setattr(documents.psutil, "virtual_memory", lambda: type("", (), {"available": 1000})())
    assert main(["upscale", "scan.pdf", "-o", "out.pdf", *model]) == 1
    assert "none of its pictures could be restored: page 1, picture 1 would take" in capsys.readouterr().err
    assert "out.pdf" not in tree()


def test_a_missing_document_beside_an_output_that_is_there(model, capsys):
    a_pdf("good.pdf", (20, 24))
    assert main(["upscale", "good.pdf", "-o", "out", *model]) == 0
    assert main(["upscale", "none.pdf", "good.pdf", "-o", "out", *model]) == 1
    assert "cannot read none.pdf" in capsys.readouterr().err
