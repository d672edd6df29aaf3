"""Checkpoints that are whole or not there at all, and the choice of those that are kept."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tadisr.io.atomic import flush, replace_folder, write_atomically
from tadisr.io.messages import one_line
from tadisr.io.structured import read_json
from tadisr.training.engine.loop_config import LoopConfig

BEST_FILE = "best.json"
WEIGHTS = "model.safetensors"


class CheckpointError(OSError):
    """A checkpoint could not be written; the earlier ones are whole."""


def step_of(checkpoint: Path | None) -> int:
    """The steps that a `checkpoint-N` has done; 0 without one."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


def _is_checkpoint(folder: Path) -> bool:
    name, _, step = folder.name.partition("-")
    return name == "checkpoint" and step.isdecimal() and folder.is_dir()


def all_checkpoints(output_dir: Path) -> list[Path]:
    """Every `checkpoint-N` folder, oldest first."""
    return sorted(filter(_is_checkpoint, output_dir.glob("checkpoint-*")), key=step_of)


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest `checkpoint-N` folder."""
    return next(reversed(all_checkpoints(output_dir)), None)


def find_checkpoint(config: LoopConfig) -> Path | None:
    """The checkpoint that `resume_from_checkpoint` names; None: start at step 0.

    Raises:
        FileNotFoundError: the folder that it names is no checkpoint.
        ValueError: another run's checkpoints, or later ones, are in the way.
    """
    output_dir, wanted = Path(config.output_dir), config.resume_from_checkpoint
    held = all_checkpoints(output_dir)
    if held and not wanted:
        raise ValueError(
            f"{output_dir} holds checkpoints of an earlier run: add --resume_from_checkpoint latest to go on with it, "
            "or choose another --output_dir."
        )
    checkpoint = held[-1] if wanted == "latest" and held else None
    if wanted and wanted != "latest":
        checkpoint = Path(wanted)
        if not _is_checkpoint(checkpoint):
            raise FileNotFoundError(f"No complete checkpoint to resume from: {wanted}; name a checkpoint-N folder.")
    if held and step_of(held[-1]) > step_of(checkpoint):  # rotation would keep them and delete the new ones
        raise ValueError(
            f"{output_dir} holds {held[-1].name}, later than {checkpoint}: delete what is later, or choose another "
            "--output_dir."
        )
    return checkpoint


def save_checkpoint(accelerator: Accelerator, config: LoopConfig, step: int) -> None:
    """Write `checkpoint-<step>` and delete older ones; called by all processes.

    The folder gets its name when it is whole and on the disk, so a run may be killed at any moment. The newest
    `config.checkpoints_total_limit` checkpoints stay, and the one that best.json names.

    Raises:
        CheckpointError: no space left, or another reason not to write; nothing of the new checkpoint stays.
    """
    output_dir = Path(config.output_dir)
    folder, part = output_dir / f"checkpoint-{step}", output_dir / f".checkpoint-{step}.part"
    try:
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            config.save(part / "config.yaml")
            flush(part)
            replace_folder(part, folder)
            delete_older(output_dir, config.checkpoints_total_limit)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{folder} could not be written ({one_line(error, 200)}); the last whole checkpoint is "
            f"{latest_checkpoint(output_dir) or 'none'}. Make room and go on with --resume_from_checkpoint latest."
        ) from None
    accelerator.wait_for_everyone()


def delete_older(output_dir: Path, limit: int) -> None:
    """Delete all checkpoints but the newest `limit` and the best one."""
    best = (read_best(output_dir) or {}).get("step")
    for old in all_checkpoints(output_dir)[:-limit]:
        if step_of(old) != best:
            shutil.rmtree(old)


def load_checkpoint(accelerator: Accelerator, checkpoint: Path, ema: EMAModel | None) -> None:
    """Load a checkpoint into the prepared network, optimiser and schedule, and into the moving averages."""
    accelerator.load_state(str(checkpoint))
    if ema is not None:
        ema.to(accelerator.device)  # accelerate loads it onto the CPU


def read_best(output_dir: Path, step: int | None = None) -> dict[str, Any] | None:
    """The best validation so far, from best.json: its step, metric, value and all scores.

    One of a step later than `step`, where the run starts, does not count: it is another run's, or will be repeated.
    """
    path = output_dir / BEST_FILE
    best = read_json(path) if path.is_file() else None
    return None if best and step is not None and best["step"] > step else best


def write_best(output_dir: Path, values: dict[str, Any]) -> None:
    """Write best.json."""
    write_atomically(output_dir / BEST_FILE, json.dumps(values, indent=2) + "\n")


def keep_trained_only(accelerator: Accelerator) -> None:
    """Have checkpoints hold the trained parameters alone, by their plain names, without a base's frozen gigabytes.

    Sharded weights (FSDP, DeepSpeed) are saved whole, in their libraries' own formats.
    """
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED):
        return

    def trained(model: nn.Module) -> dict[str, torch.Tensor]:
        plain = accelerator.unwrap_model(model)
        return {name: x for name, x in plain.named_parameters() if x.requires_grad} | dict(plain.named_buffers())

    def save(models: list[nn.Module], weights: list[dict], folder: str) -> None:
        weights.clear()
        if accelerator.is_main_process:
            [model] = models
            state = {name: x.detach().contiguous() for name, x in trained(model).items()}
            save_file(state, Path(folder) / WEIGHTS, metadata={"format": "pt"})

    def load(models: list[nn.Module], folder: str) -> None:
        state, own = load_file(Path(folder) / WEIGHTS), trained(models.pop())
        wrong = [name for name, x in own.items() if name not in state or state[name].shape != x.shape]
        if wrong:
            raise ValueError(
                f"{folder} was written with another base or other settings: {len(wrong)} of {len(own)} trained tensors "
                f"differ, such as {wrong[0]}."
            )
        with torch.no_grad():
            for name, x in own.items():
                x.copy_(state[name])

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)
