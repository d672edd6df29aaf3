"""Every kind of image file is read right, and a failure is one line."""

import errno
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile, ImageOps, PngImagePlugin

from helpers.encoded_images import NOISE, encoded, png
from tadisr.io import images
from tadisr.io.images import ImageError, read_image, write_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RAMP = np.array([[0, 1, 128, 254, 255]], np.uint8)


def cmyk_profile():
    """A CMYK profile whose coloured inks are all mid gray: unlike any plain conversion."""
    curve = bytes(range(256))
    lightness = [255] + [0, 119] * 7 + [0]  # of the 2 ^ 4 corners: the paper, then with black ink and without
    grid = b"".join(bytes([value, 128, 128]) for value in lightness)  # L*a*b*
    table = (
        b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack(">9i", *(np.eye(3, dtype=int).ravel() << 16).tolist())
    )
    tags = {
        b"A2B0": table + curve * 4 + grid + curve * 3,
        b"wtpt": b"XYZ " + struct.pack(">iiii", 0, 63190, 65536, 54061),
    }
    offset, index, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        index += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = offset + len(body)
    header = struct.pack(">I4sI4s4s4s12s4s", size, b"", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"", b"acsp")
    header += bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (7, 5), (1, 9)])
def test_any_size(tmp_path, size):
    pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    loaded = read_image(saved(tmp_path, Image.fromarray(pixels), "a.png"))
    assert np.array_equal(loaded.rgb, pixels)
    assert loaded.rgb.flags.writeable and loaded.rgb.flags.c_contiguous
    assert (loaded.alpha, loaded.icc_profile, loaded.frames, loaded.path) == (None, None, 1, tmp_path / "a.png")


def test_gray_with_and_without_alpha(tmp_path):
    alpha = 255 - RAMP
    plain = read_image(saved(tmp_path, Image.fromarray(RAMP), "l.png"))
    both = read_image(saved(tmp_path, Image.fromarray(np.dstack([RAMP, alpha])), "la.png"))
    assert np.array_equal(plain.rgb, np.dstack([RAMP] * 3)) and plain.alpha is None
    assert np.array_equal(both.rgb, plain.rgb) and np.array_equal(both.alpha, alpha)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif"])
def test_one_bit(tmp_path, suffix):
    bits = np.eye(9, dtype=bool)
    assert np.array_equal(read_image(saved(tmp_path, Image.fromarray(bits), f"a.{suffix}")).rgb[..., 1], bits * 255)


@pytest.mark.parametrize("suffix", ["png", "gif"])
@pytest.mark.parametrize("transparent", [None, 1])
def test_palette(tmp_path, suffix, transparent):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    options = {} if transparent is None else {"transparency": transparent}
    loaded = read_image(saved(tmp_path, image, f"a.{suffix}", **options))
    assert loaded.rgb.tolist() == [[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [0, 255, 0]]]
    assert (loaded.alpha is None) if transparent is None else (loaded.alpha.tolist() == [[255, 0], [255, 0]])


def test_palette_with_an_alpha_for_each_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([9, 9, 9, 7, 7, 7])
    path = saved(tmp_path, image, "a.png", transparency=bytes([10, 200]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).alpha.tolist() == [[10, 200]]


WIDE = np.array([[0, 128, 129, 257, 32768, 65406, 65535]], np.uint16)
NARROW = [[0, 0, 1, 1, 128, 254, 255]]  # rounded to the nearest multiple of 257


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_gray_is_scaled(tmp_path, name):
    assert read_image(saved(tmp_path, Image.fromarray(WIDE), name)).rgb[..., 0].tolist() == NARROW


def test_16_bit_gray_pgm_and_big_endian_tiff(tmp_path):
    (tmp_path / "a.pgm").write_bytes(b"P5 7 1 65535\n" + WIDE.astype(">u2").tobytes())
    big = Image.frombytes("I;16B", (7, 1), WIDE.astype(">u2").tobytes())
    assert read_image(tmp_path / "a.pgm").rgb[..., 0].tolist() == NARROW
    assert read_image(saved(tmp_path, big, "a.tif")).rgb[..., 0].tolist() == NARROW


def test_16_bit_png_with_a_transparent_value_and_in_colour(tmp_path):
    transparent = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 257)
    transparent += struct.pack(">I", zlib.crc32(transparent[4:]))
    (tmp_path / "gray.png").write_bytes(png(7, 1, 16, 0, [WIDE.astype(">u2").tobytes()], transparent))
    (tmp_path / "rgb.png").write_bytes(png(1, 1, 16, 2, [struct.pack(">3H", 65535, 257, 0)]))
    assert read_image(tmp_path / "gray.png").alpha.tolist() == [[255, 255, 255, 0, 255, 255, 255]]
    assert read_image(tmp_path / "rgb.png").rgb.tolist() == [[[255, 1, 0]]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([-0.02, 0.2, 1.05], [0, 51, 255]),  # what resampling leaves of 0 to 1
        ([0.0, 51.0, 255.0], [0, 51, 255]),
        ([0.0, 257.0, 65535.0], [0, 1, 255]),
        (np.array([0, 51, 255], np.int32), [0, 51, 255]),
        (np.array([0, 257, 65535], np.int32), [0, 1, 255]),
    ],
)
def test_float_and_32_bit_tiff_take_the_range_that_fits(tmp_path, values, expected):
    values = np.asarray(values, None if isinstance(values, np.ndarray) else np.float32)[None]
    assert read_image(saved(tmp_path, Image.fromarray(values), "a.tif")).rgb[0, :, 2].tolist() == expected


@pytest.mark.parametrize("values", [[0, np.nan], [0, np.inf], [-5000, 5000], [0, 1e9]])
def test_float_tiff_without_a_usual_range_is_refused(tmp_path, values):
    path = saved(tmp_path, Image.fromarray(np.array([values], np.float32)), "a.tif")
    with pytest.raises(ImageError, match="fit none of the ranges"):
        read_image(path)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif"])
def test_rgba_keeps_alpha_and_hidden_colour(tmp_path, suffix):
    write_image(tmp_path / f"a.{suffix}", NOISE, NOISE[..., 0] // 128 * 255)
    loaded = read_image(tmp_path / f"a.{suffix}")
    assert np.array_equal(loaded.rgb, NOISE) and np.array_equal(loaded.alpha, NOISE[..., 0] // 128 * 255)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_without_a_usable_profile(tmp_path, suffix):
    for profile in ({}, {"icc_profile": b"junk"}, {"icc_profile": SRGB}):  # the last is not one of CMYK
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        loaded = read_image(saved(tmp_path, image, f"a.{suffix}", **profile))
        assert np.abs(loaded.rgb.astype(int) - [255, 0, 0]).max() <= 2 and loaded.icc_profile is None


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_goes_through_its_profile(tmp_path, suffix):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    loaded = read_image(saved(tmp_path, image, f"a.{suffix}", icc_profile=cmyk_profile()))
    assert np.ptp(loaded.rgb) <= 2 and 90 < loaded.rgb.mean() < 140  # mid gray, where the plain answer is red
    assert loaded.icc_profile is None


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_ycbcr(tmp_path, name):
    image = Image.new("RGB", (16, 16), (200, 50, 20)).convert("YCbCr")
    assert np.abs(read_image(saved(tmp_path, image, name)).rgb.astype(int) - [200, 50, 20]).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg"])
@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
def test_exif_orientation(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "a.webp" else {}
    path = saved(tmp_path, Image.fromarray(NOISE), name, exif=exif, **options)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image))
    assert np.array_equal(read_image(path).rgb, expected)
    if name != "a.jpg":
        corner = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
        assert np.array_equal(expected[corner.get(orientation, (0, 0))], NOISE[0, 0])


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_malformed_exif_is_no_obstacle(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff garbage"))
    assert read_image(tmp_path / "a.jpg").rgb.shape == NOISE.shape


@pytest.mark.parametrize(
    ("name", "frames"), [("a.gif", 3), ("a.webp", 3), ("a.png", 3), ("a.tif", 3), ("a.jpg", 1), ("a.mpo", 1)]
)
def test_first_of_several_frames(tmp_path, name, frames):
    first, *others = (Image.new("RGB", (6, 4), colour) for colour in ("white", "red", "blue"))
    options = {} if name == "a.jpg" else {"save_all": True, "append_images": others}
    loaded = read_image(saved(tmp_path, first, name, **options))
    assert loaded.frames == frames and loaded.rgb.shape == (4, 6, 3) and loaded.rgb.min() >= 250


def test_profile_is_kept_only_where_it_describes_rgb(tmp_path):
    gray = SRGB[:16] + b"GRAY" + SRGB[20:]
    for image, profile, expected in (
        (Image.new("RGB", (2, 2)), SRGB, SRGB),
        (Image.new("L", (2, 2)), SRGB, None),  # it changes no gray
        (Image.new("L", (2, 2)), gray, None),
        (Image.new("RGB", (2, 2)), SRGB[:36] + b"junk" + SRGB[40:], None),
    ):
        assert read_image(saved(tmp_path, image, "a.tif", icc_profile=profile)).icc_profile == expected


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("missing.png", None, "No such file"),
        ("empty.png", b"", "is empty, damaged"),
        ("text.png", b"this is not an image\n" * 9, "is empty, damaged"),
        ("a\nb.png", b"text", "is empty, damaged"),
        ("vector.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "EPS file"),
        ("half.png", encoded("PNG")[:2000], "cannot decode|damaged"),
        ("half.jpg", encoded("JPEG")[:1000], "cannot decode|damaged"),
        ("half.webp", encoded("WEBP")[:400], "cannot decode|damaged"),
        ("half.tif", encoded("TIFF")[:2000], "cannot decode|damaged"),
        ("half.gif", encoded("GIF")[:1500], "cannot decode|damaged"),
        ("half.bmp", encoded("BMP")[:2000], "cannot decode|damaged"),
        ("half.ppm", encoded("PPM")[:2000], "cannot decode|damaged"),
        ("half.jp2", encoded("JPEG2000")[:1500], "cannot decode|damaged"),
        ("bomb.png", png(60000, 60000, 8, 2, []), r"\(60000, 60000\) pixels are more than"),
        ("warning.png", png(14000, 14000, 8, 2, []), r"\(14000, 14000\) pixels are more than"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, data, message):
    path = tmp_path / name
    if data is not None:
        path.write_bytes(data)
    with warnings.catch_warnings(), pytest.raises(ImageError, match=message) as caught:
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        read_image(path)
    assert "\n" not in str(caught.value) and name.splitlines()[0] in str(caught.value)


def test_folder_is_not_an_image(tmp_path):
    with pytest.raises(ImageError, match="Is a directory"):
        read_image(tmp_path)
    with pytest.raises(ImageError):
        read_image("null\0byte.png")


def test_no_permission(tmp_path, monkeypatch):  # raised by hand: root may read anything
    def refuse(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(images, "open", refuse, raising=False)
    with pytest.raises(ImageError, match="a.png: Permission denied"):
        read_image(tmp_path / "a.png")


def test_pixel_limit_is_ours_alone(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.new("L", (20, 20)), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow on its own would refuse
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path, max_pixels=400).rgb.shape == (20, 20, 3)
    with pytest.raises(ImageError, match="crop or shrink"):
        read_image(path, max_pixels=399)
    assert Image.MAX_IMAGE_PIXELS == 10


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files")
def test_files_are_closed(tmp_path):
    before = os.listdir("/proc/self/fd")
    kept = []
    for name, data in (("a.tif", encoded("TIFF")), ("a.gif", encoded("GIF")), ("bad.png", encoded("PNG")[:2000])):
        (tmp_path / name).write_bytes(data)
        try:
            kept.append(read_image(tmp_path / name))
        except ImageError as error:
            kept.append(error)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_threads_do_not_meet(tmp_path):
    """Each file needs another remedy; none of them is a setting of the whole process."""
    files = {
        "a.png": encoded("PNG")[:-12],
        "b.jpg": encoded("JPEG")[:-2],
        "c.tif": encoded("TIFF"),
        "d.webp": encoded("WEBP"),
        "e.png": png(14000, 14000, 8, 2, []),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)

    def outcome(name):
        try:
            return read_image(tmp_path / name).rgb.tobytes()
        except ImageError as error:
            return str(error)

    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)
    expected = {name: outcome(name) for name in files}
    names = list(files) * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(outcome, names))
    assert found == [expected[name] for name in names]
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, PngImagePlugin.MAX_TEXT_CHUNK)
