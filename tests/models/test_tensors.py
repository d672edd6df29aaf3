"""What comes in as tensors and goes out as images: kinds, shapes, types, ranges, and what is said of wrong ones."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tadisr.io.images import read_image
from tadisr.models.tensors import as_batch, fix_alpha, to_images, to_layers, to_tensors

RGBA = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
RGBA[0, :2] = [0] * 4, [255] * 4
RGB = RGBA[..., :3].copy()
GRAY = RGB[..., 0].copy()


def pixels(tensor: torch.Tensor) -> np.ndarray:
    """(1, C, H, W) to (H, W, C) uint8."""
    assert tensor.dtype == torch.float32 and tensor.shape[0] == 1 and tensor.device.type == "cpu"
    assert not tensor.requires_grad and tensor.min() >= 0 and tensor.max() <= 1
    return (tensor[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


# ---- kinds


@pytest.mark.parametrize("image", [
    RGB, RGB.astype(np.float32) / 255, RGB / 255, (RGB / 255).astype(">f8"), np.float16(RGB / 255.0),
    RGB[::-1].copy()[::-1], np.asfortranarray(RGB), np.repeat(RGB, 2, 1)[:, ::2], Image.fromarray(RGB),
    torch.from_numpy(RGB).permute(2, 0, 1),
    torch.from_numpy(RGB / 255).permute(2, 0, 1)[None], torch.from_numpy(RGB / 255).permute(2, 0, 1).bfloat16(),
    torch.from_numpy(RGB / 255).permute(2, 0, 1).requires_grad_(), [RGB], (RGB,), RGB[None], RGB[None] / 255,
    np.ma.masked_array(RGB, RGB > 300), torch.nn.Parameter(torch.from_numpy(RGB / 255).permute(2, 0, 1)),
])  # fmt: skip
def test_every_kind_of_image_is_the_same(image):
    (tensor,) = to_tensors(image)
    assert tensor.shape == (1, 3, 5, 7)
    assert np.abs(pixels(tensor).astype(int) - RGB).max() <= 1  # bfloat16 has 8 bits


def test_read_only_arrays_are_taken_and_never_changed():
    image = RGBA.copy()
    image.flags.writeable = False
    for keep_alpha in (False, True):
        (tensor,) = to_tensors(image, keep_alpha)
        tensor.zero_()
    assert np.array_equal(image, RGBA)


def test_gray():
    expected = np.repeat(GRAY[..., None], 3, 2)
    for image in (GRAY, GRAY[..., None], Image.fromarray(GRAY), torch.from_numpy(GRAY), torch.from_numpy(GRAY)[None],
                  torch.from_numpy(GRAY)[None, None]):  # fmt: skip
        (tensor,) = to_tensors(image)
        assert np.array_equal(pixels(tensor), expected)


def test_a_batch_is_its_images():
    batch = torch.rand(3, 4, 5, 6)
    tensors = to_tensors(batch, keep_alpha=True)
    assert len(tensors) == 3 and all(torch.equal(one[0], image) for one, image in zip(tensors, batch, strict=True))
    assert len(to_tensors([batch, RGB])) == 4
    again = to_tensors(batch.permute(0, 2, 3, 1).numpy(), keep_alpha=True)
    assert all(torch.equal(one, other) for one, other in zip(again, tensors, strict=True))


def test_images_of_one_shape_are_one_array_or_tensor():
    images = torch.rand(3, 3, 4, 5)
    for kind, shape in (("pt", (3, 3, 4, 5)), ("np", (3, 4, 5, 3))):
        batch = as_batch(to_images(images, kind), kind)
        assert batch.shape == shape and np.array_equal(batch[1], to_images(images[1:2], kind)[0])
        one = to_images(images[:1], kind)
        assert np.shares_memory(np.asarray(as_batch(one, kind)), np.asarray(one[0])), "no copy of a large image"
        mixed = [*one, *to_images(images[:1, :, :3], kind)]
        assert as_batch(mixed, kind) is mixed
    for kind in ("pil", "uint8"):
        pictures = to_images(images, kind)
        assert as_batch(pictures, kind) is pictures


def test_opened_files_are_what_the_command_line_reads(tmp_path):
    deep = Image.fromarray((np.linspace(0, 1, 40).reshape(5, 8) * 65535).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)).save(tmp_path / "p.png", exif=exif)
    Image.fromarray(np.linspace(0, 1, 40, dtype=np.float32).reshape(5, 8)).save(tmp_path / "float.tif")
    for name, shape in (("deep.png", (5, 8)), ("p.png", (9, 6)), ("float.tif", (5, 8))):
        with Image.open(tmp_path / name) as image:
            (tensor,) = to_tensors(image)
        assert tensor.shape == (1, 3, *shape)
        assert np.array_equal(pixels(tensor), read_image(tmp_path / name).rgb)
        assert 0.3 < tensor.mean() < 0.7


# ---- alpha


def test_every_kind_of_alpha_is_kept():
    gray_alpha = np.dstack([GRAY, RGBA[..., 3]])
    for image in (RGBA, RGBA / 255, Image.fromarray(RGBA), torch.from_numpy(RGBA).permute(2, 0, 1)):
        assert np.array_equal(pixels(to_tensors(image, keep_alpha=True)[0]), RGBA)
    expected = np.dstack([np.repeat(GRAY[..., None], 3, 2), RGBA[..., 3]])
    for image in (gray_alpha, Image.fromarray(gray_alpha), torch.from_numpy(gray_alpha).permute(2, 0, 1)):
        assert np.array_equal(pixels(to_tensors(image, keep_alpha=True)[0]), expected)


@pytest.mark.parametrize("mode", ["P", "PA", "RGB", "L", "1"])
def test_palettes_and_transparent_colours_are_alpha(mode):
    image = Image.new("RGB", (6, 4))
    image.paste("white", (2, 0, 4, 4))
    if mode == "PA":
        image = image.convert("P").convert("PA")
        image.putalpha(Image.fromarray(np.uint8([[0, 0, 255, 255, 90, 90]] * 4)))
    else:
        image = image.convert(mode)
        image.info["transparency"] = (0, 0, 0) if mode == "RGB" else image.getpixel((0, 0))
        file = io.BytesIO()
        image.save(file, "PNG", transparency=image.info["transparency"])
        image = Image.open(file)
    (tensor,) = to_tensors(image, keep_alpha=True)
    assert tensor.shape == (1, 4, 4, 6)
    assert (tensor[0, 3, :, :2] == 0).all() and (tensor[0, 3, :, 2:4] == 1).all()


@pytest.mark.parametrize(("color", "inside", "outside"), [(0, 0, 255), (255, 255, 0)])
def test_who_takes_no_alpha_sees_it_on_a_ground(color, inside, outside):
    image = np.full((5, 6, 4), color, np.uint8)
    image[..., 3] = 0
    image[2, 1:4, 3] = 255
    expected = np.full((5, 6, 3), outside, np.uint8)
    expected[2, 1:4] = inside
    batch = torch.from_numpy(np.stack([image, 255 - image])).permute(0, 3, 1, 2)
    for given in (image, Image.fromarray(image), batch[0]):
        assert np.array_equal(pixels(to_tensors(given)[0]), expected)
    assert [one.shape for one in to_tensors(batch)] == [(1, 3, 5, 6)] * 2


def test_layers_and_back():
    image = torch.from_numpy(RGBA / 255).float().permute(2, 0, 1)[None]
    image[:, 3, :, :4] *= 0.2
    image[:, 3, :, 4:] = 0
    layers = to_layers(image)
    assert layers.shape == image.shape and layers[:, 3].max() == 1
    torch.testing.assert_close(layers[:, 3] * image[:, 3].max(), image[:, 3])
    assert (layers[0, :3, :, 5] == layers[0, :3, :, 6]).all(), "bled"
    restored = torch.nn.functional.interpolate(layers, scale_factor=2.0) * 0.9
    assert fix_alpha(restored, image) is None
    assert (restored[0, 3, :, 13:] == 0).all() and restored[:, 3].max() <= image[:, 3].max()


@pytest.mark.parametrize("level", [1.0, 0.25])
def test_constant_alpha_is_no_layer(level):
    image = torch.rand(1, 4, 3, 5)
    image[:, 3] = level
    layers = to_layers(image)
    assert torch.equal(layers, image[:, :3]) and fix_alpha(layers, image) == level
    assert to_layers(layers) is layers and fix_alpha(layers, layers) is None


def test_constant_alpha_is_put_back():
    image = torch.rand(2, 3, 3, 5)
    for kind in ("pt", "np", "uint8", "pil"):
        plain, whole = to_images(image, kind), to_images(image, kind, alpha=0.5)
        for one, other in zip(plain, whole, strict=True):
            if kind == "pt":
                assert torch.equal(other[:3], one) and (other[3] == 0.5).all()
                continue
            one, other = np.asarray(one), np.asarray(other)
            assert np.array_equal(other[..., :3], one) and (other[..., 3] == (0.5 if kind == "np" else 128)).all()
    assert whole[0].mode == "RGBA"


# ---- what is refused, and with which words

READ_IT = "open the file first, with PIL.Image.open"


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([], "at least one image, got an empty list"),
        ((), "at least one image, got an empty list"),
        (RGB * np.float32(300 / 255), r"values in \[0, 1\], got 0.* to 300: scale them so that black is 0 and white 1"),
        (RGB.astype(np.float32), r"got .* to 255: divide by 255"),
        (RGB / 255 * 2 - 1, r"got -1 to 1: if they are in \[-1, 1\], take x / 2 \+ 0.5"),
        (RGB / 255 * 1.04 - 0.02, "got -0.02 to 1.02: resampling may overshoot, so clip them to 0 and 1"),
        (np.where(RGB > 100, np.nan, 0.5), "got nan to nan: replace those that are not finite"),
        (np.where(RGB > 100, np.inf, 0.5), "to inf: replace those that are not finite"),
        (np.full((3, 4, 3), 1e300), "to inf"),
        (RGB.astype(np.uint16), "a uint8 array or floats in .*, got uint16: divide by the value of white"),
        (RGB.astype(np.int32), "a uint8 array or floats in .*, got int32: convert to uint8 if"),
        (RGB.astype(np.int8), "got int8: convert to uint8"),
        (RGB > 100, "a uint8 array or floats in .*, got bool: multiply by 255 and convert to uint8"),
        (RGB.astype(complex), "got complex128"),
        (RGB.astype(object), "got object"),
        (RGB.astype(str), "got <U3"),
        (np.zeros((0, 5, 3), np.uint8), r"Expected an array .*, got \(0, 5, 3\)"),
        (np.zeros(5, np.uint8), r"Expected an array .*, got \(5,\)"),
        (np.zeros((), np.uint8), r"Expected an array .*, got \(\)"),
        (RGB.transpose(2, 0, 1), r"got \(3, 5, 7\): its channels come first.*transpose\(1, 2, 0\)"),
        (RGB.transpose(2, 0, 1)[None], r"got \(1, 3, 5, 7\): its channels come first.*transpose\(0, 2, 3, 1\)"),
        (RGB[None, None], r"Expected an array .*, got \(1, 1, 5, 7, 3\)\."),
        (np.zeros((5, 7, 5), np.uint8), r"Expected an array \(H, W\), .* or a batch of those, got \(5, 7, 5\)\."),
        (torch.from_numpy(RGB), r"got \(5, 7, 3\): its channels come last.*permute\(2, 0, 1\)"),
        (torch.from_numpy(RGB)[None], r"got \(1, 5, 7, 3\): its channels come last.*permute\(0, 3, 1, 2\)"),
        (torch.zeros(3), r"Expected a tensor .*, got \(3,\)\."),
        (torch.zeros(0, 3, 4, 4), r"Expected a tensor .*, got \(0, 3, 4, 4\)\."),
        (torch.zeros(1, 1, 3, 4, 4), "Expected a tensor"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "a uint8 tensor or floats in .*, got int64: convert to uint8"),
        (torch.zeros(3, 4, 4, dtype=torch.bool), "got bool: multiply by 255"),
        (torch.zeros(3, 4, 4, dtype=torch.complex64), "got complex64"),
        (torch.zeros(3, 4, 4, device="meta"), "a dense tensor that holds values"),
        (torch.zeros(3, 4, 4).to_sparse(), "a dense tensor that holds values"),
        (torch.full((3, 4, 4), 300.0), "scale them so that"),
        (torch.full((4, 4, 4), float("nan")), "not finite"),
        (Image.new("RGB", (0, 5)), "holds pixels, got 0 x 5"),
    ],
)
@pytest.mark.parametrize("keep_alpha", [False, True])
def test_values_that_are_refused(image, message, keep_alpha):
    with pytest.raises(ValueError, match=message) as error:
        to_tensors(image, keep_alpha)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("photo.png", f"got str: {READ_IT}"),
        (Path("photo.png"), f"got .*Path: {READ_IT}"),
        (b"\x89PNG", f"got bytes: {READ_IT}"),
        (None, "got NoneType"),
        (5, "got int"),
        ([RGB, "photo.png"], "got str"),
        ([[RGB], [RGB]], "got list"),
        ((one for one in [RGB]), "got generator"),
        ({"image": RGB}, "got dict"),
    ],
)
def test_types_that_are_refused(image, message):
    with pytest.raises(TypeError, match=message):
        to_tensors(image)
