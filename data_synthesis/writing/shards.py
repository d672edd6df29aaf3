"""The job that decides a data set's bytes, and its shards: made and written, and found again by a later run.

Each finished shard has a record below `WORK`: its files' checksums, and what the manifest must know.
"""

import dataclasses
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.data_synthesis.degrade import degrade
from tadisr.data_synthesis.judging.judge import Selection
from tadisr.data_synthesis.layouts.typesetting import ADDED
from tadisr.data_synthesis.pages.compose import compose_page, open_materials
from tadisr.data_synthesis.recipe import Recipe
from tadisr.io.atomic import write_atomically
from tadisr.io.hashing import sha256
from tadisr.io.images import encode_png
from tadisr.io.structured import read_json

WORK = ".work"
IMAGES = ("lr", "hr", "mask")
"""The images of a triplet: columns of a Parquet shard, folders of the other layout."""
_TEST_EVERY = 10  # the paper has 45,000 triplets for training and 5,000 for testing


@dataclass(frozen=True)
class Job:
    """Everything that decides the bytes of a data set."""

    recipe: Recipe
    num: int
    seed: int
    size: int
    """Side of an HR image, pixels."""
    layout: str = "parquet"
    """Either "parquet" or "folders"."""

    def shards(self) -> list["Shard"]:
        """Every shard, train before test. Their length depends on `num` alone."""
        rows = min(100, max(8, -(-self.num // 16)))
        # Test triplets are also made of other photographs, crops and fonts (see `Selection`).
        test = range(_TEST_EVERY - 1, self.num, _TEST_EVERY)
        indices = {"train": [index for index in range(self.num) if index not in test], "test": list(test)}
        shards = []
        for split, chosen in indices.items():
            parts = [tuple(chosen[start : start + rows]) for start in range(0, len(chosen), rows)]
            shards += [Shard(split, number, len(parts), part) for number, part in enumerate(parts)]
        return shards

    def describe(self) -> dict[str, Any]:
        """The job in JSON's types. Two runs may share a folder only if it is equal."""
        described = json.loads(json.dumps(dataclasses.asdict(self)))
        for name in ADDED:
            if not described["recipe"]["text"][name]:
                del described["recipe"]["text"][name]
        return described


@dataclass(frozen=True)
class Shard:
    """Triplets `indices` of a data set: part `number` of the `count` parts of a split."""

    split: str
    number: int
    count: int
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        """As the Hub names Parquet shards, without suffix."""
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}"

    @property
    def parquet(self) -> str:
        """The shard's file if the layout is "parquet", relative to the data set."""
        return f"data/{self.name}.parquet"

    def image(self, kind: str, index: int) -> str:
        """The file of a triplet's image if the layout is "folders", relative to the data set."""
        return f"{self.split}/{kind}/{index:07d}.png"


def row_seed(seed: int, index: int) -> int:
    """The seed of triplet `index`, 63 bits. The triplet follows from this number and the recipe alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big") >> 1


def make_shard(shard: Shard, job: Job, selection: Selection, out: Path) -> dict[str, Any]:
    """Make a shard, write it and then its record; returns the record.

    Each triplet depends on the job and its own index alone.
    """
    materials = open_materials(job.recipe, selection, shard.split)
    rows, files, metadata = [], {}, []
    for index in shard.indices:
        seed = row_seed(job.seed, index)
        page = compose_page(job.recipe, materials, job.size, np.random.default_rng([seed, 0]))
        lr = degrade(page.image, job.recipe.degradation, np.random.default_rng([seed, 1]))
        row = {
            "lr": encode_png(lr),
            "hr": encode_png(page.image),
            "mask": encode_png(page.mask),
            "text": [line["text"] for line in page.lines],
            "boxes": [np.asarray(line["quad"], np.float32).ravel().tolist() for line in page.lines],
            "seed": seed,
            "sources": page.sources,
        }
        rows.append(row)
        if job.layout == "folders":
            files |= {shard.image(kind, index): row[kind] for kind in IMAGES}
            metadata.append(_metadata(index, row))
    if job.layout == "parquet":
        files[shard.parquet] = to_parquet(rows)
    for name, data in files.items():
        write_atomically(out / name, data, sync=False)  # its checksum is compared before it counts as made
    checksums = {name: sha256(data) for name, data in files.items()}
    return _write_record(out, shard, checksums, rows, metadata)


def to_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Triplets as a Parquet file that `datasets` reads: images, text, boxes, seed and sources of each."""
    from datasets import Dataset, Features, Image, List, Value, disable_progress_bars

    disable_progress_bars()
    strings, boxes = List(Value("string")), List(List(Value("float32"), length=8))
    others = {"text": strings, "boxes": boxes, "seed": Value("int64"), "sources": strings}
    features = Features({name: Image() for name in IMAGES} | others)
    columns = {
        name: [{"bytes": row[name], "path": None} for row in rows] if name in IMAGES else [row[name] for row in rows]
        for name in features
    }
    buffer = io.BytesIO()
    Dataset.from_dict(columns, features=features).to_parquet(buffer)
    return buffer.getvalue()


def _metadata(index: int, row: dict[str, Any]) -> dict[str, Any]:
    """A line of metadata.jsonl."""
    quads = [np.round(np.reshape(box, (4, 2)).astype(float), 1).tolist() for box in row["boxes"]]
    return {
        "file_name": f"{index:07d}.png",
        "lines": [{"text": text, "quad": quad} for text, quad in zip(row["text"], quads, strict=True)],
        "seed": row["seed"],
        "sources": row["sources"],
    }


def _record_path(out: Path, shard: Shard) -> Path:
    return out / WORK / "shards" / f"{shard.name}.json"


def _write_record(
    out: Path, shard: Shard, checksums: dict[str, str], rows: Sequence[dict[str, Any]], metadata: list[dict[str, Any]]
) -> dict[str, Any]:
    """`rows` have the text and the sources of each triplet."""
    record = {
        "files": checksums,
        "lines": sum(len(row["text"]) for row in rows),
        "sources": Counter(name for row in rows for name in row["sources"]),
        "metadata": metadata,
    }
    write_atomically(_record_path(out, shard), json.dumps(record, ensure_ascii=False).encode())
    return record


def find_record(out: Path, shard: Shard, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The record of a shard that an earlier run finished, if its files are still as that run wrote them."""
    path = _record_path(out, shard)
    if not path.is_file():
        return None
    try:
        record = read_json(path)
        files = record["files"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        warn(f"{path} is damaged: its shard is made again")
        return None
    for name, checksum in files:
        if not _has_checksum(out / name, checksum):
            warn(f"{out / name} is damaged or missing: made again")
            return None
    return record


def is_whole(out: Path, job: Job, manifest: dict[str, Any]) -> bool:
    """Whether a finished data set has all its files. Of Parquet files the checksums must also be right."""
    if job.layout == "folders":
        names = (shard.image(kind, index) for shard in job.shards() for kind in IMAGES for index in shard.indices)
        return all((out / name).is_file() for name in names)
    return all(_has_checksum(out / name, checksum) for name, checksum in manifest["files"].items())


def _has_checksum(path: Path, checksum: str) -> bool:
    return path.is_file() and sha256(path) == checksum


def restore_records(out: Path, job: Job, manifest: dict[str, Any]) -> None:
    """Write the records of a finished data set's sound Parquet shards again, so that only these shards are kept."""
    import pyarrow.parquet as pq

    for shard in job.shards():
        checksum = manifest["files"].get(shard.parquet)
        if checksum and _has_checksum(out / shard.parquet, checksum):
            rows = pq.read_table(out / shard.parquet, columns=["text", "sources"]).to_pylist()
            _write_record(out, shard, {shard.parquet: checksum}, rows, [])
