"""`tadisr plan`: what a training on a pretrained base takes, before anything is fetched or trained."""

import argparse
import json
import sys

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
    add("--json", action="store_true", help="print the figures as JSON on stdout")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other settings, such as resolution=768 rank_unet=16")


def run(args: argparse.Namespace) -> int:
    """Count and say; 1 where --memory is not enough."""
    from tadisr.training.engine.command_line import parse
    from tadisr.training.restoration.plan import count
    from tadisr.training.restoration.train_config import TrainConfig

    try:
        config = parse(["--config", args.config, *(f"--{setting}" for setting in args.set)], TrainConfig)
        with quiet():
            plan = count(config)
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
        print(json.dumps({**vars(plan), "with_room": round(needed), "fits": fits}), file=sys.stdout)  # noqa: T201
        return 0 if fits else 1
    say(f"{config.pretrained_model_name_or_path}: {plan.parameters:,} trained values, crops of {config.resolution} px")
    for name, size in figures.items():
        say(f"{size / GIB:6.2f} GiB {name}")
    say(f"{plan.peak / GIB:6.2f} GiB at most in a training step, {plan.validation / GIB:.2f} in validation")
    verdict = "" if args.memory is None else f": {'fits' if fits else 'does not fit'} {args.memory:g} GiB"
    say(f"{needed / GIB:6.2f} GiB with room for the allocator and the driver{verdict}")
    work = plan.flops * config.gradient_accumulation_steps
    seconds = f", {work / (args.tflops * 1e12 * SHARE):.2f} s at {SHARE:.0%} of {args.tflops:g}" if args.tflops else ""
    say(f"{work / 1e12:6.1f} TFLOP a step{seconds}")
    return 0 if fits else 1
