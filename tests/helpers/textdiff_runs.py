"""Training runs of the recogniser and of TextDiff at toy size, in this process."""

import shutil
from pathlib import Path

import numpy as np
import torch

from helpers import training_runs as runs
from tadisr.datasets.textzoom import Line, resize, write_textzoom
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.training import train_crnn

SHARED = {
    "train_batch_size": 2, "max_train_steps": 6, "checkpointing_steps": 2, "validation_steps": 3, "logging_steps": 1,
    "num_validation_lines": 4, "dataloader_num_workers": 0, "learning_rate": 1e-3, "lr_scheduler": "cosine",
    "lr_warmup_steps": 1, "degradation": "fresh",
}  # fmt: skip
READER = {"channels": [8] * 7, "hidden": 8}
TOY = {
    "tem_channels": 8, "tem_blocks": 1, "prior_channels": 8, "heads": 2, "mask_channels": 4, "unet_channels": [8, 8],
    "unet_attention_from": 1, "num_inference_steps": 2,
}  # fmt: skip


def drawn(label: str, rng: np.random.Generator) -> Line:
    """Bars at places of their own for each character, on a coloured ground."""
    mask = np.zeros((32, 128), np.uint8)
    for i, c in enumerate(label.lower()):
        left, code = 4 + 12 * i, ord(c)
        for row in range(5):
            if code >> row & 1:
                mask[4 + 5 * row : 8 + 5 * row, left : left + 8] = 255
    ground, ink = rng.integers(0, 90, 3), rng.integers(160, 255, 3)
    hr = np.where(mask[..., None] > 0, ink, ground).astype(np.uint8)
    return Line(resize(hr, (16, 64)), hr, label, mask)


def databases(folder: Path) -> Path:
    """Databases in `folder`: train (with masks), validation, plain (without masks), greek, none (without lines)."""
    rng = np.random.default_rng(0)
    words = {
        "train": ["Exit", "taxi", "7up", "no-go", "Zoo"],
        "validation": ["quay", "B12", "sun"],
        "plain": ["abc", "de"],
        "greek": ["αβγ", "δε"],
        "none": [],
    }
    for name, labels in words.items():
        lines = [drawn(label, rng) for label in labels]
        if name == "plain":
            lines = [line._replace(mask=None) for line in lines]
        write_textzoom(folder / name, lines, len(lines))
    return folder


def save_reader(folder: Path, **config: int) -> Path:
    """A recogniser of toy size, in `folder`."""
    torch.manual_seed(3)
    CRNN(**READER, **config).save_pretrained(folder)
    return folder


def flags(settings: dict) -> list[str]:
    """The command line without what is None; lists as several words."""
    command = []
    for name, value in settings.items():
        if value is not None:
            command += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    return command


def train(module, out: Path, data: Path, reader: Path | None = None, **changes) -> Path:
    """Train with a script's `main`; errors are raised. Returns `out`."""
    toy = READER if module is train_crnn else {"recognizer": reader, "mask_rule": "exact", **TOY}
    settings = {
        "output_dir": out, "train_data_dir": [data / "train"], "validation_data_dir": [data / "validation"], **SHARED,
        **toy, **changes,
    }  # fmt: skip
    runs.fresh()
    try:
        module.main(flags(settings))
    finally:
        torch.set_flush_denormal(False)
    return out


def interrupted(whole: Path, place: Path, step: int) -> Path:
    """A copy of a finished run as if it had been killed after the checkpoint at `step`."""
    shutil.copytree(whole, place)
    for folder in place.glob("checkpoint-*"):
        if int(folder.name.split("-")[1]) > step:
            shutil.rmtree(folder)
    for name in ("weights", "best"):
        shutil.rmtree(place / name)
    return place
