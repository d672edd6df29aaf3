"""Train a text segmenter (paper 3.5): SAM-TS on a frozen SAM, or the tiny one that the package carries.

    accelerate launch training/train_segmenter.py --config training/configs/segmenter_sam.yaml --output_dir runs/sam_ts
    accelerate launch training/train_segmenter.py --config training/configs/segmenter_tiny.yaml

Interrupt it at any time; `--resume_from_checkpoint latest` goes on from the last checkpoint.
`TextSegmenter.from_pretrained` reads the trained weights in OUTPUT_DIR/weights, and the best so far in OUTPUT_DIR/best.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from tadisr.data_synthesis.judging.segment import TextSegmenter, TinyConfig, TinyTextSegmenter
from tadisr.metrics.segmentation import THRESHOLDS, foreground_scores, mask_counts
from tadisr.models.losses import dice_loss, focal_loss
from tadisr.training.data.segmentation_crops import SegmentationCrops, photo_list, validation_images
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.engine.loop import fit
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.task import Batch, Task, Terms, Validation, share, total_batches


@dataclass
class SegmenterConfig(LoopConfig):
    """Hi-SAM's recipe by default, as far as one is published. Flags are named as in diffusers' own training scripts."""

    FILES: ClassVar[tuple[str, ...]] = ("photo_list",)

    output_dir: str = "runs/segmenter"
    pretrained_model_name_or_path: str | None = None
    """Folder or Hub id of a `transformers` SAM to train SAM-TS on; None trains the tiny segmenter from scratch."""
    revision: str | None = None
    """Revision of the SAM on the Hub."""
    adapter_ratio: float = 0.25
    """See SamTSConfig, as for the next two."""
    prompt_tokens: int = 12
    image_detail: bool = True
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
    """Weight of a loss of every mask that the model returns, as the next two."""
    focal: float = 20.0
    dice: float = 1.0
    dice_squares: bool = False
    """See tadisr.models.losses.dice_loss."""
    gradient_checkpointing: bool = False
    """Only for SAM-TS."""
    lr_scheduler: str = "cosine"
    tracker_project_name: str = "segmenter"

    def __post_init__(self):
        super().__post_init__()
        self.check_counts("resolution", "validation_limit")
        if not self.train_data_dir:
            raise ValueError("Set train_data_dir to at least one data set with masks.")
        if not self.bce + self.focal + self.dice > 0:
            raise ValueError("Give at least one of bce, focal and dice a weight above 0.")


def build_segmenter(config: SegmenterConfig) -> TextSegmenter:
    """The untrained network."""
    if config.pretrained_model_name_or_path is None:
        return TinyTextSegmenter(TinyConfig(widths=list(config.widths)))
    from tadisr.data_synthesis.judging.sam_ts import SamTextSegmenter

    own = {name: getattr(config, name) for name in ("adapter_ratio", "prompt_tokens", "image_detail")}
    base = {"base_model": config.pretrained_model_name_or_path, "base_revision": config.revision}
    segmenter = SamTextSegmenter.build(base | own)
    if config.resolution != segmenter.tile:
        raise ValueError(f"This SAM works at {segmenter.tile} pixels: set resolution to that, not {config.resolution}.")
    if config.gradient_checkpointing:
        segmenter.enable_gradient_checkpointing()
    return segmenter


def segmentation_loss(logits: list[torch.Tensor], mask: torch.Tensor, config: SegmenterConfig) -> Terms:
    """Named, weighted terms, summed over the sizes (B, 1, h, w) that the model returns; mask (B, 1, H, W) in [0, 1]."""
    terms: Terms = {}
    for level in (x.float() for x in logits):
        truth = F.interpolate(mask, size=level.shape[-2:], mode="area")
        for name, weight, loss in (
            ("bce", config.bce, F.binary_cross_entropy_with_logits),
            ("focal", config.focal, focal_loss),
            ("dice", config.dice, lambda x, y: dice_loss(x.sigmoid(), y, config.dice_squares)),
        ):
            if weight:
                terms[name] = terms.get(name, 0.0) + weight * loss(level, truth)
    return terms


class Segmentation(Task[SegmenterConfig]):
    """A segmenter, learning where text is."""

    network: TextSegmenter

    def __init__(self, config: SegmenterConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        count = total_batches(config, self.accelerator) * config.train_batch_size
        self.crops = SegmentationCrops(  # before a SAM of a gigabyte is fetched
            config.train_data_dir, config.resolution, count, config.seed, config.text_share,
            photo_list(config.photo_list), config.photo_share, cache=config.cache_images,
        )  # fmt: skip
        self.network = build_segmenter(config).train()

    def batches(self, step: int) -> Iterable[Batch]:
        config = self.config
        loader = DataLoader(self.crops, config.train_batch_size, num_workers=config.dataloader_num_workers)
        return share(loader, config, self.accelerator, step)

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        images = batch["image"].contiguous(memory_format=torch.channels_last)
        return segmentation_loss(network(images), batch["mask"], self.config)

    def validate(self, network: nn.Module) -> Validation | None:
        """Foreground IoU and F at threshold 0.5, of the images as they are and of worn ones."""
        config, scores = self.config, {}
        if not config.validation_data_dir:
            return None
        at = int(np.argmin(np.abs(THRESHOLDS - 0.5)))
        for suffix, worn in (("", False), ("_worn", True)):
            pairs = validation_images(config.validation_data_dir, config.validation_limit, worn)
            images, truths = zip(*pairs, strict=True)
            masks = self.network.segment(list(images))
            result = foreground_scores(np.stack([*map(mask_counts, masks, truths)]))
            scores |= {f"fgiou{suffix}": float(result["iou"][at]), f"f{suffix}": float(result["f"][at])}
        return Validation(scores, "fgiou")

    def save(self, folder: Path) -> None:
        """A folder for `TextSegmenter.from_pretrained`."""
        self.network.save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    fit(parse(argv, SegmenterConfig), Segmentation)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
