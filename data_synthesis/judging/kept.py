"""What judging keeps on disk: decisions about photographs and crops, in chunks, and the crops that are fit for use."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from tadisr.io.atomic import write_atomically
from tadisr.io.images import decode, encode_png

STAGES = {"backgrounds": ("reading", "size", "text"), "crops": ("reading", "size", "segmentation", "OCR")}
"""Of each kind of item, in the order in which an item meets them."""
_CHUNK = {"backgrounds": 16, "crops": 64}  # more crops than photographs, because networks take them in batches


@dataclass(frozen=True)
class Decision:
    """What became of one item: dropped at `stage` for `reason`, or kept if both are empty."""

    name: str
    stage: str = ""
    reason: str = ""
    enhanced: bool = False
    """Whether it was super-resolved."""


@dataclass(frozen=True)
class Chunk:
    """Items [start, stop) of source `number` of the recipe's `kind` ("backgrounds" or "crops")."""

    kind: str
    number: int
    start: int
    stop: int

    def file(self, work: Path, suffix: str = "json") -> Path:
        """Where the chunk's decisions ("json") and kept crops ("parquet") are."""
        return work / self.kind / f"{self.number}-{self.start:08d}.{suffix}"

    def read(self, work: Path) -> list[Decision]:
        """The decisions of a chunk that was judged."""
        return [Decision(**row) for row in json.loads(self.file(work).read_text(encoding="utf-8"))]

    def write(self, work: Path, decisions: Sequence[Decision]) -> None:
        """Keep the decisions. From then on the chunk counts as judged."""
        data = json.dumps([asdict(decision) for decision in decisions], ensure_ascii=False)
        write_atomically(self.file(work), data.encode())


def cut_into_chunks(kind: str, lengths: Sequence[int]) -> list[Chunk]:
    """The chunks of all sources of a kind; `lengths` are the sources' numbers of items."""
    size = _CHUNK[kind]
    return [
        Chunk(kind, number, start, min(start + size, length))
        for number, length in enumerate(lengths)
        for start in range(0, length, size)
    ]


def count_stages(kind: str, source: str, decisions: Sequence[Decision]) -> list[dict]:
    """For each stage, how many items of a source came, how many were kept, and why the others were dropped."""
    stages, seen = [], len(decisions)
    for stage in STAGES[kind]:
        dropped = Counter(decision.reason for decision in decisions if decision.stage == stage)
        kept = seen - dropped.total()
        row = {"source": source, "stage": stage, "seen": seen, "kept": kept, "dropped": dict(dropped)}
        if stage == "OCR" and (enhanced := sum(decision.enhanced for decision in decisions)):
            row["changed"] = {"super-resolved": enhanced}
        stages.append(row)
        seen = kept
    return stages


@dataclass
class Crop:
    """A text crop that is fit for use."""

    image: np.ndarray
    """(h, w, 3) uint8 RGB."""
    mask: np.ndarray
    """(h, w) uint8, 255 on text."""
    lines: list[dict]
    """[{"text", "quad": four (x, y)}], pixels of the crop, clockwise from the text's own top left."""
    name: str


def write_crops(path: Path, crops: Sequence[Crop]) -> None:
    """Write a Parquet file of crops."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "image": [encode_png(crop.image) for crop in crops],
        "mask": [encode_png(crop.mask) for crop in crops],
        "lines": [json.dumps(crop.lines, ensure_ascii=False) for crop in crops],
        "name": [crop.name for crop in crops],
    }
    types = {"image": pa.binary(), "mask": pa.binary(), "lines": pa.string(), "name": pa.string()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns, schema=pa.schema(types)), sink)
    write_atomically(path, sink.getvalue().to_pybytes())


def read_crop(path: str, row: int) -> Crop:
    """Crop `row` of a file that `write_crops` wrote."""
    stored = _rows(path)[row]
    image = decode(stored["image"], cv2.IMREAD_COLOR_RGB)
    mask = decode(stored["mask"], cv2.IMREAD_GRAYSCALE)
    return Crop(image, mask, json.loads(stored["lines"]), stored["name"])


@lru_cache(maxsize=64)
def _rows(path: str) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
