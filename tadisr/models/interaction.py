"""Cross-decoder interaction block (paper 3.3, Eq. 6, Fig. 2 right)."""

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


class _Branch(nn.Module):
    """One stream's half of the block: everything but the exchange."""

    def __init__(self, channels: int, groups: int):
        super().__init__()
        self.resnet = ResnetBlock2D(in_channels=channels, temb_channels=None, groups=groups, eps=1e-6)
        self.split = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Sequential(nn.GroupNorm(groups, channels, eps=1e-6), nn.SiLU(), nn.Conv2d(channels, channels, 1))
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))


class CrossDecoderInteractionBlock(nn.Module):
    r"""`z^i, a^i = CDIB^i(z^{i-1}, a^{i-1})` (Eq. 6).

    In each branch a ResBlock and a 1x1 convolution to twice the channels; one half goes on, the other, through a
    sigmoid, gates the *other* branch; then GroupNorm, SiLU, a 1x1 convolution and a residual connection whose scale
    starts at zero, so that an untrained block is the identity.
    """

    def __init__(self, channels: int, groups: int = 32):
        super().__init__()
        self.image = _Branch(channels, groups)
        self.mask = _Branch(channels, groups)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Image and mask features, both (B, C, H', W'), to the same."""
        image_value, image_gate = self.image.split(self.image.resnet(image, None)).chunk(2, dim=1)
        mask_value, mask_gate = self.mask.split(self.mask.resnet(mask, None)).chunk(2, dim=1)
        return (
            torch.addcmul(image, self.image.scale, self.image.out(image_value * mask_gate.sigmoid())),
            torch.addcmul(mask, self.mask.scale, self.mask.out(mask_value * image_gate.sigmoid())),
        )
