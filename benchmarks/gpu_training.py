"""Train for so many minutes on a GPU, and see how busy it was: `training/train_lora.py`, with the steps that fit.

    python benchmarks/gpu_training.py --minutes 6 --config tiny_wide --train_data_dir DATA --device_pages true

All further flags are those of `train_lora.py`. A short run with the same settings comes first. It prints seconds a step
and the share of that time in which a kernel ran; after `--warm` steps, so that nothing is compiled any more. The steps
of the real run follow from it, and with them the learning rate's schedule.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn
from torch.profiler import ProfilerActivity, profile

from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.engine.loop import fit
from tadisr.training.engine.task import Batch, Terms
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.train_lora import Restoration

NEVER = 10**9


class Watched(Restoration):
    """A training whose steps are timed, from one step to another."""

    first, last = 10, 30

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        self.step, self.found = 0, {}
        on_gpu = accelerator.device.type == "cuda"
        self.synchronize = torch.cuda.synchronize if on_gpu else lambda: None
        self.profile = profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU])

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        if self.step in (self.first, self.last):
            self.synchronize()
            if self.step == self.first:
                self.profile.start()
                self.started = time.perf_counter()
            else:
                seconds = time.perf_counter() - self.started
                self.profile.stop()
                self._report(seconds / (self.last - self.first))
        self.step += 1
        return super().terms(network, batch, generator)

    def _report(self, each: float) -> None:
        found = {"seconds a step": each, "crops a second": self.config.train_batch_size / each}
        if torch.cuda.is_available():
            spans = sorted(
                (event.time_range.start, event.time_range.end) for event in self.profile.events() or ()
                if event.device_type == torch.autograd.DeviceType.CUDA
            )  # fmt: skip
            found |= {"in kernels": covered(spans) / 1e6 / each / (self.last - self.first)}
            found |= {"GiB": torch.cuda.max_memory_allocated() / 2**30}
        print(json.dumps({name: round(value, 4) for name, value in found.items()}), flush=True)


def covered(spans: list[tuple[float, float]]) -> float:
    """The length of the union of spans, sorted by their starts."""
    total, reached = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--minutes", type=float, required=True, help="of the steps alone")
    parser.add_argument("--warm", type=int, default=Watched.first, help="steps before the clock starts")
    parser.add_argument("--count", type=int, default=20, help="steps on the clock")
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args(argv)
    config = parse(flags, TrainConfig)
    short = Path(config.output_dir).with_name(Path(config.output_dir).name + "_short")
    if args.watch:
        Watched.first, Watched.last = args.warm, args.warm + args.count
        every = dict.fromkeys(("logging_steps", "validation_steps", "checkpointing_steps"), NEVER)
        # One step more, in which the clock stops. Nothing is validated: the run ends before its last step.
        fit(replace(config, output_dir=str(short), validation_data_dir=None, best_metric=None,
                    max_train_steps=Watched.last + 1, **every), Watched)  # fmt: skip
        return
    watch = [
        sys.executable,
        __file__,
        "--watch",
        "--minutes",
        "0",
        "--warm",
        str(args.warm),
        "--count",
        str(args.count),
    ]
    child = subprocess.run([*watch, *flags], stdout=subprocess.PIPE, text=True)
    shutil.rmtree(short, ignore_errors=True)
    measured = [line for line in child.stdout.splitlines() if line.startswith('{"seconds a step"')]
    if child.returncode or not measured:
        raise SystemExit(f"The short run failed:\n{child.stdout[-2000:]}")
    print(measured[0], flush=True)
    steps = max(1, int(60 * args.minutes / json.loads(measured[0])["seconds a step"]))
    half = max(1, (steps + 1) // 2)
    fit(replace(config, max_train_steps=steps, validation_steps=half, checkpointing_steps=half), Restoration)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
