"""Read FTSR data sets back: Parquet shards or folders, the same to whoever trains on them."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COLUMNS = ("lr", "hr", "mask", "text", "boxes")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def no_column(source: object, column: str) -> str:
    """What to say of a data set of another kind."""
    return f"{source} is no FTSR data set, which has {', '.join(COLUMNS)}: there is no column {column}."


class FolderPages:
    """Triplets in hr/, mask/, lr/ with metadata.jsonl."""

    def __init__(self, folder: Path):
        self.files = sorted((folder / "hr").glob("*.png"))
        self._folder = folder

    def __len__(self) -> int:
        return len(self.files)

    def name(self, i: int) -> str:
        return str(self.files[i])

    def hr(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return _read(self.files[i], cv2.IMREAD_COLOR_RGB)

    def mask(self, i: int) -> np.ndarray:
        """(H, W) uint8."""
        return _read(self._folder / "mask" / self.files[i].name, cv2.IMREAD_GRAYSCALE)

    def lr(self, i: int) -> np.ndarray:
        """(H/4, W/4, 3) uint8 RGB."""
        return _read(self._folder / "lr" / self.files[i].name, cv2.IMREAD_COLOR_RGB)

    def lines(self, i: int) -> list[dict[str, Any]]:
        """[{"text", "quad": four (x, y)}], empty without metadata."""
        return self._lines.get(self.files[i].name, [])

    @cached_property
    def _lines(self) -> dict[str, list[dict]]:
        path = self._folder / "metadata.jsonl"
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8") as rows:
            return {row["file_name"]: row["lines"] for row in map(json.loads, rows)}


def _read(path: Path, flag: int) -> np.ndarray:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or not an image.")
    return image


class ParquetPages:
    """Triplets in Parquet shards, read through `datasets`: `source` is what `load_dataset` takes."""

    def __init__(self, source: str, split: str):
        from datasets import Image, load_dataset

        data = load_dataset(source, split=split)
        # a column that shards lack although their schema names it is filled in with None
        first = data[0] if len(data) else {}
        if missing := [name for name in COLUMNS if first.get(name) is None]:
            raise ValueError(no_column(source, missing[0]))
        for column in ("lr", "hr", "mask"):
            data = data.cast_column(column, Image(decode=False))
        self._data, self._source = data, f"{source} ({split})"

    def __len__(self) -> int:
        return len(self._data)

    def name(self, i: int) -> str:
        return f"{self._source}, row {i}"

    def _cell(self, column: str, i: int) -> Any:
        return self._data.data.column(column)[i]  # by Arrow: `datasets` takes milliseconds, and Python's lock

    def _image(self, column: str, i: int, flag: int) -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(self._cell(column, i)["bytes"].as_buffer(), np.uint8), flag)
        if image is None:
            raise ValueError(f"{self.name(i)}: {column} is not an image.")
        return image

    def hr(self, i: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self._image("hr", i, cv2.IMREAD_COLOR_RGB)

    def mask(self, i: int) -> np.ndarray:
        """(H, W) uint8."""
        return self._image("mask", i, cv2.IMREAD_GRAYSCALE)

    def lr(self, i: int) -> np.ndarray:
        """(H/4, W/4, 3) uint8 RGB."""
        return self._image("lr", i, cv2.IMREAD_COLOR_RGB)

    def lines(self, i: int) -> list[dict[str, Any]]:
        """[{"text", "quad": four (x, y)}]."""
        texts, boxes = (self._cell(name, i).as_py() for name in ("text", "boxes"))
        return [{"text": text, "quad": np.reshape(box, (4, 2))} for text, box in zip(texts, boxes, strict=True)]


def open_pages(source: str | Path, split: str = "train") -> FolderPages | ParquetPages:
    """An FTSR data set: a folder that `tadisr synthesize` wrote (either layout), one of its splits, or a Hub id.

    Raises:
        FileNotFoundError: a folder that holds no triplets.
    """
    folder = Path(source)
    for place in (folder / split, folder):
        if (place / "hr").is_dir():
            pages = FolderPages(place)
            if not len(pages):
                raise FileNotFoundError(f"No hr/*.png in {place}: make pages with `tadisr synthesize`.")
            return pages
    on_hub = not folder.exists() and HUB_ID.fullmatch(str(source))
    if not on_hub and not any((folder / "data").glob(f"{split}-*.parquet")):
        raise FileNotFoundError(f"{folder} has no {split} pages: make some with `tadisr synthesize -o {folder}`.")
    try:
        return ParquetPages(str(source), split)
    except (FileNotFoundError, ConnectionError) as error:  # the Hub's answer, or none
        raise FileNotFoundError(
            f"{source} is neither a folder (make it with `tadisr synthesize -o {source}`) nor on the Hub: "
            f"{' '.join(str(error).split())}"
        ) from None
