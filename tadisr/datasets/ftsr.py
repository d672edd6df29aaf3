"""FTSR data sets, as `tadisr synthesize` makes them: triplets of HR image, text mask and LR image, with exact text.

They come as Parquet shards (data/SPLIT-*.parquet, with `COLUMNS`) or as folders (SPLIT/hr, mask, lr, metadata.jsonl).
"""

import io
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tadisr.datasets.folders import AnnotatedLine, checked_line
from tadisr.io.messages import one_line
from tadisr.io.structured import parse_json

IMAGES = {"lr": cv2.IMREAD_COLOR_RGB, "hr": cv2.IMREAD_COLOR_RGB, "mask": cv2.IMREAD_GRAYSCALE}
"""The columns of images, and how each is decoded."""
COLUMNS = (*IMAGES, "text", "boxes")
_MAX_PIXELS = 1 << 26


def decode_column(encoded: Any, column: str, where: str) -> np.ndarray:
    """The image of a column of `IMAGES` from its bytes: uint8, (H, W, 3) RGB or for a mask (H, W).

    ValueError, with `where` in it, for what is no image.
    """
    with suppress(Exception):  # on damaged heads Pillow raises nearly anything; OpenCV would take gigabytes for them
        with Image.open(io.BytesIO(encoded)) as header:
            fits = header.width * header.height <= _MAX_PIXELS
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), IMAGES[column]) if fits else None
        if image is not None:
            return image
    raise ValueError(f"{where}: {column} is not an image.")


@contextmanager
def _damage_of(where: Any) -> Iterator[None]:
    """Within, whatever a reader of Parquet raises is a ValueError."""
    try:
        yield
    except (FileNotFoundError, ConnectionError):
        raise
    except Exception as error:  # pyarrow's own, OSError, or Python's on values of another kind; `datasets` hides these
        if type(error) is MemoryError:  # pyarrow's has a class of its own, and comes of sizes in damaged files
            raise
        raise ValueError(
            f"{where} is damaged or unreadable: {one_line(error.__cause__ or error).rstrip('.')}."
        ) from None


class _Pages(ABC):
    """Triplets by number. Images are uint8: hr (H, W, 3) and lr (H/4, W/4, 3) RGB, mask (H, W)."""

    def hr(self, i: int) -> np.ndarray:
        return self._image("hr", i)

    def mask(self, i: int) -> np.ndarray:
        return self._image("mask", i)

    def lr(self, i: int) -> np.ndarray:
        return self._image("lr", i)

    @abstractmethod
    def _image(self, column: str, i: int) -> np.ndarray: ...


class FolderPages(_Pages):
    """Triplets in hr/, mask/, lr/; without metadata.jsonl they have no lines."""

    def __init__(self, folder: Path):
        self._files, self._folder = sorted((folder / "hr").glob("*.png")), folder

    def __len__(self) -> int:
        return len(self._files)

    def name(self, i: int) -> str:
        return str(self._files[i])

    def _image(self, column: str, i: int) -> np.ndarray:
        path = self._folder / column / self._files[i].name
        try:
            return decode_column(path.read_bytes(), column, "")
        except (OSError, ValueError):
            raise FileNotFoundError(f"{path} is missing or not an image.") from None

    def lines(self, i: int) -> list[AnnotatedLine]:
        return self._lines.get(self._files[i].stem, [])

    @cached_property
    def _lines(self) -> dict[str, list[AnnotatedLine]]:
        return read_metadata(self._folder)


def read_metadata(folder: Path) -> dict[str, list[AnnotatedLine]]:
    """{image name without suffix: lines} of the folder's metadata.jsonl, empty without one.

    ValueError for a file that is not UTF-8, or a row that is no such record.
    """
    path = folder / "metadata.jsonl"
    lines: dict[str, list[AnnotatedLine]] = {}
    if not path.is_file() or not path.stat().st_size:
        return lines
    try:
        rows = path.read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")  # texts may hold other line breaks
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}.") from None
    for number, row in enumerate(rows, 1):
        item = parse_json(row, f"{path}, line {number},")
        try:
            lines[Path(item["file_name"]).stem] = [checked_line(line["text"], line["quad"]) for line in item["lines"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {type(error).__name__}: {one_line(error)}.") from None
    return lines


class ParquetPages(_Pages):
    """Triplets in Parquet shards, read through `datasets`: `source` is what `load_dataset` takes."""

    def __init__(self, source: str, split: str):
        from datasets import Image as ImageFeature
        from datasets import load_dataset

        with _damage_of(source):
            data = load_dataset(source, split=split)
        # a column that shards lack although their schema names it is filled in with None
        first = data[0] if len(data) else {}
        _check_columns(source, [name for name in COLUMNS if first.get(name) is not None])
        for column in IMAGES:
            data = data.cast_column(column, ImageFeature(decode=False))
        self._data, self._source = data, f"{source} ({split})"

    def __len__(self) -> int:
        return len(self._data)

    def name(self, i: int) -> str:
        return f"{self._source}, row {i}"

    def _cell(self, column: str, i: int) -> Any:
        return self._data.data.column(column)[i]  # by Arrow: `datasets` takes milliseconds, and Python's lock

    def _image(self, column: str, i: int) -> np.ndarray:
        with _damage_of(self.name(i)):
            encoded = self._cell(column, i)["bytes"].as_buffer()
        return decode_column(encoded, column, self.name(i))

    def lines(self, i: int) -> list[AnnotatedLine]:
        with _damage_of(self.name(i)):
            texts, boxes = (self._cell(name, i).as_py() for name in ("text", "boxes"))
            return [checked_line(text, np.reshape(box, (4, 2))) for text, box in zip(texts, boxes, strict=True)]


class Shards(ParquetPages):
    """Triplets in Parquet files, read without `datasets`. One file is held at a time, so ask for them in order.

    ValueError for a damaged file, or one without a column; ImportError without pyarrow.
    """

    def __init__(self, files: Sequence[Path]):
        try:
            from pyarrow.parquet import ParquetFile, read_table
        except ImportError:
            raise ImportError("Parquet shards need pyarrow: pip install 'tadisr[synth]'.") from None
        self.rows: list[tuple[Path, int]] = []
        """Of every triplet, the file and the row in it."""
        for path in files:
            with _damage_of(path), ParquetFile(path) as file:
                columns, count = file.schema_arrow.names, file.metadata.num_rows
            if missing := sorted(set(COLUMNS) - set(columns)):
                raise ValueError(f"{path} has no column {missing[0]}.")
            self.rows += [(path, row) for row in range(count)]
        self._table = lru_cache(maxsize=1)(lambda path: read_table(path, columns=list(COLUMNS)))

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, i: int) -> str:
        return "{}, row {}".format(*self.rows[i])

    def _cell(self, column: str, i: int) -> Any:
        path, row = self.rows[i]
        return self._table(path)[column][row]


def open_pages(source: str | Path, split: str = "train") -> FolderPages | ParquetPages:
    """An FTSR data set: a folder that `tadisr synthesize` wrote (either layout), one of its splits, or a Hub id.

    FileNotFoundError for a folder that holds no triplets; ValueError for a data set of another kind.
    """
    folder = Path(source)
    for place in (folder / split, folder):
        if (place / "hr").is_dir():
            pages = FolderPages(place)
            if not len(pages):
                raise FileNotFoundError(f"No hr/*.png in {place}: make pages with `tadisr synthesize`.")
            return pages
    on_hub = not folder.exists() and re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(source))
    if not on_hub and not any((folder / "data").glob(f"{split}-*.parquet")):
        raise FileNotFoundError(f"{folder} has no {split} pages: make some with `tadisr synthesize -o {folder}`.")
    try:
        return ParquetPages(str(source), split)
    except (FileNotFoundError, ConnectionError) as error:  # the Hub's answer, or none
        raise FileNotFoundError(
            f"{source} is neither a folder (make it with `tadisr synthesize -o {source}`) nor on the Hub: "
            f"{one_line(error, None)}"
        ) from None


def open_stream(sources: Sequence[str | Path], split: str = "train") -> Any:
    """A `datasets.IterableDataset` of the images of all sources, one after the other, still encoded.

    Errors as `open_pages`; ImportError without the package `datasets`.
    """
    try:
        from datasets import Image, concatenate_datasets, load_dataset
    except ImportError:
        raise ImportError("Streaming needs the package datasets: pip install 'tadisr[synth]'.") from None
    parts = []
    for source in map(str, sources):
        folder = Path(source)
        if folder.is_dir() and not any((folder / "data").glob(f"{split}-*.parquet")):
            raise FileNotFoundError(f"{folder} has no {split} shards in data/: streaming needs the Parquet layout.")
        try:
            data = load_dataset(source, split=split, streaming=True)
        except (OSError, ValueError) as error:
            raise FileNotFoundError(f"{source} cannot be streamed: {one_line(error, None)}") from None
        _check_columns(source, list(data.features or next(iter(data))), IMAGES)
        data = data.select_columns(list(IMAGES))
        for name in IMAGES:
            data = data.cast_column(name, Image(decode=False))
        parts.append(data)
    return concatenate_datasets(parts) if len(parts) > 1 else parts[0]


def _check_columns(source: str, found: Sequence[str], needed: Iterable[str] = COLUMNS) -> None:
    if missing := [name for name in needed if name not in found]:
        columns = ", ".join(COLUMNS)
        raise ValueError(f"{source} is no FTSR data set, which has {columns}: there is no column {missing[0]}.")
