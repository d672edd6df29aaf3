"""Blocks of diffusers' VAE decoders run for inference: the same function, with fewer multiplications and less memory.

On a CPU a layer that only adds or activates takes most of its time for the first touch of the memory it returns, so
here a tensor that nothing reads again is overwritten. A nearest-neighbour upsampling and its 3x3 convolution are one
transposed convolution, with 4/9 of the multiplications. Shapes: B batch, C channels, H', W' the size at one level.
"""

from typing import Any, cast

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from diffusers.models.upsampling import Upsample2D
from peft.tuners.lora import Conv2d as LoraConv2d
from torch import nn
from torch.nn.functional import conv_transpose2d, silu

# Row and column weights of the transposed kernel: output 2i + u - 1 reads input i by the taps a with u + a = 2 or 3.
_TAPS = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))
_WIDE = 128
"""Channels from where an upsampling is merged with its convolution. Narrower ones keep the order of diffusers' sums."""


def may_overwrite(x: torch.Tensor) -> bool:
    """Whether results like x may be overwritten: by what follows in the same type, with no gradient to come.

    Compilers plan the memory by themselves.
    """
    busy = torch.is_grad_enabled() or torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling()
    return not busy


def run_block(block: Any, *inputs: torch.Tensor) -> Any:
    """What `block(*inputs)` returns; without gradients a decoder's up block runs by the layers below."""
    if torch.is_grad_enabled() or type(block) is not UpDecoderBlock2D or not _as_built(block):
        return block(*inputs)
    (x,) = inputs
    for resnet in block.resnets:
        x = run_resnet(resnet, x)
    for upsampler in block.upsamplers or ():
        x = _upsample(upsampler, x)
    return x


def run_resnet(block: Any, x: torch.Tensor) -> torch.Tensor:
    """What the ResBlock returns for x, in new memory; equal bit by bit but for the rounding of an adapter's product."""
    if not may_overwrite(x) or type(block) is not ResnetBlock2D or not _as_built(block):
        return block(x, None)
    if block.upsample or block.downsample or block.time_emb_proj or (block.training and block.dropout.p):
        return block(x, None)
    y = _convolve(block.conv1, activated(block.norm1, block.nonlinearity, x))
    y = _convolve(block.conv2, activated(block.norm2, block.nonlinearity, y))
    y.add_(x if block.conv_shortcut is None else _convolve(block.conv_shortcut, x))
    return y if block.output_scale_factor == 1 else y.div_(block.output_scale_factor)


def activated(norm: nn.Module, activation: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`activation(norm(x))`; x stays."""
    y = norm(x)
    if not may_overwrite(x) or y is x or type(activation) is not nn.SiLU:
        return activation(y)
    return silu(y, inplace=True)


def transposed_kernel(weight: torch.Tensor) -> torch.Tensor:
    """The kernel (C, C', 4, 4), of stride 2 and padding 1, of a 3x3 kernel (C', C, 3, 3) behind a doubling."""
    taps = weight.new_tensor(_TAPS)
    return torch.einsum("ua,vb,oiab->iouv", taps, taps, weight)


def _as_built(module: nn.Module) -> bool:
    """Whether calling the module runs its class's `forward` and nothing else: no hooks, offloading or compilation."""
    own = vars(module)
    hooks = module._forward_hooks or module._forward_pre_hooks or own.get("_compiled_call_impl")
    return not hooks and "forward" not in own


def _lora(layer: Any, x: torch.Tensor) -> list[str] | None:
    """The adapters to add to `layer.base_layer`; None where peft has to decide."""
    if type(layer) is not LoraConv2d or not _as_built(layer) or layer.merged or layer.training or layer.lora_variant:
        return None
    names = [name for name in layer.active_adapters if name in layer.lora_A and not layer.disable_adapters]
    return names if all(layer.lora_A[name].weight.dtype == x.dtype for name in names) else None


def _convolve(layer: Any, x: torch.Tensor) -> torch.Tensor:
    """`layer(x)`, an adapter's product added in place."""
    adapters = _lora(layer, x)
    if adapters is None:
        return layer(x)
    y = layer.base_layer(x)
    for name in adapters:
        y.add_(layer.lora_B[name](layer.lora_A[name](x)), alpha=layer.scaling[name])
    return y


def _upsample(block: Any, x: torch.Tensor) -> torch.Tensor:
    """`block(x)`; wide ones on a CPU as one transposed convolution. (GPUs were not measured.)"""
    conv = cast(Any, getattr(block, "conv", None))
    adapters = _lora(conv, x)
    base = conv if adapters is None else conv.base_layer
    parts = [base, *(conv.lora_A[name] for name in adapters or ())]
    merges = (
        x.device.type == "cpu" and x.shape[1] >= _WIDE and block.norm is None and block.interpolate
        and type(block) is Upsample2D and _as_built(block)
        and all(type(part) is nn.Conv2d and _as_built(part) and part.kernel_size == (3, 3) for part in parts)
    )  # fmt: skip
    if not merges:
        return block(x)
    y = _double(base, x)
    for name in adapters or ():
        y.add_(conv.lora_B[name](_double(conv.lora_A[name], x)), alpha=conv.scaling[name])
    return y


def _double(conv: nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
    return conv_transpose2d(x, transposed_kernel(conv.weight), conv.bias, stride=2, padding=1)
