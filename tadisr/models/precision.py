"""What is computed in float32 although the network around it runs in half precision, by its weights or by autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import nn


def without_autocast(device: torch.device) -> AbstractContextManager:
    """Within, there is no autocast on `device`."""
    is_on = torch.is_autocast_enabled(device.type)
    return torch.autocast(device.type, enabled=False) if is_on else nullcontext()


def without_float16(device: torch.device) -> AbstractContextManager:
    """Within, there is no autocast to float16 on `device`: for parts whose values outgrow it. One to bfloat16 stays."""
    is_float16 = torch.get_autocast_dtype(device.type) is torch.float16
    return without_autocast(device) if is_float16 else nullcontext()


def beside(dtype: torch.dtype) -> torch.dtype:
    """What the VAE and the joint decoder are kept in beside a backbone of type `dtype`.

    That is float32 beside float16, in which the VAEs of SDXL and Kolors overflow; their configs say `force_upcast`.
    """
    return torch.float32 if dtype is torch.float16 else dtype


class Float32Conv2d(nn.Conv2d):
    """A convolution that is computed in float32, and gives it, whatever its input and its weights are kept in.

    The weights are cast while they are used: offloading brings a layer's weights only for the layer's own forward pass.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.float()
        with without_autocast(input.device):
            return F.conv2d(
                input.float(), self.weight.float(), bias, self.stride, self.padding, self.dilation, self.groups
            )


def compute_in_float32(layer: nn.Module) -> None:
    """Have a convolution, and the LoRA on it, computed in float32 from now on. The names of its weights stay."""
    for module in layer.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = Float32Conv2d
