"""Text lines to evaluate on: databases of TextZoom's layout, or the lines in pairs of photographs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tadisr.datasets.line_items import open_subsets
from tadisr.datasets.textzoom import HR_SIZE, LR_SIZE
from tadisr.evaluation.pairs import ANNOTATION, Line, Pairs, open_data
from tadisr.evaluation.text_lines import str_filt
from tadisr.ocr import cut_line, is_vertical

if TYPE_CHECKING:
    import torch


class PhotoLines:
    """The lines of `Pairs` with Latin letters or digits: LR images 16 pixels high, HR images 32.

    A line keeps its aspect, so widths differ, and lines are evaluated one by one. ValueError where there is no line.
    """

    batch_size = 1

    def __init__(self, pairs: Pairs):
        self.items: list[dict[str, torch.Tensor | str]] = []
        for i in range(len(pairs)):
            pair = pairs[i]
            annotated = [line for line in pair.lines if line.source == ANNOTATION]
            for line in annotated or pair.lines:  # an annotated line may be in the list again, as an engine read it
                # `str_filt` drops letters of other scripts, so lines that hold some are left out
                if str_filt(line.text) and line.text.isascii():
                    try:
                        self.items.append(self._item(pair.lr, pair.hr, line, pairs.scale))
                    except ValueError as error:
                        raise ValueError(f"{pair.path}, {line.text!r}: {error}") from None
        if not self.items:
            raise ValueError(f"{pairs.name} names no line of Latin letters or digits: truth.json or metadata say them.")

    def _item(self, lr: np.ndarray, hr: np.ndarray, line: Line, scale: int) -> dict[str, Any]:
        import torch

        small, large = cut_line(lr, line.quad / scale), cut_line(hr, line.quad)
        if is_vertical(*large.shape[:2]):  # both are turned, whatever the rounded sides of the small one say
            small, large = np.rot90(small), np.rot90(large)
        width = max(1, round(LR_SIZE[0] * large.shape[1] / large.shape[0]))
        item: dict[str, Any] = {"label": line.text}
        for name, image, height in (("lr", small, LR_SIZE[0]), ("hr", large, HR_SIZE[0])):
            size = (width * height // LR_SIZE[0], height)
            # OpenCV's area filter enlarges as nearest does
            way = cv2.INTER_AREA if image.shape[0] > height else cv2.INTER_CUBIC
            resized = cv2.resize(np.ascontiguousarray(image), size, interpolation=way)
            item[name] = torch.from_numpy(resized).permute(2, 0, 1).float() / 255
        return item

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.items[index]


def open_line_sets(path: str | Path) -> dict[str, Any]:
    """The data sets in a folder by name: every database in or below it, or the lines of its photographs.

    FileNotFoundError where neither is there, ValueError where data cannot be read, or no line can be compared.
    """
    folder = Path(path)
    if folder.is_dir() and not any(folder.rglob("data.mdb")) and (folder / "lr").is_dir():
        return {folder.resolve().name: PhotoLines(open_data(folder))}
    return open_subsets(folder)
