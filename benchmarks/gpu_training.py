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
    """A training whose steps are timed, `count` of them, and then so many again are watched by PyTorch's profiler."""

    warm, count = 10, 10

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        self.step, self.times = 0, []
        self.profile = profile(activities=[ProfilerActivity.CUDA]) if torch.cuda.is_available() else None

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        which, rest = divmod(self.step - self.warm, self.count)
        if not rest and which in (0, 1, 2):
            self._look(which)
        self.step += 1
        return super().terms(network, batch, generator)

    def _look(self, which: int) -> None:
        if self.profile is not None:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        if which == 1 and self.profile is not None:
            self.profile.start()
            self.times.append(time.perf_counter())
        if which == 2:
            self._report()

    def _report(self) -> None:
        each = (self.times[1] - self.times[0]) / self.count
        found = {"seconds a step": each, "crops a second": self.config.train_batch_size / each}
        if self.profile is not None:
            self.profile.stop()
            spans = sorted(
                (event.time_range.start, event.time_range.end) for event in self.profile.events() or ()
                if event.device_type == torch.autograd.DeviceType.CUDA
            )  # fmt: skip
            found |= {"in kernels": covered(spans) / 1e6 / (self.times[-1] - self.times[-2])}
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
    parser.add_argument("--warm", type=int, default=Watched.warm, help="steps before the clock starts")
    parser.add_argument("--count", type=int, default=Watched.count, help="steps on the clock")
    parser.add_argument("--watch", action="store_true", help=argparse.SUPPRESS)
    args, flags = parser.parse_known_args(argv)
    config = parse(flags, TrainConfig)
    short = Path(config.output_dir).with_name(Path(config.output_dir).name + "_short")
    if args.watch:
        Watched.warm, Watched.count = args.warm, args.count
        every = dict.fromkeys(("logging_steps", "validation_steps", "checkpointing_steps"), NEVER)
        steps = args.warm + 2 * args.count + 1  # the clock stops in the last one
        options = {"output_dir": str(short), "validation_data_dir": None, "best_metric": None, "max_train_steps": steps}
        fit(replace(config, **options, **every), Watched)
        return
    watch = [sys.executable, __file__, "--watch", "--minutes=0", f"--warm={args.warm}", f"--count={args.count}"]
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
