"""Pairs of LR and HR images to evaluate on, in the layouts in which such data sets come.

`open_data` tells the layout of a folder by what lies in it:

- `hr/`, `lr/` (the same names; any suffix) and, optionally, `truth.json`: [{"name", "text": [{"box": four (x, y),
  "text"}]}] with lines that an engine read on the HR image, or, with "annotated": true, that a person wrote down;
- what `tadisr synthesize` writes: Parquet shards or folders with exact text, boxes and masks;
- Real-CE: `val/13mm/`, `val/52mm/`, `val/valid_list.txt`, `val/annos/`.
"""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tadisr.evaluation.pairs import ANNOTATION, ENGINE, Line, Pair, Pairs, check_scale, list_images
from tadisr.evaluation.realce import RealCEPairs
from tadisr.io.images import image_size, read_image
from tadisr.ocr import is_box


def open_data(path: str | Path, split: str | None = None, scale: int = 4) -> Pairs:
    """The data set in a folder.

    Args:
        path: see the module.
        split: of data sets that have several; None: "test", for Real-CE "val", else what lies in the folder itself.
        scale: HR pixels per LR pixel and side.

    Raises:
        FileNotFoundError: no folder, or nothing known in it.
        ValueError: a damaged annotation, or images that do not fit together.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}.")
    for candidate in (split, "val", "train"):
        if candidate and (root / candidate / "13mm").is_dir():
            return RealCEPairs(root, split or candidate, scale)
    for place in (root / (split or "test"), *(() if split else (root,))):
        if (place / "hr").is_dir() and (place / "lr").is_dir():
            return FolderPairs(place, scale, root.resolve().name)
    shards = sorted((root / "data").glob(f"{split or 'test'}-*.parquet"))
    if shards:
        return ParquetPairs(root, shards, scale)
    raise FileNotFoundError(
        f"{root} holds no data set known here: expected hr/ and lr/, data/{split or 'test'}-*.parquet, "
        f"or Real-CE's {split or 'val'}/13mm/ and {split or 'val'}/52mm/."
    )


class FolderPairs(Pairs):
    """hr/ and lr/, with truth.json, with metadata.jsonl and mask/ (from `tadisr synthesize`), or alone."""

    def __init__(self, root: Path, scale: int, name: str):
        self.name, self.scale = name, scale
        self._hr, self._lr, self._masks = (list_images(root / part) for part in ("hr", "lr", "mask"))
        self._lines = _read_metadata(root)
        if (root / "truth.json").is_file():
            self._lines = _read_truth(root / "truth.json")
            sources = {line.source for lines in self._lines.values() for line in lines}
            self.find_lines = sources == {ANNOTATION}
        if not self._hr:
            raise FileNotFoundError(f"No images in {root / 'hr'}.")
        if lonely := sorted(self._hr.keys() ^ self._lr.keys()):
            missing = "lr" if lonely[0] in self._hr else "hr"
            raise ValueError(f"{root / missing} has no image {lonely[0]}, its partner has.")
        if unknown := sorted(self._lines.keys() - self._hr.keys()):
            raise ValueError(f"{root}: there is text for {unknown[0]}, but no such image.")
        self._names = sorted(self._hr)
        for name in self._names:
            size = image_size(self._hr[name])
            check_scale(self._lr[name], image_size(self._lr[name]), self._hr[name], size, scale)
            for line in self._lines.get(name, []):
                _check_box(line, size, name)

    def names(self) -> list[str]:
        return list(self._names)

    def size(self, i: int) -> tuple[int, int]:
        return image_size(self._lr[self._names[i]])

    def __getitem__(self, i: int) -> Pair:
        name = self._names[i]
        lr, hr = (read_image(files[name]).rgb for files in (self._lr, self._hr))
        mask = None
        if name in self._masks:
            mask = read_image(self._masks[name]).rgb[..., 0] > 127
            check_scale(self._masks[name], mask.shape, self._hr[name], hr.shape[:2], 1)
        return Pair(name, lr, hr, str(self._hr[name]), list(self._lines.get(name, [])), mask)


class ParquetPairs(Pairs):
    """Shards with columns lr, hr, mask (encoded images), text and boxes, from `tadisr synthesize`."""

    COLUMNS = ("lr", "hr", "mask", "text", "boxes")

    def __init__(self, root: Path, shards: list[Path], scale: int):
        try:
            from pyarrow import ArrowInvalid
            from pyarrow.parquet import ParquetFile
        except ImportError:
            raise ImportError("Parquet shards need pyarrow: pip install 'tadisr[synth]'.") from None
        self.name, self.scale = root.resolve().name, scale
        self._rows: list[tuple[Path, int]] = []
        for shard in shards:
            try:
                with ParquetFile(shard) as file:
                    columns, count = file.schema_arrow.names, file.metadata.num_rows
            except ArrowInvalid as error:
                raise ValueError(f"{shard} is damaged: {error}.") from None
            if missing := sorted(set(self.COLUMNS) - set(columns)):
                raise ValueError(f"{shard} has no column {missing[0]}.")
            self._rows += [(shard, row) for row in range(count)]
        self._table = lru_cache(maxsize=1)(self._read)  # pairs are asked for in order

    def _read(self, shard: Path) -> Any:
        from pyarrow.parquet import read_table

        return read_table(shard, columns=list(self.COLUMNS))

    def names(self) -> list[str]:
        return [f"{shard.stem.split('-of-')[0]}-{row:03d}" for shard, row in self._rows]

    def size(self, i: int) -> tuple[int, int]:
        shard, row = self._rows[i]
        return self._decode(i, self._table(shard)["lr"][row].as_py(), cv2.IMREAD_GRAYSCALE, "lr").shape

    def _decode(self, i: int, image: dict[str, Any] | None, flag: int, column: str) -> np.ndarray:
        encoded = image and image["bytes"]
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), flag) if encoded else None
        if pixels is None:
            raise ValueError(f"{self._rows[i][0]}, row {self._rows[i][1]}: {column} is not an image.")
        return pixels

    def __getitem__(self, i: int) -> Pair:
        shard, number = self._rows[i]
        row = self._table(shard).slice(number, 1).to_pylist()[0]
        lr, hr = (self._decode(i, row[column], cv2.IMREAD_COLOR_RGB, column) for column in ("lr", "hr"))
        mask = self._decode(i, row["mask"], cv2.IMREAD_GRAYSCALE, "mask") > 127
        where = f"{shard}, row {number}"
        check_scale(f"{where}: lr", lr.shape[:2], "hr", hr.shape[:2], self.scale)
        check_scale(f"{where}: mask", mask.shape, "hr", hr.shape[:2], 1)
        lines = [
            Line(text, np.reshape(np.float32(box), (4, 2))) for text, box in zip(row["text"], row["boxes"], strict=True)
        ]
        return Pair(self.names()[i], lr, hr, where, lines, mask)


def _read_truth(path: Path) -> dict[str, list[Line]]:
    """{image name: lines} of a truth.json."""
    try:
        return {
            item["name"]: [
                _line(line["text"], line["box"], ANNOTATION if line.get("annotated") else ENGINE)
                for line in item["text"]
            ]
            for item in json.loads(path.read_text(encoding="utf-8"))
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not [{{"name", "text": [{{"box": four (x, y), "text"}}]}}]: {type(error).__name__}: {error}.'
        ) from None


def _read_metadata(root: Path) -> dict[str, list[Line]]:
    """{image name: lines} of a metadata.jsonl, empty without one."""
    path, lines = root / "metadata.jsonl", {}
    if not path.is_file():
        return lines
    try:
        rows = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8: {error}.") from None
    for number, row in enumerate(rows, 1):
        try:
            item = json.loads(row)
            lines[Path(item["file_name"]).stem] = [_line(line["text"], line["quad"]) for line in item["lines"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}, line {number}: {type(error).__name__}: {error}.") from None
    return lines


def _check_box(line: Line, size: tuple[int, int], name: str) -> None:
    """Raise ValueError now for a box that cannot be cut out of an image of (height, width), not after an hour."""
    far = max(size)
    if not is_box(line.quad) or (line.quad < -far).any() or (line.quad > 2 * far).any():
        corners = line.quad.round(1).tolist()
        raise ValueError(f"The box {corners} of {line.text!r} in image {name} has no area, or lies outside of it.")


def _line(text: Any, quad: Any, source: str = ANNOTATION) -> Line:
    quad = np.asarray(quad, np.float32)
    if not isinstance(text, str) or quad.shape != (4, 2) or not np.isfinite(quad).all():
        raise ValueError(f"expected a text and four (x, y), got {text!r} and an array {quad.shape}")
    return Line(text, quad, source)
