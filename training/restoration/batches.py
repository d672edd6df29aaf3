"""The batches of a TADiSR training: crops of pages and, for the recogniser, strips of text lines."""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from tadisr.data_synthesis.degrade import Degradation
from tadisr.training.data.device_crops import DeviceCrops
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops
from tadisr.training.data.realce_crops import MixedCrops, RealCECrops, make_masks
from tadisr.training.engine.task import Batch, share, total_batches
from tadisr.training.restoration.train_config import STORED, TrainConfig

if TYPE_CHECKING:
    from tadisr.training.data.ftsr_stream import FTSRStream


class Batches:
    """The run's batches, on the device: crops and, with a recogniser, "lines", a batch of strips.

    A data set has one item for each crop of the whole run, so a step always sees the same crops. A stream is read on
    from where the run stopped. The data are opened at once, and their first item is made, so that what is wrong with
    them is known before a base is fetched.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        self.config, self.accelerator = config, accelerator
        self.surplus = 0
        self.loaders: list[Any] = []
        self.crops: DeviceCrops | None = None
        fixed = None if config.degradation == STORED else Degradation.preset(config.degradation)
        if fixed is not None:
            fixed.scale = config.scale
        prompts = config.mask_prompt_share if config.mask_prompt else None
        cropping = Cropping(
            config.resolution, fixed, config.text_share, config.augmentation, scale=config.scale, prompt_share=prompts
        )
        realce = self._realce(config.realce_data_dir) if config.realce_data_dir else None
        self.stream = None
        if config.streaming:
            self.stream = self._stream(cropping, realce)
            return
        cache = config.cache_pages and not config.device_pages
        pages = ConcatPages(config.train_data_dir, config.degradation == STORED, cache)
        count = total_batches(config, accelerator)
        first: list[Any] = []
        self.data: list[Any] = []
        if config.device_pages:
            self.crops = DeviceCrops(pages, cropping, config.train_batch_size, config.seed, accelerator.device)
        else:
            crops = FTSRCrops(pages, cropping, count * config.train_batch_size, config.seed)
            first += [crops] if realce is None else [crops, realce]
            if realce is not None:
                crops = MixedCrops(crops, realce, config.realce_share, config.seed)
            self.data.append((crops, config.train_batch_size))
        if config.recognizer:
            length = count * config.recognizer_lines
            strips = FTSRLines(
                pages, length, config.seed, (64, config.recognizer_width), degradation=fixed,
                augmentation=config.augmentation, whole=config.recognizer_ctc > 0,
            )  # fmt: skip
            first.append(strips)
            self.data.append((strips, config.recognizer_lines))
        for items in first:
            items[0]

    def start(self, step: int) -> "Batches":
        """The batches from step `step` on."""
        workers = self.config.dataloader_num_workers
        if self.stream is not None:
            self.loaders = [self._from_stream(self.stream, step, workers)]
        else:
            loaders = [DataLoader(items, size, num_workers=workers) for items, size in self.data]
            self.loaders = [share(loader, self.config, self.accelerator, step) for loader in loaders]
        if self.crops is not None:
            begun = step * self.config.gradient_accumulation_steps
            processes, rank = self.accelerator.num_processes, self.accelerator.process_index
            numbers = range(begun * processes + rank, total_batches(self.config, self.accelerator), processes)
            self.loaders.insert(0, self.crops.batches(iter(numbers)))
        return self

    def _realce(self, folder: str) -> RealCECrops:
        config, accelerator = self.config, self.accelerator
        aligned, masks = config.realce_aligned_list, config.realce_mask_dir
        if config.realce_segmenter and masks:
            ranks = accelerator.process_index, accelerator.num_processes
            make_masks(folder, aligned, masks, config.realce_segmenter, *ranks, accelerator.device)
            accelerator.wait_for_everyone()
        prompts = config.mask_prompt_share if config.mask_prompt else None
        return RealCECrops(
            folder, config.resolution, config.seed, config.scale, config.text_share, aligned, masks, prompts
        )

    def _stream(self, cropping: Cropping, realce: RealCECrops | None) -> "FTSRStream":
        from tadisr.training.data.ftsr_stream import FTSRStream

        config, accelerator = self.config, self.accelerator
        return FTSRStream(
            config.train_data_dir, cropping, config.seed, config.shuffle_buffer, accelerator.process_index,
            accelerator.num_processes, realce, config.realce_share, config.train_batch_size,
        )  # fmt: skip

    def _from_stream(self, stream: "FTSRStream", step: int, workers: int) -> DataLoader:
        workers = min(workers, stream.shards)
        # A loader begins with its first worker, so only whole rounds can be skipped. The batches that were seen of the
        # last round are read again, and left out by `__iter__`.
        seen = step * self.config.gradient_accumulation_steps
        self.surplus = seen % max(workers, 1)
        stream.skip = seen - self.surplus
        return DataLoader(stream, self.config.train_batch_size, num_workers=workers)

    def __iter__(self) -> Iterator[Batch]:
        for batches in islice(zip(*self.loaders, strict=True), self.surplus, None):
            crops, *lines = send_to_device(batches, self.accelerator.device)
            yield crops | {"lines": lines[0]} if lines else crops
