"""Training crops of Real-CE, to mix with FTSR's: photographed LR images, and text masks where some were made."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from tadisr.data_synthesis.sources.realce import RealCE
from tadisr.datasets.realce import align
from tadisr.io.atomic import write_atomically
from tadisr.io.images import encode_png
from tadisr.training.data.page_crops import FTSRCrops, add_prompt, to_tensors


def _open(path: str | Path, aligned_list: str | Path | None) -> RealCE:
    return RealCE(str(path), "train", aligned_list=str(aligned_list) if aligned_list else None)


class RealCECrops(Dataset):
    """Random crops of Real-CE's training pairs (13 mm and 52 mm), made to fit by `align`.

    Item i depends on (seed, i) alone: hr (3, S, S), lr (3, S/scale, S/scale), mask (1, S, S), float32 in [0, 1];
    has_mask, 1.0, or 0.0 with a mask of zeros for an image that has none in `mask_dir`; index; name.
    `text_share`: the share of crops that are cut around a point of a line of text. `prompt_share`: see `Cropping`;
    crops without a mask get no prompt. `aligned_list`, `path`: see the source `RealCE`, which also says what is raised.
    """

    def __init__(
        self,
        path: str | Path,
        size: int,
        seed: int = 0,
        scale: int = 4,
        text_share: float = 0.85,
        aligned_list: str | Path | None = None,
        mask_dir: str | Path | None = None,
        prompt_share: float | None = None,
    ):
        self.pairs = _open(path, aligned_list)
        self.size, self.seed, self.scale, self.text_share = size, seed, scale, text_share
        self.mask_dir = None if mask_dir is None else Path(mask_dir)
        self.prompt_share = prompt_share

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict:
        rng = np.random.default_rng([self.seed, 2, index])
        pair = self.pairs[int(rng.integers(len(self.pairs)))]
        hr, scale = pair.hr.image, self.scale
        height, width = (side // scale for side in hr.shape[:2])
        small = self.size // scale
        if min(height, width) < small:
            raise ValueError(
                f"Real-CE's {pair.name} is {hr.shape[1]}x{hr.shape[0]}: crops of {self.size} need larger images."
            )
        mask = read_mask(self.mask_dir, pair.name, hr.shape[:2])
        lr, hr = align(pair.lr.image, hr, scale)
        y, x = (int(rng.integers(0, side - small + 1)) for side in (height, width))
        if pair.lines and rng.random() < self.text_share:  # around a point of one of the lines
            quad = np.asarray(pair.lines[int(rng.integers(len(pair.lines)))]["quad"]) / scale
            (left, top), (right, bottom) = quad.min(0), quad.max(0)
            x = int(np.clip(rng.uniform(left, right) - small * rng.random(), 0, width - small))
            y = int(np.clip(rng.uniform(top, bottom) - small * rng.random(), 0, height - small))
        place = np.s_[y * scale : y * scale + self.size, x * scale : x * scale + self.size]
        has_mask = mask is not None
        mask = mask[place] if has_mask else np.zeros((self.size, self.size), np.uint8)
        item = to_tensors(hr[place], mask, lr[y : y + small, x : x + small])
        share = None if self.prompt_share is None else self.prompt_share * has_mask
        item = add_prompt(item, share, rng)
        return {**item, "has_mask": torch.tensor(float(has_mask)), "index": index, "name": f"Real-CE {pair.name}"}


def read_mask(folder: Path | None, name: str, size: tuple[int, int]) -> np.ndarray | None:
    """The mask (H, W) uint8 of the image `name` of `size` (H, W); None where there is none.

    Raises:
        ValueError: the mask has another size, or is not an image.
    """
    file = None if folder is None else folder / f"{Path(name).stem}.png"
    if file is None or not file.is_file():
        return None
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise ValueError(f"{file} is not an image.")
    if mask.shape != size:
        found, wanted = (f"{side[1]}x{side[0]}" for side in (mask.shape, size))
        raise ValueError(f"{file}: the mask is {found} and the image {wanted}; they must be of one size.")
    return mask


def make_masks(
    path: str | Path,
    aligned_list: str | Path | None,
    mask_dir: str | Path,
    segmenter: str,
    rank: int = 0,
    processes: int = 1,
    device: str | torch.device = "cpu",
) -> int:
    """Segment the text in the 52 mm images and write the masks that `mask_dir` lacks; returns their number.

    Process `rank` of `processes` makes its share of them.
    """
    from tadisr.data_synthesis.judging.segment import TextSegmenter

    pairs, mask_dir = _open(path, aligned_list), Path(mask_dir)
    files = [mask_dir / f"{Path(name).stem}.png" for name in pairs.names()]
    mine = [i for i in range(rank, len(files), processes) if not files[i].is_file()]
    if not mine:
        return 0
    model = TextSegmenter.from_pretrained(segmenter).to(device)
    for i in mine:
        [mask] = model.segment(pairs[i].hr.image)
        write_atomically(files[i], encode_png((mask * 255).round().astype(np.uint8)))
    return len(mine)


class MixedCrops(Dataset):
    """Crops of FTSR and Real-CE in one sequence. Item i is of Real-CE with probability `share`, by (seed, i) alone."""

    def __init__(self, ftsr: FTSRCrops, realce: RealCECrops, share: float, seed: int = 0):
        self.ftsr, self.realce, self.share, self.seed = ftsr, realce, share, seed

    def __len__(self) -> int:
        return len(self.ftsr)

    def __getitem__(self, index: int) -> dict:
        return (self.realce if is_realce(self.seed, index, self.share) else self.ftsr)[index]


def is_realce(seed: int, index: int, share: float) -> bool:
    """Whether item `index` of a mixture is a crop of Real-CE."""
    return bool(np.random.default_rng([seed, 3, index]).random() < share)
