"""Bases that are trained from scratch: diffusers' own classes, made lean.

Without group normalisation: it divides each image's contrast out, also right before the last convolution, while what
restoration adds must be proportional to it. Without it networks run faster, and are strictly local, so that tiles agree
with the whole image (take `only_cross_attention` and no attention in the U-Net's mid block, where diffusers would put
self-attention all the same). Without the VAE's mid blocks: at one level they are the same layers once more.
"""

from functools import wraps
from typing import Any

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import nn

__all__ = [
    "LeanAutoencoderKL",
    "LeanUNet2DConditionModel",
    "ModelMixin",
    "drop_group_norms",
    "drop_mid_block",
    "initialize",
]


class _Pass(nn.Module):
    """The identity, for blocks that are called with more than their input."""

    def forward(self, x: torch.Tensor, *_: Any) -> torch.Tensor:
        return x


def drop_group_norms(model: nn.Module) -> None:
    """Replace every `GroupNorm` in `model` by the identity."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


def drop_mid_block(coder: nn.Module) -> None:
    """Replace the mid block of a VAE encoder or decoder by the identity."""
    coder.mid_block = _Pass()


class LeanAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` without group normalisation and mid blocks; the same arguments."""

    @wraps(AutoencoderKL.__init__)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        drop_group_norms(self)
        drop_mid_block(self.encoder)
        drop_mid_block(self.decoder)


class LeanUNet2DConditionModel(UNet2DConditionModel):
    """`UNet2DConditionModel` without group normalisation; the same arguments."""

    @wraps(UNet2DConditionModel.__init__)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        drop_group_norms(self)


# By the layer's role: within a ResBlock; and the U-Net's output, the predicted noise, which must not drown the latents.
_GAINS = {"conv1": 2**0.5, "conv2": 0.2, "unet_out": 0.1}


def initialize(*models: nn.Module) -> None:
    """Variance-preserving weights for norm-free models: PyTorch's own initialisation shrinks every layer's output.

    The second convolution of each ResBlock starts small, so that a deep trunk starts near the identity; the scales of
    the interaction blocks start at 0.5 and the encoder skips at the identity (there is no pretrained decoder to
    protect): the decoder then sees the input's own features from the first step, not only what the latents keep.
    """
    for model in models:
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                gain = _GAINS.get(name.rsplit(".", 1)[-1] if name != "conv_out" else "unet_out", 1.0)
                nn.init.normal_(module.weight, std=gain / fan_in**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if name.startswith("skips."):
                nn.init.dirac_(module.weight)
        for name, parameter in model.named_parameters():
            if name.startswith("interactions.") and name.endswith(".scale"):
                nn.init.constant_(parameter, 0.5)
