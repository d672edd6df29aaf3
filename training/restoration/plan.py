"""What a training step takes of memory and arithmetic, counted tensor by tensor without computing anything.

The network is built and one whole step is run on tensors that have shapes and types but no values (PyTorch's fake
tensors): forward, losses, backward, the optimiser. Every storage is counted from its birth to its death, so the peak is
that of the live tensors. An allocator's fragments, the libraries' work space and the driver come on top.
"""

import gc
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import FlopCounterMode

from tadisr.loading.official_layouts import COGVIEW4, KOLORS
from tadisr.metrics.st_lpips import STLPIPS
from tadisr.models.families import FAMILIES
from tadisr.models.one_step import flow_point, one_step_coefficients
from tadisr.training.engine.train_state import build_optimizer, parameter_groups, trainable
from tadisr.training.restoration.build import DTYPES
from tadisr.training.restoration.outline import Shape, outline, read_shape
from tadisr.training.restoration.terms import loss_terms
from tadisr.training.restoration.train_config import TrainConfig

_SDXL_UNET = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280], "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048,
    "use_linear_projection": True, "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
_SD15_UNET = {
    "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280], "layers_per_block": 2,
    "attention_head_dim": 8, "cross_attention_dim": 768,
}  # fmt: skip
_ZIMAGE = {
    "in_channels": 16, "dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30,
    "cap_feat_dim": 2560, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512],
}  # fmt: skip
_ZIMAGE_VAE = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 16,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
_SHAPES: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any], int]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": ("sd", _SD15_UNET, KOLORS.vae_config, 77),
    "stabilityai/stable-diffusion-xl-base-1.0": ("sdxl", _SDXL_UNET, KOLORS.vae_config, 77),
    KOLORS.base_model: ("kolors", KOLORS.backbone_config, KOLORS.vae_config, 256),
    COGVIEW4.base_model: ("cogview4", COGVIEW4.backbone_config, COGVIEW4.vae_config, 16),
    "Tongyi-MAI/Z-Image-Turbo": ("zimage", _ZIMAGE, _ZIMAGE_VAE, 32),
}
"""Family, backbone, VAE and prompt tokens of the bases that the docs name, so that a plan needs no network."""


@dataclass
class Plan:
    """Bytes, and floating-point operations of one step of one process."""

    frozen: int
    trained: int
    gradients: int
    optimizer: int
    peak: int
    """The most that is alive at once during a step, all of the above included."""
    validation: int
    """The most that is alive at once while a tile is validated, beside weights and optimiser."""
    flops: float
    parameters: int
    """How many values are trained."""


class MemoryCounter(TorchDispatchMode):
    """Counts the bytes of the storages that are made within, while they live: `live`, and `peak`, the most so far."""

    def __init__(self):
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        size = storage.nbytes()
        self._known.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.add(tensor)
        return result


@contextmanager
def _autocast_of_cuda() -> Iterator[None]:
    """On CUDA autocast runs normalisations in float32, on a CPU in the lower type: twice the bytes that are kept."""

    def in_float32(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def run(*args: Any, **kwargs: Any) -> torch.Tensor:
            if not torch.is_autocast_enabled("cpu"):
                return function(*args, **kwargs)
            args, kwargs = tree_map_only(torch.Tensor, torch.Tensor.float, (args, kwargs))
            with torch.autocast("cpu", enabled=False):
                return function(*args, **kwargs)

        return run

    with (
        mock.patch.object(F, "group_norm", in_float32(F.group_norm)),
        mock.patch.object(F, "layer_norm", in_float32(F.layer_norm)),
    ):
        yield


def count(config: TrainConfig, cuda: bool = True) -> Plan:
    """Count a training on a pretrained base, as `config` says; of the base its configuration files are read alone.

    Args:
        config: with `pretrained_model_name_or_path`.
        cuda: count what CUDA's autocast keeps; False: a CPU's.

    Raises:
        ValueError: no pretrained base, or one that is not supported. FileNotFoundError: no such base.
    """
    if not config.pretrained_model_name_or_path:
        raise ValueError("A plan is of a pretrained base: name one in pretrained_model_name_or_path.")
    counter = MemoryCounter()
    network = outline(config, shape_of(config.pretrained_model_name_or_path, config.revision))
    with torch.device("meta"):
        lpips = _perceptual_network(config) if config.lpips else None
    scheduler = network.scheduler  # its numbers are computed now, while tensors have values
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        flow_point(scheduler)
    else:
        one_step_coefficients(scheduler)
    with _without_values(counter, cuda):
        for model in (network, *([] if lpips is None else [lpips])):
            _drop_values(model)
        counter.peak = weights = counter.live
        parameters = trainable(network)
        trained = sum(parameter.nbytes for parameter in parameters)
        with unset_fake_temporarily():  # bitsandbytes computes a table
            optimizer = build_optimizer(config, parameter_groups(config, network))
        network.train()

        def step() -> int:
            with _autocast(config):
                terms = loss_terms(network, config, _batch(config), None, lpips)
            torch.stack(list(terms.values())).sum().backward()
            gradients = sum(parameter.grad.nbytes for parameter in parameters if parameter.grad is not None)
            optimizer.step()
            optimizer.zero_grad()
            network.attention_maps.clear()
            return gradients

        with network.recording():
            with FlopCounterMode(display=False) as flops:  # its hooks keep what would be gone
                step()
            gc.collect()
            rest = counter.peak = counter.live
            gradients = step()  # the optimiser's state is beside it now
        peak = counter.peak
        counter.peak = rest
        with torch.no_grad(), network.recording(), _autocast(config):
            side = config.validation_tile or config.resolution
            network.eval()(torch.zeros(1, 3, side, side))
        return Plan(
            frozen=weights - trained, trained=trained, gradients=gradients, optimizer=rest - weights, peak=peak,
            validation=counter.peak, flops=flops.get_total_flops(),
            parameters=sum(parameter.numel() for parameter in parameters),
        )  # fmt: skip


@contextmanager
def _without_values(counter: MemoryCounter, cuda: bool) -> Iterator[None]:
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        stack.enter_context(counter)
        if cuda:
            stack.enter_context(_autocast_of_cuda())
        yield


def _drop_values(model: nn.Module) -> None:
    """Replace weights by fake ones on the CPU, which are counted."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            fake = torch.empty(parameter.shape, dtype=parameter.dtype)
            module._parameters[name] = nn.Parameter(fake, requires_grad=parameter.requires_grad)
        for name, buffer in module.named_buffers(recurse=False):
            module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def _autocast(config: TrainConfig) -> AbstractContextManager:
    dtype = DTYPES[config.mixed_precision]
    return nullcontext() if dtype is torch.float32 else torch.autocast("cpu", dtype)


def _batch(config: TrainConfig) -> dict[str, torch.Tensor]:
    count, side, small = config.train_batch_size, config.resolution, config.resolution // config.scale
    shapes = {"hr": (3, side, side), "lr": (3, small, small), "mask": (1, side, side)}
    return {**{name: torch.zeros(count, *shape) for name, shape in shapes.items()}, "has_mask": torch.ones(count)}


def shape_of(name: str, revision: str | None = None) -> Shape:
    """The shape of a base: known, or read from its files."""
    if name in _SHAPES:
        family, backbone, vae, tokens = _SHAPES[name]
        schedule = {"_class_name": "FlowMatchEulerDiscreteScheduler", "beta_schedule": "scaled_linear"}
        return Shape(FAMILIES[family], backbone, vae, schedule, tokens)
    shape = read_shape(name, revision)
    tokens = next((known[3] for known in _SHAPES.values() if FAMILIES[known[0]] == shape.family), shape.tokens)
    return shape._replace(tokens=tokens)


def _perceptual_network(config: TrainConfig) -> nn.Module:
    """The network of `terms.load_lpips` without its weights."""
    if config.lpips_net == "vgg":
        import lpips

        network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    else:
        network = STLPIPS(config.lpips_net.removeprefix("st_"))
    return network.eval().requires_grad_(False)
