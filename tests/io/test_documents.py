"""PDF files and archives whose pictures are replaced, and all else stays."""

import io
import zipfile
from contextlib import nullcontext

import numpy as np
import pikepdf
import pytest
from pikepdf import Array, Dictionary, Name
from PIL import Image

from helpers.command_line import noise
from tadisr.io import pdf as pdfs
from tadisr.io.documents import open_document, read_record
from tadisr.io.images import ImageError, write_image


def picture(pdf, mode="RGB", size=(40, 24), **extra):
    """An image XObject of noise: a JPEG where that can be."""
    pixels = Image.fromarray(noise(size[1], size[0])).convert(mode)
    stream = pikepdf.Stream(pdf, pixels.tobytes())
    space = {"RGB": Name.DeviceRGB, "L": Name.DeviceGray, "1": Name.DeviceGray, "CMYK": Name.DeviceCMYK}.get(mode)
    if mode == "P":
        space = Array([Name.Indexed, Name.DeviceRGB, 255, pikepdf.String(bytes(pixels.getpalette()))])
    values = {"Width": size[0], "Height": size[1], "ColorSpace": space, "BitsPerComponent": 1 if mode == "1" else 8}
    for key, value in {"Type": Name.XObject, "Subtype": Name.Image, **values, **extra}.items():
        stream[f"/{key}"] = value
    return pdf.make_indirect(stream)


def a_page(pdf, content, **images):
    page = pdf.add_blank_page(page_size=(200, 200))
    font = Dictionary(Type=Name.Font, Subtype=Name.Type1, BaseFont=Name.Helvetica)
    page.Resources = Dictionary(XObject=Dictionary(**images), Font=Dictionary(F=font))
    page.Contents = pdf.make_stream(content)


@pytest.fixture
def scan(tmp_path):
    """Three pages: pictures of every kind, one of them twice and in a form, and text that fonts draw."""
    pdf, path = pikepdf.new(), tmp_path / "scan.pdf"
    color, gray = picture(pdf), picture(pdf, "L")
    form = pdf.make_stream(b"q 144 0 0 72 0 0 cm /G Do Q")
    form.Type, form.Subtype, form.BBox = Name.XObject, Name.Form, [0, 0, 200, 200]
    form.Resources, form.Matrix = Dictionary(XObject=Dictionary(G=gray)), [0.5, 0, 0, 0.5, 10, 10]
    a_page(pdf, b"q 100 0 0 60 20 20 cm /A Do Q BT /F 12 Tf (vector) Tj ET q 1 0 0 1 5 5 cm /B Do Q", A=color, B=form)
    a_page(
        pdf, b"/A Do q 72 0 0 36 0 0 cm /P Do /S Do /C Do /T Do Q", A=color, P=picture(pdf, "P"),
        S=picture(pdf, "1", (40, 24), ImageMask=True), C=picture(pdf, "CMYK"), T=picture(pdf, size=(40, 3)),
        Unused=picture(pdf),
    )  # fmt: skip
    with pdf.open_outline() as outline:
        outline.root.append(pikepdf.OutlineItem("Chapter", 1))
    pdf.save(path)
    return path


def test_the_pictures_of_a_pdf(scan):
    with open_document(scan) as document:
        names = [one.name for one in document.pictures]
        assert names == ["page 1, picture 1", "page 1, picture 2", "page 2, picture 1"]
        color, gray, indexed = document.pictures
        assert (color.height, color.width, color.suffix) == (24, 40, ".jpg")
        assert color.dpi == pytest.approx(40 / (100 / 72))  # where it is printed largest
        assert gray.dpi == pytest.approx(min(40 / 1, 24 / 0.5))  # halved by the form
        assert indexed.dpi == pytest.approx(40)
        loaded = [one.load(scan.parent) for one in document.pictures]
        assert [one.gray for one in loaded] == [False, True, False]
        assert np.array_equal(loaded[0].rgb, noise(24, 40))
        assert len({one.digest() for one in document.pictures}) == 3
        assert [one.split(" ", 4)[-1] for one in document.left] == [
            "is a stencil", "has colours that are neither gray nor RGB", "is 40 x 3 pixels: too small",
        ]  # fmt: skip


@pytest.mark.parametrize("held", [pdfs._MOST_HELD, 0])
def test_a_pdf_with_other_pictures(scan, tmp_path, monkeypatch, held):
    monkeypatch.setattr(pdfs, "_MOST_HELD", held)
    files = {0: tmp_path / "0.jpg", 1: tmp_path / "1.jpg", 2: tmp_path / "2.jpg"}
    for index, file in files.items():
        pixels = noise(96, 160, seed=index)
        write_image(file, pixels[..., 0] if index == 1 else pixels, quality=95)
    with open_document(scan) as document:
        document.write(tmp_path / "out.pdf", files, "tadisr 1 key=value")
    assert read_record(tmp_path / "out.pdf") == "tadisr 1 key=value" and read_record(scan) is None
    assert not list(tmp_path.glob(".tadisr-*"))
    with pikepdf.open(scan) as before, pikepdf.open(tmp_path / "out.pdf") as after:
        assert len(after.pages) == 2
        for old, new in zip(before.pages, after.pages, strict=True):
            assert old.Contents.read_bytes() == new.Contents.read_bytes() and old.MediaBox == new.MediaBox
        with after.open_outline() as outline:
            assert outline.root[0].title == "Chapter"
        first, second = (page.Resources.XObject for page in after.pages)
        assert first.A.objgen == second.A.objgen
        found = [first.A, first.B.Resources.XObject.G, second.P]
        for index, image in enumerate(found):
            shown = np.asarray(pikepdf.PdfImage(image).as_pil_image().convert("RGB"))
            with Image.open(files[index]) as wanted:
                assert np.array_equal(shown, np.asarray(wanted.convert("RGB")))
        assert [str(image.ColorSpace) for image in found] == ["/DeviceRGB", "/DeviceGray", "/DeviceRGB"]
        assert (second.C.Width, second.S.Width, second.T.Height) == (40, 40, 3)


def test_colours_keep_their_profile(tmp_path):
    pdf = pikepdf.new()
    profile = pdf.make_stream(b"profile", N=3)
    a_page(pdf, b"100 0 0 60 0 0 cm /A Do", A=picture(pdf, ColorSpace=Array([Name.ICCBased, profile])))
    pdf.save(tmp_path / "in.pdf")
    write_image(tmp_path / "new.jpg", noise(96, 160))
    with open_document(tmp_path / "in.pdf") as document:
        document.write(tmp_path / "out.pdf", {0: tmp_path / "new.jpg"}, "tadisr")
    with pikepdf.open(tmp_path / "out.pdf") as pdf:
        image = pdf.pages[0].Resources.XObject.A
        assert image.ColorSpace[0] == Name.ICCBased and image.ColorSpace[1].read_bytes() == b"profile"
        assert image.Width == 160


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"Decode": [1, 0, 1, 0, 1, 0]}, "has its colours remapped"),
        ({"SMaskInData": 1}, "holds its own transparency"),
        ({"Mask": [0, 0, 0, 0, 0, 0]}, "makes a colour transparent"),
    ],
)
def test_pictures_that_stay(tmp_path, extra, why):
    pdf = pikepdf.new()
    a_page(pdf, b"100 0 0 60 0 0 cm /A Do", A=picture(pdf, **extra))
    pdf.save(tmp_path / "in.pdf")
    with open_document(tmp_path / "in.pdf") as document:
        assert not document.pictures and document.left == [f"page 1, picture 1 {why}"]


def test_pdfs_that_cannot_be_restored(tmp_path, scan):
    with pikepdf.open(scan) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="secret", owner="secret"))
        restricted = pikepdf.Permissions(modify_other=False)
        pdf.save(tmp_path / "kept.pdf", encryption=pikepdf.Encryption(user="", owner="x", allow=restricted))
    (tmp_path / "torn.pdf").write_bytes(scan.read_bytes()[:60])
    (tmp_path / "no.pdf").write_text("no PDF")
    for name, said in (
        ("locked.pdf", "is encrypted: remove its password"), ("kept.pdf", "is protected against changes"),
        ("torn.pdf", "damaged"), ("no.pdf", "is no PDF, or a damaged one"), ("none.pdf", "cannot read"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=said) as caught:
            open_document(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_a_form_that_holds_itself_ends(tmp_path):
    pdf = pikepdf.new()
    form = pdf.make_stream(b"/Self Do /A Do")
    form.Type, form.Subtype, form.BBox = Name.XObject, Name.Form, [0, 0, 1, 1]
    form.Resources = Dictionary(XObject=Dictionary(Self=form, A=picture(pdf)))
    a_page(pdf, b"100 0 0 60 0 0 cm /Self Do", Self=form)
    pdf.save(tmp_path / "in.pdf")
    with open_document(tmp_path / "in.pdf") as document:
        assert [one.name for one in document.pictures] == ["page 1, picture 1"]


@pytest.fixture
def comic(tmp_path):
    path = tmp_path / "comic.cbz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, kind in (("a/001.png", "PNG"), ("a/002.JPG", "JPEG"), ("a/003.gif", "GIF")):
            data = io.BytesIO()
            Image.fromarray(noise(24, 40)).save(data, kind)
            archive.writestr(name, data.getvalue())
        archive.writestr("ComicInfo.xml", "<ComicInfo/>")
        archive.writestr("__MACOSX/a/._001.png", b"junk")
        archive.writestr("a/bad.png", b"junk")
    return path


def test_the_pictures_of_an_archive(comic, tmp_path):
    with open_document(comic) as document:
        assert [(one.name, one.suffix) for one in document.pictures] == [
            ("a/001.png", ".png"), ("a/002.JPG", ".jpg"), ("a/003.gif", ".png"),
        ]  # fmt: skip
        assert len(document.left) == 1 and "a/bad.png" in document.left[0]
        assert np.array_equal(document.pictures[0].load(tmp_path).rgb, noise(24, 40))
        for index in range(3):
            write_image(tmp_path / f"{index}{document.pictures[index].suffix}", noise(96, 160, seed=index))
        files = {index: tmp_path / f"{index}{document.pictures[index].suffix}" for index in range(3)}
        document.write(tmp_path / "out.cbz", files, "tadisr 1")
    assert read_record(tmp_path / "out.cbz") == "tadisr 1" and read_record(comic) is None
    with zipfile.ZipFile(tmp_path / "out.cbz") as archive:
        assert archive.namelist() == [
            "a/001.png", "a/002.JPG", "a/003.png", "ComicInfo.xml", "__MACOSX/a/._001.png", "a/bad.png",
        ]  # fmt: skip
        assert archive.read("ComicInfo.xml") == b"<ComicInfo/>"
        assert Image.open(io.BytesIO(archive.read("a/003.png"))).size == (160, 96)


def test_archives_that_cannot_be_restored(tmp_path, comic):
    (tmp_path / "no.zip").write_text("no archive")
    torn = bytearray(comic.read_bytes())
    torn[60:200] = bytes(140)
    (tmp_path / "torn.cbz").write_bytes(torn)
    with pytest.raises(ImageError, match="is no ZIP archive"):
        open_document(tmp_path / "no.zip")
    with open_document(tmp_path / "torn.cbz") as document:
        assert any("a/001.png is damaged" in why for why in document.left) and len(document.pictures) == 2
        document.write(tmp_path / "out.cbz", {}, "tadisr 1")
    with zipfile.ZipFile(tmp_path / "out.cbz") as archive:
        assert "a/002.JPG" in archive.namelist() and "a/001.png" not in archive.namelist()


def test_a_full_disk_leaves_nothing(scan, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    write_image(tmp_path / "new.jpg", noise(96, 160))
    with open_document(scan) as document:
        monkeypatch.setattr(pikepdf.Pdf, "save", full)
        with pytest.raises(ImageError, match=r"cannot write .*out.pdf: No space left on device: make room"):
            document.write(tmp_path / "out.pdf", {0: tmp_path / "new.jpg"}, "tadisr")
    assert sorted(x.name for x in tmp_path.iterdir()) == ["new.jpg", "scan.pdf"]


def test_pictures_as_they_are_stored(tmp_path):
    """Of 16 bits, of one bit the other way round, and gray with a soft mask."""
    pdf = pikepdf.new()
    ramp = np.linspace(0, 65535, 40 * 24).astype(">u2").reshape(24, 40)
    deep = picture(pdf, "L")
    deep.write(ramp.tobytes())
    deep.BitsPerComponent = 16
    mask = picture(pdf, "L", (8, 8))
    masked, fax = picture(pdf, "L", SMask=mask), picture(pdf, "1", Decode=[1, 0])
    a_page(pdf, b"100 0 0 60 0 0 cm /A Do /B Do /C Do", A=deep, B=masked, C=fax)
    pdf.save(tmp_path / "in.pdf")
    with open_document(tmp_path / "in.pdf") as document:
        loaded = [one.load(tmp_path) for one in document.pictures]
        assert [one.gray for one in loaded] == [True] * 3
        assert np.array_equal(loaded[0].rgb[..., 0], ramp >> 8)
        bits = np.asarray(Image.fromarray(noise(24, 40)).convert("1"))
        assert np.array_equal(loaded[2].rgb[..., 0] > 127, ~bits)


def test_odd_objects_leave_the_rest(tmp_path):
    pdf = pikepdf.new()
    blended = picture(pdf, SMask=pdf.make_stream(b"", Matte=[0, 0, 0]))
    a_page(pdf, b"/X 0 0 60 0 0 cm /A Do", A=picture(pdf))  # a name for a number
    a_page(
        pdf, b"100 0 0 60 0 0 cm /A Do /B Do /C Do /D Do", A=picture(pdf), B=Dictionary(Subtype=Name.Image), C=blended
    )
    pdf.save(tmp_path / "in.pdf")
    with open_document(tmp_path / "in.pdf") as document:
        assert [one.name for one in document.pictures] == ["page 2, picture 1"]
        assert "page 1 cannot be searched" in document.left[0]
        assert document.left[1] == "page 2, picture 2 is blended with its transparency"


def test_protection_is_kept(tmp_path, scan):
    with pikepdf.open(scan) as pdf:
        allowed = pikepdf.Permissions(extract=False)
        pdf.save(tmp_path / "in.pdf", encryption=pikepdf.Encryption(user="", owner="x", allow=allowed))
    with open_document(tmp_path / "in.pdf") as document:
        document.write(tmp_path / "out.pdf", {}, "tadisr")
    with pikepdf.open(tmp_path / "out.pdf") as pdf:
        assert pdf.is_encrypted and not pdf.allow.extract


def test_archives_keep_what_they_are_given(tmp_path):
    """Their comment, pages of a TIFF, names that meet, two members of one name."""
    path = tmp_path / "odd.cbz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.comment = b'{"ComicBookInfo/1.0": {}}'
        for number, (name, kind) in enumerate((("1.gif", "GIF"), ("1.bmp", "BMP"), ("2.png", "PNG"), ("2.png", "PNG"))):
            data = io.BytesIO()
            Image.fromarray(noise(24, 40, seed=number)).save(data, kind)
            with pytest.warns(UserWarning) if number == 3 else nullcontext():
                archive.writestr(name, data.getvalue())
        pages, data = [Image.fromarray(noise(24, 40, seed=9 + i)) for i in range(2)], io.BytesIO()
        pages[0].save(data, "TIFF", save_all=True, append_images=pages[1:])
        archive.writestr("3.tif", data.getvalue())
    with open_document(path) as document:
        assert [one.name for one in document.pictures] == ["1.gif", "1.bmp", "2.png", "2.png"]
        assert document.left == ["3.tif holds 2 pages or frames"]
        files = {}
        for index in range(4):
            files[index] = tmp_path / f"{index}.png"
            write_image(files[index], noise(96, 160, seed=index))
        with pytest.warns(UserWarning, match="Duplicate name"):
            document.write(tmp_path / "out.cbz", files, "tadisr 1")
    assert read_record(tmp_path / "out.cbz") == "tadisr 1"
    with zipfile.ZipFile(tmp_path / "out.cbz") as archive:
        assert archive.comment == b'{"ComicBookInfo/1.0": {}}\ntadisr 1'
        assert archive.namelist() == ["1.png", "1.bmp.png", "2.png", "2.png", "3.tif"]
        for index, member in enumerate(archive.infolist()[:4]):
            assert archive.read(member) == files[index].read_bytes()
