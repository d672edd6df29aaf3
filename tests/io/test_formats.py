"""The other formats: JPEG 2000, PNM, BMP, AVIF, HEIC; and those that are refused by name."""

import io
import struct
import subprocess
import sys

import imagecodecs
import numpy as np
import pillow_heif
import pytest
from PIL import Image, ImageOps

from helpers.encoded_images import NOISE
from helpers.tiff_files import HEIGHT, WIDTH, in_8_bits, packed, ramp
from tadisr.io.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, ImageError, read_header, read_image

PICTURE = np.asarray(Image.fromarray(NOISE // 2 + 60).resize((120, 80)))


def read(tmp_path, data, **options):
    path = tmp_path / "a.img"
    path.write_bytes(data)
    header, loaded = read_header(path, **options), read_image(path, **options)
    assert (header.height, header.width) == loaded.rgb.shape[:2] and header.gray == loaded.gray
    assert header.has_alpha == (loaded.alpha is not None)
    return loaded


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("channels", [None, 3, 4])
@pytest.mark.parametrize("form", ["jp2", "j2k"])
def test_jpeg_2000(tmp_path, bits, channels, form):
    values = ramp(2**bits - 1, channels).astype(np.uint8 if bits == 8 else np.uint16)
    loaded = read(tmp_path, imagecodecs.jpeg2k_encode(values, bitspersample=bits, codecformat=form, reversible=True))
    expected = in_8_bits(np.atleast_3d(values), 2**bits - 1)
    assert np.abs(loaded.rgb.astype(int) - expected[..., :3]).max() <= 1  # white stays white
    assert channels != 4 or np.array_equal(loaded.alpha, expected[..., 3])


@pytest.mark.parametrize("most", [1, 15, 255, 1023, 4095, 65535])
@pytest.mark.parametrize("kind", [b"P2", b"P3", b"P5", b"P6"])
def test_pnm(tmp_path, most, kind):
    values = ramp(most, 3 if kind in (b"P3", b"P6") else None)
    head = b"%s %d %d %d\n" % (kind, WIDTH, HEIGHT, most)
    body = values.astype(">u2" if most > 255 else np.uint8).tobytes()
    body = body if kind in (b"P5", b"P6") else b" ".join(b"%d" % value for value in values.ravel())
    assert np.abs(read(tmp_path, head + body).rgb.astype(int) - in_8_bits(np.atleast_3d(values), most)).max() <= 1


def test_pbm_and_pfm(tmp_path):
    loaded = read(tmp_path, b"P4 %d %d\n" % (WIDTH, HEIGHT) + b"".join(packed(ramp(1), 1)))
    assert np.array_equal(loaded.rgb[..., 0], 255 - in_8_bits(ramp(1), 1))
    floats = (ramp(255) / 255)[::-1].astype("<f4").tobytes()
    assert np.array_equal(read(tmp_path, b"Pf\n%d %d\n-1.0\n" % (WIDTH, HEIGHT) + floats).rgb[..., 0], ramp(255))


def bmp(header, rows):
    body = b"".join(row + bytes(-len(row) % 4) for row in rows)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + body


def test_bmp(tmp_path):
    for mode in ("1", "L", "P", "RGB"):
        image = Image.fromarray(NOISE).convert(mode)
        buffer = io.BytesIO()
        image.save(buffer, "BMP")
        assert np.array_equal(read(tmp_path, buffer.getvalue()).rgb, np.asarray(image.convert("RGB")))
    values = ramp(31, 3)
    words = (values[..., 0] << 10 | values[..., 1] << 5 | values[..., 2]).astype("<u2")
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, 16, 0, 0, 0, 0, 0, 0)
    loaded = read(tmp_path, bmp(header, [row.tobytes() for row in words[::-1]]))
    assert np.abs(loaded.rgb.astype(int) - in_8_bits(values, 31)).max() <= 4
    rgba = ramp(255, 4).astype(np.uint8)
    header = struct.pack("<IiiHHIIiiII", 108, WIDTH, HEIGHT, 1, 32, 3, 0, 0, 0, 0, 0)
    header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    loaded = read(tmp_path, bmp(header, [rgba[::-1][..., [2, 1, 0, 3]].tobytes()]))
    assert np.array_equal(loaded.rgb, rgba[..., :3]) and np.array_equal(loaded.alpha, rgba[..., 3])
    header = struct.pack("<IiiHHIIiiII", 40, WIDTH, -HEIGHT, 1, 32, 0, 0, 0, 0, 0, 0)  # from the top, without alpha
    loaded = read(tmp_path, bmp(header, [rgba[..., [2, 1, 0, 3]].tobytes()]))
    assert np.array_equal(loaded.rgb, rgba[..., :3]) and loaded.alpha is None


def heic(picture, exif=b"", **options):
    image = pillow_heif.from_pillow(Image.fromarray(picture))
    if exif:
        image.info["exif"] = exif
    buffer = io.BytesIO()
    image.save(buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_heic(tmp_path, channels):
    picture = np.dstack([PICTURE, PICTURE[..., :1]])[..., :channels].squeeze()
    loaded = read(tmp_path, heic(picture))
    assert np.abs(loaded.rgb.astype(int) - np.atleast_3d(picture)[..., :3]).max() <= 3
    assert channels != 4 or np.abs(loaded.alpha.astype(int) - picture[..., 3]).max() <= 1


@pytest.mark.parametrize("kind", ["HEIC", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(saved(PICTURE, "PNG", exif=exif)))))
    if kind == "HEIC":
        data = heic(PICTURE, exif.tobytes())
    else:
        data = saved(PICTURE, "AVIF", quality=100, subsampling="4:4:4", exif=exif)
    assert np.abs(read(tmp_path, data).rgb.astype(int) - expected).max() <= 6


def test_avif(tmp_path):
    data = saved(np.dstack([PICTURE, PICTURE[..., :1]]), "AVIF", quality=90)
    loaded = read(tmp_path, data)
    expected = np.asarray(Image.open(io.BytesIO(data)))
    assert np.array_equal(loaded.rgb, expected[..., :3]) and np.array_equal(loaded.alpha, expected[..., 3])


def test_hdr_by_the_numbers_in_avif_is_refused(tmp_path):
    data = saved(PICTURE, "AVIF")
    at = data.index(b"colrnclx") + 8
    hdr = data[:at] + struct.pack(">HH", 9, 16) + data[at + 4 :]
    with pytest.raises(ImageError, match=r"an HDR picture \(PQ\), which is not supported: convert it to sRGB"):
        read(tmp_path, hdr)


def test_heic_without_its_package(tmp_path):
    (tmp_path / "a.heic").write_bytes(heic(PICTURE))
    code = "import sys; sys.modules['pillow_heif'] = None; from tadisr.io.images import *; read_header(sys.argv[1])"
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.heic")], capture_output=True, text=True)
    assert (
        "a.heic is a HEIC file, which needs more packages: pip install 'tadisr[files]'" in run.stderr.splitlines()[-1]
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"%PDF-1.7", "a PDF file, which is not supported: turn its pages into PNGs"),
        (imagecodecs.jpegxl_encode(NOISE), "a JPEG XL file"),
        (imagecodecs.jpegxl_encode(NOISE, usecontainer=True), "a JPEG XL file"),
        (imagecodecs.jpegxr_encode(NOISE), "a JPEG XR file"),
        (imagecodecs.qoi_encode(NOISE), "a QOI file"),
        (imagecodecs.rgbe_encode(NOISE.astype(np.float32)), "a Radiance file"),
        (saved(NOISE, "EPS"), "an EPS file"),
        (saved(NOISE, "ICO", sizes=[(16, 16)]), "an ICO file"),
        (saved(NOISE, "DDS"), "a DDS file"),
        (b"8BPS\0\1", "a Photoshop file"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG file"),
        (b"\xef\xbb\xbf<svg/>", "an SVG file"),
        (b"<!DOCTYPE html><html></html>", "a HTML file, which is not supported: save the image itself"),
        (b"PK\3\4", "a ZIP file, which is not supported: unpack it"),
        (b"FUJIFILMCCD-RAW 0201", "a camera raw file, which is not supported: develop it"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1crx isom", "a camera raw file"),
        (b"\0\0\0\x18ftypmp42\0\0\0\1mp42isom", "a video, which is not supported: extract its images"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"P7\nWIDTH 1", "a PAM file"),
        (b"PF\n1 1\n1.0\n" + bytes(12), "a PFM file of colours"),
    ],
)
def test_refused_by_name(tmp_path, data, name):
    (tmp_path / "a.png").write_bytes(data)
    for function in (read_header, read_image):
        with pytest.raises(ImageError, match=f"a.png is {name}"):
            function(tmp_path / "a.png")


def test_a_format_without_a_mark_is_named_by_its_suffix(tmp_path):
    (tmp_path / "a.tga").write_bytes(saved(NOISE, "TGA"))
    with pytest.raises(ImageError, match="a.tga is a TGA file, which is not supported: convert it to PNG"):
        read_image(tmp_path / "a.tga")
    assert not set(IMAGE_SUFFIXES) & set(OTHER_SUFFIXES)
