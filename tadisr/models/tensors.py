"""Images as tensors: conversion, upscaling, colour."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tadisr.io.images import to_rgb

COLOR_FIXES = ("none", "wavelet", "adain")
OUTPUT_TYPES = ("pil", "uint8", "np", "pt")


def upsample(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic upscaling as Pillow does it (a = -0.5): (B, C, H, W) to (B, C, scale H, scale W), not clamped."""
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def to_tensors(image: Image.Image | np.ndarray | torch.Tensor | Sequence) -> list[torch.Tensor]:
    """Whatever the pipeline takes, as tensors (1, 3, H, W) in [0, 1]; PIL images as `tadisr upscale` reads their files.

    A TypeError or ValueError says what the input is and what was expected.
    """
    if isinstance(image, (list, tuple)):
        return [tensor for item in image for tensor in to_tensors(item)]
    if isinstance(image, Image.Image):
        image = to_rgb(image)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        if image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"Expected an array (H, W) or (H, W, 3), got {image.shape}.")
        if image.dtype != np.uint8 and not np.issubdtype(image.dtype, np.floating):
            raise ValueError(f"Expected a uint8 array or floats in [0, 1], got {image.dtype}.")
        image = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    if not isinstance(image, torch.Tensor):
        raise TypeError(f"Expected a PIL image, an array, a tensor or a list of those, got {type(image).__name__}.")
    image = image[None] if image.ndim == 3 else image
    if image.ndim != 4 or image.shape[1] != 3 or 0 in image.shape:
        raise ValueError(f"Expected a tensor (3, H, W) or (B, 3, H, W), got {tuple(image.shape)}.")
    if image.dtype == torch.uint8:
        return list((image.float() / 255).split(1))
    if not image.is_floating_point():
        raise ValueError(f"Expected a uint8 tensor or floats in [0, 1], got {image.dtype}.")
    if image.isnan().any() or image.min() < 0 or image.max() > 1:
        raise ValueError(f"Expected values in [0, 1], got {float(image.min()):.3g} to {float(image.max()):.3g}.")
    return list(image.split(1))


def to_images(image: torch.Tensor, output_type: str) -> list:
    """(B, 3, H, W) or (B, 1, H, W) float in [0, 1] to a list of PIL images, uint8 arrays, float arrays or tensors."""
    if output_type == "pt":
        return list(image)
    if output_type == "np":
        return [x.permute(1, 2, 0).squeeze(-1).numpy() for x in image]
    # channel by channel: a float copy of a large image would double the peak memory
    pixels = torch.empty(image.shape, dtype=torch.uint8)
    for source, target in zip(image.flatten(0, 1), pixels.flatten(0, 1), strict=True):
        target.copy_((source * 255).round_())
    arrays = [x.permute(1, 2, 0).squeeze(-1).contiguous().numpy() for x in pixels]
    return arrays if output_type == "uint8" else [Image.fromarray(x) for x in arrays]


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


def on_arrays(
    function: Callable[[torch.Tensor], Sequence[torch.Tensor]], device: torch.device | str
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """`function` of tensors on `device`, as one from an array to float32 arrays, such as `run_tiled` takes."""

    def apply(array: np.ndarray) -> list[np.ndarray]:
        return [result.float().cpu().numpy() for result in function(torch.from_numpy(array).to(device))]

    return apply
