"""Training crops from a stream of FTSR's shards, which are never held or downloaded as a whole."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from tadisr.datasets.ftsr import IMAGES, decode_column, open_stream
from tadisr.training.data.page_crops import Cropping, Triplet
from tadisr.training.data.realce_crops import RealCECrops, is_realce


class FTSRStream(IterableDataset):
    """Endless random crops, one of each page that comes by, mixed with Real-CE's as in `MixedCrops`.

    Shards are dealt out to processes, then to data workers. Where there are fewer shards than processes, every process
    reads all of them and keeps its share of the pages. Pages are shuffled anew in every pass, within a buffer. The n-th
    item of a process depends on the seed, the data set and the number of processes and workers. So a stream that skips
    what was seen goes on as the first one would have; skipped pages are read, but not decoded.

    Args:
        sources: see `open_stream`.
        cropping: how a crop is cut out of a page.
        seed: seed of the order and of the crops.
        shuffle_buffer: pages that are held to be shuffled.
        rank, processes: the number of this process, and how many there are.
        realce, realce_share: the crops to mix in, and their share.
        batch_size: items of a batch.
        skip: batches that this process has seen already: a multiple of the data workers, since the loader asks them in
            turn.
    """

    def __init__(
        self,
        sources: Sequence[str | Path],
        cropping: Cropping,
        seed: int = 0,
        shuffle_buffer: int = 64,
        rank: int = 0,
        processes: int = 1,
        realce: RealCECrops | None = None,
        realce_share: float = 0.0,
        batch_size: int = 1,
        skip: int = 0,
    ):
        from datasets.distributed import split_dataset_by_node

        cv2.setNumThreads(1)
        stream = open_stream(sources).shuffle(seed=seed, buffer_size=shuffle_buffer)
        self.stream = split_dataset_by_node(stream, rank, processes) if processes > 1 else stream
        self.cropping, self.seed, self.rank = cropping, seed, rank
        self.realce, self.share = realce, realce_share if realce is not None else 0.0
        self.batch_size, self.skip = batch_size, skip
        self.shards = getattr(self.stream, "num_shards", 1)
        """Data workers beyond this number would have nothing to read."""

    def _rows(self) -> Iterator[dict]:
        # `datasets` shares the epoch among data workers: the first to start a new pass would reshuffle all others.
        stream = copy.deepcopy(self.stream)
        epoch = 0
        while True:
            stream.set_epoch(epoch)
            empty = True
            for row in stream:
                empty = False
                yield row
            if empty:
                raise ValueError("The stream holds no page: an empty data set, or fewer shards than data workers.")
            epoch += 1

    def __iter__(self) -> Iterator[dict]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        # Batch b of this process comes from worker b % workers.
        skip = len(range(worker, self.skip, workers)) * self.batch_size
        rows = self._rows()
        count = 0
        while True:
            # The index differs between processes and workers, and from the indices of other data sets.
            index = (count * workers + worker) * 2**16 + self.rank
            realce = self.realce if is_realce(self.seed, index, self.share) else None
            row = next(rows) if realce is None else {}
            if count >= skip:
                yield self._crop(row, index) if realce is None else realce[index]
            count += 1

    def _crop(self, row: dict, index: int) -> dict:
        name = f"page {index >> 16} of process {self.rank}'s stream"
        wanted = [column for column in IMAGES if column != "lr" or self.cropping.degradation is None]
        page = Triplet(name, **{column: decode_column(row[column]["bytes"], column, name) for column in wanted})
        item = self.cropping.draw(page, np.random.default_rng([self.seed, 4, index]))
        return {**item, "has_mask": torch.tensor(1.0), "index": index, "name": name}
