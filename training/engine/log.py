"""What a training writes down: loss terms and scores, to the console, log.jsonl and the trackers."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from tadisr.io.atomic import write_atomically
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.processes import reduced


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

    def add(self, terms: dict[str, torch.Tensor]) -> None:
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
