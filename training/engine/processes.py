"""The processes of a training: started as launched, prepared for sharding, and kept out of autocast where needed."""

import os
import warnings
from datetime import timedelta

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, InitProcessGroupKwargs
from torch import nn

from tadisr.training.engine.loop_config import EIGHT_BIT, LoopConfig


def start_accelerator(config: LoopConfig) -> Accelerator:
    """The processes as launched. On a machine without an accelerator they are CPU processes that talk over gloo.

    Raises:
        ValueError: a precision or tracker that is not available here, more processes than GPUs, or EMA of weights that
            no process holds whole and exact.
    """
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if torch.cuda.is_available() and processes > torch.cuda.device_count():
        raise ValueError(
            f"{processes} processes are too many for {torch.cuda.device_count()} GPU: one each, or "
            "CUDA_VISIBLE_DEVICES= before the command to train on the CPU."
        )
    warnings.filterwarnings("ignore", "Grad strides do not match")  # of 1x1 kernels, where layouts mean nothing
    accelerator = Accelerator(
        cpu=not any(device.is_available() for device in (torch.cuda, torch.xpu, torch.backends.mps)),
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.report_to,
        project_dir=config.output_dir,
        # It would step once per process, and a resumed run may have another number of processes.
        step_scheduler_with_optimizer=False,
        # The other processes wait while the first downloads a base and encodes the prompt, or validates.
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # accelerate may ignore it silently
        raise ValueError("fp16 needs a GPU: take bf16 or no for mixed_precision.")
    if config.report_to and not accelerator.log_with:
        raise ValueError(f"The tracker {config.report_to} is not installed: pip install {config.report_to}.")
    asked_for_fsdp = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if asked_for_fsdp and accelerator.distributed_type is DistributedType.MULTI_CPU:
        # accelerate leaves FSDP out on CPUs, though PyTorch's works over gloo.
        plugin = FullyShardedDataParallelPlugin()
        if config.mixed_precision != "no":
            plugin.set_mixed_precision(config.mixed_precision)
        AcceleratorState._shared_state["fsdp_plugin"] = plugin
        for state in (AcceleratorState, PartialState):
            state._shared_state["distributed_type"] = DistributedType.FSDP
    shards = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    if shards and config.optimizer == EIGHT_BIT:
        raise ValueError(f"{EIGHT_BIT} has whole states, and FSDP and DeepSpeed deal states out: take adamw there.")
    if accelerator.distributed_type is DistributedType.DEEPSPEED:  # it has settings of its own
        accelerator.state.deepspeed_plugin.deepspeed_config |= {
            "train_micro_batch_size_per_gpu": config.train_batch_size,
            "gradient_accumulation_steps": config.gradient_accumulation_steps,
            "gradient_clipping": config.max_grad_norm or 0.0,
        }
        if config.ema_decay and config.mixed_precision != "no":
            raise ValueError("ema_decay needs exact weights, and DeepSpeed keeps halved ones: leave one of them out.")
    if accelerator.distributed_type is DistributedType.FSDP and config.ema_decay:
        raise ValueError("ema_decay averages whole weights, which FSDP does not keep: leave one of them out.")
    return accelerator


def reduced(accelerator: Accelerator, x: torch.Tensor, how: str) -> torch.Tensor:
    """The "sum" or "mean" of a tensor over all processes; called by all of them."""
    return torch.as_tensor(accelerator.reduce(x, how)) if accelerator.num_processes > 1 else x


def prepare_for_fsdp(accelerator: Accelerator, network: nn.Module) -> None:
    """Give the weights the layout that FSDP needs, and have it wrap only the blocks that this network has.

    accelerate/fsdp.yaml names the blocks of all bases; accelerate refuses names that the network does not have.
    """
    network.to(memory_format=torch.contiguous_format)
    plugin, found = accelerator.state.fsdp_plugin, {type(module).__name__ for module in network.modules()}
    names = plugin.transformer_cls_names_to_wrap or ()
    plugin.transformer_cls_names_to_wrap = [name for name in names if name in found]


def run_in_float32(module: nn.Module) -> None:
    """Have a module stay out of autocast."""
    forward = module.forward

    def in_float32(*inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        with torch.autocast(inputs[0].device.type, enabled=False):
            return forward(*(x.float() for x in inputs))

    module.forward = in_float32


def run_recurrent_in_float32(network: nn.Module, device: torch.device) -> None:
    """Have LSTMs and GRUs stay out of autocast on CUDA, where it makes them float16 even if asked for bfloat16."""
    if device.type == "cuda":
        for module in network.modules():
            if isinstance(module, nn.RNNBase):
                run_in_float32(module)
