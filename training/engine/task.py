"""What a training trains: the part that differs from model to model."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from tadisr.training.engine.loop_config import LoopConfig

Batch = dict[str, Any]
Terms = dict[str, torch.Tensor]
C = TypeVar("C", bound=LoopConfig)


class Validation(NamedTuple):
    """Scores by name, the name of the one that says which weights are best, and a sheet (H, W, 3) uint8 RGB or None."""

    scores: dict[str, float]
    metric: str
    sheet: np.ndarray | None = None

    @property
    def value(self) -> float:
        """The score that says which weights are best, larger being better."""
        value = self.scores.get(self.metric, float("-inf"))  # an infinite PSNR is left out of the scores
        return -value if self.metric == "lpips" else value


class Task(ABC, Generic[C]):
    """A network, its data and losses, its scores, and how its weights are saved."""

    network: nn.Module
    can_be_sharded = False
    """Whether FSDP may deal the weights out over the processes."""
    validates_together = False
    """Whether every process does its share of the validation. Otherwise the main process does all of it."""

    @abstractmethod
    def __init__(self, config: C, accelerator: Accelerator):
        """Build everything. `network` need not be on the device; training begins in the mode that it is in."""
        self.config, self.accelerator = config, accelerator

    @abstractmethod
    def batches(self, step: int) -> Iterable[Batch]:
        """The run's batches from step `step` on, on the device.

        Each holds "index" and "name" of its items. Item i is the same in every run.
        """

    @abstractmethod
    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        """Named, weighted losses of a batch; `network` is `self.network` as the processes share it."""

    @abstractmethod
    def validate(self, network: nn.Module) -> Validation | None:
        """Scores of the network, in evaluation mode and without gradients; None: there is no data to validate on."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights into an empty folder; called by the main process."""

    def describe(self, folder: Path, step: int, validation: Validation | None) -> None:
        """Write more beside the saved weights, such as a model card; called by the main process."""
        return

    def finish(self, folder: Path, step: int) -> None:
        """Use the result: `folder` holds the best weights, made at `step`. Called by the main process at the end."""
        return

    def running(self) -> AbstractContextManager:
        """Entered for all steps of the run."""
        return nullcontext()

    def gathered(self) -> AbstractContextManager:
        """Entered by all processes around `save`; within, weights that FSDP deals out are whole."""
        return nullcontext()


def total_batches(config: LoopConfig, accelerator: Accelerator) -> int:
    """How many batches a whole run takes, over all processes."""
    return config.max_train_steps * config.gradient_accumulation_steps * accelerator.num_processes


def share(loader: DataLoader, config: LoopConfig, accelerator: Accelerator, step: int) -> DataLoader:
    """The `total_batches` of a loader, dealt out to the processes, on the device, from step `step` on."""
    loader = accelerator.prepare_data_loader(loader)
    return accelerator.skip_first_batches(loader, step * config.gradient_accumulation_steps)
