"""Write an FTSR data set: triplets (LR, HR, mask) in Parquet shards or folders, resumable and reproducible."""

import dataclasses
import hashlib
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.data_synthesis.degrade import degrade
from tadisr.data_synthesis.judging.judge import Prepared, open_fonts, open_materials, prepare
from tadisr.data_synthesis.pages.compose import compose_page
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.recipe import Recipe
from tadisr.io.atomic import write_atomically
from tadisr.io.images import encode_png

LAYOUTS = ("parquet", "folders")
WORK = ".work"
TEST_EVERY = 10  # the paper's 45,000 and 5,000
IMAGES = ("lr", "hr", "mask")


@dataclass(frozen=True)
class Job:
    """All that decides the bytes of a data set."""

    recipe: Recipe
    num: int
    seed: int
    size: int
    layout: str = "parquet"

    def shards(self) -> list["Shard"]:
        """Every shard, train before test. Their length depends on `num` alone."""
        rows = min(100, max(8, -(-self.num // 16)))
        indices = {"train": [], "test": []}
        for index in range(self.num):
            indices[split_of_index(index)].append(index)
        shards = []
        for split, chosen in indices.items():
            parts = [tuple(chosen[start : start + rows]) for start in range(0, len(chosen), rows)]
            shards += [Shard(split, number, len(parts), part) for number, part in enumerate(parts)]
        return shards


@dataclass(frozen=True)
class Shard:
    """Triplets `indices` of a data set, part `number` of `count` of its split."""

    split: str
    number: int
    count: int
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        """As the Hub names Parquet shards, without suffix."""
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}"


def split_of_index(index: int) -> str:
    """Every tenth triplet is for testing; it is also made of other photographs, crops and fonts (see `Prepared`)."""
    return "test" if index % TEST_EVERY == TEST_EVERY - 1 else "train"


def row_seed(seed: int, index: int) -> int:
    """The seed of triplet `index`, 63 bits: all of it follows from this number and the recipe."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big") >> 1


def make_rows(job: Job, prepared: Prepared, split: str, indices: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the triplets `indices`, images as PNG bytes. Each depends on the job and its own index alone."""
    materials = open_materials(job.recipe, prepared, split)
    for index in indices:
        seed = row_seed(job.seed, index)
        page = compose_page(job.recipe, materials, job.size, np.random.default_rng([seed, 0]))
        lr = degrade(page.image, job.recipe.degradation, np.random.default_rng([seed, 1]))
        yield {
            "lr": encode_png(lr),
            "hr": encode_png(page.image),
            "mask": encode_png(page.mask),
            "text": [line["text"] for line in page.lines],
            "boxes": [np.float32(line["quad"]).ravel().tolist() for line in page.lines],
            "seed": seed,
            "sources": page.sources,
        }


def features() -> Any:
    """The data set's columns, a `datasets.Features`."""
    from datasets import Features, Image, List, Value

    return Features(
        **{name: Image() for name in IMAGES},
        text=List(Value("string")),
        boxes=List(List(Value("float32"), length=8)),
        seed=Value("int64"),
        sources=List(Value("string")),
    )


def make_shard(shard: Shard, job: Job, prepared: Prepared, out: Path) -> dict[str, Any]:
    """Make one shard and write it; returns its record (also written, last of all, below WORK)."""
    rows = list(make_rows(job, prepared, shard.split, shard.indices))
    files = {}
    if job.layout == "parquet":
        files[f"data/{shard.name}.parquet"] = _to_parquet(rows)
    else:
        for index, row in zip(shard.indices, rows, strict=True):
            files |= {f"{shard.split}/{kind}/{index:07d}.png": row[kind] for kind in IMAGES}
    lines = [
        {
            "file_name": f"{index:07d}.png",
            "lines": [{"text": text, "quad": quad} for text, quad in zip(row["text"], _quads(row), strict=True)],
            "seed": row["seed"],
            "sources": row["sources"],
        }
        for index, row in zip(shard.indices, rows, strict=True)
    ]
    for name, data in files.items():
        write_atomically(out / name, data)
    record = {
        "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        "rows": len(rows),
        "lines": sum(len(row["text"]) for row in rows),
        "sources": Counter(name for row in rows for name in row["sources"]),
        "metadata": lines if job.layout == "folders" else [],
    }
    write_atomically(_record_path(out, shard), json.dumps(record, ensure_ascii=False).encode())
    return record


def _quads(row: dict) -> list[list[list[float]]]:
    return [np.round(np.reshape(box, (4, 2)).astype(float), 1).tolist() for box in row["boxes"]]


def _to_parquet(rows: list[dict]) -> bytes:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    columns = {
        name: [{"bytes": row[name], "path": None} for row in rows] if name in IMAGES else [row[name] for row in rows]
        for name in features()
    }
    buffer = io.BytesIO()
    Dataset.from_dict(columns, features=features()).to_parquet(buffer)
    return buffer.getvalue()


def _record_path(out: Path, shard: Shard) -> Path:
    return out / WORK / "shards" / f"{shard.name}.json"


def _find_record(out: Path, shard: Shard, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The record of a shard that an earlier run finished and whose files are still what it wrote."""
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


def _is_whole(out: Path, job: Job, manifest: dict[str, Any]) -> bool:
    """Whether the files of a finished data set are there and, of Parquet, still what was written."""
    if job.layout == "folders":
        names = (f"{s.split}/{kind}/{index:07d}.png" for s in job.shards() for kind in IMAGES for index in s.indices)
        return all((out / name).is_file() for name in names)
    return all(_has_checksum(out / name, checksum) for name, checksum in manifest["files"].items())


def _has_checksum(path: Path, checksum: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum


def _restore_records(out: Path, job: Job, manifest: dict[str, Any]) -> None:
    """Write the records of a finished data set's sound Parquet shards anew, so that those alone are kept."""
    import pyarrow.parquet as pq

    for shard in job.shards():
        name = f"data/{shard.name}.parquet"
        if (checksum := manifest["files"].get(name)) and _has_checksum(out / name, checksum):
            columns = pq.read_table(out / name, columns=["text", "sources"]).to_pydict()
            record = {
                "files": {name: checksum},
                "rows": len(columns["text"]),
                "lines": sum(map(len, columns["text"])),
                "sources": Counter(source for row in columns["sources"] for source in row),
                "metadata": [],
            }
            write_atomically(_record_path(out, shard), json.dumps(record, ensure_ascii=False).encode())


def job_description(job: Job) -> dict[str, Any]:
    """The job in JSON's types; two runs may share a folder only where it is equal."""
    return json.loads(json.dumps(dataclasses.asdict(job)))


def check_folder(out: Path, job: Job) -> bool:
    """Whether `out` holds this very job, finished; an unfinished one is gone on with.

    Raises:
        ValueError: the folder holds something else.
    """
    description = job_description(job)
    for path in (out / "manifest.json", out / WORK / "job.json"):
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8")).get("job", {})
            if there != description:
                keys = sorted(key for key in {*there, *description} if there.get(key) != description.get(key))
                raise ValueError(
                    f"{out} holds another data set (differs in: {', '.join(keys)}): name a new folder, "
                    "or repeat the command that began it to go on with it."
                )
            return path.name == "manifest.json"
    # a run that was killed before it wrote what it was about left an empty folder of its own
    if out.exists() and any(path.name != WORK for path in out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new folder, so that no two data sets mix.")
    return False


def synthesize(
    out: Path,
    job: Job,
    num_proc: int = 1,
    backend: str = "local",
    say: Callable[[str], None] = lambda message: None,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Write the data set of `job` to `out` and return its manifest.

    Killed at any moment and called again with the same job it goes on, and ends with the same bytes; of a finished one
    it makes again what is damaged or missing. `num_proc` and
    `backend` (see `run_tasks`) do not change a byte either. `progress(stage, done, total)` is called as work is done.

    Raises:
        ValueError: `out` holds something else; a source with nothing usable.
        FileNotFoundError: a source that is not there.
        OSError: `out` cannot be written.
    """
    from tadisr.data_synthesis.writing.card import write_card

    begun = (out / WORK / "job.json").is_file()
    if check_folder(out, job):
        begun = True
        manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
        if _is_whole(out, job, manifest):
            shutil.rmtree(out / WORK, ignore_errors=True)  # where the run was killed while it cleaned up
            return manifest
        say(f"{out} was finished, but files of it are damaged or missing: they are made again")
        _restore_records(out, job, manifest)
        (out / "manifest.json").unlink()
    for leftover in out.rglob(".*.part"):
        leftover.unlink()
    write_atomically(out / WORK / "job.json", json.dumps({"job": job_description(job)}).encode())
    try:
        prepared = prepare(job.recipe, out / WORK, num_proc, backend, progress)
    except (ValueError, FileNotFoundError, ImportError) as error:
        # The next command, with a mistake in this one put right, is another job. But what an earlier run made stays, as
        # what was judged does where something is only missing: it may be there again when this command is repeated.
        nothing = {path.name for path in (out / WORK).rglob("*") if path.is_file()} == {"job.json"}
        if nothing or (not begun and isinstance(error, ValueError)):
            shutil.rmtree(out / WORK)
            if not any(out.iterdir()):
                out.rmdir()
        raise
    shards = job.shards()
    records = {shard: record for shard in shards if (record := _find_record(out, shard, say))}
    todo = [shard for shard in shards if shard not in records]
    done = sum(len(shard.indices) for shard in records)
    progress("pages", done, job.num)
    make = partial(make_shard, job=job, prepared=prepared, out=out.absolute())
    for shard, record in run_tasks(make, todo, num_proc, backend):
        records[shard] = record
        done += len(shard.indices)
        progress("pages", done, job.num)
    if job.layout == "folders":
        for split in ("train", "test"):
            rows = [row for shard in shards if shard.split == split for row in records[shard]["metadata"]]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(out / split / "metadata.jsonl", text.encode())
    manifest = make_manifest(job, prepared, [records[shard] for shard in shards])
    write_card(out, job, manifest)
    write_atomically(out / "manifest.json", (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    shutil.rmtree(out / WORK)
    return manifest


def make_manifest(job: Job, prepared: Prepared, records: Sequence[dict]) -> dict[str, Any]:
    """Everything the data set was made of and by; the same for the same job, whenever and however it ran."""
    from importlib.metadata import version

    used = Counter()
    for record in records:
        used.update(record["sources"])
    fonts = open_fonts(tuple(job.recipe.fonts)) if any(prepared.families.values()) else []
    packages = ("tadisr", "numpy", "opencv-python-headless", "pillow", "torch", "datasets", "pyarrow")
    return {
        "job": job_description(job),
        "lines": sum(record["lines"] for record in records),
        "sources": prepared.sources,
        "stages": prepared.stages,
        "engine": prepared.engine,
        "used": dict(sorted(used.items())),
        "fonts": [font.describe() for font in fonts if Path(font.path).name in used],
        # of shards; folders hold too many files
        "files": {} if job.layout == "folders" else {name: sha for r in records for name, sha in r["files"].items()},
        "versions": {name: version(name) for name in packages},
    }
