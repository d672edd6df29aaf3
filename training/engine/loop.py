"""The training loop of all tasks, and what it keeps of a run.

OUTPUT_DIR gets checkpoint-N folders to resume from, the last weights in weights/, the best ones in best/, and the best
scores in best.json.
"""

import shutil
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import DistributedType, set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from tadisr.io.atomic import mend_folders, replacing_folder
from tadisr.training.engine.checkpoints import (
    find_checkpoint,
    keep_trained_only,
    load_checkpoint,
    read_best,
    save_checkpoint,
    step_of,
    write_best,
)
from tadisr.training.engine.processes import prepare_for_fsdp, reduced, start_accelerator
from tadisr.training.engine.task import C, Task, Validation
from tadisr.training.engine.train_state import Log, TrainState, build_optimizer, parameter_groups, trainable


def fit(config: C, task_class: type[Task[C]]) -> None:
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
    is_sharded = accelerator.distributed_type is DistributedType.FSDP
    if is_sharded and not task_class.can_be_sharded:
        raise ValueError("FSDP is for bases that do not fit a GPU whole, this network does: take accelerate/ddp.yaml.")
    set_seed(config.seed)

    # 1. Components and data; before them, what is cheap to find out.
    if accelerator.is_main_process:
        check_folder(output_dir)
    build_optimizer(config, [torch.nn.Parameter(torch.zeros(2, 2))])
    task = task_class(config, accelerator)
    if is_sharded:
        prepare_for_fsdp(accelerator, task.network)
    parameters = trainable(task.network)
    count = sum(p.numel() for p in parameters)
    optimizer = build_optimizer(config, parameter_groups(config, task.network))
    warmup, steps = config.lr_warmup_steps, config.max_train_steps
    schedule = get_scheduler(config.lr_scheduler, optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    batches = task.batches(step)
    if accelerator.is_main_process:
        mend_folders(output_dir, "checkpoint-*", "weights", "best")
        config.save(output_dir / "config.yaml")

    # 2. Processes.
    network, optimizer, schedule = accelerator.prepare(task.network, optimizer, schedule)
    ema = None
    if config.ema_decay:
        averaged = trainable(accelerator.unwrap_model(network))
        ema = EMAModel(averaged, decay=config.ema_decay, use_ema_warmup=True, power=0.75)
        accelerator.register_for_checkpointing(ema)
    keep_trained_only(accelerator)
    if config.report_to:
        scalars = {k: v if isinstance(v, (int, float, bool)) else str(v) for k, v in asdict(config).items()}
        accelerator.init_trackers(config.tracker_project_name, config=scalars)
    if checkpoint:
        load_checkpoint(accelerator, checkpoint, ema)
    state = TrainState(accelerator, config, network, optimizer, schedule, ema, Log(accelerator, config, step))
    keeper = WeightsKeeper(task, state)
    accelerator.print(f"{count:,} trained parameters; steps {step} to {steps}", flush=True)

    # 3. Steps.
    with task.running():
        for batch in batches:
            if state.is_done:
                break
            if not state.advance(batch, partial(task.terms, network, batch)):
                continue
            # The validation comes before the checkpoint: a run that is killed between them repeats it.
            is_best = state.is_due(config.validation_steps) and keeper.keep()
            if is_best or state.is_due(config.checkpointing_steps):
                save_checkpoint(accelerator, config, state.step)
    if accelerator.is_main_process:
        best = keeper.best
        task.finish(output_dir / ("best" if best else "weights"), best["step"] if best else state.step)
    accelerator.end_training()


def check_folder(folder: Path) -> None:
    """Make the folder; raises ValueError where nothing can be written in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(f"Nothing can be written in output_dir {folder}: {error.strerror}.") from None


class WeightsKeeper:
    """Validates, writes OUTPUT_DIR/weights, and OUTPUT_DIR/best where the weights are the best so far.

    best: step, metric, value and all scores of the best validation, in the main process.
    """

    def __init__(self, task: Task, state: TrainState):
        self.task, self.state = task, state
        self.output_dir = Path(state.config.output_dir)
        self.best = read_best(self.output_dir, state.step)

    def keep(self) -> bool:
        """Validate and write; returns whether the weights are the best so far. Called by all processes."""
        accelerator, network = self.state.accelerator, self.state.network
        is_best = torch.zeros((), device=accelerator.device)
        with self.state.averaged():
            validation = None
            if self.task.validates_together or accelerator.is_main_process:
                network.eval()
                with torch.no_grad():
                    validation = self.task.validate(network)
                network.train()
            with self.task.gathered():
                if accelerator.is_main_process:
                    is_best += self._write(validation)
        return bool(reduced(accelerator, is_best, "sum"))

    def _write(self, validation: Validation | None) -> bool:
        """Write the scores and weights, in the main process; returns whether they are the best so far."""
        step, weights = self.state.step, self.output_dir / "weights"
        if validation:
            self.state.log.write_scores(step, validation.scores, validation.sheet)
        with replacing_folder(weights) as folder:
            self.task.save(folder)
            self.task.describe(folder, step, validation)
        if not validation:
            return False
        metric, value = validation.metric, validation.value
        if self.best and self.best["metric"] == metric and self.best["value"] >= value:
            return False
        self.best = {"step": step, "metric": metric, "value": value, "scores": validation.scores}
        with replacing_folder(self.output_dir / "best") as folder:
            shutil.copytree(weights, folder, dirs_exist_ok=True)
        write_best(self.output_dir, self.best)
        return True
