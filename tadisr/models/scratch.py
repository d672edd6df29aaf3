"""Bases that are trained from scratch: diffusers' own classes, made lean.

They have no group normalisation. It divides each image's contrast out, even right before the last convolution, while
the correction that restoration adds must be proportional to the contrast. Without it networks are also faster, and
strictly local, so that tiles agree with the whole image. (For that a U-Net needs `only_cross_attention`, and a mid
block without attention, where diffusers would put self-attention all the same.)

The VAE has no mid blocks: at one level they would only repeat its layers.
"""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel  # noqa: F401 - from_pretrained looks for ModelMixin
from torch import nn

_Function = TypeVar("_Function", bound=Callable[..., Any])


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


def _with_argument(name: str) -> Callable[[_Function], _Function]:
    """Add an argument, None by default, to a function's signature, where diffusers looks for what a config may hold."""

    def decorate(function: _Function) -> _Function:
        known = inspect.signature(function)
        own = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
        cast(Any, function).__signature__ = known.replace(parameters=[*known.parameters.values(), own])
        return function

    return decorate


class LeanAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` without group normalisation and mid blocks.

    Args:
        encoder_layers_per_block: ResBlocks in each block of the encoder, where they are not as many as
            `layers_per_block`, which the decoder's are then counted by alone. With 0 the encoder only reads patches,
            and the U-Net does the work.
        args, kwargs: of `AutoencoderKL`.
    """

    @_with_argument("encoder_layers_per_block")
    @wraps(AutoencoderKL.__init__)
    def __init__(self, *args: Any, encoder_layers_per_block: int | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if encoder_layers_per_block is not None:
            self.register_to_config(encoder_layers_per_block=encoder_layers_per_block)
            for block in self.encoder.down_blocks:
                del cast(Any, block).resnets[encoder_layers_per_block:]
        drop_group_norms(self)
        drop_mid_block(self.encoder)
        drop_mid_block(self.decoder)


class LeanUNet2DConditionModel(UNet2DConditionModel):
    """`UNet2DConditionModel` without group normalisation.

    Args:
        linear_output: no activation before the last convolution, so that features can pass through the latents as they
            are.
        args, kwargs: of `UNet2DConditionModel`.
    """

    @_with_argument("linear_output")
    @wraps(UNet2DConditionModel.__init__)
    def __init__(self, *args: Any, linear_output: bool | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        drop_group_norms(self)
        if linear_output is not None:
            self.register_to_config(linear_output=linear_output)
            if linear_output:
                self.conv_act = nn.Identity()


# By the layer's role in a ResBlock. "unet_out" is the U-Net's output: the predicted noise must not drown the latents.
# What a mask prompt adds starts at nothing.
_GAINS = {"conv1": 2**0.5, "conv2": 0.2, "unet_out": 0.1, "to_image": 0.0, "to_mask": 0.0}


def initialize(*models: nn.Module) -> None:
    """Variance-preserving weights for norm-free models: PyTorch's own initialisation shrinks every layer's output.

    The second convolution of each ResBlock starts small, so that a deep trunk starts near the identity. The scales of
    the interaction blocks start at 0.5 and the encoder skips at the identity, since there is no pretrained decoder to
    protect. From the first step, the decoder then sees the input's own features beside the latents.
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
                nn.init.dirac_(module.get_parameter("weight"))
        for name, parameter in model.named_parameters():
            if name.startswith("interactions.") and name.endswith(".scale"):
                nn.init.constant_(parameter, 0.5)
