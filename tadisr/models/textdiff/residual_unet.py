"""Mask-guided residual diffusion (MRD): the U-Net f_theta that predicts the residual x0 = x_gt - x_sr.

Letters: N batch, C channels of a level, H, W pixels of the SR image.
"""

from collections.abc import Sequence
from itertools import pairwise, zip_longest
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import nn


class GatedConv(nn.Module):
    """`LeakyReLU_0.2(a) * sigmoid(b)`, a and b the halves of one dilated 3x3 convolution: the gate picks out text."""

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, 2 * outputs, 3, padding=dilation, dilation=dilation)
        weight, bias = self.conv.parameters()
        nn.init.kaiming_normal_(weight, a=0.2)
        nn.init.zeros_(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = self.conv(x).chunk(2, dim=1)
        return F.leaky_relu(value, 0.2) * gate.sigmoid()


class _Resnet(ResnetBlock2D):
    """A residual block. A time step that all images share goes into the first convolution's bias.

    On a CPU, adding the time step to the maps takes as long as their normalisation.
    """

    time_emb_proj: nn.Linear

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        if len(time) > 1:
            return super().forward(x, time)
        in_place = not torch.is_grad_enabled()
        bias = self.conv1.bias + self.time_emb_proj(F.silu(time))[0]
        hidden = F.silu(self.norm1(x), inplace=in_place)
        hidden = F.conv2d(hidden, self.conv1.weight, bias, padding=1)
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden), inplace=in_place)))
        return hidden + (x if self.conv_shortcut is None else self.conv_shortcut(x))


class _Block(nn.Module):
    """A residual block with the time step and dropout, then self-attention or nothing.

    (N, inputs, H', W') to (N, C, H', W').
    """

    def __init__(self, inputs: int, channels: int, time_channels: int, groups: int, dropout: float, attention: bool):
        super().__init__()
        self.resnet = _Resnet(
            in_channels=inputs, out_channels=channels, temb_channels=time_channels, groups=groups, dropout=dropout
        )
        self.attention = None
        if attention:
            heads = max(1, channels // 64)
            self.attention = Attention(
                channels,
                heads=heads,
                dim_head=channels // heads,
                norm_num_groups=groups,
                bias=True,
                residual_connection=True,
            )

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        x = self.resnet(x, time)
        return x if self.attention is None else self.attention(x)


class ResidualUNet(ModelMixin, ConfigMixin):
    """f_theta(x_t, t, x_sr, x_m): the noisy residual beside the coarse image and the text mask, at any size.

    There is one residual block per level on the way down and one on the way up. At the bottom the mask is joined in
    again, gated dilated convolutions follow, and their result is added to their input. Sides are padded to multiples of
    the deepest level's pixel.

    Args:
        block_out_channels: widths, multiples of `norm_groups`; every level has half the size of the level before.
        attention_from: first level with self-attention. The paper does not name the levels. At full size each of 4096
            pixels would attend to 4096, which takes longer than all other layers together.
        mask: False: no mask is read (Table 3's ablation).
    """

    config: Any  # diffusers declares a dict, but its items are attributes, too

    @register_to_config
    def __init__(
        self,
        block_out_channels: Sequence[int] = (64, 128, 256, 256),
        dropout: float = 0.1,
        attention: bool = True,
        attention_from: int = 2,
        mask: bool = True,
        dilations: Sequence[int] = (2, 4, 8, 16),
        norm_groups: int = 8,
    ):
        super().__init__()
        widths = list(block_out_channels)
        if not widths or any(width % norm_groups for width in widths):
            raise ValueError(f"Each of block_out_channels {widths} must be a multiple of norm_groups={norm_groups}.")
        first, last = widths[0], widths[-1]
        self.time_code = Timesteps(first, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(first, 4 * first)

        def block(inputs: int, level: int) -> _Block:
            attends = attention and level >= attention_from
            return _Block(inputs, widths[level], 4 * first, norm_groups, dropout, attends)

        levels = range(len(widths))
        self.conv_in = nn.Conv2d(7 if mask else 6, first, 3, padding=1)
        self.down_blocks = nn.ModuleList(block(widths[max(level - 1, 0)], level) for level in levels)
        self.downsamplers = nn.ModuleList(nn.Conv2d(width, width, 3, stride=2, padding=1) for width in widths[:-1])
        self.gated_convs = nn.Sequential(
            *(GatedConv(last + (mask and i == 0), last, dilation) for i, dilation in enumerate(dilations))
        )
        # The lowest block has no skip connection: it reads the bottom's own maps.
        self.up_blocks = nn.ModuleList(
            block(widths[level] * (1 if level == levels[-1] else 2), level) for level in levels
        )
        self.upsamplers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(below, width, 1), nn.Upsample(scale_factor=2)) for width, below in pairwise(widths)
        )
        self.conv_out = nn.Sequential(nn.GroupNorm(norm_groups, first), nn.SiLU(), nn.Conv2d(first, 3, 3, padding=1))
        for parameter in self.conv_out[2].parameters():
            nn.init.zeros_(parameter)

    def forward(
        self, residual: torch.Tensor, timestep: int | torch.Tensor, sr: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Predict the clean residual (N, 3, H, W), or the noise in it, as the scheduler's `prediction_type` says.

        Args:
            residual: x_t (N, 3, H, W), the noisy residual; a clean one is in [-1, 1].
            timestep: 0 to 199, one for all images, or (N,).
            sr: the coarse image x_sr (N, 3, H, W) in [0, 1].
            mask: text probability x_m (N, 1, H, W); None if this U-Net reads no mask.
        """
        if sr.ndim != 4 or sr.shape[1] != 3 or not sr.numel() or residual.shape != sr.shape:
            raise ValueError(
                "Expected a residual and an image (N, 3, H, W), N, H and W at least 1, got "
                f"{tuple(residual.shape)} and {tuple(sr.shape)}."
            )
        if (mask is not None) != self.config.mask:
            raise ValueError(
                "This U-Net reads a mask: pass one." if self.config.mask else "This U-Net was built without a mask."
            )
        if mask is not None and mask.shape != sr[:, :1].shape:
            raise ValueError(f"Expected a mask {tuple(sr[:, :1].shape)}, got {tuple(mask.shape)}.")
        height, width = sr.shape[2:]
        multiple = 2 ** len(self.downsamplers)
        x = torch.cat([residual, sr] if mask is None else [residual, sr, mask], dim=1)
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        mask = None if mask is None else x[:, 6:]

        timestep = torch.atleast_1d(torch.as_tensor(timestep, device=x.device))
        time = self.time_embedding(self.time_code(timestep).to(x.dtype))  # (1 or N, 4C)
        x = self.conv_in(x)
        skips = []
        for block, downsample in zip_longest(self.down_blocks, self.downsamplers):
            x = block(x, time)
            if downsample is not None:
                skips.append(x)
                x = downsample(x)
        joined = x if mask is None else torch.cat([x, F.adaptive_avg_pool2d(mask, x.shape[2:])], dim=1)
        x = self.up_blocks[-1](x + self.gated_convs(joined), time)
        for block, upsample in zip(reversed(self.up_blocks[:-1]), reversed(self.upsamplers), strict=True):
            x = block(torch.cat([upsample(x), skips.pop()], dim=1), time)
        return self.conv_out(x)[..., :height, :width]
