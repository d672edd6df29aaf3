"""Databases of TextZoom's layout as tensors for training and evaluation, with text masks made by a rule."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tadisr.datasets.databases import find_databases
from tadisr.datasets.textzoom import Line, TextZoom

if TYPE_CHECKING:
    import torch

_SUBSETS = ("easy", "medium", "hard")


def mean_mask(hr: np.ndarray, polarity: bool = False) -> np.ndarray:
    """The paper's mask of a crop: the pixels that are not brighter than the mean gray value; (H, W) uint8, 255 on text.

    For light text on a dark ground this mask is inverted. `polarity`: invert it where most of the outermost pixels
    would be text. hr: (H, W, 3) uint8 RGB.
    """
    gray = np.asarray(Image.fromarray(hr).convert("L"))
    text = gray <= gray.mean()
    if polarity:
        border = np.concatenate([text[0], text[-1], text[1:-1, 0], text[1:-1, -1]])
        text ^= border.mean() > 0.5
    return np.where(text, np.uint8(255), np.uint8(0))


def with_mask(line: Line, rule: str) -> Line:
    """The line with its mask by the rule `mean` or `mean_polarity`, see `mean_mask`; any other rule leaves it."""
    return line._replace(mask=mean_mask(line.hr, rule == "mean_polarity")) if rule.startswith("mean") else line


def to_tensors(line: Line) -> "dict[str, torch.Tensor | str]":
    """{"lr" (3, 16, 64), "hr" (3, 32, 128), "mask" (1, 32, 128), "label"}, float32 in [0, 1]."""
    import torch

    assert line.mask is not None, "a line without a mask: see `with_mask`"
    images = {"lr": line.lr, "hr": line.hr, "mask": line.mask[..., None]}
    # copies: Pillow's arrays are read-only
    tensors = {name: torch.from_numpy(np.array(x)).permute(2, 0, 1).float() / 255 for name, x in images.items()}
    return {**tensors, "label": line.label}


class TextZoomLines:
    """A database of TextZoom's layout as a data set of `to_tensors` items, with the paper's masks (`mean_mask`)."""

    def __init__(self, path: str | Path):
        self._lines = TextZoom(path)

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor | str]":
        return to_tensors(with_mask(self._lines[index], "mean"))


def open_subsets(root: str | Path) -> dict[str, TextZoomLines]:
    """Every database in or below a folder by its folder's name; easy, medium, hard first, others in order.

    FileNotFoundError where there is none; ValueError as `TextZoom`, and for two databases of one name.
    """
    folders = sorted((folder.resolve().name, folder) for folder in find_databases(Path(root)))
    if not folders:
        raise FileNotFoundError(
            f"No LMDB in {root}: expected a data.mdb there or in folders such as easy, medium, hard."
        )
    found = dict(folders)
    if len(found) < len(folders):
        names = ", ".join(name for name, _ in folders)
        raise ValueError(f"{root} holds several databases of one name ({names}): name one folder.")
    return {name: TextZoomLines(found[name]) for name in dict.fromkeys([*_SUBSETS, *found]) if name in found}
