"""The mask prompt: where a person says that text is, or is none, as two more inputs of the joint decoder.

Shapes: B batch, H, W pixels, h, w latent size.
"""

import torch
from torch import nn
from torch.nn.functional import pixel_unshuffle, silu

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
