"""The mask prompt: where a person says that text is, or is none, as two more inputs of the joint decoder.

Shapes: B batch, H, W pixels, h, w latent size, C, M channels of the image stream and of the mask stream.
"""

from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from tadisr.models.inference_layers import run_resnet

_LEAST_WIDTH = 64


class MaskPromptEncoder(nn.Module):
    """A prompt (B, 2, H, W) to what it adds to the first features of the image stream and of the mask stream.

    `tadisr.text_masks.to_prompts` says what a prompt is. There are no biases: a prompt of zeros adds exactly nothing.
    The last convolutions start at zero: an untrained encoder changes nothing. Features are reached up to two latents
    away from the prompt.

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
        """What to add, (B, image_width, h, w) and (B, mask_width, h, w).

        A prompt may also have its pixels as channels already, (B, 2 factor², h, w).
        """
        if prompt.shape[1] == 2:
            prompt = pixel_unshuffle(prompt, self.factor)
        features = silu(self.conv_in(prompt))
        return self.to_image(features), None if self.to_mask is None else self.to_mask(features)


class MaskPromptFollower(nn.Module):
    """Draws what a prompt says into the last features of the image stream.

    An image stream that was trained without prompts knows the strokes from the LR image, and heeds a prompt little.
    These ResBlocks see both, and only they. What they add is cut off where no prompt is given: so they can be trained
    with all other weights frozen, and results without a prompt stay as they are.

    Args:
        factor: pixels per latent along each side: prompts may come with their pixels as channels.
        patch: pixels per feature along each side.
        width, mask_width: C and M of the last features.
        blocks: the number of ResBlocks.
        groups: of their normalisation.
    """

    def __init__(self, factor: int, patch: int, width: int, mask_width: int, blocks: int, groups: int):
        super().__init__()
        self.factor, self.patch = factor, patch
        self.conv_in = nn.Conv2d(width + mask_width + 2 * patch**2, width, 3, padding=1)
        self.resnets = nn.ModuleList(
            ResnetBlock2D(in_channels=width, temb_channels=cast(Any, None), groups=groups, eps=1e-6)
            for _ in range(blocks)
        )
        self.to_image = nn.Conv2d(width, width, 3, padding=1)
        for last in (self.to_image.weight, self.to_image.bias):
            nn.init.zeros_(cast(torch.Tensor, last))  # untrained it changes nothing

    def forward(self, image: torch.Tensor, mask: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        """The image's last features, (B, C, H / patch, W / patch), with the prompt drawn into them.

        Args:
            image, mask: the last features of the streams, (B, C, ...) and (B, M, ...).
            prompt: (B, 2, H, W), or with its pixels as channels, (B, 2 factor², h, w).
        """
        if prompt.shape[1] == 2:
            prompt = pixel_unshuffle(prompt, self.patch)
        elif self.factor != self.patch:
            prompt = pixel_unshuffle(pixel_shuffle(prompt, self.factor), self.patch)
        if torch.compiler.is_exporting():  # a graph takes prompts that are broadcast, and seldom any
            given = prompt[:, self.patch**2 :].max() > 0
            return torch.cond(given, self._drawn, lambda image, *_: image.clone(), (image, mask, prompt))
        return self._drawn(image, mask, prompt)

    def _drawn(self, image: torch.Tensor, mask: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
        prompt = prompt.expand(len(image), -1, *image.shape[2:])
        x = self.conv_in(torch.cat([image, mask, prompt], 1))
        for resnet in self.resnets:
            x = run_resnet(resnet, x)
        given = prompt[:, self.patch**2 :].amax(1, keepdim=True)
        return image + given * self.to_image(silu(x))
