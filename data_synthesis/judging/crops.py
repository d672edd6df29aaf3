"""Text crops with their masks, as they are kept between judging and composing."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from tadisr.io.atomic import write_atomically
from tadisr.io.images import decode, encode_png


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
    image, mask = (
        decode(stored[part], flag) for part, flag in (("image", cv2.IMREAD_COLOR_RGB), ("mask", cv2.IMREAD_GRAYSCALE))
    )
    return Crop(image, mask, json.loads(stored["lines"]), stored["name"])


@lru_cache(maxsize=64)
def _rows(path: str) -> list[dict]:
    import pyarrow.parquet as pq

    return pq.read_table(path).to_pylist()
