"""Train a text segmenter (paper 3.5): SAM-TS on a frozen SAM, or the tiny one that the package carries.

    accelerate launch training/train_segmenter.py --config training/configs/segmenter_sam.yaml --output_dir runs/sam_ts
    accelerate launch training/train_segmenter.py --config training/configs/segmenter_tiny.yaml

Interrupt it at any time; `--resume_from_checkpoint latest` goes on from the last checkpoint. What it trained lies in
OUTPUT_DIR/weights, for `TextSegmenter.from_pretrained`.
"""

import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from tadisr.data_synthesis.segment import TextSegmenter, TinyConfig, TinyTextSegmenter
from tadisr.training.checkpoints import checkpoint_named, mistakes_in_one_line, save_checkpoint, step_of
from tadisr.training.config import parse
from tadisr.training.segmentation_data import SegmentationCrops, photo_list, validation_images
from tadisr.training.trainer import trainable
from torch.utils.data import DataLoader

from tadisr.losses import dice_loss, focal_loss
from tadisr.metrics.segmentation import THRESHOLDS, foreground_scores, mask_counts


@dataclass
class SegmenterConfig:
    """Hi-SAM's recipe by default, as far as one is published. Flags are named as in diffusers' own training scripts."""

    output_dir: str = "runs/segmenter"
    """Checkpoints, logs and the trained weights go here."""
    pretrained_model_name_or_path: str | None = None
    """Folder or Hub id of a `transformers` SAM to train SAM-TS on; None trains the tiny segmenter from scratch."""
    revision: str | None = None
    """Revision of the SAM on the Hub."""
    adapter_ratio: float = 0.25
    prompt_tokens: int = 12
    image_detail: bool = True
    """These three: see SamTSConfig."""
    widths: list[int] = field(default_factory=lambda: list(TinyConfig().widths))
    """Of the tiny segmenter, see TinyConfig."""
    train_data_dir: list[str] = field(default_factory=list)
    """FTSR data sets, and KIND:PATH for other layouts with masks: textseg:data/TextSeg, bts:data/BTS."""
    validation_data_dir: str | None = None
    """FTSR data set whose test split is validated on, or KIND:PATH."""
    validation_limit: int = 100
    photo_list: str | None = None
    """Text file that names photographs without text, one a line; some crops come from them."""
    photo_share: float = 0.08
    text_share: float = 0.9
    """Share of the other crops that must hold text."""
    cache_images: bool = False
    """Keep every image decoded in memory: for small sets and small machines."""
    resolution: int = 256
    """Side of the square crops, pixels; for SAM-TS, the side that the SAM works at."""
    bce: float = 0.0
    focal: float = 20.0
    dice: float = 1.0
    """Weights of the three losses, each applied to every mask the model returns."""
    train_batch_size: int = 1
    """Crops per process."""
    max_train_steps: int = 100_000
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    """Only for SAM-TS."""
    learning_rate: float = 1e-4
    lr_scheduler: str = "cosine"
    """One of diffusers' schedules: constant, constant_with_warmup, cosine, linear, ..."""
    lr_warmup_steps: int = 0
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    max_grad_norm: float | None = None
    ema_decay: float | None = None
    """Keep an exponential moving average of the trained weights; it is what is validated and saved."""
    seed: int = 0
    mixed_precision: str = "no"
    dataloader_num_workers: int = 1
    resume_from_checkpoint: str | None = None
    """A checkpoint folder, or "latest"; with the latter a run that has none yet starts at step 0."""
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    validation_steps: int = 500

    def __post_init__(self):
        if not self.train_data_dir:
            raise ValueError("Set train_data_dir to at least one data set with masks.")
        if not self.bce + self.focal + self.dice > 0:
            raise ValueError("Give at least one of bce, focal and dice a weight above 0.")

    def save(self, path: Path) -> None:
        """Write the resolved values as YAML."""
        path.write_text(yaml.safe_dump(asdict(self), sort_keys=False), encoding="utf-8")


def parse_config(argv: list[str] | None = None) -> SegmenterConfig:
    """`--config FILE.yaml` first, then flags on top. Unknown keys and flags end the program with one line."""
    return parse(argv, SegmenterConfig)


def build_segmenter(config: SegmenterConfig) -> TextSegmenter:
    """The untrained network."""
    if config.pretrained_model_name_or_path is None:
        return TinyTextSegmenter(TinyConfig(widths=list(config.widths)))
    from tadisr.data_synthesis.sam_ts import SamTextSegmenter

    segmenter = SamTextSegmenter.build(
        {
            "base_model": config.pretrained_model_name_or_path,
            "base_revision": config.revision,
            "adapter_ratio": config.adapter_ratio,
            "prompt_tokens": config.prompt_tokens,
            "image_detail": config.image_detail,
        }
    )
    if config.resolution != segmenter.tile:
        raise ValueError(f"This SAM works at {segmenter.tile} pixels: set resolution to that, not {config.resolution}.")
    if config.gradient_checkpointing:
        segmenter.enable_gradient_checkpointing()
    return segmenter


def segmentation_loss(
    logits: list[torch.Tensor], mask: torch.Tensor, config: SegmenterConfig
) -> dict[str, torch.Tensor]:
    """Named, weighted terms, summed over the sizes (B, 1, h, w) that the model returns; mask (B, 1, H, W) in [0, 1]."""
    terms: dict[str, torch.Tensor] = {}
    for level in (x.float() for x in logits):
        truth = F.interpolate(mask, size=level.shape[-2:], mode="area")
        for name, weight, loss in (
            ("bce", config.bce, lambda x, y: F.binary_cross_entropy_with_logits(x, y)),
            ("focal", config.focal, focal_loss),
            ("dice", config.dice, lambda x, y: dice_loss(x.sigmoid(), y)),
        ):
            if weight:
                terms[name] = terms.get(name, 0.0) + weight * loss(level, truth)
    return terms


def validate(segmenter: TextSegmenter, config: SegmenterConfig) -> dict[str, float]:
    """Foreground IoU and F at threshold 0.5, of the images as they are and of worn ones."""
    scores = {}
    at = int(np.argmin(np.abs(THRESHOLDS - 0.5)))
    for suffix, worn in (("", False), ("_worn", True)):
        images, truths = zip(*validation_images(config.validation_data_dir, config.validation_limit, worn), strict=True)
        masks = segmenter.segment(list(images))
        counts = np.stack([mask_counts(mask, truth) for mask, truth in zip(masks, truths, strict=True)])
        result = foreground_scores(counts)
        scores |= {f"fgiou{suffix}": float(result["iou"][at]), f"f{suffix}": float(result["f"][at])}
    return scores


def main() -> None:
    config = parse_config()
    torch.set_flush_denormal(True)  # gradients of saturated units underflow, and CPUs crawl on denormal numbers
    output_dir = Path(config.output_dir)
    accelerator = Accelerator(
        mixed_precision=config.mixed_precision, gradient_accumulation_steps=config.gradient_accumulation_steps
    )
    set_seed(config.seed)

    # 1. Components.
    segmenter = build_segmenter(config)
    parameters = trainable(segmenter)
    optimizer = torch.optim.AdamW(
        parameters, config.learning_rate, (0.9, config.adam_beta2), weight_decay=config.adam_weight_decay
    )
    schedule = get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps * accelerator.num_processes,
        num_training_steps=config.max_train_steps * accelerator.num_processes,
    )

    # 2. Data: one item per crop of the whole run, so that a step always sees the same crops.
    items = config.max_train_steps * config.gradient_accumulation_steps * accelerator.num_processes
    crops = SegmentationCrops(
        config.train_data_dir,
        config.resolution,
        items * config.train_batch_size,
        config.seed,
        config.text_share,
        photo_list(config.photo_list),
        config.photo_share,
        cache=config.cache_images,
    )
    loader = DataLoader(crops, config.train_batch_size, num_workers=config.dataloader_num_workers)
    if accelerator.is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        config.save(output_dir / "config.yaml")

    segmenter, optimizer, schedule, loader = accelerator.prepare(segmenter, optimizer, schedule, loader)
    plain = accelerator.unwrap_model(segmenter)
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75) if config.ema_decay else None
    if ema is not None:
        accelerator.register_for_checkpointing(ema)

    # 3. Resume.
    checkpoint = checkpoint_named(config.resume_from_checkpoint, output_dir) if config.resume_from_checkpoint else None
    step = step_of(checkpoint)
    if checkpoint:
        accelerator.load_state(str(checkpoint))
        loader = accelerator.skip_first_batches(loader, step * config.gradient_accumulation_steps)
    accelerator.print(
        f"{sum(p.numel() for p in parameters):,} trained parameters, {len(crops):,} crops; "
        f"steps {step} to {config.max_train_steps}"
    )

    # 4. Train.
    log = (output_dir / "log.jsonl").open("a", encoding="utf-8") if accelerator.is_main_process else None
    sums: dict[str, float] = {}
    started, since = time.time(), step

    def record(values: dict[str, float]) -> None:
        accelerator.print({k: round(v, 5) for k, v in values.items()}, flush=True)
        log.write(json.dumps(values) + "\n")
        log.flush()

    def evaluate() -> None:
        if ema is not None:
            ema.store(parameters)
            ema.copy_to(parameters)
        if accelerator.is_main_process:
            plain.save_pretrained(output_dir / "weights")
            if config.validation_data_dir:
                record({"step": step, "minutes": (time.time() - started) / 60, **validate(plain, config)})
        if ema is not None:
            ema.restore(parameters)

    segmenter.train()
    for batch in loader:
        if step >= config.max_train_steps:
            break
        with accelerator.accumulate(segmenter):
            images = batch["image"].contiguous(memory_format=torch.channels_last)
            terms = segmentation_loss(segmenter(images), batch["mask"], config)
            accelerator.backward(sum(terms.values()))
            if accelerator.sync_gradients and config.max_grad_norm is not None:
                accelerator.clip_grad_norm_(parameters, config.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        for name, value in terms.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach()) / config.gradient_accumulation_steps
        if not accelerator.sync_gradients:
            continue
        step += 1
        if ema is not None:
            ema.step(parameters)
        if step % 50 == 0 and accelerator.is_main_process:
            seconds = (time.time() - started) / (step - since)
            means = {name: value / 50 for name, value in sums.items()}
            record({"step": step, "s/step": seconds, "lr": schedule.get_last_lr()[0], **means})
            sums = {}
        if step % config.validation_steps == 0 or step == config.max_train_steps:
            evaluate()  # before the checkpoint: what is interrupted between them is done again
        if step % config.checkpointing_steps == 0 or step == config.max_train_steps:
            save_checkpoint(accelerator, config, step)
    accelerator.end_training()


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
