"""The optimiser steps of a training, and its log."""

import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from diffusers.training_utils import EMAModel
from PIL import Image
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from tadisr.io.atomic import write_atomically
from tadisr.training.engine.loop_config import EIGHT_BIT, LoopConfig
from tadisr.training.engine.processes import reduced
from tadisr.training.engine.task import Batch, Terms


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that take gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def parameter_groups(config: LoopConfig, network: nn.Module) -> list[dict[str, Any]]:
    """The parameters that take gradients, for an optimiser: those of `config.faster_parts` have a rate of their own.

    Raises:
        ValueError: no such part.
    """
    parts = tuple(config.faster_parts)
    named = [(name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad]
    if unknown := [part for part in parts if not any(name.startswith(part) for name, _ in named)]:
        raise ValueError(f"faster_parts: no trained parameter's name begins with {', '.join(unknown)}.")
    fast, others = ([p for name, p in named if name.startswith(parts) == chosen] for chosen in (True, False))
    groups = [{"params": others}, {"params": fast, "lr": config.learning_rate * config.faster_rate}]
    return [group for group in groups if group["params"]]


def build_optimizer(
    config: LoopConfig, parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]]
) -> torch.optim.Optimizer:
    """The optimiser that `config.optimizer` names, with AdamW's learning rate, betas and weight decay.

    `parameters` may be groups, such as those of `parameter_groups`.

    Raises:
        ImportError: timm or bitsandbytes is not installed. ValueError: timm knows no such optimiser.
    """
    rate, betas, decay = config.learning_rate, (config.adam_beta1, config.adam_beta2), config.adam_weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, rate, betas, weight_decay=decay)
    if config.optimizer == EIGHT_BIT:
        return _adamw_8bit(parameters, rate, betas, decay)
    from timm.optim import create_optimizer_v2, list_optimizers

    if config.optimizer not in list_optimizers():
        names = f"adamw, {EIGHT_BIT}, muon"
        raise ValueError(f"No optimizer is called {config.optimizer}: take {names} or another of timm's.")
    try:
        return create_optimizer_v2(parameters, config.optimizer, lr=rate, weight_decay=decay, betas=betas)
    except (AssertionError, IndexError, RuntimeError, TypeError) as error:  # three betas, compiled kernels
        message = f"{config.optimizer} does not work with these settings ({error}): take adamw or muon."
        raise ValueError(message) from None


def _adamw_8bit(
    parameters: Sequence[nn.Parameter] | Sequence[dict[str, Any]],
    rate: float,
    betas: tuple[float, float],
    decay: float,
) -> torch.optim.Optimizer:
    """AdamW with 8-bit states (Dettmers et al., ICLR 2022); those of less than 4,096 values stay in float32."""
    try:
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise ImportError(f"{EIGHT_BIT} needs bitsandbytes: pip install 'tadisr[8bit]'.") from None
    optimizer = AdamW8bit(parameters, rate, betas, weight_decay=decay)
    for group in optimizer.param_groups:  # as its first step would do: a resumed run must begin as the run went on
        for parameter in group["params"]:
            parameter.data = parameter.data.contiguous()
    return optimizer


def step_generator(seed: int, batch: int, process: int) -> torch.Generator:
    """The source of a batch's noise. PyTorch's own generator, which dropout draws from, is seeded with it."""
    generator = torch.Generator()
    number = int(np.random.SeedSequence([seed, batch, process]).generate_state(1, np.uint64)[0] >> 1)
    torch.manual_seed(number)
    return generator.manual_seed(number)


class Log:
    """The log of a run. Loss terms are written as means over steps and processes.

    A resumed run begins by deleting the lines of later steps: a killed run did them after its last checkpoint, and they
    are done again.
    """

    def __init__(self, accelerator: Accelerator, config: LoopConfig, step: int):
        """`step`: the steps done before this run."""
        self.accelerator = accelerator
        self.path = Path(config.output_dir) / "log.jsonl"
        self.sums: dict[str, torch.Tensor] = {}
        self.count, self.started, self.first_step = 0, time.time(), step
        if accelerator.is_main_process and self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("}\n") and json.loads(line).get("step", 0) <= step]
            write_atomically(self.path, "".join(kept))

    def add(self, terms: Terms) -> None:
        """Add the terms of one batch to the next means."""
        self.count += 1
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value.detach()  # on the device: reading would wait for it

    def write_terms(self, step: int, learning_rate: float) -> None:
        """Write the means since the last call; called by all processes."""
        means = {}
        if self.count:
            totals = reduced(self.accelerator, torch.stack(list(self.sums.values())) / self.count, "mean")
            means = dict(zip(self.sums, totals.tolist(), strict=True))
        seconds = (time.time() - self.started) / max(1, step - self.first_step)
        self.sums, self.count = {}, 0
        if self.accelerator.is_main_process:
            self._write({"step": step, "s/step": round(seconds, 3), "lr": learning_rate, **means})
        self.accelerator.log({**means, "lr": learning_rate}, step=step)

    def write_scores(self, step: int, scores: dict[str, float], sheet: np.ndarray | None) -> None:
        """Write a validation's scores, and its sheet (H, W, 3) uint8 RGB, if any, to OUTPUT_DIR/validation as well."""
        if self.accelerator.is_main_process:
            self._write({"step": step, **scores})
        self.accelerator.log(scores, step=step)
        if sheet is not None:
            folder = self.path.parent / "validation"
            folder.mkdir(exist_ok=True)
            Image.fromarray(sheet).save(picture := io.BytesIO(), "JPEG", quality=92)
            write_atomically(folder / f"{step:07d}.jpg", picture.getvalue())
            for tracker in self.accelerator.trackers:
                options = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                if tracker.name in ("tensorboard", "wandb"):
                    tracker.log_images({"validation": sheet[None]}, step=step, **options)

    def _write(self, record: dict[str, Any]) -> None:
        shown = {k: round(v, 4) if isinstance(v, float) and abs(v) > 1e-2 else v for k, v in record.items()}
        self.accelerator.print(shown, flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")


@dataclass(eq=False)
class TrainState:
    """How far a run is: `step` optimiser steps are done, each of `gradient_accumulation_steps` batches.

    All that is random in a batch depends on (seed, batch, process) alone, so a resumed run equals an unbroken one.
    Network, optimiser and schedule are prepared ones, at the step that the log begins at.
    """

    accelerator: Accelerator
    config: LoopConfig
    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    ema: EMAModel | None
    log: Log

    def __post_init__(self):
        self.parameters = trainable(self.accelerator.unwrap_model(self.network))
        self.step = self.log.first_step
        self.batch = self.step * self.config.gradient_accumulation_steps
        self.drop_step = False

    def advance(self, batch: Batch, terms: Callable[[torch.Generator], Terms]) -> bool:
        """Train on one batch, which holds "index" and "name" of its items; returns whether it completed a step.

        `terms` computes its named, weighted losses; the argument is the source of their noise. A loss that is not
        finite in any process takes its whole step with it: the weights stay as they are.
        """
        accelerator, config = self.accelerator, self.config
        with accelerator.accumulate(self.network):
            values = terms(step_generator(config.seed, self.batch, accelerator.process_index))
            first, *others = values.values()
            loss = sum(others, first)
            if float(reduced(accelerator, (~torch.isfinite(loss.detach())).float(), "sum")) == 0:
                accelerator.backward(loss)
                self.log.add(values)
            else:
                self._report_bad_batch(batch, values)
                self.drop_step = True
            if accelerator.sync_gradients and not self.drop_step:
                if config.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(self.parameters, config.max_grad_norm)
                self.optimizer.step()
            if accelerator.sync_gradients and not accelerator.optimizer_step_was_skipped:  # by loss scaling
                self.schedule.step()
            self.optimizer.zero_grad()
        self.batch += 1
        if not accelerator.sync_gradients:
            return False
        self.step, self.drop_step = self.step + 1, False
        if self.ema is not None:
            self.ema.step(self.parameters)
        if self.is_due(config.logging_steps):
            self.log.write_terms(self.step, float(self.schedule.get_last_lr()[0]))
        return True

    @property
    def is_done(self) -> bool:
        return self.step >= self.config.max_train_steps

    def is_due(self, every: int) -> bool:
        """True every `every` steps, and after the last step."""
        return self.step % every == 0 or self.is_done

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the parameters are their moving averages, if the run keeps any."""
        if self.ema is None:
            yield
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            yield
        finally:
            self.ema.restore(self.parameters)

    def _report_bad_batch(self, batch: Batch, terms: Terms) -> None:
        """Name the items of a batch in nan_batch.json, and stop if `on_nan` says so; called by all processes."""
        step, process = self.step + 1, self.accelerator.process_index
        crops = [{"index": int(index), "name": name} for index, name in zip(batch["index"], batch["name"], strict=True)]
        values = {name: str(float(value.detach())) for name, value in terms.items()}  # JSON has no nan
        records = gather_object([{"step": step, "process": process, "crops": crops, "terms": values}])
        path = Path(self.config.output_dir) / "nan_batch.json"
        if self.accelerator.is_main_process:
            with path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        found = {f"{name} {value}" for record in records for name, value in record["terms"].items()}
        bad = ", ".join(sorted(value for value in found if value.endswith(("nan", "inf"))))
        message = f"Step {step}: the loss is not finite ({bad}); {path} names the crops."
        if self.config.on_nan == "stop":
            raise ValueError(f"{message} Try a lower learning_rate or max_grad_norm 1, or --on_nan skip.")
        self.accelerator.print(f"{message} The step is skipped.", flush=True)
