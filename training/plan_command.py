"""`tadisr plan`: what a training on a pretrained base takes, before anything is fetched or trained."""

import argparse
import json
import sys
from pathlib import Path

from tadisr.io.messages import UserError, one_line, quiet, say

GIB = 2**30
ROOM = 1.15
"""What an allocator, libraries and the driver add to the live tensors. A guess: no GPU was measured."""
SHARE = 0.35
"""Of a GPU's peak that training reaches. A guess, too."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("config", metavar="CONFIG", help="a training configuration, such as training/configs/sdxl_24gb.yaml")
    add("--memory", type=float, metavar="GB", help="the GPU's memory: say whether the training fits (exit code 1: no)")
    add("--tflops", type=float, metavar="N", help="the GPU's peak in the training's precision, for seconds a step")
    add("--measured", metavar="RUN", help="the output folder of a training on this GPU: seconds a step at its speed")
    add("--json", action="store_true", help="print the figures as JSON on stdout")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings, such as resolution=768 rank_unet=16")


def run(args: argparse.Namespace) -> int:
    """Count and say; 1 where --memory is not enough."""
    from tadisr.training.engine.command_line import parse
    from tadisr.training.restoration.plan import count
    from tadisr.training.restoration.train_config import TrainConfig

    try:
        config = parse(["--config", args.config, *(f"--{setting}" for setting in args.set)], TrainConfig)
        measured = _seconds(Path(args.measured)) if args.measured else None
        with quiet():
            plan = count(config)
            work, speed, basis = plan.flops * config.gradient_accumulation_steps, None, ""
            if measured:
                done = parse(["--config", str(Path(args.measured) / "config.yaml")], TrainConfig)
                speed = count(done).flops * done.gradient_accumulation_steps / measured
                basis = f"at the {speed / 1e12:.3g} TFLOP/s of {args.measured}"
            elif args.tflops:
                speed, basis = args.tflops * 1e12 * SHARE, f"at {SHARE:.0%} of {args.tflops:g}"
    except SystemExit as error:
        raise UserError(str(error)) from None
    except (OSError, ValueError, ImportError) as error:
        raise UserError(one_line(error)) from None
    figures = {
        "base's weights": plan.frozen, "trained weights": plan.trained, "gradients": plan.gradients,
        "optimiser": plan.optimizer,
        "activations": plan.peak - plan.frozen - plan.trained - plan.optimizer,
    }  # fmt: skip
    needed = max(plan.peak, plan.validation) * ROOM
    fits = args.memory is None or needed <= args.memory * GIB
    if args.json:
        more = {"with_room": round(needed), "fits": fits, "seconds": speed and work / speed}
        print(json.dumps({**vars(plan), **more}), file=sys.stdout)  # noqa: T201
        return 0 if fits else 1
    say(f"{config.pretrained_model_name_or_path}: {plan.parameters:,} trained values, crops of {config.resolution} px")
    for name, size in figures.items():
        say(f"{size / GIB:6.2f} GiB {name}")
    say(f"{plan.peak / GIB:6.2f} GiB at most in a training step, {plan.validation / GIB:.2f} in validation")
    verdict = "" if args.memory is None else f": {'fits' if fits else 'does not fit'} {args.memory:g} GiB"
    say(f"{needed / GIB:6.2f} GiB with room for the allocator and the driver{verdict}")
    say(f"{work / 1e12:6.1f} TFLOP a step" + (f", {work / speed:.2f} s {basis}" if speed else ""))
    return 0 if fits else 1


def _seconds(run: Path) -> float:
    """Seconds a step over a run, validations included; ValueError where its log says none."""
    log = run / "log.jsonl"
    lines = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    if not (found := [line["s/step"] for line in lines if line.get("s/step")]):
        raise ValueError(f"{log} says no seconds a step: let the training log a few first (logging_steps).")
    return found[-1]
