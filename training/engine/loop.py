"""What `train_crnn.py`, `train_textdiff.py` and `train_segmenter.py` share: the loop, and what is kept of a run.

All that is random in a step depends on (seed, step, process) alone, so a resumed run is the same as an unbroken one.
"""

import shutil
from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, set_seed
from diffusers.optimization import get_scheduler
from torch import nn
from torch.utils.data import DataLoader

from tadisr.training.engine.checkpoints import (
    find_checkpoint,
    read_best,
    remove_torn,
    replace_folder,
    save_checkpoint,
    step_of,
    write_best,
)
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.train_state import (
    Log,
    Steps,
    averaged,
    build_optimizer,
    resume,
    start_accelerator,
    start_keeping,
)
from tadisr.training.restoration.build import trainable

Batch = dict[str, torch.Tensor | list[str]]


class Task(ABC):
    """What is trained: a network, its data and losses, its scores, and how its weights are kept."""

    network: nn.Module

    @abstractmethod
    def __init__(self, config: LoopConfig, device: torch.device):
        """Build everything; `network` need not be on the device."""

    @abstractmethod
    def loader(self, items: int) -> DataLoader:
        """Batches with "index" and "name" of their items; item i is the same in every run."""

    @abstractmethod
    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Named, weighted losses of a batch; `network` is `self.network` as the processes share it."""

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], str]:
        """Scores of `self.network`, if there is data to validate on, and the name of the one that is to be high."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights."""


def fit(config: LoopConfig, task_of: type[Task]) -> None:
    """Train as configured.

    Raises:
        ValueError, FileNotFoundError, ImportError: settings that cannot be; data or weights that are not there; a loss
            that is not finite.
        CheckpointError: a checkpoint could not be written.
    """
    torch.set_flush_denormal(True)  # gradients of saturated units underflow, and CPUs crawl on denormal numbers
    output_dir = Path(config.output_dir)
    checkpoint = find_checkpoint(config)
    step = step_of(checkpoint)
    accelerator = start_accelerator(config)
    if accelerator.distributed_type is DistributedType.FSDP:
        raise ValueError("FSDP is for bases that do not fit a GPU whole, this network does: take accelerate/ddp.yaml.")
    set_seed(config.seed)

    # 1. Components.
    task = task_of(config, accelerator.device)
    parameters = trainable(task.network)
    optimizer = build_optimizer(config, parameters)
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )

    # 2. Data.
    parts = config.gradient_accumulation_steps
    items = config.max_train_steps * parts * config.train_batch_size * accelerator.num_processes
    loader = task.loader(items)

    # 3. Processes.
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        remove_torn(output_dir)
        config.save(output_dir / "config.yaml")
    network, optimizer, schedule, loader = accelerator.prepare(task.network, optimizer, schedule, loader)
    ema = start_keeping(accelerator, config, network)
    if checkpoint:
        resume(accelerator, checkpoint, ema)
        loader = accelerator.skip_first_batches(loader, step * parts)
    log = Log(accelerator, config, step)
    keep = Keeper(accelerator, config, task, log)
    count = sum(p.numel() for p in parameters)
    accelerator.print(f"{count:,} trained parameters; steps {step} to {config.max_train_steps}", flush=True)

    # 4. Train.
    network.train()
    steps = Steps(accelerator, config, network, optimizer, schedule, ema, log)
    for batch in loader:
        if steps.last:
            break
        if not steps(batch, partial(task.terms, network, batch)):
            continue
        is_best = False
        if steps.due(config.validation_steps):  # before the checkpoint: killed in between, it is done again
            with averaged(ema, parameters):
                is_best = keep(steps.step)
        if steps.due(config.checkpointing_steps) or is_best:
            save_checkpoint(accelerator, config, steps.step)
    accelerator.end_training()


class Keeper:
    """Validates, writes OUTPUT_DIR/weights, and OUTPUT_DIR/best where they are the best so far."""

    def __init__(self, accelerator: Accelerator, config: LoopConfig, task: Task, log: Log):
        self.accelerator, self.task, self.log = accelerator, task, log
        self.output_dir = Path(config.output_dir)
        self.best = read_best(self.output_dir, log.since)

    def __call__(self, step: int) -> bool:
        """Whether it is the best so far; called by all processes, of which the first does the work."""
        is_best = torch.zeros((), device=self.accelerator.device)
        if self.accelerator.is_main_process:
            self.task.network.eval()
            scores, metric = self.task.validate()
            self.task.network.train()
            self._write("weights")
            if scores:
                self.log.write_scores(step, scores, None)
            value = scores.get(metric, float("-inf"))  # a PSNR may be infinite, and is then left out
            best = self.best
            better = best is None or best["metric"] != metric or best["value"] < value
            if scores and better:
                self.best = {"step": step, "metric": metric, "value": value, "scores": scores}
                self._write("best")
                write_best(self.output_dir, self.best)
                is_best += 1
        return bool(self.accelerator.reduce(is_best, "sum")) if self.accelerator.num_processes > 1 else bool(is_best)

    def _write(self, name: str) -> None:
        part = self.output_dir / f".{name}.part"
        shutil.rmtree(part, ignore_errors=True)
        self.task.save(part)
        replace_folder(part, self.output_dir / name)
