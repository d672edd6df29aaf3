"""Shards of a data set: triplets made and written, and found again by a later run.

Each finished shard has a record below `WORK`: its files' checksums, and what the manifest must know.
"""

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.data_synthesis.degrade import degrade
from tadisr.data_synthesis.judging.judge import Selection
from tadisr.data_synthesis.pages.compose import compose_page, open_materials
from tadisr.data_synthesis.writing.job import IMAGES, Job, Shard, row_seed
from tadisr.io.atomic import write_atomically
from tadisr.io.hashing import sha256
from tadisr.io.images import encode_png

WORK = ".work"


def make_shard(shard: Shard, job: Job, selection: Selection, out: Path) -> dict[str, Any]:
    """Make a shard, write it and then its record; returns the record."""
    rows = list(_make_rows(job, selection, shard.split, shard.indices))
    files, metadata = {}, []
    if job.layout == "parquet":
        files[shard.parquet] = to_parquet(rows)
    else:
        for index, row in zip(shard.indices, rows, strict=True):
            files |= {shard.image(kind, index): row[kind] for kind in IMAGES}
            metadata.append(_metadata(index, row))
    for name, data in files.items():
        write_atomically(out / name, data)
    checksums = {name: sha256(data) for name, data in files.items()}
    return _write_record(out, shard, checksums, rows, metadata)


def _make_rows(job: Job, selection: Selection, split: str, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the triplets `indices`, images as PNG bytes. Each depends on the job and its own index alone."""
    materials = open_materials(job.recipe, selection, split)
    for index in indices:
        seed = row_seed(job.seed, index)
        page = compose_page(job.recipe, materials, job.size, np.random.default_rng([seed, 0]))
        lr = degrade(page.image, job.recipe.degradation, np.random.default_rng([seed, 1]))
        yield {
            "lr": encode_png(lr),
            "hr": encode_png(page.image),
            "mask": encode_png(page.mask),
            "text": [line["text"] for line in page.lines],
            "boxes": [np.asarray(line["quad"], np.float32).ravel().tolist() for line in page.lines],
            "seed": seed,
            "sources": page.sources,
        }


def to_parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    """Triplets as a Parquet file that `datasets` reads: images, text, boxes, seed and sources of each."""
    from datasets import Dataset, Features, Image, List, Value, disable_progress_bars

    disable_progress_bars()
    features = Features(
        **{name: Image() for name in IMAGES},
        text=List(Value("string")),
        boxes=List(List(Value("float32"), length=8)),
        seed=Value("int64"),
        sources=List(Value("string")),
    )
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
        record = json.loads(path.read_text(encoding="utf-8"))
        files = record["files"].items()
    except (ValueError, KeyError):
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
