"""PNG, JPEG and WebP: what stands beside the pixels never keeps a picture from being read; what is missing is told."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from helpers.encoded_images import NOISE, chunk, encoded, png
from helpers.tiff_files import HEIGHT, WIDTH, in_8_bits, packed, ramp
from tadisr.io import containers
from tadisr.io.images import ImageError, read_header, read_image

PICTURE = np.asarray(Image.fromarray(NOISE).resize((240, 320)))  # 240 wide
SIGNATURE = 33  # bytes of a PNG up to the end of its header


def read(tmp_path, data, name="a.img", **options):
    (tmp_path / name).write_bytes(data)
    header, loaded = read_header(tmp_path / name, **options), read_image(tmp_path / name, **options)
    assert (header.height, header.width) == loaded.rgb.shape[:2] and header.gray == loaded.gray
    assert header.has_alpha == (loaded.alpha is not None) and header.frames == loaded.frames
    return loaded


def jpeg(picture=PICTURE, **options):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=90, **options)
    return buffer.getvalue()


def with_chunks(*chunks):
    whole = encoded("PNG")
    return whole[:SIGNATURE] + b"".join(chunks) + whole[SIGNATURE:]


# PNG


@pytest.mark.parametrize(
    ("kind", "bits", "transparent"),
    [
        *(("gray", bits, transparent) for bits in (1, 2, 4, 8, 16) for transparent in (False, True)),
        *(("palette", bits, transparent) for bits in (1, 2, 4, 8) for transparent in (False, True)),
        *(("rgb", bits, transparent) for bits in (8, 16) for transparent in (False, True)),
        *((f"{kind} with alpha", bits, False) for kind in ("gray", "rgb") for bits in (8, 16)),
    ],
)
def test_every_kind_of_png(tmp_path, kind, bits, transparent):
    colour, channels = {
        "gray": (0, None), "rgb": (2, 3), "palette": (3, None), "gray with alpha": (4, 2), "rgb with alpha": (6, 4),
    }[kind]  # fmt: skip
    values, extra, alpha = ramp(2**bits - 1, channels), b"", None
    expected = in_8_bits(values, 2**bits - 1)
    if colour == 3:
        palette = np.random.default_rng(0).integers(0, 256, (2**bits, 3)).astype(np.uint8)
        extra, expected = chunk(b"PLTE", palette.tobytes()), palette[values]
    if "alpha" in kind:
        expected, alpha = expected[..., :-1], expected[..., -1]
    if transparent and colour == 3:
        extra += chunk(b"tRNS", bytes([7, 99]))
        alpha = np.concatenate([[7, 99], np.full(2**bits, 255)])[values]
    elif transparent:
        clear = np.atleast_1d(values[4, 4])
        extra += chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
        alpha = np.where((np.atleast_3d(values) == clear).all(-1), 0, 255)
    loaded = read(tmp_path, png(WIDTH, HEIGHT, bits, colour, packed(values, bits), extra))
    assert np.array_equal(loaded.rgb, expected if expected.ndim == 3 and expected.shape[2] == 3 else
                          np.repeat(expected.reshape(HEIGHT, WIDTH, 1), 3, 2))  # fmt: skip
    assert (loaded.alpha is None) if alpha is None else np.array_equal(loaded.alpha, alpha)
    assert loaded.gray == (colour in (0, 4)) and loaded.remarks == ()


@pytest.mark.parametrize("bits", [8, 16])
def test_interlaced_png(tmp_path, bits):
    import pyvips

    values = ramp(2**bits - 1, 3).astype(f"uint{bits}")
    image = pyvips.Image.new_from_array(values).copy(interpretation="srgb" if bits == 8 else "rgb16")
    loaded = read(tmp_path, image.pngsave_buffer(interlace=True))
    assert np.array_equal(loaded.rgb, in_8_bits(values, 2**bits - 1))


def test_significant_bits_of_a_png(tmp_path):
    """By the standard the values fill the 16 bits; sBIT matters only where they do not."""
    rows, wide = ramp(1023), ramp(65535)
    stated = chunk(b"sBIT", b"\x0a")
    loaded = read(tmp_path, png(WIDTH, HEIGHT, 16, 0, packed(rows, 16), stated))
    assert np.array_equal(loaded.rgb[..., 0], in_8_bits(rows, 1023)) and loaded.remarks == ()
    assert np.array_equal(
        read(tmp_path, png(WIDTH, HEIGHT, 16, 0, packed(wide, 16), stated)).rgb[..., 0], in_8_bits(wide, 65535)
    )
    loaded = read(tmp_path, png(WIDTH, HEIGHT, 16, 0, packed(rows, 16)))
    assert loaded.rgb.max() == 4 and "its largest value is 1023 of 65535" in loaded.remarks[0]


BOMB = zlib.compress(bytes(50_000_000))


@pytest.mark.parametrize(
    ("beside", "remark"),
    [
        (chunk(b"zTXt", b"a\0\0" + zlib.compress(random.Random(0).randbytes(1_200_000))), None),
        (chunk(b"zTXt", b"a\0\0" + BOMB), None),
        (chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB), None),
        (chunk(b"tEXt", b"a\0" + bytes(3_000_000)), None),
        (chunk(b"iCCP", b"a\0\0" + BOMB), "its colour profile is damaged and was left out"),
        (chunk(b"iCCP", b"a\0\0junk"), "its colour profile is damaged and was left out"),
        (chunk(b"pHYs", bytes(9))[:-1] + b"?", "a damaged pHYs chunk was left out"),
        (chunk(b"tEXt", b"a\0b")[:-1] + b"?", "a damaged tEXt chunk was left out"),
        (chunk(b"gAMA", bytes(4)) + chunk(b"cHRM", bytes(32)) + chunk(b"sBIT", b""), None),
        (chunk(b"pHYs", bytes(3)) + chunk(b"cICP", b"") + chunk(b"eXIf", b"MM junk"), None),
        (chunk(b"teST", b"private"), None),
        (b"".join(chunk(b"tEXt", b"Raw profile type exif\0" + junk) for junk in (b"", b"\n", b"\n1\n\nxyz")), None),
    ],
)  # fmt: skip
def test_what_is_beside_a_png_does_no_harm(tmp_path, beside, remark):
    loaded = read(tmp_path, with_chunks(beside))
    assert np.array_equal(loaded.rgb, NOISE) and loaded.remarks == ((remark,) if remark else ())


def test_a_large_profile_is_read(tmp_path):
    profile = (
        struct.pack(">I12s4s", 1_300_000, b"", b"RGB ").ljust(36, b"\0")
        + b"acsp"
        + random.Random(0).randbytes(1_300_000)
    )
    loaded = read(tmp_path, with_chunks(chunk(b"iCCP", b"a\0\0" + zlib.compress(profile))))
    assert loaded.icc_profile == profile and np.array_equal(loaded.rgb, NOISE)


def test_the_end_of_a_png(tmp_path):
    whole = encoded("PNG")
    assert read(tmp_path, whole[:-12]).remarks == ()  # IEND only
    rows = [bytes([i]) * 300 for i in range(100)]
    body = png(100, 100, 8, 2, rows)
    stored = zlib.compress(b"".join(b"\0" + row for row in rows), 0)  # not squeezed: so many bytes, so many rows
    body = body[:SIGNATURE] + chunk(b"IDAT", stored) + chunk(b"IEND", b"")
    loaded = read(tmp_path, body[:-1000])
    assert loaded.rgb.shape == (100, 100, 3) and np.array_equal(loaded.rgb[:96, 0, 0], np.arange(96))
    assert loaded.remarks == ("its end is missing: the last 4 rows are made up",)
    with pytest.raises(ImageError, match="it ends too early: about 30 % of the picture is missing"):
        read(tmp_path, body[:-9000])


def test_pixels_with_a_wrong_checksum(tmp_path):
    """Every byte of the pixels is checked twice in a PNG. One wrong sum is no damage, a changed pixel is."""
    stored = zlib.compress(b"".join(b"\0" + bytes([i] * 9) for i in range(3)), 0)
    head = png(3, 3, 8, 2, [])[:SIGNATURE]
    end = chunk(b"IEND", b"")
    sums = head + chunk(b"IDAT", stored)[:-1] + b"?" + end
    assert read(tmp_path, sums).rgb[:, 0, 0].tolist() == [0, 1, 2]
    changed = bytearray(chunk(b"IDAT", stored))
    changed[20] ^= 255
    with pytest.raises(ImageError, match="its pixels are damaged"):
        read(tmp_path, head + bytes(changed) + end)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x89PNG\r\n\x1a\n" + chunk(b"CgBI", bytes(4)), "a PNG in Apple's own form"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"tEXt", b"a\0b") * 9, "does not begin with its size"),
        (png(5, 5, 3, 0, []), "its header makes no sense"),
        (png(5, 5, 8, 0, [])[:SIGNATURE] + chunk(b"IEND", b""), "it has no pixels"),
        (with_chunks(chunk(b"ABCD", b"")), "an unknown part"),
        (encoded("PNG")[:20], "it ends too early"),
        (jpeg()[:60], "it ends before its pixels|it ends too early"),
        (b"\xff\xd8\xff\xd9", "it ends before its pixels"),
        (encoded("WEBP")[:14], "it has no pixels"),
    ],
)
def test_damage_is_named(tmp_path, data, message):
    for function in (read_header, read_image):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(ImageError, match=message):
            function(tmp_path / "a")


def test_parts_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "_MOST_CHUNKS", 1000)
    with pytest.raises(ImageError, match="it has more than 1000 parts"):
        read(tmp_path, with_chunks(*[chunk(b"tIME", b"")] * 1000))


# JPEG

KINDS = [{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}]


@pytest.mark.parametrize("options", KINDS, ids=str)
@pytest.mark.parametrize("picture", [PICTURE, PICTURE[..., 0]], ids=["rgb", "gray"])
def test_a_jpeg_whose_last_bytes_are_missing(tmp_path, picture, options):
    whole = jpeg(picture, **options)
    expected = read(tmp_path, whole)
    assert np.array_equal(expected.rgb, np.asarray(Image.open(io.BytesIO(whole)).convert("RGB")))
    assert expected.remarks == () and expected.gray == (picture.ndim == 2)
    for data in (whole[:-1], whole[:-2], whole[:-2] + bytes(5000)):
        loaded = read(tmp_path, data)
        assert np.array_equal(loaded.rgb, expected.rgb)
        assert loaded.remarks == ("its last bytes are missing, but no pixel is",)
    assert read(tmp_path, whole + b"what some phones put behind").remarks == ()
    loaded = read(tmp_path, whole[:-60])
    assert np.array_equal(loaded.rgb[:280], expected.rgb[:280])
    assert "its end is missing: about " in loaded.remarks[0] and "% of the picture is made up" in loaded.remarks[0]


@pytest.mark.parametrize("options", KINDS, ids=str)
def test_a_jpeg_of_which_much_is_missing_is_refused(tmp_path, options):
    whole = jpeg(**options)
    most = whole[: len(whole) * 7 // 10]
    for data in (most, most + b"\xff\xd9", most + bytes(len(whole) // 3)):
        with pytest.raises(
            ImageError, match="ends too early: (about .. % of the picture|detail everywhere) is missing"
        ):
            read(tmp_path, data)


def test_a_progressive_jpeg_without_its_last_scans(tmp_path):
    """It looks whole, but blurred."""
    whole = jpeg(progressive=True)
    last = whole.rindex(b"\xff\xda")
    with pytest.raises(ImageError, match="detail everywhere is missing"):
        read(tmp_path, whole[:last] + b"\xff\xd9")


def test_what_is_beside_a_jpeg_does_no_harm(tmp_path):
    whole = jpeg()
    for beside in (
        b"\xff\xe1" + struct.pack(">H", 60) + b"Exif\0\0" + random.Random(0).randbytes(52),
        b"\xff\xe2" + struct.pack(">H", 60) + b"MPF\0" + random.Random(0).randbytes(54),
        b"\xff\xe2" + struct.pack(">H", 20) + b"ICC_PROFILE\0\x02\x09junk",
        b"\xff\xed" + struct.pack(">H", 30) + b"Photoshop 3.0\0" + random.Random(0).randbytes(14),
        b"\xff\xfe\0\x02" + b"\xff" * 9,
    ):
        loaded = read(tmp_path, whole[:2] + beside + whole[2:])
        assert np.array_equal(loaded.rgb, np.asarray(Image.open(io.BytesIO(whole))))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xd8\xff\xc1\0\x0b\x0c\0\x08\0\x08\1\1\x11\0", "a 12-bit JPEG"),
        (b"\xff\xd8\xff\xc3\0\x0b\x08\0\x08\0\x08\1\1\x11\0", "a lossless or hierarchical JPEG"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x08\0\x08\1\1\x11\0", "a JPEG-LS file"),
    ],
)
def test_other_kinds_of_jpeg_are_named(tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        read(tmp_path, data)


# WebP and GIF


@pytest.mark.parametrize("options", [{"lossless": True, "exact": True}, {"quality": 80}], ids=str)
@pytest.mark.parametrize("alpha", [False, True])
def test_webp(tmp_path, options, alpha):
    picture = np.dstack([NOISE, NOISE[..., :1]]) if alpha else NOISE
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", **options)
    loaded = read(tmp_path, buffer.getvalue())
    with Image.open(buffer) as image:
        assert np.array_equal(loaded.rgb, np.asarray(image.convert("RGB")))
    assert (loaded.alpha is not None) == alpha


def test_a_webp_with_damaged_metadata(tmp_path):
    whole = encoded("WEBP", lossless=True, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0", icc_profile=b"junk" * 40)
    loaded = read(tmp_path, whole)
    assert np.array_equal(loaded.rgb, NOISE)
    assert loaded.remarks == ("its colour profile is damaged and was left out",)
    loaded = read(tmp_path, whole[:-9])
    assert np.array_equal(loaded.rgb, NOISE) and "a damaged EXIF chunk was left out" in loaded.remarks


def test_counting_frames_ends(tmp_path):
    whole = encoded("GIF")
    start = whole.index(b",\0\0\0\0" + struct.pack("<HH", 30, 40))
    screen, frame = whole[:start], whole[start:-1]
    assert read(tmp_path, screen + frame * 7 + b";", "a.gif").frames == 7
    loaded = read(tmp_path, screen + frame * (containers.MAX_FRAMES + 9) + b";")
    assert loaded.frames == containers.MAX_FRAMES
    assert loaded.remarks == ("only its first 10000 frames were counted",)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_frames_are_read_one_by_one(tmp_path, kind):
    frames = [Image.new("RGB", (40, 30), colour) for colour in ("white", "red", "blue")]
    buffer = io.BytesIO()
    options = {"quality": 100} if kind == "AVIF" else {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=100, **options)
    for page, frame in enumerate(frames):
        loaded = read(tmp_path, buffer.getvalue(), page=page)
        assert loaded.frames == 3 and np.abs(loaded.rgb.astype(int) - np.asarray(frame)).max() <= 2
    with pytest.raises(ImageError, match="has no page 4: it has 3"):
        read(tmp_path, buffer.getvalue(), page=3)
