"""Train TADiSR (paper 4.1): LoRA on a pretrained base, or a small base from scratch.

    accelerate launch training/train_lora.py --config training/configs/paper_kolors.yaml --output_dir runs/kolors
    accelerate launch training/train_lora.py --config training/configs/tiny.yaml --output_dir runs/tiny

Interrupt it at any time; `--resume_from_checkpoint latest` goes on from the last checkpoint.
"""

import json
import time
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tadisr.training.config import TrainConfig, parse_config
from tadisr.training.data import FTSRCrops, FTSRLines
from tadisr.training.recognizer import RecognizerLoss
from tadisr.training.trainer import (
    as_pipeline,
    build_network,
    latest_checkpoint,
    network_input,
    save_checkpoint,
    trainable,
    validate,
)
from torch.utils.data import DataLoader

from tadisr.losses import tadisr_loss
from tadisr.models.network import TADiSRNetwork


def load_lpips(config: TrainConfig) -> torch.nn.Module | None:
    """LPIPS with a VGG backbone, as in the paper; None where its weight is 0."""
    if not config.lpips:
        return None
    import lpips
    from torchvision.models import vgg16

    file = config.lpips_weights
    if file and not Path(file).is_file():
        raise SystemExit(f"No LPIPS backbone at {file}: give a copy of torchvision's vgg16 weights.")
    try:
        network = lpips.LPIPS(net="vgg", pnet_rand=bool(file), verbose=False)
    except OSError as error:
        raise SystemExit(
            f"LPIPS' VGG weights cannot be downloaded ({error}): set --lpips_weights to a local copy, or --lpips 0."
        ) from None
    if file:
        backbone = vgg16()
        backbone.load_state_dict(torch.load(file, weights_only=True))
        for part in (getattr(network.net, f"slice{i}") for i in range(1, 6)):
            for name, module in part.named_children():  # named by their index in vgg16().features
                module.load_state_dict(backbone.features[int(name)].state_dict())
    return network.eval().requires_grad_(False)


def training_step(
    network: TADiSRNetwork,
    config: TrainConfig,
    batch: dict[str, torch.Tensor],
    lines: dict[str, torch.Tensor] | None,
    lpips: torch.nn.Module | None,
    recognizer: RecognizerLoss | None,
) -> dict[str, torch.Tensor]:
    """Named, weighted loss terms of one step."""
    image, mask_logits = network(network_input(batch["lr"], config.scale))
    terms = tadisr_loss(image, batch["hr"] * 2 - 1, mask_logits, batch["mask"], config, lpips)
    if recognizer is not None:
        image, mask_logits = network(network_input(lines["lr"], config.scale))
        target = lines["hr"] * 2 - 1
        for name, value in tadisr_loss(image, target, mask_logits, lines["mask"], config, lpips).items():
            terms[name] = (terms[name] + value) / 2
        terms["recognizer"] = config.recognizer_weight * recognizer(image.float(), target, lines["box"])
    return terms


def main() -> None:
    config = parse_config()
    torch.set_flush_denormal(True)  # gradients of saturated units underflow, and CPUs crawl on denormal numbers
    output_dir = Path(config.output_dir)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        log_with=config.report_to,
        project_dir=str(output_dir),
    )
    set_seed(config.seed)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        config.save(output_dir / "config.yaml")

    # 1. Components.
    network = build_network(config)
    parameters = trainable(network)
    lpips = load_lpips(config)
    recognizer = RecognizerLoss(config.recognizer) if config.recognizer else None
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, (config.adam_beta1, config.adam_beta2), weight_decay=config.adam_weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps * accelerator.num_processes,
        num_training_steps=config.max_train_steps * accelerator.num_processes,
    )

    # 2. Data: one item per crop of the whole run, so that a step always sees the same crops.
    items = config.max_train_steps * config.gradient_accumulation_steps * accelerator.num_processes
    crops = FTSRCrops(
        config.train_data_dir,
        config.resolution,
        items * config.train_batch_size,
        config.seed,
        config.text_share,
        cache=config.cache_pages,
    )
    loaders = [DataLoader(crops, config.train_batch_size, num_workers=config.dataloader_num_workers)]
    if recognizer is not None:
        strips = FTSRLines(config.train_data_dir, items * config.recognizer_lines, config.seed)
        loaders.append(DataLoader(strips, config.recognizer_lines, num_workers=config.dataloader_num_workers))

    network, optimizer, schedule, *loaders = accelerator.prepare(network, optimizer, schedule, *loaders)
    for frozen in (lpips, recognizer):
        if frozen is not None:
            frozen.to(accelerator.device)
    plain = accelerator.unwrap_model(network)
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75) if config.ema_decay else None
    if ema is not None:
        accelerator.register_for_checkpointing(ema)
    if config.report_to:
        accelerator.init_trackers("tadisr")

    # 3. Resume.
    step = 0
    if config.resume_from_checkpoint:
        wanted = config.resume_from_checkpoint
        folder = latest_checkpoint(output_dir) if wanted == "latest" else Path(wanted)
        if folder is None or not (folder / "config.yaml").is_file():
            raise SystemExit(f"No complete checkpoint to resume from: {folder or output_dir}.")
        accelerator.load_state(str(folder))
        step = int(folder.name.split("-")[1])
        skipped = step * config.gradient_accumulation_steps
        loaders = [accelerator.skip_first_batches(loader, skipped) for loader in loaders]
    accelerator.print(
        f"{sum(p.numel() for p in parameters):,} trained parameters; steps {step} to {config.max_train_steps}"
    )

    # 4. Train. The recorder stays installed: gradient checkpointing runs the layers again in backward.
    log = (output_dir / "log.jsonl").open("a", encoding="utf-8") if accelerator.is_main_process else None
    sums: dict[str, float] = {}
    started, since = time.time(), step

    def evaluate() -> None:
        if ema is not None:
            ema.store(parameters)
            ema.copy_to(parameters)
        if accelerator.is_main_process:
            if config.validation_data_dir:
                scores = validate(plain, config.validation_data_dir, config.scale, accelerator.device)
                accelerator.print(step, {k: round(v, 4) for k, v in scores.items()}, flush=True)
                log.write(json.dumps({"step": step, **scores}) + "\n")
                accelerator.log(scores, step=step)
            as_pipeline(plain, config).save_pretrained(output_dir / "weights")
        if ema is not None:
            ema.restore(parameters)

    with plain.recording():
        for batches in zip(*loaders, strict=True):
            if step >= config.max_train_steps:
                break
            with accelerator.accumulate(network):
                lines = batches[1] if recognizer is not None else None
                terms = training_step(network, config, batches[0], lines, lpips, recognizer)
                accelerator.backward(sum(terms.values()))
                if accelerator.sync_gradients and config.max_grad_norm is not None:
                    accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + float(value.detach()) / 50
            if not accelerator.sync_gradients:
                continue
            step += 1
            if ema is not None:
                ema.step(parameters)
            if step % 50 == 0 and accelerator.is_main_process:
                seconds = (time.time() - started) / (step - since)
                record = {
                    "step": step,
                    "s/step": round(seconds, 3),
                    "lr": schedule.get_last_lr()[0],
                    **{k: round(v, 5) for k, v in sums.items()},
                }
                accelerator.print(record, flush=True)
                log.write(json.dumps(record) + "\n")
                log.flush()
                accelerator.log(sums, step=step)
                sums = {}
            if step % config.checkpointing_steps == 0 or step == config.max_train_steps:
                save_checkpoint(accelerator, config, step)
            if step % config.validation_steps == 0 or step == config.max_train_steps:
                evaluate()
    accelerator.end_training()


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None
