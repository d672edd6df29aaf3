"""Train TADiSR (paper 4.1): LoRA on a pretrained base, or a small base from scratch.

    accelerate launch training/train_lora.py --config training/configs/paper_kolors.yaml --output_dir runs/kolors
    accelerate launch training/train_lora.py --config training/configs/tiny.yaml --output_dir runs/tiny

Several processes: add `--config_file training/accelerate/ddp.yaml --num_processes 4` after `launch` (fsdp.yaml and
deepspeed.yaml, too). Interrupt it at any time; `--resume_from_checkpoint latest` goes on from the last checkpoint.
Every setting is documented in `training/config.py`, all of it in `docs/train.md`.
"""

from pathlib import Path

import torch
from accelerate.utils import DistributedType, set_seed
from diffusers.optimization import get_scheduler

from tadisr.training.base import build_network, trainable
from tadisr.training.checkpoints import (
    find_checkpoint,
    mistakes_in_one_line,
    remove_torn,
    save_checkpoint,
    step_of,
)
from tadisr.training.config import parse_config
from tadisr.training.hub import create_repository, push
from tadisr.training.recognizer import RecognizerLoss
from tadisr.training.steps import Log, Steps, averaged, build_optimizer, resume, start_accelerator, start_keeping
from tadisr.training.trainer import Batches, Keeper, load_lpips, training_step
from tadisr.training.validation import network_factor


def main(argv: list[str] | None = None) -> None:
    """Train as the flags say (those of the command line by default)."""
    config = parse_config(argv)
    torch.set_flush_denormal(True)  # gradients of saturated units underflow, and CPUs crawl on denormal numbers
    output_dir = Path(config.output_dir)
    checkpoint = find_checkpoint(config)
    step = step_of(checkpoint)
    accelerator = start_accelerator(config)
    set_seed(config.seed)
    repository = None
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        remove_torn(output_dir)
        config.save(output_dir / "config.yaml")
        repository = create_repository(config) if config.push_to_hub else None
    accelerator.wait_for_everyone()

    # 1. Components. One process goes first: it downloads the base and encodes the prompt for all.
    with accelerator.main_process_first():
        network = build_network(config)
    if config.resolution % (factor := network_factor(network)):
        raise ValueError(f"With this base resolution must be a multiple of {factor}, not {config.resolution}.")
    if accelerator.distributed_type is DistributedType.FSDP:
        network = network.to(memory_format=torch.contiguous_format)
        plugin, found = accelerator.state.fsdp_plugin, {type(module).__name__ for module in network.modules()}
        names = plugin.transformer_cls_names_to_wrap or ()  # of all bases; accelerate wants no others than this one's
        plugin.transformer_cls_names_to_wrap = [name for name in names if name in found]
    lpips = load_lpips(config)
    recognizer = RecognizerLoss(config.recognizer) if config.recognizer else None
    optimizer = build_optimizer(config, trainable(network))
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )

    # 2. Data.
    batches = Batches(config, accelerator, step)

    # 3. Processes.
    network, optimizer, schedule = accelerator.prepare(network, optimizer, schedule)
    for frozen in (lpips, recognizer):
        if frozen is not None:
            frozen.to(accelerator.device)
    plain = accelerator.unwrap_model(network)
    parameters = trainable(plain)
    ema = start_keeping(accelerator, config, network)
    if checkpoint:
        resume(accelerator, checkpoint, ema)
    log = Log(accelerator, config, step)
    keep = Keeper(accelerator, config, log)
    accelerator.print(
        f"{sum(p.numel() for p in parameters):,} trained parameters; steps {step} to {config.max_train_steps}"
    )

    # 4. Train. The recorder stays installed: gradient checkpointing runs the layers again in backward.
    steps = Steps(accelerator, config, network, optimizer, schedule, ema, log)
    with plain.recording():
        for crops, lines in batches:
            if steps.last:
                break
            if not steps(
                crops, lambda _, both=(crops, lines): training_step(network, config, *both, lpips, recognizer)
            ):
                continue
            is_best = False
            if steps.due(config.validation_steps):
                with averaged(ema, parameters):
                    is_best = keep(network, steps.step)
            # After the validation: what is interrupted between them is done again.
            if steps.due(config.checkpointing_steps) or is_best:
                save_checkpoint(accelerator, config, steps.step)

    # 5. Hand over.
    if repository is not None:
        best = keep.best["step"] if keep.best else steps.step
        where = push(output_dir / ("best" if keep.best else "weights"), repository, best)
        accelerator.print(f"Uploaded: {where}")
    accelerator.end_training()


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
