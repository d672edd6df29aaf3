"""What stands beside the pixels goes from every format that is read to every format that is written."""

import io
import random
import struct

import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from helpers.encoded_images import NOISE, chunk, encoded
from tadisr.io.images import (
    ImageError,
    Metadata,
    check_writable,
    image_size,
    join_pages,
    read_header,
    read_image,
    read_made_by,
    write_image,
)
from tadisr.io.metadata import upright_xmp
from tadisr.io.tiff import TiffWriter

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:ImageWidth="30" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="\xc3\xa9"/></rdf:RDF></x:xmpmeta>'
)
OUTPUTS = ["png", "jpg", "webp", "tif", "avif"]


def exif_block(orientation=6):
    exif = Image.Exif()
    exif[0x0112], exif[270], exif[306], exif[0x000B] = (
        orientation,
        "scan of invoice",
        "2020:01:02 03:04:05",
        "a program",
    )
    exif[0x8769] = {
        0x9003: "2020:01:02 03:04:05", 0x829A: TiffImagePlugin.IFDRational(1, 60), 0x927C: b"maker" * 99,
        0xA002: 30, 0xA003: 40,
    }  # fmt: skip
    exif[0x8825] = {1: "N", 2: (51.0, 30.0, 0.0)}
    return exif


def saved(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind, **options)
    return buffer.getvalue()


def read(tmp_path, data):
    (tmp_path / "in.img").write_bytes(data)
    return read_image(tmp_path / "in.img")


def loaded_exif(metadata):
    exif = Image.Exif()
    exif.load(metadata.exif)
    return exif


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_what_comes_in(tmp_path, kind):
    options = {"dpi": (300, 200)} if kind in ("PNG", "JPEG", "TIFF") else {}
    exif = exif_block()
    if kind == "TIFF":
        exif[700] = XMP
    elif kind in ("WEBP", "AVIF"):
        exif[282], exif[283], exif[296], options["xmp"] = 300.0, 200.0, 2, XMP
    loaded = Image.Exif()
    loaded.load(exif.tobytes())
    data = saved(kind, exif=loaded if kind == "TIFF" else exif.tobytes(), icc_profile=SRGB, **options)
    if kind == "PNG":
        data = data[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + data[33:]
    if kind == "JPEG":
        segment = b"http://ns.adobe.com/xap/1.0/\0" + XMP
        data = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    loaded = read(tmp_path, data)
    assert loaded.rgb.shape == (30, 40, 3) and loaded.icc_profile == SRGB
    assert np.allclose(loaded.metadata.dpi, (200, 300), atol=0.01)  # turned, as the picture is
    exif = loaded_exif(loaded.metadata)
    assert exif[270] == "scan of invoice" and exif[306] == "2020:01:02 03:04:05" and 0x000B not in exif
    assert 0x0112 not in exif
    block = exif.get_ifd(0x8769)
    assert block[0x9003] == "2020:01:02 03:04:05" and block[0x829A] == 1 / 60
    assert not {0x927C, 0xA002, 0xA003} & set(block)
    assert exif.get_ifd(0x8825)[2] == (51.0, 30.0, 0.0)
    assert b'tiff:Orientation="1"' in loaded.metadata.xmp and b"ImageWidth" not in loaded.metadata.xmp
    assert b'dc:title="\xc3\xa9"' in loaded.metadata.xmp


@pytest.mark.parametrize("suffix", OUTPUTS)
@pytest.mark.parametrize("pixels", [NOISE, NOISE[..., 0]], ids=["rgb", "gray"])
@pytest.mark.parametrize("alpha", [None, NOISE[..., 1]], ids=["opaque", "alpha"])
def test_what_goes_out(tmp_path, suffix, pixels, alpha):
    before = read(tmp_path, saved("JPEG", exif=exif_block().tobytes(), dpi=(300, 200), icc_profile=SRGB))
    metadata = Metadata(SRGB, before.metadata.dpi, before.metadata.exif, XMP)
    path = tmp_path / f"out.{suffix}"
    write_image(path, pixels, alpha, metadata.scaled(4))
    loaded, profile = read_image(path), SRGB if pixels.ndim == 3 else None
    assert np.allclose(loaded.metadata.dpi, (800, 1200), atol=0.01) and loaded.icc_profile == profile
    assert loaded.metadata.xmp == upright_xmp(XMP) and loaded.remarks == ()
    coloured = suffix == "webp" or (suffix == "avif" and alpha is not None)  # which have no gray
    assert loaded.gray == (pixels.ndim == 2 and not coloured)
    exif = loaded_exif(loaded.metadata)
    assert exif[270] == "scan of invoice" and exif.get_ifd(0x8769)[0x829A] == 1 / 60
    assert exif.get_ifd(0x8825)[1] == "N" and read_made_by(path) is None
    with Image.open(path) as image:  # Pillow agrees
        image.load()
        assert image.getexif().get(0x0112, 1) == 1 and image.info.get("icc_profile") == profile
        block = image.getexif().get_ifd(0x8769)
        assert (block[0xA002], block[0xA003]) == (30, 40) == image.size
        assert np.allclose(image.info.get("dpi", (800, 1200)), (800, 1200), atol=0.01)
        assert np.array_equal(ImageOps.exif_transpose(image).convert("RGB"), loaded.rgb)


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_what_made_an_output(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    assert read_made_by(path) is None
    write_image(path, NOISE)
    assert read_made_by(path) is None
    made_by = 'tadisr-tiny 1.0 {"scale": 4, "input": "Köln 東京 \\ \n"}'
    for metadata in (None, Metadata(exif=exif_block().tobytes(), dpi=(72, 72))):
        write_image(path, NOISE, metadata=metadata, made_by=made_by)
        assert read_made_by(path) == made_by
    write_image(path, NOISE, metadata=read_image(path).metadata)  # what made the input did not make the output
    assert read_made_by(path) is None
    path.write_bytes(path.read_bytes()[:50])
    assert read_made_by(path) is None


PAGES = [(NOISE, NOISE[..., 1]), (NOISE[:5, :7], None), (NOISE[..., 0], None), (NOISE[3:, :, 0], NOISE[3:, :, 2])]


def test_pages_are_joined_as_they_are(tmp_path):
    exif = Image.Exif()
    exif.load(exif_block().tobytes())
    upright = read(tmp_path, saved("JPEG", exif=exif.tobytes())).metadata.exif
    for number, (pixels, alpha) in enumerate(PAGES):
        beside = Metadata(SRGB if number else None, (100 + number, 200), upright, XMP)
        write_image(tmp_path / f"{number}.tif", pixels, alpha, beside, made_by=f"page {number}")
    order = [(tmp_path / f"{number}.tif", 0) for number in (0, 1, 2, 3)]
    join_pages(tmp_path / "all.tif", order)
    join_pages(tmp_path / "all.tif", [(tmp_path / "all.tif", 3), (tmp_path / "all.tif", 0), *order[1:3]])
    for page, number in enumerate((3, 0, 1, 2)):
        one, same = read_image(order[number][0]), read_image(tmp_path / "all.tif", page=page)
        assert np.array_equal(one.pixels, same.pixels) and one.gray == same.gray and same.frames == 4
        assert one.metadata == same.metadata and one.metadata.exif and same.remarks == ()
        assert read_made_by(tmp_path / "all.tif", page) == f"page {number}"
    assert read_made_by(tmp_path / "all.tif", 4) is None
    with Image.open(tmp_path / "all.tif") as image:  # Pillow and libvips agree
        assert image.n_frames == 4
        image.seek(1)
        assert np.array_equal(np.asarray(image), np.dstack(PAGES[0])) and image.getexif()[270] == "scan of invoice"
        assert image.getexif().get_ifd(0x8769)[0x829A] == 1 / 60
    vips = pyvips.Image.new_from_file(str(tmp_path / "all.tif"), page=2)
    assert np.array_equal(vips.numpy(), PAGES[1][0])
    with pytest.raises(ImageError, match="cannot read .*none.tif: No such file"):
        join_pages(tmp_path / "all.tif", [*order, (tmp_path / "none.tif", 0)])
    assert read_header(tmp_path / "all.tif").frames == 4
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".img", *[".tif"] * 5]


def test_pages_beyond_4_gib(tmp_path):
    path = tmp_path / "a.tif"
    beside = {282: 300.0, 296: 2, 700: XMP, 34675: SRGB, 34665: {0x829A: 1.0}}
    with open(path, "xb") as file:
        writer = TiffWriter(file, big=True)
        writer.add(NOISE, beside)
        file.truncate(2**32 + 1)  # nothing on the disk
        writer.add(np.tile(NOISE, (200, 30, 1)), beside)  # of several strips
    for page, pixels in enumerate((NOISE, np.tile(NOISE, (200, 30, 1)))):
        loaded = read_image(path, page=page)
        assert np.array_equal(loaded.rgb, pixels) and loaded.frames == 2
        assert loaded.metadata.icc_profile == SRGB and loaded.metadata.xmp == upright_xmp(XMP)
        with tifffile.TiffFile(path) as file:  # tifffile agrees
            assert np.array_equal(file.pages[page].asarray(), pixels) and file.is_bigtiff


def test_the_program_of_another_file_is_not_ours(tmp_path):
    (tmp_path / "a.jpg").write_bytes(saved("JPEG", exif=exif_block().tobytes()))
    assert read_made_by(tmp_path / "a.jpg") is None
    (tmp_path / "b.txt").write_text("no image")
    assert read_made_by(tmp_path / "b.txt") is None


def lut_profile(size):
    """A valid profile of RGB that is large: sRGB with more tags."""
    data = bytearray(SRGB)
    count = int.from_bytes(data[128:132], "big")
    index = 132 + 12 * count
    more = b"data" + bytes(8) + random.Random(0).randbytes(size)
    # The new tag needs 12 bytes in the index, so every other tag lies 12 bytes further on.
    for i in range(count):
        at = 132 + 12 * i + 4
        data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") + 12).to_bytes(4, "big")
    data[index:index] = b"priv" + struct.pack(">II", len(data) + 12, len(more))
    data[128:132] = (count + 1).to_bytes(4, "big")
    data += more
    data[:4] = len(data).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_a_profile_of_more_than_a_mebibyte(tmp_path, suffix):
    """A PNG with it could not be opened by Pillow; there its colours become sRGB."""
    profile = lut_profile(1_300_000)
    write_image(tmp_path / f"a.{suffix}", NOISE, metadata=Metadata(profile), quality=100)
    loaded = read_image(tmp_path / f"a.{suffix}")
    assert loaded.icc_profile == (None if suffix == "png" else profile)
    with Image.open(tmp_path / f"a.{suffix}") as image:
        assert np.array_equal(image.convert("RGB"), loaded.rgb)
    assert suffix != "png" or np.abs(loaded.rgb.astype(int) - NOISE).max() <= 2  # sRGB to sRGB


@pytest.mark.parametrize("suffix", OUTPUTS)
def test_what_is_too_large_goes_and_what_made_it_stays(tmp_path, suffix):
    exif = exif_block()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0" + bytes(2_000_000)}  # a comment
    metadata = Metadata(b"x" * 20_000_000, (300, 300), exif.tobytes(), b"<x:xmpmeta>" + b" " * 2_000_000)
    write_image(tmp_path / f"a.{suffix}", NOISE, metadata=metadata, made_by="us")
    loaded = read_image(tmp_path / f"a.{suffix}")
    assert loaded.metadata.xmp is None and read_made_by(tmp_path / f"a.{suffix}") == "us"
    assert loaded_exif(loaded.metadata)[270] == "scan of invoice" and loaded.icc_profile is None
    with Image.open(tmp_path / f"a.{suffix}") as image:
        image.load()


@pytest.mark.parametrize("dpi", [(0, 0), (float("nan"), 72), (float("inf"), 1), (-5, 5), None])
@pytest.mark.parametrize("suffix", OUTPUTS)
def test_senseless_resolutions_are_left_out(tmp_path, dpi, suffix):
    write_image(tmp_path / f"a.{suffix}", NOISE, metadata=Metadata(dpi=dpi))
    assert read_image(tmp_path / f"a.{suffix}").metadata.dpi is None


@pytest.mark.parametrize(
    ("data", "dpi"),
    [
        (saved("JPEG", dpi=(96, 96)), (96, 96)),
        (saved("BMP", dpi=(300, 300)), (300, 300)),
        (saved("PNG", dpi=(600, 300)), (600, 300)),
        (saved("TIFF", resolution_unit=3, x_resolution=100, y_resolution=50), (254, 127)),
        (saved("TIFF", resolution_unit=1, x_resolution=100, y_resolution=100), None),
        (saved("JPEG"), None),  # JFIF says 1 to 1 without a unit
        (encoded("GIF"), None),
    ],
)
def test_resolution(tmp_path, data, dpi):
    found = read(tmp_path, data).metadata.dpi
    assert found is None if dpi is None else np.allclose(found, dpi, atol=0.02)


def test_a_tiff_by_libvips_keeps_its_resolution(tmp_path):
    pyvips.Image.new_from_array(NOISE[..., 0]).tiffsave(tmp_path / "a.tif", xres=11.811, yres=11.811)
    assert np.allclose(read_image(tmp_path / "a.tif").metadata.dpi, (300, 300), atol=0.02)


@pytest.mark.parametrize("shape", [(700, 900, 3), (1500, 1000, 4), (40, 30), (900, 700, 2)])
def test_our_tiffs_are_read_by_others(tmp_path, shape):
    stack = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path / "a.tif"
    alpha = stack[..., -1] if stack.ndim == 3 and shape[2] in (2, 4) else None
    pixels = stack if alpha is None else stack[..., :-1].squeeze()
    write_image(path, pixels, alpha, Metadata(exif=exif_block().tobytes()))
    assert np.array_equal(tifffile.imread(path), stack)
    assert np.array_equal(np.asarray(Image.open(path)), stack)
    assert np.array_equal(pyvips.Image.new_from_file(str(path)).numpy(), stack)


def test_a_tiffs_private_descriptions_are_not_carried_on(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([NOISE, NOISE]))
    assert "shape" in tifffile.TiffFile(tmp_path / "a.tif").pages[0].description
    assert b"shape" not in (read_image(tmp_path / "a.tif").metadata.exif or b"")


@pytest.mark.parametrize(
    "part", [b"<Container:Directory>", b'hdrgm:Version="1.0"', b'GCamera:MicroVideo="1"', b"xmpNote:HasExtendedXMP"]
)
def test_xmp_of_what_an_output_does_not_have_is_left_out(part):
    assert upright_xmp(XMP + part) is None and upright_xmp(b"") is None
    assert upright_xmp(b"<tiff:Orientation>8</tiff:Orientation><exif:PixelXDimension>3</exif:PixelXDimension>") == (
        b"<tiff:Orientation>1</tiff:Orientation>"
    )


def test_orientation_in_xmp_counts_where_exif_has_none(tmp_path):
    with_xmp = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)
    whole = encoded("PNG")
    assert np.array_equal(read(tmp_path, whole[:33] + with_xmp + whole[33:]).rgb, np.rot90(NOISE, -1))
    whole = saved("PNG", exif=exif_block(1).tobytes())
    assert np.array_equal(read(tmp_path, whole[:33] + with_xmp + whole[33:]).rgb, NOISE)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [0, 1, 5, 6, 8, 9, 300])
def test_header_is_upright(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a").write_bytes(saved(kind, exif=exif if kind == "TIFF" else exif.tobytes()))
    header = read_header(tmp_path / "a")
    turned = orientation in (5, 6, 8)
    assert (header.height, header.width) == ((30, 40) if turned else (40, 30)) == image_size(tmp_path / "a")
    assert header.format == kind and header.frames == 1 and not header.has_alpha and not header.gray
    assert read_image(tmp_path / "a").rgb.shape == (header.height, header.width, 3)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_is_no_obstacle(tmp_path, kind):
    rng = np.random.default_rng(0)
    whole = exif_block().tobytes()
    for _ in range(40):
        block = bytearray(whole)
        for at in rng.integers(6, len(block), 9):
            block[at] = rng.integers(0, 256)
        loaded = read(tmp_path, saved(kind, exif=bytes(block)))
        assert loaded.rgb.size == NOISE.size
        write_image(tmp_path / "out.jpg", loaded.rgb, metadata=loaded.metadata, made_by="us")
        assert read_made_by(tmp_path / "out.jpg") == "us"


def test_a_thumbnail_is_dropped(tmp_path):
    small = io.BytesIO()
    Image.fromarray(NOISE[:8, :8]).save(small, "JPEG")
    block = exif_block(1).tobytes()[6:]
    entries = [(0x0201, len(block) + 2 + 12 * 2 + 4), (0x0202, len(small.getvalue()))]
    head = int.from_bytes(block[4:8], "big")
    end = head + 2 + 12 * int.from_bytes(block[head : head + 2], "big")
    second = struct.pack(">H", 2) + b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries)
    block = block[:end] + struct.pack(">I", len(block)) + block[end + 4 :] + second + bytes(4) + small.getvalue()
    loaded = read(tmp_path, saved("JPEG", exif=b"Exif\0\0" + block))
    assert loaded_exif(loaded.metadata)[270] == "scan of invoice"
    assert small.getvalue() not in loaded.metadata.exif


def test_what_a_format_cannot_hold_is_said_before(tmp_path):
    for name, height, width, limit in (("a.webp", 1, 16_384, 16_383), ("b.jpg", 65_501, 1, 65_500)):
        with pytest.raises(ImageError, match=f"{width} x {height} pixels, but a .* has at most {limit} a side"):
            check_writable(tmp_path / name, height, width)
    check_writable("a.webp", 16_383, 16_383)
    check_writable("a.png", 100_000, 100_000)
    with pytest.raises(ImageError, match="too many for a TIFF: try a name ending in .png"):
        check_writable("a.tif", 40_000, 40_000)
    with pytest.raises(ImageError, match="its name must end in"):
        check_writable("a.bmp", 1, 1)


@pytest.mark.parametrize("suffix", ["jpg", "webp", "avif"])
def test_quality(tmp_path, suffix):
    picture = np.asarray(Image.fromarray(NOISE).resize((300, 200)))
    sizes = []
    for quality in (30, 80, None):
        write_image(tmp_path / f"a.{suffix}", picture, quality=quality)
        sizes.append((tmp_path / f"a.{suffix}").stat().st_size)
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]
    for quality in (0, 101):
        with pytest.raises(ValueError, match="choose 1 to 100"):
            write_image(tmp_path / f"a.{suffix}", picture, quality=quality)
