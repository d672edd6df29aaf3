"""Weights in memory: precision, layout, adapters added into them, quantisation; and errors of not enough memory."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from accelerate.utils.memory import should_reduce_batch_size
from diffusers import PipelineQuantizationConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

_SAVING = threading.RLock()


def fast_dtype(device: str | torch.device, holds_float16: bool = False) -> torch.dtype:
    """The type of weights in which the device computes fastest: bfloat16, float16 or float32.

    bfloat16 on processors with AMX or AVX512-BF16, and on GPUs of the Ampere generation or later: older GPUs only
    emulate it. float16 on those that have tensor cores (V100, T4, RTX 20, and not GTX 16), for a model that holds its
    values in it.
    """
    kind = torch.device(device).type
    known = getattr(torch.cpu, "get_capabilities", dict)() if kind == "cpu" else {}
    if known.get("amx_bf16", False) or known.get("avx512_bf16", False):
        return torch.bfloat16
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if kind == "cuda" and holds_float16 and torch.cuda.get_device_capability(device) >= (7, 0):
        return torch.float32 if "GTX" in torch.cuda.get_device_name(device) else torch.float16
    return torch.float32


def as_dtypes(
    name: Any, device: str | torch.device, holds_float16: bool = False
) -> torch.dtype | dict[str, torch.dtype]:
    """As `as_dtype`; or of diffusers' dictionaries, which have components' names as keys, and "default", each value."""
    if isinstance(name, Mapping):
        return {key: as_dtype(value, device, holds_float16) for key, value in name.items()}
    return as_dtype(name, device, holds_float16)


def as_dtype(name: str | torch.dtype, device: str | torch.device, holds_float16: bool = False) -> torch.dtype:
    """The dtype of that name; for "auto" see `fast_dtype`. Raises ValueError for a name that is none."""
    fastest = fast_dtype(device, holds_float16) if name == "auto" else None
    dtype = fastest or (getattr(torch, name, None) if isinstance(name, str) else name)
    if not isinstance(dtype, torch.dtype):
        raise ValueError(f'dtype must be "auto", "float32", "bfloat16", "float16" or a torch.dtype, got {name!r}.')
    return dtype


@contextmanager
def contiguous_weights(models: Iterable[nn.Module]) -> Iterator[None]:
    """Within, `state_dict` gives weights in PyTorch's default layout, the only one that safetensors writes.

    The models keep theirs, so that they can be saved while they run. Who saves, saves alone.
    """

    def copy(module: nn.Module, state_dict: dict[str, Any], prefix: str, _: Any) -> None:
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.is_contiguous() and prefix + name in state_dict:
                state_dict[prefix + name] = state_dict[prefix + name].contiguous()

    with _SAVING:
        modules = {module for model in models for module in model.modules()}
        hooks = [module.register_state_dict_post_hook(copy) for module in modules]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def is_out_of_memory(error: Exception) -> bool:
    """Whether a device, or the CPU's allocator, had no memory left: a smaller tile may fit.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."))
    True
    """
    windows = isinstance(error, RuntimeError) and "DefaultCPUAllocator: not enough memory" in str(error)
    return isinstance(error, MemoryError) or windows or should_reduce_batch_size(error)


def fuse_adapter(model: nn.Module, adapter: str, generator: torch.Generator | None = None) -> None:
    """Add a LoRA adapter into the weights that it changes, which then cost what the bare model's cost.

    The adapter itself stays as it is, so that it can still be saved. Weights of half precision are rounded up or down
    at random, with probabilities that make them right on average: rounded to the nearest, most of an adapter that is
    far smaller than its weights would be lost. Quantised weights keep the adapter beside them.

    `generator`: of the random rounding, on the weights' device. None: one seeded with 0. Raises ValueError where the
    weights are offloaded one by one.
    """
    for layer in model.modules():
        if not isinstance(layer, BaseTunerLayer) or adapter in layer.merged_adapters:
            continue
        weight = layer.get_base_layer().weight
        if type(weight) is not nn.Parameter or type(weight.data) is not torch.Tensor or not weight.is_floating_point():
            continue
        if weight.is_meta:
            raise ValueError("The weights are offloaded one by one: fuse_lora() before enabling that.")
        generator = torch.Generator(weight.device).manual_seed(0) if generator is None else generator
        fused = weight.detach().float() + cast(Any, layer).get_delta_weight(adapter).float()
        if weight.dtype != torch.float32:
            # With noise of the width of the dtype's steps: rounded to the nearest it is right on average.
            noise = torch.rand(fused.shape, generator=generator, device=fused.device).sub_(0.5)
            power = (fused.view(torch.int32) & 0x7F800000).view(torch.float32)  # the power of two at or below each
            fused = torch.addcmul(fused, noise, power, value=torch.finfo(weight.dtype).eps)
        # Not in place: weights may be a view of the file that they were loaded from.
        channels_last = weight.dim() == 4 and not weight.is_contiguous()
        layout = torch.channels_last if channels_last else torch.contiguous_format
        weight.data = fused.to(weight.dtype).contiguous(memory_format=layout)
        layer.merged_adapters.append(adapter)


def quantization_by_model(config: Any, backbone: str) -> dict[str, Any]:
    """A model's name in the pipeline to diffusers' configuration of how to quantise its weights.

    `config`: a `PipelineQuantizationConfig`, whose entries name the models; or another configuration of diffusers
    (`BitsAndBytesConfig`, `TorchAoConfig`, ...) for the backbone alone, whose name is `backbone`; or None.
    """
    if config is None:
        return {}
    if not isinstance(config, PipelineQuantizationConfig):
        return {backbone: config}
    found = {name: config._resolve_quant_config(module_name=name) for name in ("vae", backbone)}
    return {name: value for name, value in found.items() if value is not None}


def free_memory(device: torch.device) -> int:
    """Bytes of `device`'s memory that are free now, with what torch's allocator keeps for the next tile."""
    if device.type in ("cuda", "xpu"):
        memory = getattr(torch, device.type)
        return memory.mem_get_info(device)[0] + memory.memory_reserved(device) - memory.memory_allocated(device)
    import psutil

    return psutil.virtual_memory().available
