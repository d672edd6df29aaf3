"""The batches of a TADiSR training: crops of pages and, for the recogniser, strips of text lines."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from tadisr.data_synthesis.degrade import Degradation
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops
from tadisr.training.data.realce_crops import MixedCrops, RealCECrops, make_masks
from tadisr.training.engine.task import Batch, share, total_batches
from tadisr.training.restoration.train_config import STORED, TrainConfig


class Batches:
    """The run's batches from step `step` on, on the device: crops and, with a recogniser, "lines", a batch of strips.

    A data set has one item for each crop of the whole run, so a step always sees the same crops. A stream is read on
    from where the run stopped.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, step: int):
        self.config, self.accelerator = config, accelerator
        self.surplus = 0
        fixed = None if config.degradation == STORED else Degradation.preset(config.degradation)
        if fixed is not None:
            fixed.scale = config.scale
        cropping = Cropping(config.resolution, fixed, config.text_share, config.augmentation, scale=config.scale)
        realce = self._realce(config.realce_data_dir) if config.realce_data_dir else None
        options: dict[str, Any] = {"batch_size": config.train_batch_size, "num_workers": config.dataloader_num_workers}
        if config.streaming:
            self.loaders = [self._stream(cropping, realce, step, options)]
            return
        pages = ConcatPages(config.train_data_dir, config.degradation == STORED, config.cache_pages)
        count = total_batches(config, accelerator)
        crops = FTSRCrops(pages, cropping, count * config.train_batch_size, config.seed)
        if realce is not None:
            crops = MixedCrops(crops, realce, config.realce_share, config.seed)
        loaders = [DataLoader(crops, **options)]
        if config.recognizer:
            length = count * config.recognizer_lines
            strips = FTSRLines(pages, length, config.seed, degradation=fixed, augmentation=config.augmentation)
            loaders.append(DataLoader(strips, config.recognizer_lines, num_workers=config.dataloader_num_workers))
        self.loaders = [share(loader, config, accelerator, step) for loader in loaders]

    def _realce(self, folder: str) -> RealCECrops:
        config, accelerator = self.config, self.accelerator
        aligned, masks = config.realce_aligned_list, config.realce_mask_dir
        if config.realce_segmenter and masks:
            ranks = accelerator.process_index, accelerator.num_processes
            make_masks(folder, aligned, masks, config.realce_segmenter, *ranks, accelerator.device)
            accelerator.wait_for_everyone()
        return RealCECrops(folder, config.resolution, config.seed, config.scale, config.text_share, aligned, masks)

    def _stream(self, cropping: Cropping, realce: RealCECrops | None, step: int, options: dict[str, Any]) -> DataLoader:
        from tadisr.training.data.ftsr_stream import FTSRStream

        config, accelerator = self.config, self.accelerator
        stream = FTSRStream(
            config.train_data_dir, cropping, config.seed, config.shuffle_buffer, accelerator.process_index,
            accelerator.num_processes, realce, config.realce_share, config.train_batch_size,
        )  # fmt: skip
        workers = min(options["num_workers"], stream.shards)
        # A loader begins with its first worker, so only whole rounds can be skipped. The batches that were seen of the
        # last round are read again, and left out by `__iter__`.
        seen = step * config.gradient_accumulation_steps
        self.surplus = seen % max(workers, 1)
        stream.skip = seen - self.surplus
        return DataLoader(stream, **options | {"num_workers": workers})

    def __iter__(self) -> Iterator[Batch]:
        for batches in islice(zip(*self.loaders, strict=True), self.surplus, None):
            crops, *lines = send_to_device(batches, self.accelerator.device)
            yield crops | {"lines": lines[0]} if lines else crops
