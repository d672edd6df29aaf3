"""What all trainings share of a step: processes, optimiser, what is not finite, averages, what is written down."""

import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType, InitProcessGroupKwargs, gather_object
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from tadisr.training.engine.checkpoints import keep_trained_only
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.restoration.build import trainable


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


def start_accelerator(config: LoopConfig) -> Accelerator:
    """The processes as launched; without an accelerator they are CPU processes over gloo.

    Raises:
        ValueError: a precision or tracker that is not to be had, more processes than GPUs, or EMA of weights that no
            process has whole and exact.
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
        step_scheduler_with_optimizer=False,  # it would step once per process, which may be others after a resumption
        # the others wait while the first downloads a base and encodes the prompt, or validates
        kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(hours=3))],
    )
    if config.mixed_precision == "fp16" and accelerator.device.type == "cpu":  # accelerate may leave it out silently
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
    if accelerator.distributed_type is DistributedType.DEEPSPEED:  # which has settings of its own
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


def resume(accelerator: Accelerator, checkpoint: Path, ema: EMAModel | None) -> None:
    """Load what a checkpoint holds into what was prepared, and into the moving averages."""
    accelerator.load_state(str(checkpoint))
    if ema is not None:
        ema.to(accelerator.device)  # accelerate loads it onto the CPU


def build_optimizer(config: LoopConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser that `config.optimizer` names, with AdamW's learning rate, betas and weight decay.

    Raises:
        ImportError: timm is not installed. ValueError: it knows no such optimiser.
    """
    rate, betas, decay = config.learning_rate, (config.adam_beta1, config.adam_beta2), config.adam_weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay)
    from timm.optim import create_optimizer_v2, list_optimizers

    if config.optimizer not in list_optimizers():
        raise ValueError(f"No optimizer is called {config.optimizer}: take adamw, muon or another of timm's.")
    try:
        return create_optimizer_v2(parameters, config.optimizer, lr=rate, weight_decay=decay, betas=betas)
    except (AssertionError, IndexError, RuntimeError, TypeError) as error:  # three betas, compiled kernels
        raise ValueError(
            f"{config.optimizer} does not work with these settings ({error}): take adamw or muon."
        ) from None


def start_keeping(accelerator: Accelerator, config: LoopConfig, network: nn.Module) -> EMAModel | None:
    """What a run keeps beside its prepared network: the moving averages, if it has any; lean checkpoints; trackers."""
    ema = None
    if config.ema_decay:
        parameters = trainable(accelerator.unwrap_model(network))
        ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
        accelerator.register_for_checkpointing(ema)
    keep_trained_only(accelerator)
    if config.report_to:
        scalars = {k: v if isinstance(v, (int, float, bool)) else str(v) for k, v in asdict(config).items()}
        accelerator.init_trackers(config.tracker_project_name, config=scalars)
    return ema


def step_generator(seed: int, step: int, process: int) -> torch.Generator:
    """The source of a step's noise. PyTorch's own, which dropout draws from, is set by it, too."""
    generator = torch.Generator()
    number = int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(number)
    return generator.manual_seed(number)


def all_finite(accelerator: Accelerator, loss: torch.Tensor) -> bool:
    """Whether the loss is finite in every process."""
    bad = (~torch.isfinite(loss.detach())).float()
    return float(accelerator.reduce(bad, "sum") if accelerator.num_processes > 1 else bad) == 0


def report_bad_batch(
    accelerator: Accelerator, config: LoopConfig, step: int, batch: dict[str, Any], terms: dict[str, torch.Tensor]
) -> None:
    """Name the crops of a step whose loss is not finite in nan_batch.json; called by all processes.

    Raises:
        ValueError: where `on_nan` says stop.
    """
    mine = {
        "step": step,
        "process": accelerator.process_index,
        "crops": [
            {"index": int(index), "name": name} for index, name in zip(batch["index"], batch["name"], strict=True)
        ],
        "terms": {name: str(float(value.detach())) for name, value in terms.items()},  # JSON has no nan
    }
    records = gather_object([mine])
    path = Path(config.output_dir) / "nan_batch.json"
    if accelerator.is_main_process:
        with path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    terms = {f"{name} {value}" for record in records for name, value in record["terms"].items()}
    bad = ", ".join(sorted(term for term in terms if term.endswith(("nan", "inf"))))
    message = f"Step {step}: the loss is not finite ({bad}); {path} names the crops."
    if config.on_nan == "stop":
        raise ValueError(f"{message} Try a lower learning_rate or max_grad_norm 1, or --on_nan skip.")
    accelerator.print(f"{message} The step is skipped.", flush=True)


class Log:
    """Loss terms and scores, to the console, log.jsonl and the trackers. Means are over steps and processes."""

    def __init__(self, accelerator: Accelerator, config: LoopConfig, step: int):
        self.accelerator, self.config = accelerator, config
        self.path = Path(config.output_dir) / "log.jsonl"
        self.sums: dict[str, torch.Tensor] = {}
        self.count, self.started, self.since = 0, time.time(), step
        if accelerator.is_main_process and self.path.is_file():
            # What a killed run did after its last checkpoint is done again.
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("}\n") and json.loads(line).get("step", 0) <= step]
            self.path.write_text("".join(kept), encoding="utf-8")

    def add(self, terms: dict[str, torch.Tensor]) -> None:
        self.count += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()  # on the device: reading would wait for it

    def write_terms(self, step: int, learning_rate: float) -> None:
        """The means since the last call; called by all processes."""
        means = {}
        if self.count:
            totals = torch.stack(list(self.sums.values())) / self.count
            if self.accelerator.num_processes > 1:
                totals = self.accelerator.reduce(totals, "mean")
            means = dict(zip(self.sums, totals.tolist(), strict=True))
        seconds = (time.time() - self.started) / max(1, step - self.since)
        self.sums, self.count = {}, 0
        if self.accelerator.is_main_process:
            self._write({"step": step, "s/step": round(seconds, 3), "lr": learning_rate, **means})
        self.accelerator.log({**means, "lr": learning_rate}, step=step)

    def write_scores(self, step: int, scores: dict[str, float], sheet: Any) -> None:
        """A validation's scores and sheet; the sheet also goes to OUTPUT_DIR/validation."""
        if self.accelerator.is_main_process:
            self._write({"step": step, **scores})
        self.accelerator.log(scores, step=step)
        if sheet is not None:
            folder = self.path.parent / "validation"
            folder.mkdir(exist_ok=True)
            Image.fromarray(sheet).save(folder / f"{step:07d}.jpg", quality=92)
            for tracker in self.accelerator.trackers:
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                if tracker.name in ("tensorboard", "wandb"):
                    tracker.log_images({"validation": sheet[None]}, step=step, **options)

    def _write(self, record: dict[str, Any]) -> None:
        shown = {k: round(v, 4) if isinstance(v, float) and abs(v) > 1e-2 else v for k, v in record.items()}
        self.accelerator.print(shown, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


class Steps:
    """Optimiser steps of several batches each: what is random in them, what is not finite, clipping, averages, the log.

    step: steps done.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        config: LoopConfig,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler,
        ema: EMAModel | None,
        log: Log,
    ):
        """All as prepared; the log was begun at the step that is gone on from."""
        self.accelerator, self.config, self.network = accelerator, config, network
        self.optimizer, self.schedule, self.ema, self.log = optimizer, schedule, ema, log
        self.parameters = trainable(accelerator.unwrap_model(network))
        self.step = log.since
        self.batches = self.step * config.gradient_accumulation_steps
        self.dropped = False  # a loss that is not finite takes its whole step with it

    def __call__(self, batch: dict[str, Any], terms: Callable[[torch.Generator], dict[str, torch.Tensor]]) -> bool:
        """Go on by a batch, whose losses `terms` computes; whether that completed a step."""
        accelerator, config = self.accelerator, self.config
        with accelerator.accumulate(self.network):
            values = terms(step_generator(config.seed, self.batches, accelerator.process_index))
            loss = sum(values.values())
            if all_finite(accelerator, loss):
                accelerator.backward(loss)
                self.log.add(values)
            else:
                report_bad_batch(accelerator, config, self.step + 1, batch, values)
                self.dropped = True
            if accelerator.sync_gradients and not self.dropped:
                if config.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
                self.optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:  # by loss scaling
                self.schedule.step()
            self.optimizer.zero_grad()
        self.batches += 1
        if not accelerator.sync_gradients:
            return False
        self.step, self.dropped = self.step + 1, False
        if self.ema is not None:
            self.ema.step(self.parameters)
        if self.due(config.logging_steps):
            self.log.write_terms(self.step, self.schedule.get_last_lr()[0])
        return True

    @property
    def last(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self.config.max_train_steps

    def due(self, every: int) -> bool:
        """Whether something comes after this step that comes after every so many, and after the last."""
        return self.step % every == 0 or self.last


@contextmanager
def averaged(ema: EMAModel | None, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Within, the parameters are their moving averages, if there are any."""
    if ema is None:
        yield
        return
    ema.store(parameters)
    ema.copy_to(parameters)
    try:
        yield
    finally:
        ema.restore(parameters)
