"""Images are written whole or not at all, and a failure is one line."""

import errno
import os
import resource
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms, JpegImagePlugin

from helpers.encoded_images import NOISE
from tadisr.io import atomic
from tadisr.io.images import ImageError, Metadata, check_writable, read_header, read_image, write_image

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SMOOTH = np.asarray(Image.fromarray(NOISE[:6, :5]).resize((60, 40), Image.Resampling.BICUBIC))


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


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
    write_image(tmp_path / name, pixels, alpha, Metadata(SRGB))
    loaded = read_image(tmp_path / name)
    assert np.array_equal(loaded.rgb, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3))
    assert loaded.alpha is None if alpha is None else np.array_equal(loaded.alpha, alpha)
    assert loaded.icc_profile == (SRGB if pixels.ndim == 3 else None)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG"])
def test_jpeg_is_close_and_keeps_full_colour(tmp_path, name):
    write_image(tmp_path / name, NOISE, metadata=Metadata(SRGB))
    loaded = read_image(tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert JpegImagePlugin.get_sampling(image) == 0  # 4:4:4
    assert np.abs(loaded.rgb.astype(int) - NOISE).mean() < 4 and loaded.icc_profile == SRGB
    write_image(tmp_path / name, NOISE[..., 0])
    with Image.open(tmp_path / name) as image:
        assert image.mode == "L"


@pytest.mark.parametrize("pixels", [SMOOTH, SMOOTH[..., 0]], ids=["rgb", "gray"])
@pytest.mark.parametrize("alpha", [None, SMOOTH[..., 1]], ids=["opaque", "alpha"])
def test_avif_is_close_and_keeps_full_colour(tmp_path, pixels, alpha):
    path = tmp_path / "a.avif"
    sizes = []
    for quality, most in ((None, 2), (100, 1), (10, 20)):
        write_image(path, pixels, alpha, Metadata(SRGB), quality)
        loaded = read_image(path)
        assert np.abs(loaded.rgb.astype(int) - (pixels if pixels.ndim == 3 else pixels[..., None])).mean() <= most
        assert (loaded.alpha is None) == (alpha is None) == (not read_header(path).has_alpha)
        assert alpha is None or np.abs(loaded.alpha.astype(int) - alpha).mean() <= most
        assert loaded.icc_profile == (SRGB if pixels.ndim == 3 else None)
        sizes.append(path.stat().st_size)
    assert sizes[2] < sizes[0] < sizes[1]


@pytest.mark.parametrize("width", [1, 32_768])
def test_avif_of_extreme_sides(tmp_path, width):
    write_image(tmp_path / "a.avif", np.full((1, width), 99, np.uint8))
    assert read_image(tmp_path / "a.avif").rgb.shape == (1, width, 3)


def test_a_pillow_without_avif(tmp_path, monkeypatch):
    write_image(tmp_path / "in.avif", NOISE)
    monkeypatch.setattr("PIL.features.check", lambda feature: feature != "avif")
    advice = r"built without: install one from PyPI \(pip install --force-reinstall pillow\), or"
    with pytest.raises(ImageError, match=f"cannot write AVIF files, which the Pillow that is installed was {advice}"):
        write_image(tmp_path / "a.avif", NOISE)
    with pytest.raises(ImageError, match=f"in.avif is an AVIF file, which the Pillow .* {advice} convert it to PNG"):
        read_image(tmp_path / "in.avif")
    assert [path.name for path in tmp_path.iterdir()] == ["in.avif"]


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
    monkeypatch.setattr(os, step, fails_with(error))
    with pytest.raises(expected, match=message):
        write_image(tmp_path / "a.png", NOISE)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"earlier"] * existing


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_full_disk(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(b"earlier")
    full = Path("/dev/full").open("wb")  # noqa: SIM115
    monkeypatch.setattr(atomic, "open", lambda name, _mode: Path(name).touch() or full, raising=False)
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
    with pytest.raises(ImageError, match="an AVIF has at most 32768 a side: try a name ending in .png"):
        write_image(tmp_path / "a.avif", np.zeros((1, 32769), np.uint8))
    with pytest.raises(ImageError, match="too many for an AVIF: try a name ending in .png"):
        check_writable(tmp_path / "a.avif", 2**15, 2**15)
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
