"""TIFFs of every kind of number give the values that were drawn, or are refused by name."""

import io
import struct
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms, ImageOps

from helpers.encoded_images import NOISE
from helpers.tiff_files import HEIGHT, WIDTH, in_8_bits, packed, ramp, tiff
from tadisr.io.containers import MAX_FRAMES
from tadisr.io.images import ImageError, read_header, read_image

COMPRESSIONS = {
    "none": (1, bytes), "lzw": (5, imagecodecs.lzw_encode), "deflate": (8, zlib.compress),
    "packbits": (32773, imagecodecs.packbits_encode), "zstd": (50000, imagecodecs.zstd_encode),
}  # fmt: skip


def read(tmp_path, data, **options):
    path = tmp_path / "a.tif"
    if data is not None:
        path.write_bytes(data)
    header, loaded = read_header(path, **options), read_image(path, **options)
    assert (header.height, header.width) == loaded.rgb.shape[:2] and header.format == "TIFF"
    assert header.has_alpha == (loaded.alpha is not None) and header.gray == loaded.gray
    return loaded


def off(loaded, expected):
    """The largest difference; a gray picture's channels are alike."""
    expected = expected if expected.ndim == 3 else expected[..., None]
    return int(np.abs(loaded.rgb.astype(int) - expected).max())


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20])
@pytest.mark.parametrize("photometric", ["white is zero", "black is zero", "rgb"])
def test_packed_numbers_of_any_bits(tmp_path, bits, photometric, compression):
    white, colours = 2**bits - 1, 3 if photometric == "rgb" else None
    values = ramp(white, colours)
    code, squeeze = COMPRESSIONS[compression]
    photometric = ["white is zero", "black is zero", "rgb"].index(photometric)
    data = tiff(packed(values, bits), WIDTH, bits, photometric, colours or 1, code, squeeze)
    expected = in_8_bits(values if photometric else white - values, white)
    loaded = read(tmp_path, data)
    assert off(loaded, expected) == 0 and loaded.gray == (photometric < 2) and loaded.remarks == ()


@pytest.mark.parametrize("bits", [4, 12])
def test_byte_order_does_not_matter_to_packed_numbers(tmp_path, bits):
    data = tiff(packed(ramp(2**bits - 1), bits), WIDTH, bits, 1, big=True)
    assert off(read(tmp_path, data), in_8_bits(ramp(2**bits - 1), 2**bits - 1)) == 0


TYPES = {
    "uint8": 255, "uint16": 65535, "uint32": 2**32 - 1, "int8": 127, "int16": 32767, "int32": 2**31 - 1,
    "float16": 1, "float32": 1, "float64": 1,
}  # fmt: skip


def drawn(dtype, channels):
    values = ramp(255, channels) / 255 * TYPES[dtype]
    return values.astype(dtype) if dtype.startswith("f") else np.minimum(np.rint(values), TYPES[dtype]).astype(dtype)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["gray", "gray with alpha", "rgb", "rgb with alpha"])
@pytest.mark.parametrize("planes", ["contig", "separate"], ids=["one plane", "planes, big-endian"])
@pytest.mark.parametrize("options", [{}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}], ids=str)
def test_every_type_of_number(tmp_path, dtype, kind, planes, options):
    channels = {"gray": None, "gray with alpha": 2, "rgb": 3, "rgb with alpha": 4}[kind]
    values = drawn(dtype, channels)
    order = "<" if planes == "contig" else ">"
    stored = values if planes == "contig" or not channels else np.moveaxis(values, -1, 0)
    extra = {"extrasamples": ["unassalpha"]} if "alpha" in kind else {}
    extra |= {"planarconfig": planes} if channels else {}
    options = {"photometric": "rgb" if "rgb" in kind else "minisblack", **options, **extra}
    tifffile.imwrite(tmp_path / "a.tif", stored, byteorder=order, metadata=None, **options)
    loaded = read(tmp_path, None)
    expected = in_8_bits(values, TYPES[dtype])
    if "alpha" in kind:
        assert np.array_equal(loaded.alpha, expected[..., -1])
        expected = expected[..., :-1]
    assert off(loaded, expected) == 0 and (loaded.alpha is not None) == ("alpha" in kind)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [2, 4])
def test_colours_that_were_multiplied_by_alpha(tmp_path, dtype, channels):
    values = drawn("float64", channels)
    values[..., -1] = 0.5 + values[..., -1] / 2
    stored = np.concatenate([values[..., :-1] * values[..., -1:], values[..., -1:]], -1)
    stored = stored.astype(dtype) if dtype == "float32" else np.rint(stored * TYPES[dtype]).astype(dtype)
    photometric = "rgb" if channels == 4 else "minisblack"
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric=photometric, planarconfig="contig", extrasamples=["assocalpha"]
    )
    loaded = read(tmp_path, None)
    assert off(loaded, in_8_bits(values[..., :-1], 1)) <= (2 if dtype == "uint8" else 0)
    assert np.abs(loaded.alpha.astype(int) - in_8_bits(values[..., -1], 1)).max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int16"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
def test_cmyk(tmp_path, dtype, planes):
    ink = ramp(255, 4) / 255
    stored = np.minimum(np.rint(ink * TYPES[dtype]), TYPES[dtype]).astype(dtype)
    stored = stored if planes == "contig" else np.moveaxis(stored, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="separated", planarconfig=planes)
    loaded = read(tmp_path, None)
    assert off(loaded, in_8_bits((1 - ink[..., :3]) * (1 - ink[..., 3:]), 1)) <= 2
    assert loaded.remarks == ("CMYK without a profile: its colours are approximate",)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("compression", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("scale", [257, 1], ids=["16-bit colours", "8-bit colours, as some programs write them"])
def test_palette(tmp_path, bits, compression, scale):
    colours = np.random.default_rng(0).integers(2, 256, (3, 2**bits))
    code, squeeze = COMPRESSIONS[compression]
    values = ramp(2**bits - 1)
    tags = {320: ("H", (colours * scale).ravel().tolist())}
    loaded = read(tmp_path, tiff(packed(values, bits), WIDTH, bits, 3, 1, code, squeeze, tags=tags))
    assert off(loaded, np.moveaxis(colours[:, values], 0, -1)) == 0 and not loaded.gray


@pytest.mark.parametrize("bits", [8, 16])
def test_lab(tmp_path, bits):
    rgb = Image.fromarray((NOISE // 8 + 100)[:HEIGHT, :WIDTH])
    lab = ImageCms.profileToProfile(
        rgb, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    values = np.asarray(lab)  # a and b signed
    if bits == 16:
        signed = values[..., 1:].view(np.int8).astype(np.int16) * 256
        values = np.dstack([values[..., 0].astype(np.uint16) * 257, signed.view(np.uint16)])
    rows = [row.tobytes() for row in values]
    assert off(read(tmp_path, tiff(rows, WIDTH, bits, 8, 3)), np.asarray(rgb)) <= 4


def test_ycbcr_without_jpeg(tmp_path):
    rgb = Image.fromarray((NOISE // 4 + 60)[:HEIGHT, :WIDTH])
    rows = [row.tobytes() for row in np.asarray(rgb.convert("YCbCr"))]
    assert off(read(tmp_path, tiff(rows, WIDTH, 8, 6, 3, tags={530: ("H", [1, 1])})), np.asarray(rgb)) <= 3
    with pytest.raises(ImageError, match="is a TIFF of YCbCr with fewer colours than pixels"):
        read(tmp_path, tiff(rows, WIDTH, 8, 6, 3, tags={530: ("H", [2, 2])}))


@pytest.mark.parametrize("options", [{}, {"tile": True, "tile_width": 16, "tile_height": 16}], ids=["strips", "tiles"])
@pytest.mark.parametrize(
    ("compression", "bits"),
    [
        ("ccittfax4", 1),
        ("jpeg", 8),
        *((name, n) for name in ("none", "lzw", "deflate", "packbits") for n in (1, 2, 4, 8)),
    ],
)
@pytest.mark.parametrize("miniswhite", [False, True])
def test_what_libvips_writes(tmp_path, compression, bits, miniswhite, options):
    if miniswhite and compression == "jpeg":
        options = {}  # libvips does not turn white into zero in tiles of JPEG
    gray = ramp(255).astype(np.uint8)
    expected = (gray >> (8 - bits)) * (255 // (2**bits - 1))
    image = pyvips.Image.new_from_array(expected if bits == 1 else gray)
    options = {"compression": compression, "bitdepth": bits, "miniswhite": miniswhite, "predictor": "none", **options}
    image.tiffsave(tmp_path / "a.tif", Q=100, **options)
    assert off(read(tmp_path, None), expected) <= (2 if compression == "jpeg" else 0)


@pytest.mark.parametrize("compression", ["none", "jpeg", "webp"])
@pytest.mark.parametrize("pyramid", [False, True])
def test_colours_by_libvips_and_its_pyramids(tmp_path, compression, pyramid):
    rgb = np.full((64, 64, 3), (200, 90, 40), np.uint8)
    image = pyvips.Image.new_from_array(rgb).copy(interpretation="srgb")
    image.tiffsave(tmp_path / "a.tif", compression=compression, tile=True, tile_width=16, tile_height=16, Q=100,
                   pyramid=pyramid, predictor="none")  # fmt: skip
    loaded = read(tmp_path, None)
    assert off(loaded, rgb) <= 3 and loaded.frames == 1  # reduced copies are no pages


@pytest.mark.parametrize("compression", ["jpeg2000", "jpegxl", "lerc", "png", "webp", "lzma"])
def test_rarer_compressions(tmp_path, compression):
    rgb = np.full((32, 32, 3), (200, 90, 40), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb", compression=compression)
    assert off(read(tmp_path, None), rgb) <= 3


@pytest.mark.parametrize("compression", ["group3", "group4", "tiff_ccitt"])
def test_fax(tmp_path, compression):
    bits = NOISE[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "a.tif", compression=compression)
    assert off(read(tmp_path, None), bits * np.uint8(255)) == 0


def test_bits_in_reverse_order(tmp_path):
    swapped = bytes(int(f"{i:08b}"[::-1], 2) for i in range(256))
    rows = [row.translate(swapped) for row in packed(ramp(1), 1)]
    assert off(read(tmp_path, tiff(rows, WIDTH, 1, 1, tags={266: ("H", [2])})), in_8_bits(ramp(1), 1)) == 0


@pytest.mark.parametrize("white", [1023, 4095, 16383])
@pytest.mark.parametrize("channels", [None, 3])
def test_fewer_bits_than_the_samples_have(tmp_path, white, channels):
    values = ramp(white, channels).astype(np.uint16)
    photometric = "rgb" if channels else "minisblack"
    stated = [(281, "H", channels or 1, (white,) * (channels or 1), True)]  # MaxSampleValue
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric, extratags=stated)
    loaded = read(tmp_path, None)
    assert off(loaded, in_8_bits(values, white)) == 0 and loaded.remarks == ()
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    loaded = read(tmp_path, None)
    assert off(loaded, in_8_bits(values, 65535)) == 0
    assert loaded.remarks == (
        f"its largest value is {values.max():g} of 65535: if it is not meant to be dark, scale its values first",
    )


def test_a_largest_value_that_is_only_a_statistic_changes_nothing(tmp_path):
    values = ramp(40000).astype(np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", extratags=[(281, "H", 1, 40000, True)])
    assert off(read(tmp_path, None), in_8_bits(values, 65535)) == 0


def test_extra_channels(tmp_path):
    values = ramp(255, 5)
    rows = [row.astype(np.uint8).tobytes() for row in values]
    loaded = read(tmp_path, tiff(rows, WIDTH, 8, 2, 5, tags={338: ("H", [0, 2])}))
    assert off(loaded, values[..., :3]) == 0 and np.array_equal(loaded.alpha, values[..., 4])
    assert loaded.remarks == ("a channel that is neither colour nor alpha was left out",)
    rows = [row.astype(np.uint8).tobytes() for row in values[..., :4]]
    assert np.array_equal(read(tmp_path, tiff(rows, WIDTH, 8, 2, 4)).alpha, values[..., 3])  # by custom
    loaded = read(tmp_path, tiff(rows, WIDTH, 8, 2, 4, tags={338: ("H", [0])}))
    assert loaded.alpha is None and len(loaded.remarks) == 1


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("options", [{}, {"compression": "jpeg"}, {"tile": (16, 16)}], ids=str)
def test_orientation(tmp_path, orientation, options):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :16], picture[:16, 32:] = (255, 0, 0), (0, 255, 0)
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", picture, photometric="rgb", extratags=tags, **options)
    exif = Image.Exif()
    exif[274] = orientation
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(buffer)))
    assert np.abs(read(tmp_path, None).rgb.astype(int) - expected).mean() < 4


def test_pages_are_read_one_by_one(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for level in (10, 20, 30):
            file.write(np.full((4, 5), level, np.uint8), photometric="minisblack")
        file.write(np.full((2, 2), 99, np.uint8), photometric="minisblack", subfiletype=1)  # a thumbnail
    for page in range(3):
        loaded = read(tmp_path, None, page=page)
        assert loaded.frames == 3 and loaded.rgb.shape == (4, 5, 3) and loaded.rgb.max() == 10 * (page + 1)
    for function in (read_header, read_image):
        with pytest.raises(ImageError, match="has no page 4: it has 3"):
            function(tmp_path / "a.tif", page=3)


def test_big_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([NOISE, 255 - NOISE]), bigtiff=True, photometric="rgb")
    assert np.array_equal(read(tmp_path, None).rgb, NOISE)
    assert np.array_equal(read(tmp_path, None, page=1).rgb, 255 - NOISE)


def pages_without_end(count, last):
    """A TIFF whose directories follow each other; `last` is where the last one leads."""
    fields = ((256, 2), (257, 2), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, 4))
    size = 2 + 12 * len(fields) + 4
    entries = struct.pack("<H", len(fields)) + b"".join(struct.pack("<HHII", code, 4, 1, n) for code, n in fields)
    chain = b"".join(entries + struct.pack("<I", 12 + (i + 1) * size) for i in range(count - 1))
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + chain + entries + struct.pack("<I", last)


def test_counting_pages_ends(tmp_path):
    loaded = read(tmp_path, pages_without_end(MAX_FRAMES + 5, 0))
    assert loaded.frames == MAX_FRAMES and loaded.remarks == ("only its first 10000 frames were counted",)
    assert read(tmp_path, pages_without_end(3, 12)).frames == 3  # in a circle


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tiff([bytes(6)] * 2, 2, 24, 1), "a TIFF of 24-bit numbers"),
        (tiff([bytes(6)] * 2, 2, 8, 9, 3), "a TIFF of photometric interpretation 9"),
        (tiff([bytes(2)] * 2, 2, 8, 32803), "a camera raw file"),
        (tiff([bytes(8)] * 2, 2, 8, 5, 4, tags={332: ("H", [2])}), "a TIFF of inks other than CMYK"),
        (tiff([bytes(40)] * 2, 2, 8, 1, 20), "a TIFF of 20 channels"),
        (tiff([bytes(16)] * 2, 2, 32, 0, tags={339: ("H", [3])}), "a TIFF of floats in which zero is white"),
        (tiff([bytes(16)] * 2, 2, 64, 1, tags={339: ("H", [6])}), "a TIFF of complex numbers"),
        (tiff([b"\xff" * 4] * 2, 2, 16, 1, tags={339: ("H", [2])}), "a TIFF of numbers below zero"),
        (tiff([bytes(6)] * 2, 2, 8, 6, 3), "a TIFF of YCbCr"),
        (tiff([bytes(2)] * 2, 2, 8, 2, 1), "its header makes no sense"),
        (tiff([bytes(2)] * 2, 2, 8, 1)[:-30], "cannot decode"),
    ],
)
def test_what_is_not_read_is_named(tmp_path, data, message):
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


WITHOUT_CODECS = """
import sys
sys.modules["imagecodecs"] = None
from pathlib import Path
import numpy as np
from tadisr.io.images import ImageError, read_image
for path in sorted(Path(sys.argv[1]).glob("*.tif")):
    try:
        loaded = read_image(path)
        expected = np.load(path.with_suffix(".npy"))
        difference = np.abs(loaded.rgb.astype(int) - (expected if expected.ndim == 3 else expected[..., None])).max()
        print(path.stem, "read" if difference <= 1 else "WRONG")
    except ImageError as error:
        print(path.stem, "needs" if "which needs more packages: pip install 'tadisr[files]'" in str(error) else error)
"""


def test_without_the_extra(tmp_path):
    """Where imagecodecs is missing, Pillow takes over what it reads right; the rest names the remedy."""
    expected = {}

    def add(name, outcome, data, picture):
        (tmp_path / f"{name}.tif").write_bytes(data)
        np.save(tmp_path / f"{name}.npy", picture)
        expected[name] = outcome

    def written(values, **options):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, values, metadata=None, **options)
        return buffer.getvalue()

    rgb, gray = ramp(255, 3).astype(np.uint8), ramp(255).astype(np.uint8)
    wide = ramp(65535, 3).astype(np.uint16)
    add("deflate", "read", written(rgb, photometric="rgb", compression="zlib", predictor=True), rgb)
    for bits in (4, 12):
        white = 2**bits - 1
        add(f"packed-{bits}", "read", tiff(packed(ramp(white), bits), WIDTH, bits, 1), in_8_bits(ramp(white), white))
        data = tiff(packed(ramp(white), bits), WIDTH, bits, 1, compression=8, squeeze=zlib.compress)
        add(f"packed-{bits}-deflate", "needs", data, gray)
    add(
        "float-planes",
        "read",
        written(np.moveaxis(rgb / np.float32(255), -1, 0), photometric="rgb", planarconfig=2),
        rgb,
    )
    add("lzw-rgb", "read", written(rgb, photometric="rgb", compression="lzw"), rgb)
    add("lzw-gray", "read", written(gray, photometric="miniswhite", compression="lzw"), 255 - gray)
    add(
        "lzw-gray-16",
        "read",
        written(wide[..., 0], photometric="minisblack", compression="lzw"),
        in_8_bits(wide[..., 0], 65535),
    )
    add("lzw-rgb-16", "read", written(wide, photometric="rgb", compression="lzw"), in_8_bits(wide, 65535))
    add("lzw-rgb-10-of-16", "needs", written(wide // 64, photometric="rgb", compression="lzw"), rgb)
    add("lzw-white-16", "needs", written(wide[..., 0], photometric="miniswhite", compression="lzw"), gray)
    add("lzw-float", "needs", written(rgb / np.float32(255), photometric="rgb", compression="lzw"), rgb)
    add("lzw-signed", "needs", written(gray.astype(np.int16), photometric="minisblack", compression="lzw"), gray)
    add("lerc", "needs", written(rgb, photometric="rgb", compression="lerc"), rgb)
    multiplied = {"photometric": "rgb", "compression": "lzw", "extrasamples": ["assocalpha"]}
    add("lzw-16-multiplied", "needs", written(ramp(65535, 4).astype(np.uint16), **multiplied), rgb)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_CODECS, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert dict(line.split(" ", 1) for line in result.stdout.splitlines()) == expected


def test_a_header_that_promises_more_than_the_file_holds(tmp_path):
    """Sixteen million rows of nothing: refused by the header, before any memory is taken."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((16, 16), np.uint8))
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tiff:
        where = tiff.pages[0].tags[257].valueoffset
        struct.pack_into(f"{tiff.byteorder}I", data, where, 2**23)
    path.write_bytes(data)
    with pytest.raises(ImageError, match="a.tif: it ends too early"):
        read_header(path)
