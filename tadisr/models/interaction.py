"""The blocks that link the image and the mask decoder (paper 3.3, Eq. 6, Fig. 2 right), as published and as released.

Shapes: B batch, C channels, H', W' the size at one level of the decoders.
"""

from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn

from tadisr.models.inference_layers import activated, may_overwrite, run_resnet

INTERACTIONS = ("cdib", "cdib_ca_shared", "mugi_shared")


def interaction_block(
    kind: str, channels: int, groups: int = 32, resblocks: int = 1, mask_channels: int | None = None
) -> nn.Module:
    """The block of that name, which maps (image, mask), both (B, C, H', W'), to the same.

    With "cdib" the mask may have a width of its own, `mask_channels`.

    "cdib": the paper's, with so many `resblocks` in each branch; the paper's figure can be read as one or as two.
    "cdib_ca_shared": the authors' CogView4 release, with channel attention and one set of weights for both streams.
    "mugi_shared": their Kolors release. An untrained block of any kind is the identity.
    """
    if kind == "cdib":
        return CrossDecoderInteractionBlock(channels, groups, resblocks=resblocks, mask_channels=mask_channels)
    if kind == "cdib_ca_shared":
        return CrossDecoderInteractionBlock(channels, groups, shared=True, channel_attention=True, out_eps=1e-5)
    if kind == "mugi_shared":
        return MutualGateInteractionBlock(channels)
    raise ValueError(f"interaction must be one of {', '.join(INTERACTIONS)}, got {kind!r}.")


class ChannelAttention(nn.Module):
    """`x * W avg(x)`: each channel is weighted by a linear function of all channels' averages over the image."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.conv(x.mean(dim=(2, 3), keepdim=True))


class _Residual(nn.Module):
    """Adds an update to one stream, by a scale for each channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, stream: torch.Tensor, update: torch.Tensor) -> torch.Tensor:
        # Within this module: offloaded weights are on the device only while their own `forward` runs.
        return torch.addcmul(stream, self.scale, update, out=update if may_overwrite(update) else None)


class _Branch(_Residual):
    """One stream's half of the block: everything but the exchange."""

    def __init__(self, channels: int, gated: int, groups: int, channel_attention: bool, out_eps: float, resblocks: int):
        super().__init__(channels)
        self.widths = [channels, gated]  # of the value, and of the gate for the other stream
        self.resnet, *more = (
            ResnetBlock2D(in_channels=channels, temb_channels=cast(Any, None), groups=groups, eps=1e-6)
            for _ in range(resblocks)
        )
        self.more_resnets = nn.ModuleList(more)
        self.split = nn.Conv2d(channels, channels + gated, 1)
        self.attention = ChannelAttention(channels) if channel_attention else nn.Identity()
        self.out = nn.Sequential(
            nn.GroupNorm(groups, channels, eps=out_eps), nn.SiLU(), nn.Conv2d(channels, channels, 1)
        )

    def value_and_gate(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        for resnet in (self.resnet, *self.more_resnets):
            x = run_resnet(resnet, x)
        value, gate = self.split(x).split(self.widths, dim=1)
        return value, gate

    def update(self, gated: torch.Tensor) -> torch.Tensor:
        norm, activation, conv = self.out
        return conv(activated(norm, activation, self.attention(gated)))


class CrossDecoderInteractionBlock(nn.Module):
    r"""`z^i, a^i = CDIB^i(z^{i-1}, a^{i-1})` (Eq. 6).

    Each branch has ResBlocks, one by default, and a 1x1 convolution to twice the channels. One half goes on; the other
    half, through a sigmoid, gates the *other* branch. GroupNorm, SiLU, a 1x1 convolution and a residual connection
    follow. The scale of the residual connection starts at zero, so that an untrained block is the identity. With
    `shared` both streams use the image branch's weights, and each has its own scale. Channel attention is before the
    last GroupNorm.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        shared: bool = False,
        channel_attention: bool = False,
        out_eps: float = 1e-6,
        resblocks: int = 1,
        mask_channels: int | None = None,
    ):
        super().__init__()
        how = (groups, channel_attention, out_eps, resblocks)
        mask_channels = mask_channels or channels
        self.image = _Branch(channels, mask_channels, *how)
        self.mask = _Residual(channels) if shared else _Branch(mask_channels, channels, *how)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask_branch = self.mask if isinstance(self.mask, _Branch) else self.image
        image_value, image_gate = self.image.value_and_gate(image)
        mask_value, mask_gate = mask_branch.value_and_gate(mask)
        return (
            self.image(image, self.image.update(image_value * _sigmoid(mask_gate))),
            self.mask(mask, mask_branch.update(mask_value * _sigmoid(image_gate))),
        )


class ChannelLayerNorm(nn.LayerNorm):
    """Layer normalisation over the channels of (B, C, H', W'), at each place by itself."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class MutualGateInteractionBlock(nn.Module):
    """The authors' Kolors release: the image gates the mask, twice, and stays as it is.

    In the release both streams go through the same layers, whose output is half a value and half a gate for the other
    stream, and the image's update is multiplied by zero. Only the mask's values and the image's gates have an effect,
    and only these are computed. Each gated product goes through channel attention (the first time) and a 1x1
    convolution, and is added to the mask by a scale that starts at zero.
    """

    def __init__(self, channels: int):
        super().__init__()

        def half() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
            )

        self.norm1 = ChannelLayerNorm(channels, eps=1e-6)
        self.value1, self.gate1 = half(), half()
        self.attention = ChannelAttention(channels)
        self.out1 = nn.Conv2d(channels, channels, 1)
        self.norm2 = ChannelLayerNorm(channels, eps=1e-6)
        self.value2, self.gate2 = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.out2 = nn.Conv2d(channels, channels, 1)
        self.first, self.second = _Residual(channels), _Residual(channels)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gated = self.value1(self.norm1(mask)) * self.gate1(self.norm1(image))
        mask = self.first(mask, self.out1(self.attention(gated)))
        gated = self.value2(self.norm2(mask)) * self.gate2(self.norm2(image))
        return image, self.second(mask, self.out2(gated))


def _sigmoid(x: torch.Tensor) -> torch.Tensor:
    return x.sigmoid_() if may_overwrite(x) else x.sigmoid()
