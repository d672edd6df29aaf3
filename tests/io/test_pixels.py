"""Numbers become colours: gamma, primaries, profiles, gray, ranges."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from helpers.encoded_images import NOISE, chunk, png
from helpers.tiff_files import HEIGHT, WIDTH, packed, ramp
from tadisr.io.images import ImageError, read_image, to_arrays
from tadisr.io.pixels import Encoding, Samples, to_8bit

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
RGB, GRAY = ramp(255, 3), ramp(255)
P3 = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)  # white, red, green, blue as PNG has them


def srgb(light):
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def profile(kind, tags):
    """An ICC profile with these tags: `kind` is b"GRAY" or b"RGB "."""
    body, index, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        index += name + struct.pack(">II", offset + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4sI4s4s4s12s4s", offset + len(body), b"", 0x02400000, b"mntr", kind, b"XYZ ", b"", b"acsp")
    head += bytes(28) + struct.pack(">iii", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + index + body


D50 = b"XYZ " + struct.pack(">iiii", 0, 63190, 65536, 54061)


def gamma_curve(gamma):
    return b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))


GRAY_GAMMA_1 = profile(b"GRAY", {b"wtpt": D50, b"kTRC": gamma_curve(1)})
GRAY_SRGB = profile(b"GRAY", {b"wtpt": D50, b"kTRC": gamma_curve(2.2)})


def read(tmp_path, data):
    (tmp_path / "a.img").write_bytes(data)
    return read_image(tmp_path / "a.img")


def coded_png(*chunks, values=RGB, bits=8):
    colour = 2 if values.ndim == 3 else 0
    return png(WIDTH, HEIGHT, bits, colour, packed(values, bits), b"".join(chunks))


def gama(gamma):
    return chunk(b"gAMA", struct.pack(">I", round(100_000 / gamma)))


@pytest.mark.parametrize("gamma", [1, 1.8, 2.6])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [None, 3])
def test_gamma_of_a_png(tmp_path, gamma, bits, channels):
    values = ramp(2**bits - 1, channels)
    loaded = read(tmp_path, coded_png(gama(gamma), values=values, bits=bits))
    expected = np.rint(255 * srgb((values / (2**bits - 1)) ** gamma))
    assert np.abs(loaded.rgb - np.atleast_3d(expected)).max() <= 1 and loaded.icc_profile is None


def test_gamma_that_changes_nothing(tmp_path):
    for chunks in ([gama(2.2)], [gama(1), chunk(b"sRGB", b"\0")], [gama(2.2), chunk(b"cHRM", struct.pack(
        ">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000))]):  # fmt: skip
        assert np.array_equal(read(tmp_path, coded_png(*chunks)).rgb, RGB)


def test_gamma_of_a_palette(tmp_path):
    colours = np.array([[10, 200, 30], [128, 128, 128]])
    data = png(WIDTH, HEIGHT, 1, 3, packed(ramp(1), 1), gama(1) + chunk(b"PLTE", colours.astype(np.uint8).tobytes()))
    assert np.array_equal(read(tmp_path, data).rgb, np.rint(255 * srgb(colours / 255))[ramp(1)])


def display_p3():
    """A profile of Display P3, with sRGB's curve: colours in it are known to LittleCMS."""
    srgb_profile = ImageCms.ImageCmsProfile(io.BytesIO(SRGB)).profile
    assert srgb_profile.red_primary  # LittleCMS is there
    curve = b"curv" + struct.pack(">II", 0, 1024)
    levels = np.linspace(0, 1, 1024)
    light = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    curve += np.rint(light * 65535).astype(">u2").tobytes()
    corners = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    xyz = {
        name: b"XYZ " + struct.pack(">iiii", 0, *(round(v * 65536) for v in value)) for name, value in corners.items()
    }
    return profile(b"RGB ", {b"wtpt": D50, **xyz, b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


@pytest.mark.parametrize("said", ["cICP", "cHRM"])
def test_display_p3_named_without_a_profile(tmp_path, said):
    values = RGB // 2 + 60
    picture = Image.fromarray(values.astype(np.uint8))
    source = ImageCms.ImageCmsProfile(io.BytesIO(display_p3()))
    expected = np.asarray(ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB")))
    data = chunk(b"cICP", bytes([12, 13, 0, 1])) if said == "cICP" else chunk(b"cHRM", struct.pack(">8I", *P3))
    loaded = read(tmp_path, coded_png(data, values=values))
    assert np.abs(loaded.rgb.astype(int) - expected).max() <= 2 and loaded.icc_profile is None
    assert np.abs(loaded.rgb.astype(int) - values).max() > 10


def test_what_counts_where_several_are_given(tmp_path):
    icc = chunk(b"iCCP", b"a\0\0" + zlib.compress(SRGB))
    loaded = read(tmp_path, coded_png(icc, gama(1)))
    assert np.array_equal(loaded.rgb, RGB) and loaded.icc_profile == SRGB
    loaded = read(tmp_path, coded_png(chunk(b"cICP", bytes([1, 13, 0, 1])), icc, gama(1)))
    assert np.array_equal(loaded.rgb, RGB) and loaded.icc_profile is None


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path, transfer, name):
    with pytest.raises(ImageError, match=rf"an HDR picture \({name}\), which is not supported: convert it to sRGB"):
        read(tmp_path, coded_png(chunk(b"cICP", bytes([9, transfer, 0, 1]))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_gray_goes_through_its_profile(tmp_path, kind):
    buffer = io.BytesIO()
    options = {"quality": 100} if kind == "JPEG" else {}
    Image.fromarray(GRAY.astype(np.uint8)).save(buffer, kind, icc_profile=GRAY_GAMMA_1, **options)
    loaded = read(tmp_path, buffer.getvalue())
    expected = 255 * srgb(GRAY / 255)
    difference = np.abs(loaded.rgb[..., 0] - expected)
    assert difference.mean() <= 1 and difference.max() <= (14 if kind == "JPEG" else 2)  # steep near black
    assert loaded.gray and loaded.icc_profile is None and loaded.remarks == ()
    assert np.array_equal(loaded.rgb[..., 0], loaded.rgb[..., 2])


def test_gray_of_16_bits_goes_through_its_profile(tmp_path):
    values = ramp(65535)
    loaded = read(tmp_path, coded_png(chunk(b"iCCP", b"a\0\0" + zlib.compress(GRAY_GAMMA_1)), values=values, bits=16))
    assert np.abs(loaded.rgb[..., 0] - 255 * srgb(values / 65535)).max() <= 6  # between the 256 steps of the curve


def test_a_damaged_gray_profile_is_left_out(tmp_path):
    loaded = read(tmp_path, coded_png(chunk(b"iCCP", b"a\0\0" + zlib.compress(GRAY_GAMMA_1[:130])), values=GRAY))
    assert np.array_equal(loaded.rgb[..., 0], GRAY)
    assert loaded.remarks == ("its gray profile could not be applied and was left out",)


def test_a_curve_close_to_srgb_is_applied_too(tmp_path):
    loaded = read(tmp_path, coded_png(chunk(b"iCCP", b"a\0\0" + zlib.compress(GRAY_SRGB)), values=GRAY))
    assert 0 < np.abs(loaded.rgb[..., 0] - GRAY).max() < 12


def test_pil_images_as_their_files(tmp_path):
    for data in (
        coded_png(gama(1)),
        coded_png(chunk(b"iCCP", b"a\0\0" + zlib.compress(GRAY_GAMMA_1)), values=GRAY),
        coded_png(chunk(b"tRNS", struct.pack(">H", 128)), values=GRAY),
    ):
        loaded = read(tmp_path, data)
        rgb, alpha = to_arrays(Image.open(io.BytesIO(data)))
        assert np.array_equal(rgb, loaded.rgb)
        assert alpha is None if loaded.alpha is None else np.array_equal(alpha, loaded.alpha)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I", "F"]
)
def test_every_mode_of_pil(mode):
    image = Image.fromarray(NOISE[..., 0].astype(np.int32) * 257 if mode in ("I", "I;16") else NOISE)
    if mode == "F":
        image = Image.fromarray(NOISE[..., 0].astype(np.float32))
    elif mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    elif mode in ("RGBa", "La"):
        image = image.convert("RGBA" if mode == "RGBa" else "LA").convert(mode)
    else:
        image = image.convert(mode)
    rgb, alpha = to_arrays(image)
    gray = mode in ("1", "L", "LA", "La", "I;16", "I", "F")
    expected = np.asarray(Image.fromarray(NOISE).convert("L")) if gray and mode not in ("I;16", "I", "F") else NOISE
    if mode == "1":
        expected = np.asarray(image) * np.uint8(255)
    elif gray and mode not in ("L", "LA", "La"):
        expected = NOISE[..., 0]
    tolerance = {"CMYK": 1, "YCbCr": 3, "HSV": 6, "LAB": 32, "P": 255, "PA": 255}.get(mode, 0)
    assert np.abs(rgb.astype(int) - np.atleast_3d(expected)).max() <= tolerance
    assert (alpha is not None) == (mode in ("LA", "PA", "RGBA", "RGBa", "La")) and rgb.flags.writeable


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_blocks_join_without_seams(kind):
    """Large pictures are converted in parts."""
    values = np.linspace(0, 1, 1500 * 1100).reshape(1500, 1100)
    white = {"uint8": 255, "uint16": 65535, "float32": 1}[kind]
    stored = values.astype(kind) if kind == "float32" else np.rint(values * white).astype(kind)
    pixels = to_8bit(Samples(stored, "gray", white, encoding=Encoding(1.0)))
    assert np.abs(pixels.rgb[..., 1] - 255 * srgb(stored / white)).max() <= 0.51


def test_alpha_may_have_another_range_than_colours():
    pixels = to_8bit(Samples(np.float32([[[0, 51, 255]]]), "rgb", None, np.float32([[0.2]])))
    assert pixels.rgb.tolist() == [[[0, 51, 255]]] and pixels.alpha.tolist() == [[51]]
    for senseless in (np.nan, np.inf):
        with pytest.raises(ValueError, match="its alpha holds values that are no numbers"):
            to_8bit(Samples(np.float32([[[0, 51, 255]]]), "rgb", None, np.float32([[senseless]])))
