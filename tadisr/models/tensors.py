"""Images as tensors: `tadisr.arrays` for whoever computes by torch."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from tadisr import arrays
from tadisr.arrays import CHANNELS, type_advice

OUTPUT_TYPES = ("pil", "uint8", "np", "pt")
Generators = torch.Generator | Sequence[torch.Generator] | None


def upsample(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic upscaling as Pillow does it (a = -0.5): (B, C, H, W) to (B, C, scale H, scale W), not clamped."""
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)


def to_tensors(
    image: Image.Image | np.ndarray | torch.Tensor | Sequence, keep_alpha: bool = False
) -> list[torch.Tensor]:
    """Whatever a pipeline takes, as float32 CPU tensors in [0, 1], (1, 3, H, W), or (1, 4, H, W) with straight alpha.

    As `tadisr.arrays.to_planes`; also tensors, a batch of which gives several.

    Raises:
        TypeError, ValueError: what the input is, what was expected, and what to do.
    """
    planes = []
    for one in image if isinstance(image, (list, tuple)) and image else [image]:
        if isinstance(one, torch.Tensor):
            planes += arrays.normalized(_checked_tensor(one).numpy(), keep_alpha)
        else:
            planes += arrays.to_planes(one if one is image else [one], keep_alpha)
    return [torch.from_numpy(one) for one in planes]


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
        raise ValueError(f"Expected a uint8 tensor or floats in [0, 1], got {name}{type_advice(name)}.")
    tensor = tensor.detach().cpu()
    return tensor if tensor.dtype == torch.uint8 else tensor.float()


def to_images(image: torch.Tensor, output_type: str, alpha: float | None = None) -> list:
    """(B, C, H, W) float in [0, 1] to a list of PIL images, uint8 arrays, float arrays or tensors; 1, 3 or 4 channels.

    `alpha`: what to append as a further channel, the same everywhere.
    """
    if output_type != "pt":
        return arrays.to_images(image.numpy(), output_type, alpha)
    return list(image if alpha is None else torch.cat([image, torch.full_like(image[:, :1], alpha)], dim=1))


def as_batch(images: list, output_type: str) -> Any:
    """As `tadisr.arrays.as_batch`; for "pt" one tensor (B, 3, H, W)."""
    if output_type == "pt" and len({image.shape for image in images}) == 1:
        return images[0][None] if len(images) == 1 else torch.stack(images)  # one without a copy
    return arrays.as_batch(images, output_type)


def fix_color(image: torch.Tensor, lr: torch.Tensor, method: str) -> None:
    """As `tadisr.arrays.fix_color`, in place."""
    arrays.fix_color(image.numpy(), lr.numpy(), method)


def to_layers(image: torch.Tensor) -> torch.Tensor:
    """As `tadisr.arrays.to_layers`."""
    return image if image.shape[1] == 3 else torch.from_numpy(arrays.to_layers(image.numpy()))


def fix_alpha(restored: torch.Tensor, image: torch.Tensor) -> float | None:
    """As `tadisr.arrays.fix_alpha`; `restored` is changed in place."""
    return arrays.fix_alpha(restored.numpy(), image.numpy())


def on_arrays(
    function: Callable[[torch.Tensor], Sequence[torch.Tensor]], device: torch.device | str
) -> Callable[[np.ndarray], list[np.ndarray]]:
    """`function` of tensors on `device`, as one from an array to float32 arrays, such as `run_tiled` takes."""

    def apply(array: np.ndarray) -> list[np.ndarray]:
        return [result.float().cpu().numpy() for result in function(torch.from_numpy(array).to(device))]

    return apply
