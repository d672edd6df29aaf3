"""Images as plain arrays: conversion, size, colour; the same for every runtime.

Planes are channels first, (B, C, h, w) float32 in [0, 1], B images of C channels: RGB, and straight alpha.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from tadisr.io.images import to_arrays
from tadisr.transparency import bleed, seen, settle

COLOR_FIXES = ("none", "wavelet", "adain")
CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, RGB, RGB and alpha


def to_planes(image: Image.Image | np.ndarray | Sequence, keep_alpha: bool = False) -> list[np.ndarray]:
    """Whatever a pipeline takes, as planes (1, 3, h, w), or (1, 4, h, w) with straight alpha.

    PIL images as `tadisr upscale` reads their files. Gray becomes RGB. Without `keep_alpha`, what is transparent is
    laid on white, or on the ground that shows it better.

    Raises:
        TypeError, ValueError: what the input is, what was expected, and what to do.
    """
    if isinstance(image, (list, tuple)):
        if not image:
            raise ValueError("Expected at least one image, got an empty list.")
        return [planes for item in image for planes in _to_planes(item, keep_alpha)]
    return _to_planes(image, keep_alpha)


def _to_planes(image: Any, keep_alpha: bool) -> list[np.ndarray]:
    """One image, or an array that is a batch."""
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"Expected an image that holds pixels, got {image.width} x {image.height}.")
        rgb, alpha = to_arrays(image)
        image = rgb if alpha is None else np.dstack([rgb, alpha])
    if not isinstance(image, np.ndarray):
        advice = ": open the file first, with PIL.Image.open" if isinstance(image, (str, bytes, os.PathLike)) else ""
        raise TypeError(
            f"Expected a PIL image, an array, a tensor or a list of those, got {type(image).__name__}{advice}."
        )
    return normalized(from_array(image), keep_alpha)


def from_array(array: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, C) or (B, H, W, C) to a copy (B, C, H, W), of the same values, uint8 or float32."""
    given = array.shape
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim == 3:
        array = array[None]
    if array.ndim != 4 or array.shape[3] not in CHANNELS or 0 in array.shape:
        advice = ""
        if array.ndim == 4 and array.shape[1] in CHANNELS and 0 not in array.shape:
            order = "1, 2, 0" if len(given) == 3 else "0, 2, 3, 1"
            advice = f": its channels come first, so transpose it, array.transpose({order}), or give it as a tensor"
        raise ValueError(f"Expected an array (H, W), (H, W, 3), (H, W, 4) or a batch of those, got {given}{advice}.")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"Expected a uint8 array or floats in [0, 1], got {array.dtype}{type_advice(array.dtype)}.")
    with np.errstate(all="ignore"):  # what float32 does not hold becomes infinite, and is refused as that
        array = np.array(array, array.dtype if array.dtype == np.uint8 else np.float32)  # a copy, in the usual layout
    return array.transpose(0, 3, 1, 2)


def normalized(image: np.ndarray, keep_alpha: bool) -> list[np.ndarray]:
    """(B, C, H, W) uint8 or float32 to B planes (1, 3 or 4, H, W), see `to_planes`."""
    if image.dtype == np.uint8:
        image = image.astype(np.float32) / np.float32(255)
    else:
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # both are false where a value is not a number
            raise ValueError(f"Expected values in [0, 1], got {low:.3g} to {high:.3g}: {_range_advice(low, high)}.")
    if image.shape[1] < 3:
        image = np.concatenate([image[:, :1].repeat(3, axis=1), image[:, 1:]], axis=1)
    if image.shape[1] == 4 and not keep_alpha:
        image = np.stack([seen(one.transpose(1, 2, 0))[0].transpose(2, 0, 1) for one in image])
    return [np.ascontiguousarray(one)[None] for one in image]


def type_advice(dtype: np.dtype | str) -> str:
    """How to convert numbers of that type; "" if nothing but the person who made them knows."""
    if str(dtype) == "bool":
        return ": multiply by 255 and convert to uint8"
    if str(dtype).startswith("uint"):
        return ": divide by the value of white, which is 65535 if all 16 bits are used"
    return ": convert to uint8 if the values are 0 to 255" if str(dtype).startswith("int") else ""


def _range_advice(low: float, high: float) -> str:
    """What to do with floats from `low` to `high`."""
    if not np.isfinite([low, high]).all():
        return "replace those that are not finite"
    if low >= -0.1 and high <= 1.1:
        return "resampling may overshoot, so clip them to 0 and 1"
    if low >= -1.1 and high <= 1.1:
        return "if they are in [-1, 1], take x / 2 + 0.5"
    return "divide by 255 if white is 255" if low >= 0 and high <= 255 else "scale them so that black is 0 and white 1"


def resize(planes: np.ndarray, size: Sequence[int], how: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """(B, C, h, w) to (B, C, *size) float32, channel by channel by Pillow: with antialiasing, not clamped."""
    height, width = size
    out = np.empty((*planes.shape[:2], height, width), np.float32)
    for place in np.ndindex(planes.shape[:2]):
        plane = Image.fromarray(np.ascontiguousarray(planes[place], np.float32))
        out[place] = np.asarray(plane.resize((width, height), how))
    return out


def fix_color(image: np.ndarray, lr: np.ndarray, method: str) -> None:
    """Bring the colours of a restored image back to its input's, in place, clamped to [0, 1].

    image (1, 3, H, W), lr (1, 3, h, w). "wavelet" exchanges the low frequencies (below about 1/16 of the LR sampling
    rate), "adain" each channel's mean and deviation. Both measure at LR size, so they cost nothing at full size.
    """
    if method == "none":
        return
    small = resize(image, lr.shape[2:], Image.Resampling.BOX)
    if method == "adain":
        for channel, have, want in zip(image[0], small[0], lr[0], strict=True):
            channel -= have.mean()
            channel *= want.std() / max(have.std(), 1e-4)
            channel += want.mean()
    else:
        drift = lr - small
        for hole in (1, 2, 4, 8):  # the low-pass half of an a-trous wavelet transform
            for axis in (2, 3):
                width = [(0, 0)] * 4
                width[axis] = (hole, hole)
                padded, length = np.pad(drift, width, mode="edge"), drift.shape[axis]
                before, middle, after = (padded.take(range(i, i + length), axis) for i in (0, hole, 2 * hole))
                drift = 0.25 * before + 0.5 * middle + 0.25 * after
        for channel, change in zip(image[0], drift[0], strict=True):
            channel += resize(change[None, None], image.shape[2:], Image.Resampling.BILINEAR)[0, 0]
    np.clip(image, 0, 1, out=image)


def to_layers(image: np.ndarray) -> np.ndarray:
    """What of (1, 3 or 4, h, w) is to be restored: colours, and alpha where it is not the same everywhere.

    Colours are then continued below what is invisible, and alpha reaches 1, so that faint text is as clear as any.
    `fix_alpha` is for the result.
    """
    if image.shape[1] == 3:
        return image
    rgb, alpha = image[0, :3].transpose(1, 2, 0), image[0, 3]
    most = alpha.max()
    if most == alpha.min() > 0:
        return image[:, :3]
    return np.concatenate([bleed(rgb, alpha).transpose(2, 0, 1), image[0, 3:] / (most or 1)])[None]


def fix_alpha(restored: np.ndarray, image: np.ndarray) -> float | None:
    """Bring the alpha of `restored`, which came from `to_layers(image)`, back to its range, exact where it is flat.

    restored (1, 3 or 4, H, W) is changed in place; image (1, 3 or 4, h, w). Returns the alpha of an image that has the
    same everywhere, and so lacks that layer; else None.
    """
    if image.shape[1] == 3:
        return None
    alpha = image[0, 3]
    if restored.shape[1] == 3:
        return float(alpha[0, 0])
    restored[0, 3] *= alpha.max()
    settle(restored[0, 3], alpha)
    return None


def to_images(planes: np.ndarray, output_type: str, alpha: float | None = None) -> list:
    """(B, C, H, W) floats in [0, 1] to a list of PIL images, or arrays (H, W, C) uint8 or float32; (H, W) for C = 1.

    `alpha`: what to append as a further channel, the same everywhere.
    """
    if output_type == "np":
        if alpha is not None:
            planes = np.concatenate([planes, np.full_like(planes[:, :1], alpha)], axis=1)
        return [_squeezed(one.transpose(1, 2, 0)) for one in planes]
    images = []
    for one in planes:  # channel by channel: a float copy of a large image would double the peak memory
        pixels = np.empty((*one.shape[1:], len(one) + (alpha is not None)), np.uint8)
        for channel, source in enumerate(one):
            pixels[..., channel] = np.rint(source * np.float32(255))
        if alpha is not None:
            pixels[..., -1] = round(alpha * 255)
        images.append(_squeezed(pixels))
    return images if output_type == "uint8" else [Image.fromarray(x) for x in images]


def as_batch(images: list, output_type: str) -> Any:
    """What `to_images` made of several images, in one array (B, H, W, 3) for "np".

    As it is, a list, for other types, and where not all are of one shape.
    """
    if output_type != "np" or len({image.shape for image in images}) != 1:
        return images
    return images[0][None] if len(images) == 1 else np.stack(images)  # one without a copy


def _squeezed(array: np.ndarray) -> np.ndarray:
    return array[..., 0] if array.shape[2] == 1 else array
