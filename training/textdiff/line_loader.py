"""The text lines of a run: from databases, shuffled anew each epoch, or rendered as they are needed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, Dataset, Subset

from tadisr.data_synthesis.degrade import degrade
from tadisr.data_synthesis.rendered_lines import SEVERITIES, RenderedLines
from tadisr.datasets.line_items import TextZoomLines, with_mask
from tadisr.datasets.textzoom import HR_SIZE, LR_SIZE, Line, TextZoom
from tadisr.evaluation.text_lines import str_filt
from tadisr.models.textdiff.recognizer import ALPHABET
from tadisr.training.engine.task import Batch, share, total_batches
from tadisr.training.textdiff.line_config import LineConfig

PROBE = 100  # labels that are checked before a run


class StoredLines(Dataset):
    """Databases of n lines as an endless stream: item i is a line of epoch i // n, shuffled anew each epoch.

    Raises:
        FileNotFoundError, ValueError: as `TextZoom`; no lines, labels of another alphabet, or no stored masks.
    """

    def __init__(self, config: LineConfig, length: int):
        self.config, self.length = config, length
        self.parts = [TextZoom(path) for path in config.train_data_dir]
        self.ends = np.cumsum([len(part) for part in self.parts])
        where = ", ".join(config.train_data_dir)
        if not self.ends[-1]:
            raise ValueError(f"There are no lines in {where}.")
        first = [self._read(i) for i in range(min(PROBE, self.ends[-1]))]
        if not any(str_filt(line.label) for line in first):
            raise ValueError(f"No label in {where} holds any of {ALPHABET}: lines of another alphabet train nothing.")
        self.cache = self._read_all() if config.cache_lines else None
        self._epoch, self._order = -1, np.empty(0, np.int64)  # of the last item

    def _read(self, number: int) -> Line:
        part = int(np.searchsorted(self.ends, number, side="right"))
        line = self.parts[part][int(number - self.ends[part])]  # counted from the part's end
        line = with_mask(line, self.config.mask_rule)
        if line.mask is None:
            raise ValueError(f"{self.parts[part].path} stores no masks: set mask_rule to mean or mean_polarity.")
        return line

    def _read_all(self) -> tuple[np.ndarray, np.ndarray, list[str], np.ndarray]:
        """The LR images, HR images, labels and masks of all lines; arrays have one axis more than a line's."""
        count, labels = int(self.ends[-1]), []
        arrays = [np.empty((count, *shape), np.uint8) for shape in ((*LR_SIZE, 3), (*HR_SIZE, 3), HR_SIZE)]
        for i in range(count):
            line = self._read(i)
            labels.append(line.label)
            for array, image in zip(arrays, (line.lr, line.hr, line.mask), strict=True):
                array[i] = image
        lr, hr, mask = arrays
        return lr, hr, labels, mask

    def __len__(self) -> int:
        return self.length

    def order(self, epoch: int) -> np.ndarray:
        """The numbers of all lines in the order of an epoch."""
        return np.random.default_rng([self.config.seed, 0, epoch]).permutation(self.ends[-1])

    def __getitem__(self, index: int) -> tuple[int, Line]:
        epoch, place = divmod(index, int(self.ends[-1]))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self.order(epoch)
        number = int(self._order[place])
        if self.cache is None:
            line = self._read(number)
        else:
            lr, hr, labels, mask = self.cache
            line = Line(lr[number], hr[number], labels[number], mask[number])
        if self.config.degradation == "fresh":
            rng = np.random.default_rng([self.config.seed, 1, index])
            chosen = self.config.severity
            severity = str(rng.choice(list(SEVERITIES))) if chosen == "mixed" else chosen
            line = line._replace(lr=degrade(line.hr, SEVERITIES[severity], rng))
        return index, line


class NewLines(Dataset):
    """Item i is rendered line i; no line comes twice."""

    def __init__(self, config: LineConfig, length: int):
        mask = "stroke" if config.mask_rule == "exact" else config.mask_rule
        self.lines = RenderedLines(
            length, "train", config.seed, config.severity, mask, config.fonts, photos=config.photos
        )

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[int, Line]:
        return index, self.lines.line(index)


def collate(items: list[tuple[int, Line]]) -> Batch:
    """{"lr" (N, 3, 16, 64), "hr" (N, 3, 32, 128), "mask" (N, 1, 32, 128)}, float32 in [0, 1], "label", "index", "name".

    All lines are converted at once. One by one, the conversion would take longer than all other work on them.
    """
    indices, lines = zip(*items, strict=True)
    lr, hr, labels, masks = zip(*lines, strict=True)
    images = {"lr": np.stack(lr), "hr": np.stack(hr), "mask": np.stack(masks)[..., None]}
    tensors = {name: torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for name, x in images.items()}
    return {**tensors, "label": list(labels), "index": torch.tensor(indices), "name": list(labels)}


def validation_lines(config: LineConfig) -> Mapping[str, Subset | list[Batch]]:
    """The data sets to validate on, by name.

    Raises:
        ValueError: two folders of one name.
    """
    count = config.num_validation_lines
    if not config.validation_data_dir:
        lines = RenderedLines(count, config.validation_split, 0, fonts=config.fonts, photos=config.photos)
        return {"rendered": [lines[i] for i in range(count)]}  # rendered once: it takes long
    sets = {Path(path).resolve().name: TextZoomLines(path) for path in config.validation_data_dir}
    if len(sets) < len(config.validation_data_dir):
        raise ValueError("Folders of one name in validation_data_dir: scores go by the folders' names.")
    return {name: Subset(lines, range(min(count, len(lines)))) for name, lines in sets.items()}


def training_lines(config: LineConfig, accelerator: Accelerator, step: int) -> DataLoader:
    """The run's batches from step `step` on: one item for each line of the whole run, so a step sees the same lines."""
    length = total_batches(config, accelerator) * config.train_batch_size
    lines = (StoredLines if config.train_data_dir else NewLines)(config, length)
    loader = DataLoader(lines, config.train_batch_size, num_workers=config.dataloader_num_workers, collate_fn=collate)
    return share(loader, config, accelerator, step)
