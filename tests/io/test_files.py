"""Image files: every kind is read right, a failure is one line, nothing is half-written, no two outputs meet."""

import errno
import os
import resource
import stat
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, ImageOps, JpegImagePlugin

from helpers.encoded_images import NOISE, encoded, png
from tadisr import files
from tadisr.files import ImageError, find_inputs, output_paths, read_image, write_image

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


# ---- reading


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
        (Image.new("L", (2, 2)), SRGB, SRGB),
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

    monkeypatch.setattr(files, "open", refuse, raising=False)
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


# ---- writing

SHAPES = st.tuples(st.integers(1, 20), st.integers(1, 20))


@settings(deadline=None, max_examples=50)  # the machine may be busy
@given(data=st.data(), shape=SHAPES, channels=st.sampled_from([(), (3,)]), with_alpha=st.booleans())
def test_png_round_trip(tmp_path_factory, data, shape, channels, with_alpha):
    pixels = data.draw(hnp.arrays(np.uint8, shape + channels))
    alpha = data.draw(hnp.arrays(np.uint8, shape)) if with_alpha else None
    path = tmp_path_factory.getbasetemp() / "round-trip.png"
    write_image(path, pixels, alpha)
    loaded = read_image(path)
    assert np.array_equal(loaded.rgb, pixels if channels else np.dstack([pixels] * 3))
    assert loaded.alpha is None if alpha is None else np.array_equal(loaded.alpha, alpha)


@pytest.mark.parametrize("name", ["a.png", "a.WEBP", "a.tif", "a.tiff"])
@pytest.mark.parametrize("pixels", [NOISE, NOISE[..., 0]], ids=["rgb", "gray"])
@pytest.mark.parametrize("alpha", [None, NOISE[..., 1]], ids=["opaque", "alpha"])
def test_lossless_formats(tmp_path, name, pixels, alpha):
    write_image(tmp_path / name, pixels, alpha, SRGB)
    loaded = read_image(tmp_path / name)
    assert np.array_equal(loaded.rgb, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))
    assert loaded.alpha is None if alpha is None else np.array_equal(loaded.alpha, alpha)
    assert loaded.icc_profile == (SRGB if pixels.ndim == 3 else None)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_jpeg_is_close_and_keeps_full_colour(tmp_path, name):
    write_image(tmp_path / name, NOISE, icc_profile=SRGB)
    loaded = read_image(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
    assert np.abs(loaded.rgb.astype(int) - NOISE).mean() < 4 and loaded.icc_profile == SRGB
    write_image(tmp_path / name, NOISE[..., 0])
    with Image.open(tmp_path / name) as image:
        assert image.mode == "L"


def test_jpeg_lays_transparency_on_white(tmp_path):
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[:, :8] = 0
    for pixels in (np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16), np.uint8)):
        write_image(tmp_path / "a.jpg", pixels, alpha)
        rgb = read_image(tmp_path / "a.jpg").rgb
        assert rgb[:, :8].min() > 250 and rgb[:, 8:].max() < 5


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_mode_honours_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_image(tmp_path / "a.png", NOISE)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~umask


def test_missing_folders_are_made_and_links_replaced(tmp_path):
    path = tmp_path / "new" / "deep" / "a.png"
    write_image(path, NOISE)
    (tmp_path / "link.png").symlink_to(path)
    write_image(tmp_path / "link.png", NOISE[:1])
    assert not (tmp_path / "link.png").is_symlink() and read_image(path).rgb.shape == NOISE.shape


def fails_with(error):
    def fail(*_args):
        raise error

    return fail


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ImageError, "a.png: No space left on device"),
        (PermissionError(errno.EACCES, "Permission denied"), ImageError, "a.png: Permission denied"),
        (KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_failure_leaves_everything_as_it_was(tmp_path, monkeypatch, step, error, expected, message, existing):
    if existing:
        (tmp_path / "a.png").write_bytes(b"earlier")
    monkeypatch.setattr(files.os, step, fails_with(error))
    with pytest.raises(expected, match=message):
        write_image(tmp_path / "a.png", NOISE)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"] * existing


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_full_disk(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"earlier")
    full = Path("/dev/full").open("wb")  # noqa: SIM115
    monkeypatch.setattr(files, "open", lambda *_args: full, raising=False)
    with pytest.raises(ImageError, match="a.png: No space left on device"):
        write_image(tmp_path / "a.png", NOISE)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"]


def test_disk_that_fills_up_midway(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # a real failure, after a part has been written
    try:
        with pytest.raises(ImageError, match="File too large"):
            write_image(tmp_path / "a.png", NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    for path, message in (
        (tmp_path / "file" / "a.png", "Not a directory"),
        (tmp_path / "file" / "deep" / "a.png", "Not a directory"),
        (tmp_path / "folder.png", "Is a directory"),
        (tmp_path / f"{'n' * 300}.png", "name too long"),
    ):
        with pytest.raises(ImageError, match=message):
            write_image(path, NOISE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["a.bmp", "a", "a.png.txt", ".png"])
def test_unknown_suffix_lists_the_known(tmp_path, name):
    with pytest.raises(ImageError, match=r"must end in \.png, \.jpg, \.jpeg, \.webp, \.tif"):
        write_image(tmp_path / name, NOISE)


def test_too_large_for_the_format(tmp_path):
    with pytest.raises(ImageError, match="try a name ending in .png"):
        write_image(tmp_path / "a.webp", np.zeros((1, 16384), np.uint8))
    with pytest.raises(ImageError, match="try a name ending in .png"):
        write_image(tmp_path / "a.jpg", np.zeros((1, 65536), np.uint8))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (NOISE / 255, None),
        (np.zeros((0, 3, 3), np.uint8), None),
        (np.zeros((3, 3, 4), np.uint8), None),
        (np.zeros((3, 3, 2), np.uint8), None),
        (NOISE, NOISE),
        (NOISE, NOISE[:1, :, 0]),
        (NOISE, NOISE[..., 0] / 255),
    ],
)
def test_wrong_arrays_are_the_callers_error(tmp_path, pixels, alpha):
    with pytest.raises(ValueError) as caught:
        write_image(tmp_path / "a.png", pixels, alpha)
    assert not isinstance(caught.value, ImageError) and not list(tmp_path.iterdir())


# ---- names


@pytest.fixture
def photos(tmp_path, monkeypatch):
    names = [
        "b.jpg",
        "a.PNG",
        "odd[1].png",
        "c.txt",
        ".hidden.png",
        "sub/d.webp",
        "sub/e.doc",
        "sub/deep/f.tiff",
        "d[1]/g.bmp",
    ]
    for name in [*names, "empty/readme"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "dangling.png").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ([], []),
        (["b.jpg"], ["b.jpg"]),
        (["."], ["a.PNG", "b.jpg", "odd[1].png"]),
        (["sub/"], ["sub/d.webp"]),
        (["d[1]"], ["d[1]/g.bmp"]),
        (["c.txt"], ["c.txt"]),  # named outright
        (["odd[1].png"], ["odd[1].png"]),
        (["*.jpg", "a.*"], ["b.jpg", "a.PNG"]),
        (["**"], ["a.PNG", "b.jpg", "d[1]/g.bmp", "odd[1].png", "sub/d.webp", "sub/deep/f.tiff"]),
        (["sub/**/*.tiff"], ["sub/deep/f.tiff"]),
        (["b.jpg", "./b.jpg", "sub/../b.jpg", ".", Path("b.jpg")], ["b.jpg", "a.PNG", "odd[1].png"]),
    ],
)
def test_find_inputs(photos, inputs, expected):
    assert find_inputs(inputs) == [Path(name) for name in expected]


@pytest.mark.parametrize(
    "name", ["", "missing.png", "empty", "*.doc", "sub/*.png", "dangling.png", "x\0.png", "n" * 999]
)
def test_an_input_that_names_nothing(photos, name):
    with pytest.raises(ImageError, match="no image at"):
        find_inputs(["b.jpg", name])


def names(outputs):
    return [path.name for path in outputs]


def test_output_folder():
    assert output_paths([Path("in/a.jpg")], "out") == [
        (Path("out/a.png"), Path("out/a_mask.png"), Path("out/a_compare.png"))
    ]
    assert output_paths([Path("a.jpg")], None)[0].image == files.DEFAULT_FOLDER / "a.png"
    assert output_paths([Path("a.jpg")], "v1.2")[0].image == Path("v1.2/a.png")


def test_single_output_file(tmp_path):
    assert output_paths([Path("a.jpg")], "out/x.webp") == [
        (Path("out/x.webp"), Path("out/x_mask.png"), Path("out/x_compare.png"))
    ]
    with pytest.raises(ImageError, match="there are 2 inputs"):
        output_paths([Path("a.jpg"), Path("b.jpg")], "x.png")
    with pytest.raises(ImageError, match="ending in .png"):
        output_paths([Path("a.jpg")], "x.gif")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ImageError, match="name a folder"):
        output_paths([Path("a.jpg")], tmp_path / "file")
    (tmp_path / "folder.png").mkdir()
    assert output_paths([Path("a.jpg")], tmp_path / "folder.png")[0].image == tmp_path / "folder.png" / "a.png"


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.jpg", "b.jpg"], ["a.png", "b.png"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg.png", "a.png.png", "b.png"]),
        (["A.jpg", "a.png"], ["A.jpg.png", "a.png.png"]),  # one file where letter case does not count
        (["a.jpg", "a_mask.jpg"], ["a.jpg.png", "a_mask.jpg.png"]),
        (["a.jpg", "a_compare.jpg", "c.jpg"], ["a.jpg.png", "a_compare.jpg.png", "c.png"]),
        (["2023/a.jpg", "2024/a.jpg"], ["2023_a.jpg.png", "2024_a.jpg.png"]),
        (["a.jpg", "a.png", "a.jpg.gif"], ["a.jpg-2.png", "a.png.png", "a.jpg.png"]),
    ],
)
def test_outputs_that_would_meet(inputs, expected):
    paths = [Path("in") / name for name in inputs]
    assert names(output.image for output in output_paths(paths, "out")) == expected
    assert names(output.image for output in output_paths(paths[::-1], "out")) == expected[::-1]


STEMS = st.sampled_from(
    ["a", "A", "b", "a_mask", "a_mask_mask", "a_compare", "a.jpg", "a.jpg-2", "x_a", "x_a.jpg", "ß", "ss"]
)
PATHS = st.builds("{}{}{}".format, st.sampled_from(["", "x/", "y/x/"]), STEMS, st.sampled_from([".jpg", ".png", ""]))


@settings(deadline=None, max_examples=50)
@given(inputs=st.lists(PATHS, max_size=12, unique=True), order=st.randoms(use_true_random=False))
def test_outputs_are_distinct_in_any_order(inputs, order):
    found = dict(zip(inputs, output_paths([Path(name) for name in inputs], "no-such-folder"), strict=True))
    every = [str(path).casefold() for outputs in found.values() for path in outputs]
    assert len(every) == len(set(every))
    order.shuffle(inputs)
    assert output_paths([Path(name) for name in inputs], "no-such-folder") == [found[name] for name in inputs]


def test_an_output_never_replaces_an_input(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b.jpg", "in/b_mask.png"):
        write_image(name, NOISE)
    os.symlink("in", "linked")
    os.mkdir("out")
    os.symlink("../in/a.png", "out/a.png")
    os.link("in/a.png", "hard.png")
    for inputs, out in (
        (["in/a.png"], "in"),
        (["in/a.png"], tmp_path / "in"),
        (["in/a.png"], "out/../in/a.png"),
        (["in/a.png"], "linked"),
        (["linked/a.png"], "in"),
        (["in/a.png"], "out"),
        (["in/a.png"], "hard.png"),
        (["in/b_mask.png"], "in/b.png"),  # whose mask it would be
    ):
        with pytest.raises(ImageError, match="would replace the input in/|would replace the input linked/"):
            output_paths([Path(name) for name in inputs], out)
    assert output_paths([Path("in/b.jpg")], "in")[0].image == Path("in/b.png")
