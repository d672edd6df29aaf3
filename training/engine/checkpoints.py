"""Checkpoints that are whole or not there at all, and which of them are kept."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tadisr.training.data.page_crops import one_line

BEST_FILE = "best.json"
MARK = "config.yaml"  # written last, before checkpoints were renamed into place: old ones are told whole by it
WEIGHTS = "model.safetensors"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written; what was there before is whole."""


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """Settings that cannot be, missing files, a full disk: end the program with one line, not a traceback."""
    try:
        yield
    except (OSError, ImportError, ValueError, SafetensorError, CheckpointError) as error:
        raise SystemExit(one_line(error)) from None


def step_of(checkpoint: Path | None) -> int:
    """Steps done by a `checkpoint-N`; without one 0."""
    return int(checkpoint.name.split("-")[1]) if checkpoint else 0


def _is_whole(folder: Path) -> bool:
    name, _, step = folder.name.partition("-")
    return name == "checkpoint" and step.isdecimal() and (folder / MARK).is_file()


def whole_checkpoints(output_dir: Path) -> list[Path]:
    """Every `checkpoint-N` folder that was written completely, oldest first."""
    return sorted(filter(_is_whole, output_dir.glob("checkpoint-*")), key=step_of)


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest `checkpoint-N` folder that was written completely."""
    return next(reversed(whole_checkpoints(output_dir)), None)


def checkpoint_named(wanted: str, output_dir: Path) -> Path | None:
    """What `--resume_from_checkpoint` names: a `checkpoint-N` folder; "latest" is the newest, None without one.

    Raises:
        FileNotFoundError: the folder is not there, no checkpoint, or not whole.
    """
    if wanted == "latest":
        return latest_checkpoint(output_dir)
    if not _is_whole(Path(wanted)):
        raise FileNotFoundError(f"No complete checkpoint to resume from: {wanted}; name a checkpoint-N folder.")
    return Path(wanted)


def find_checkpoint(config: Any) -> Path | None:
    """The checkpoint to go on from; None: start at step 0.

    Raises:
        FileNotFoundError: the one that was asked for is not there, or not whole.
        ValueError: another run's checkpoints, or later ones, are in the way.
    """
    output_dir = Path(config.output_dir)
    wanted = config.resume_from_checkpoint
    checkpoint, held = checkpoint_named(wanted, output_dir) if wanted else None, whole_checkpoints(output_dir)
    if held and not wanted:
        raise ValueError(
            f"{output_dir} holds checkpoints of an earlier run: add --resume_from_checkpoint latest to go on with it, "
            "or choose another --output_dir."
        )
    if held and step_of(held[-1]) > step_of(checkpoint):  # rotation would keep them and delete the new ones
        raise ValueError(
            f"{output_dir} holds {held[-1].name}, later than {checkpoint}: delete what is later, or choose another "
            "--output_dir."
        )
    return checkpoint


def remove_torn(output_dir: Path) -> None:
    """Delete what an interrupted `save_checkpoint` or `replace_folder` left, and nothing else of what lies there.

    What a kill between `replace_folder`'s two renames put aside goes back to its place.
    """
    for name in ("checkpoint-*", "weights", "best"):
        for old in output_dir.glob(f".{name}.old"):
            place = old.with_name(old.name[1 : -len(".old")])
            if not place.exists():
                old.rename(place)
        for kind in ("part", "old"):
            for folder in output_dir.glob(f".{name}.{kind}"):
                shutil.rmtree(folder, ignore_errors=True)


def save_checkpoint(accelerator: Accelerator, config: Any, step: int) -> None:
    """Write `checkpoint-<step>` and rotate older ones; called by all processes.

    It is written under another name, flushed to the disk and then renamed: whenever the run is killed, a folder called
    `checkpoint-N` is whole. The newest `config.checkpoints_total_limit` stay, and the one that best.json names.

    Raises:
        CheckpointError: no space left, or another reason not to write; nothing of it stays.
    """
    output_dir = Path(config.output_dir)
    folder, part = output_dir / f"checkpoint-{step}", output_dir / f".checkpoint-{step}.part"
    try:
        accelerator.save_state(str(part))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            config.save(part / MARK)
            flush(part)
            replace_folder(part, folder)
            rotate(output_dir, config.checkpoints_total_limit)
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(part, ignore_errors=True)
        last = latest_checkpoint(output_dir)
        raise CheckpointError(
            f"{folder} could not be written ({' '.join(str(error).split())[:200]}); the last whole checkpoint is "
            f"{last or 'none'}. Make room and go on with --resume_from_checkpoint latest."
        ) from None
    accelerator.wait_for_everyone()


def flush(folder: Path) -> None:
    """Have the disk hold what was written below `folder`."""
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def rotate(output_dir: Path, limit: int) -> None:
    """Delete all but the newest `limit` checkpoints and the best one."""
    best = (read_best(output_dir) or {}).get("step")
    for old in whole_checkpoints(output_dir)[:-limit]:
        if step_of(old) != best:
            shutil.rmtree(old)


def read_best(output_dir: Path, step: int | None = None) -> dict[str, Any] | None:
    """What best.json says: step, metric and all scores of the best validation so far.

    A run that starts at `step` has no best of a later one: that was another run, or will be done again.
    """
    path = output_dir / BEST_FILE
    best = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return None if best and step is not None and best["step"] > step else best


def write_best(output_dir: Path, values: dict[str, Any]) -> None:
    """best.json, whole or not at all."""
    part = output_dir / f".{BEST_FILE}.part"
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(output_dir / BEST_FILE)


def replace_folder(new: Path, place: Path) -> None:
    """Put the finished folder `new` where `place` is. Killed in between, the old one lies in `.<name>.old`."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def keep_trained_only(accelerator: Accelerator) -> None:
    """Have checkpoints hold the trained parameters alone, by their plain names: not a base's gigabytes of frozen ones.

    Sharded weights (FSDP, DeepSpeed) are saved in their libraries' own formats, whole.
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
        model = models.pop()
        state = {name.removeprefix("module."): x for name, x in load_file(Path(folder) / WEIGHTS).items()}
        own = trained(model)
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
