"""Images as tensors: conversion, upscaling, colour."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tadisr.io.images import to_arrays
from tadisr.transparency import bleed, seen, settle

COLOR_FIXES = ("none", "wavelet", "adain")
OUTPUT_TYPES = ("pil", "uint8", "np", "pt")
Generators = torch.Generator | Sequence[torch.Generator] | None
CHANNELS = (1, 2, 3, 4)  # gray, gray and alpha, RGB, RGB and alpha


def upsample(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic upscaling as Pillow does it (a = -0.5): (B, C, H, W) to (B, C, scale H, scale W), not clamped."""
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def to_tensors(
    image: Image.Image | np.ndarray | torch.Tensor | Sequence, keep_alpha: bool = False
) -> list[torch.Tensor]:
    """Whatever a pipeline takes, as float32 CPU tensors in [0, 1], (1, 3, H, W), or (1, 4, H, W) with straight alpha.

    PIL images as `tadisr upscale` reads their files. Gray becomes RGB. Without `keep_alpha`, what is transparent is
    laid on white, or on the ground that shows it better.

    Raises:
        TypeError, ValueError: what the input is, what was expected, and what to do.
    """
    if isinstance(image, (list, tuple)):
        if not image:
            raise ValueError("Expected at least one image, got an empty list.")
        return [tensor for item in image for tensor in _to_tensors(item, keep_alpha)]
    return _to_tensors(image, keep_alpha)


def _to_tensors(image: Any, keep_alpha: bool) -> list[torch.Tensor]:
    """One image, or an array or a tensor that is a batch."""
    if isinstance(image, Image.Image):
        if 0 in image.size:
            raise ValueError(f"Expected an image that holds pixels, got {image.width} x {image.height}.")
        rgb, alpha = to_arrays(image)
        image = rgb if alpha is None else np.dstack([rgb, alpha])
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    elif isinstance(image, torch.Tensor):
        image = _checked_tensor(image)
    else:
        advice = ": open the file first, with PIL.Image.open" if isinstance(image, (str, bytes, os.PathLike)) else ""
        raise TypeError(
            f"Expected a PIL image, an array, a tensor or a list of those, got {type(image).__name__}{advice}."
        )
    if image.dtype == torch.uint8:
        image = image.float() / 255
    else:
        image = image.float()
        low, high = float(image.min()), float(image.max())
        if not (low >= 0 and high <= 1):  # both are false where a value is not a number
            raise ValueError(f"Expected values in [0, 1], got {low:.3g} to {high:.3g}: {_range_advice(low, high)}.")
    if image.shape[1] < 3:
        image = torch.cat([image[:, :1].expand(-1, 3, -1, -1), image[:, 1:]], dim=1)
    if image.shape[1] == 4 and not keep_alpha:
        image = torch.cat([_on_its_ground(one) for one in image])
    return list(image.split(1))


def _from_array(array: np.ndarray) -> torch.Tensor:
    """(H, W), (H, W, C) or (B, H, W, C) to (B, C, H, W), of the same values."""
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
        raise ValueError(f"Expected a uint8 array or floats in [0, 1], got {array.dtype}{_type_advice(array.dtype)}.")
    with np.errstate(all="ignore"):  # what float32 does not hold becomes infinite, and is refused as that
        array = np.array(array, array.dtype if array.dtype == np.uint8 else np.float32)  # a copy, in the usual layout
    return torch.from_numpy(array).permute(0, 3, 1, 2)


def _checked_tensor(tensor: torch.Tensor) -> torch.Tensor:
    """(H, W), (C, H, W) or (B, C, H, W) to (B, C, H, W), of the same values."""
    if tensor.layout != torch.strided or tensor.is_meta:
        raise ValueError("Expected a dense tensor that holds values: call to_dense() on a sparse one.")
    given = tuple(tensor.shape)
    tensor = tensor[(None,) * max(0, 4 - tensor.ndim)] if tensor.ndim > 1 else tensor
    if tensor.ndim != 4 or tensor.shape[1] not in CHANNELS or 0 in tensor.shape:
        advice = ""
        if tensor.ndim == 4 and tensor.shape[3] in CHANNELS and 0 not in tensor.shape:
            order = "2, 0, 1" if len(given) == 3 else "0, 3, 1, 2"
            advice = f": its channels come last, so permute it, tensor.permute({order}), or give it as an array"
        raise ValueError(f"Expected a tensor (3, H, W), (4, H, W) or a batch of those, got {given}{advice}.")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        name = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"Expected a uint8 tensor or floats in [0, 1], got {name}{_type_advice(name)}.")
    return tensor.detach().cpu()


def _type_advice(dtype: np.dtype | str) -> str:
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


def _on_its_ground(image: torch.Tensor) -> torch.Tensor:
    """(4, H, W) to (1, 3, H, W)."""
    (rgb,) = seen(image.permute(1, 2, 0).numpy())
    return torch.from_numpy(rgb).permute(2, 0, 1)[None]


def to_images(image: torch.Tensor, output_type: str, alpha: float | None = None) -> list:
    """(B, C, H, W) float in [0, 1] to a list of PIL images, uint8 arrays, float arrays or tensors; 1, 3 or 4 channels.

    `alpha`: what to append as a further channel, the same everywhere.
    """
    if output_type in ("pt", "np"):
        if alpha is not None:
            image = torch.cat([image, torch.full_like(image[:, :1], alpha)], dim=1)
        return list(image) if output_type == "pt" else [x.permute(1, 2, 0).squeeze(-1).numpy() for x in image]
    # channel by channel: a float copy of a large image would double the peak memory
    batch, channels, height, width = image.shape
    pixels = torch.empty((batch, channels + (alpha is not None), height, width), dtype=torch.uint8)
    for one, target in zip(image, pixels, strict=True):
        for source, plane in zip(one, target, strict=False):
            plane.copy_((source * 255).round_())
    if alpha is not None:
        pixels[:, -1] = round(alpha * 255)
    arrays = [x.permute(1, 2, 0).squeeze(-1).contiguous().numpy() for x in pixels]
    return arrays if output_type == "uint8" else [Image.fromarray(x) for x in arrays]


def as_batch(images: list, output_type: str) -> Any:
    """What `to_images` made of several images, in one array (B, H, W, 3) for "np", or one tensor (B, 3, H, W) for "pt".

    As it is, a list, for other types, and where not all are of one shape.
    """
    if output_type not in ("np", "pt") or len({image.shape for image in images}) != 1:
        return images
    if len(images) == 1:  # without a copy
        return images[0][None]
    return torch.stack(images) if output_type == "pt" else np.stack(images)


def fix_color(image: torch.Tensor, lr: torch.Tensor, method: str) -> None:
    """Bring the colours of a restored image back to its input's, in place, clamped to [0, 1].

    image (1, 3, H, W), lr (1, 3, h, w). "wavelet" exchanges the low frequencies (below about 1/16 of the LR sampling
    rate), "adain" each channel's mean and deviation. Both measure at LR size, so they cost nothing at full size.
    """
    if method == "none":
        return
    small = F.interpolate(image, size=lr.shape[-2:], mode="area")
    if method == "adain":
        for channel, have, want in zip(image[0], small[0], lr[0], strict=True):
            gain = want.std(unbiased=False) / have.std(unbiased=False).clamp_min(1e-4)
            channel.sub_(have.mean()).mul_(gain).add_(want.mean()).clamp_(0, 1)
        return
    drift = lr - small
    binomial = drift.new_tensor([0.25, 0.5, 0.25])  # not of the default dtype, which a load elsewhere changes
    kernel = torch.outer(binomial, binomial).expand(3, 1, 3, 3)
    for hole in (1, 2, 4, 8):  # the low-pass half of an a-trous wavelet transform
        drift = F.conv2d(F.pad(drift, (hole,) * 4, mode="replicate"), kernel, dilation=hole, groups=3)
    for channel, change in zip(image.split(1, dim=1), drift.split(1, dim=1), strict=True):
        channel += F.interpolate(change, size=image.shape[-2:], mode="bilinear", align_corners=False)
    image.clamp_(0, 1)


def to_layers(image: torch.Tensor) -> torch.Tensor:
    """What of (1, 3 or 4, H, W) is to be restored: colours, and alpha where it is not the same everywhere.

    Colours are then continued below what is invisible, and alpha reaches 1, so that faint text is as clear as any.
    `fix_alpha` is for the result.
    """
    if image.shape[1] == 3:
        return image
    rgb, alpha = image[0, :3].permute(1, 2, 0).numpy(), image[0, 3].numpy()
    most = alpha.max()
    if most == alpha.min() > 0:
        return image[:, :3]
    rgb = torch.from_numpy(bleed(rgb, alpha)).permute(2, 0, 1)
    return torch.cat([rgb, image[0, 3:] / (most or 1)])[None]


def fix_alpha(restored: torch.Tensor, image: torch.Tensor) -> float | None:
    """Bring the alpha of `restored`, which came from `to_layers(image)`, back to its range, exact where it is flat.

    restored (1, 3 or 4, H, W) is changed in place; image (1, 3 or 4, h, w). Returns the alpha of an image that has the
    same everywhere, and so lacks that layer; else None.
    """
    if image.shape[1] == 3:
        return None
    alpha = image[0, 3].numpy()
    if restored.shape[1] == 3:
        return float(alpha[0, 0])
    settle(restored[0, 3].mul_(float(alpha.max())).numpy(), alpha)
    return None


def on_arrays(
    function: Callable[[torch.Tensor], Sequence[torch.Tensor]], device: torch.device | str
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """`function` of tensors on `device`, as one from an array to float32 arrays, such as `run_tiled` takes."""

    def apply(array: np.ndarray) -> list[np.ndarray]:
        return [result.float().cpu().numpy() for result in function(torch.from_numpy(array).to(device))]

    return apply
