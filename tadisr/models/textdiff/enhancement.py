"""Text enhancement module (TEM): the coarse super-resolved image (branch B_T) and the text mask (branch B_M).

Letters: N batch, C channels, T steps of the text prior, h, w pixels of the LR image, s scale.
"""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from tadisr.models.textdiff.interpreter import TextPriorInterpreter


def _haar_filters(x: torch.Tensor) -> torch.Tensor:
    """The four orthonormal 2x2 filters LL, LH, HL, HH, once for each channel of `x`: (4C, 1, 2, 2)."""
    low, high = x.new_tensor([1.0, 1.0]), x.new_tensor([1.0, -1.0])
    filters = torch.stack([torch.outer(rows, columns) for rows in (low, high) for columns in (low, high)]) / 2
    return filters.repeat(x.shape[1], 1, 1).unsqueeze(1)


def haar_analysis(x: torch.Tensor) -> torch.Tensor:
    """One level of the Haar wavelet transform, (N, C, h, w) to (N, 4C, h/2, w/2): each channel's LL, LH, HL, HH."""
    return F.conv2d(x, _haar_filters(x), stride=2, groups=x.shape[1])


def haar_synthesis(bands: torch.Tensor) -> torch.Tensor:
    """The inverse of `haar_analysis`: (N, 4C, h/2, w/2) to (N, C, h, w)."""
    filters = _haar_filters(bands[:, ::4])
    return F.conv_transpose2d(bands, filters, stride=2, groups=bands.shape[1] // 4)


class RecurrentLayer(nn.Module):
    """1x1 convolution, then a bidirectional GRU along rows or columns: (N, inputs, h, w) to (N, C, h, w).

    All rows (or columns) of all images are one batch of sequences for one call of the GRU.
    """

    def __init__(self, inputs: int, channels: int, axis: Literal["rows", "columns"]):
        super().__init__()
        self.project = nn.Conv2d(inputs, channels, 1)
        self.gru = nn.GRU(channels, channels // 2, bidirectional=True)
        self.order = (3, 0, 2, 1) if axis == "rows" else (2, 0, 3, 1)  # (w, N, h, C) or (h, N, w, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.project(x).permute(self.order)
        states, _ = self.gru(x.flatten(1, 2).to(next(self.gru.parameters()).dtype))  # (steps, sequences, C)
        states = states.view(x.shape).to(x.dtype)
        return states.permute(1, 3, 2, 0) if self.order[0] == 3 else states.permute(1, 3, 0, 2)


class SequentialResidualBlock(nn.Module):
    """TATT's SRB: two convolutions, the text prior joined in, a GRU down the columns and one along the rows.

    `y = rows(x + columns([convolutions(x), prior]))`, (N, C, h, w) with a prior map (N, d, h, w). TATT's activation is
    Mish; SiLU has the same shape at a tenth of the time on a CPU.
    """

    def __init__(self, channels: int, prior_channels: int):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        self.columns = RecurrentLayer(channels + prior_channels, channels, "columns")
        self.rows = RecurrentLayer(channels, channels, "rows")

    def forward(self, x: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        return self.rows(x + self.columns(torch.cat([self.convolutions(x), prior], dim=1)))


class DoubleSequentialResidualBlock(nn.Module):
    """DSRB: an SRB on the image and an SRB on its Haar wavelet bands, joined by a 1x1 convolution.

    The paper gives no more detail. Here the four bands of all channels are mixed to C channels for their SRB, so it
    costs a quarter of the spatial SRB, and unmixed before synthesis. The block adds to its input. h and w are even.
    """

    def __init__(self, channels: int, prior_channels: int):
        super().__init__()
        self.spatial = SequentialResidualBlock(channels, prior_channels)
        self.mix = nn.Conv2d(4 * channels, channels, 1)
        self.wavelet = SequentialResidualBlock(channels, prior_channels)
        self.unmix = nn.Conv2d(channels, 4 * channels, 1)
        self.fuse = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: torch.Tensor, prior: torch.Tensor, half_prior: torch.Tensor) -> torch.Tensor:
        """`x` (N, C, h, w), `prior` (N, d, h, w), `half_prior` (N, d, h/2, w/2) to (N, C, h, w)."""
        bands = self.wavelet(self.mix(haar_analysis(x)), half_prior)
        return x + self.fuse(torch.cat([self.spatial(x, prior), haar_synthesis(self.unmix(bands))], dim=1))


class SampleInception(nn.Module):
    """The stem: convolutions of size 5, 7, 9 and 11 in parallel, then 7x7, PReLU, 7x7; (N, 3, h, w) to (N, C, h, w)."""

    def __init__(self, channels: int):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, channels // 4, size, padding=size // 2) for size in (5, 7, 9, 11))
        self.join = nn.Sequential(
            nn.Conv2d(channels // 4 * 4, channels, 7, padding=3),
            nn.PReLU(),
            nn.Conv2d(channels, channels, 7, padding=3),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.join(torch.cat([branch(image) for branch in self.branches], dim=1))


def _mask_branch(inputs: int, channels: int, scale: int) -> nn.Sequential:
    """B_M, (N, inputs, h, w) to mask logits (N, 1, sh, sw).

    The paper's figure has two transposed convolutions, but one is enough to reach HR size: here the second one has
    stride 1. The figure's last sigmoid is applied by the losses and by callers.
    """
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.ConvTranspose2d(channels, channels, scale, stride=scale),
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.ConvTranspose2d(channels, channels, 3, padding=1),
        nn.Conv2d(channels, 1, 3, padding=1),
        nn.BatchNorm2d(1),
    )


class TextEnhancementModule(ModelMixin, ConfigMixin):
    """TEM: LR crops and their text prior to coarse SR crops and mask logits.

    The coarse image is the bicubic image plus a correction, which is zero before training: Eq. 1 compares gradients
    only and would leave colours to chance. Sides may have any length: an odd one is padded by its last row or column.
    `blocks` is the number of DSRBs, and `prior_channels` the width of the semantic map. Table 3's ablation has no
    `mask_branch`.
    """

    config: Any  # diffusers declares a dict, but its items are attributes, too
    _keep_in_fp32_modules = ["gru"]  # its steps are small and many: half precision is slower on CPUs, and less exact

    @register_to_config
    def __init__(
        self,
        channels: int = 64,
        blocks: int = 5,
        num_classes: int = 37,
        prior_channels: int = 64,
        heads: int = 4,
        scale: int = 2,
        mask_branch: bool = True,
        mask_channels: int = 32,
    ):
        super().__init__()
        if channels % 4 or prior_channels % (2 * heads):
            raise ValueError(
                f"channels={channels} must be a multiple of 4, and prior_channels={prior_channels} one of 2 x {heads} "
                "heads."
            )
        self.stem = SampleInception(channels)
        self.interpreter = TextPriorInterpreter(channels, num_classes, prior_channels, heads)
        self.residual_blocks = nn.ModuleList(
            DoubleSequentialResidualBlock(channels, prior_channels) for _ in range(blocks)
        )
        self.body = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.to_image = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(channels, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )
        for parameter in self.to_image[2].parameters():
            nn.init.zeros_(parameter)
        self.mask = _mask_branch(3 + channels, mask_channels, scale) if mask_branch else None

    def forward(self, lr: torch.Tensor, prior: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """LR crops (N, 3, h, w) in [0, 1] and probabilities (N, T, classes) to the coarse image and the mask.

        The image (N, 3, sh, sw) is near [0, 1] but not clamped. The mask, logits (N, 1, sh, sw), can be None.
        """
        if lr.ndim != 4 or lr.shape[1] != 3 or not lr.numel():
            raise ValueError(f"Expected RGB images (N, 3, h, w), N, h and w at least 1, got {tuple(lr.shape)}.")
        if prior.ndim != 3 or prior.shape[::2] != (lr.shape[0], self.config.num_classes):
            raise ValueError(
                f"Expected a text prior ({lr.shape[0]}, T, {self.config.num_classes}), got {tuple(prior.shape)}."
            )
        scale = self.config.scale
        height, width = scale * lr.shape[2], scale * lr.shape[3]
        lr = F.pad(lr, (0, lr.shape[3] % 2, 0, lr.shape[2] % 2), mode="replicate")  # wavelets need even sides

        stem = self.stem(lr)  # (N, C, h, w)
        semantics = self.interpreter(stem, prior.to(lr.dtype))  # (N, d, h, w)
        x, half_semantics = stem, F.avg_pool2d(semantics, 2)
        for block in self.residual_blocks:
            x = block(x, semantics, half_semantics)
        correction = self.to_image(stem + self.body(x))  # (N, 3, sh, sw)
        sr = F.interpolate(lr, scale_factor=scale, mode="bicubic", align_corners=False) + correction
        mask_logits = None if self.mask is None else self.mask(torch.cat([lr, stem], dim=1))[..., :height, :width]
        return sr[..., :height, :width], mask_logits
