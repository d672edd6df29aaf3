"""Bases that are trained from scratch: diffusers' own classes without group normalisation.

Group normalisation divides each image's contrast out, also right before the last convolution, while what restoration
adds must be proportional to it: small networks with it did not learn to beat their upscaled input. Without it they do,
run faster, and are strictly local, so that tiles agree with the whole image.
"""

from functools import wraps
from typing import Any

from diffusers import AutoencoderKL, ModelMixin, UNet2DConditionModel
from torch import nn

__all__ = ["ModelMixin", "NormFreeAutoencoderKL", "NormFreeUNet2DConditionModel", "drop_group_norms", "initialize"]


def drop_group_norms(model: nn.Module) -> None:
    """Replace every `GroupNorm` in `model` by the identity."""
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.GroupNorm):
                setattr(module, name, nn.Identity())


class NormFreeAutoencoderKL(AutoencoderKL):
    """`AutoencoderKL` without group normalisation; the same arguments."""

    @wraps(AutoencoderKL.__init__)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        drop_group_norms(self)


class NormFreeUNet2DConditionModel(UNet2DConditionModel):
    """`UNet2DConditionModel` without group normalisation; the same arguments."""

    @wraps(UNet2DConditionModel.__init__)
    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        drop_group_norms(self)


def initialize(*models: nn.Module) -> None:
    """Variance-preserving weights for norm-free models: PyTorch's own initialisation shrinks every layer's output.

    The second convolution of each ResBlock starts small, so that a deep trunk starts near the identity; the scales of
    the interaction blocks start at 0.5 (there is no pretrained decoder to protect).
    """
    for model in models:
        for name, module in model.named_modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                gain = 0.2 if name.endswith("conv2") else 2**0.5 if name.endswith("conv1") else 1.0
                nn.init.normal_(module.weight, std=gain / fan_in**0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in model.named_parameters():
            if name.startswith("interactions.") and name.endswith(".scale"):
                nn.init.constant_(parameter, 0.5)
