"""The mask prompt: where a person says that text is, or is none, as two more inputs of the joint decoder.

Shapes: B batch, H, W pixels, h, w latent size.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.functional import interpolate, pixel_unshuffle, silu

from tadisr.models.tensors import to_tensors

NO_PROMPTS = "The model takes no mask prompt: train one with mask_prompt: true."
_LEAST_WIDTH = 64


def to_prompts(text_mask: Any, sizes: Sequence[Sequence[int]], factor: int) -> list[torch.Tensor]:
    """A person's masks of images of those LR `sizes` (h, w), as prompts (1, 2, factor h, factor w) on the CPU.

    `text_mask`: images as `to_tensors` takes them, one for each size. White is text, black is none, and where alpha is
    less than half the network decides. Each is of the size of its image, or of any size of the same aspect.

    Raises:
        ValueError, TypeError: another number of masks, of another aspect, or no images.
    """
    masks = to_tensors(text_mask, keep_alpha=True)
    if len(masks) != len(sizes):
        raise ValueError(f"Expected one text_mask for each of {len(sizes)} images, got {len(masks)}.")
    prompts = []
    for mask, (height, width) in zip(masks, sizes, strict=True):
        rows, columns = mask.shape[-2:]
        if abs(rows * width / height - columns) > 1 and abs(columns * height / width - rows) > 1:
            raise ValueError(
                f"A text_mask of {columns}x{rows} pixels does not fit an image of {width}x{height}: make it as large "
                "as the image, or as its output."
            )
        given = (mask[:, 3:] > 0.5).float() if mask.shape[1] == 4 else torch.ones_like(mask[:, :1])
        prompt = torch.cat([mask[:, :3].mean(1, keepdim=True) * given, given], 1)
        size = (height * factor, width * factor)
        if prompt.shape[-2:] != size:
            drawn, share = interpolate(prompt, size, mode="bilinear", antialias=True).split(1, 1)
            given = (share >= 0.5).float()
            prompt = torch.cat([(drawn / share.clamp_min(0.5)).clamp(0, 1) * given, given], 1)
        prompts.append(prompt)
    return prompts


class MaskPromptEncoder(nn.Module):
    """A prompt (B, 2, H, W) to what it adds to the first features of the image stream and of the mask stream.

    Channel 0 of a prompt is the mask in [0, 1] where it is given and 0 elsewhere, channel 1 is 1 where it is given and
    0 where the network decides. There are no biases: a prompt of zeros adds exactly nothing. The last convolutions
    start at zero: an untrained encoder changes nothing. Features are reached up to two latents away from the prompt.

    It is added behind each decoder's first convolution and not to the latents: a latent of Stable Diffusion has 4
    channels for the 64 pixels of a prompt.

    Args:
        factor: pixels per latent along each side.
        image_width, mask_width: channels of the two streams' first features; no mask_width: there is one stream yet.
    """

    def __init__(self, factor: int, image_width: int, mask_width: int | None):
        super().__init__()
        self.factor = factor
        width = max(_LEAST_WIDTH, 2 * factor**2)
        self.conv_in = nn.Conv2d(2 * factor**2, width, 3, padding=1, bias=False)
        self.to_image = nn.Conv2d(width, image_width, 3, padding=1, bias=False)
        self.to_mask = nn.Conv2d(width, mask_width, 3, padding=1, bias=False) if mask_width else None
        for last in filter(None, (self.to_image, self.to_mask)):
            nn.init.zeros_(last.weight)

    def forward(self, prompt: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """What to add, (B, image_width, h, w) and (B, mask_width, h, w)."""
        features = silu(self.conv_in(pixel_unshuffle(prompt, self.factor)))
        return self.to_image(features), None if self.to_mask is None else self.to_mask(features)
