"""Write an FTSR data set, triplets of LR, HR and mask: resumable, and the same bytes for the same job."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.judging.judge import Progress, Selection, judge_sources
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.writing.card import write_card
from tadisr.data_synthesis.writing.shards import WORK, Job, find_record, is_whole, make_shard, restore_records
from tadisr.io.atomic import write_atomically
from tadisr.io.structured import read_json

MANIFEST = "manifest.json"
BEGUN = f"{WORK}/job.json"
"""Says which job is at work in a folder."""
Say = Callable[[str], None]
_MANIFEST_KEYS = {"job", "lines", "sources", "stages", "files"}
_PACKAGES = ("tadisr", "numpy", "opencv-python-headless", "pillow", "torch", "datasets", "pyarrow")


def synthesize(
    out: Path,
    job: Job,
    num_proc: int = 1,
    backend: str = "local",
    say: Say = lambda message: None,
    progress: Progress = lambda stage, done, total: None,
    device: str = "auto",
) -> dict[str, Any]:
    """Write the data set of `job` and return its manifest.

    After a kill at any moment, the same call goes on and ends with the same bytes. In a finished data set, it makes
    damaged and missing files again. `num_proc` and `backend`, see `run_tasks`, do not change a byte either; `device`,
    see `find_devices`, changes masks and super-resolved crops by rounding. `say` is called with messages for the user,
    `progress` with a stage, the work done and all work of the stage.

    Raises:
        ValueError: `out` holds something else; nothing in a source can be used.
        FileNotFoundError: a source is not there.
        OSError: `out` cannot be written.
    """
    begun = (out / BEGUN).is_file()
    if manifest := check_folder(out, job):
        if is_whole(out, job, manifest):
            shutil.rmtree(out / WORK, ignore_errors=True)  # left by a run that was killed while it cleaned up
            return manifest
        say(f"{out} was finished, but files of it are damaged or missing: they are made again")
        restore_records(out, job, manifest)
        (out / MANIFEST).unlink()
        begun = True
    with _no_leftovers(out):
        write_atomically(out / BEGUN, json.dumps({"job": job.describe()}))
        try:
            if job.recipe.rendered and (missing := opened.without(job.recipe)):
                say(missing)
            if job.recipe.crops and job.recipe.enhancer is None:
                say(
                    "the crops are not super-resolved, as the paper's are: name a model with --enhancer, "
                    "such as a file of HAT"
                )
            selection = judge_sources(job.recipe, out / WORK, job.size, num_proc, backend, progress, device)
        except (ValueError, FileNotFoundError, ImportError) as error:
            # The corrected command is another job, so what this run wrote goes. Files of an earlier run stay, and
            # decisions if a source is merely missing: the user may put it back and repeat the command.
            nothing = {path.name for path in (out / WORK).rglob("*") if path.is_file()} == {"job.json"}
            if nothing or (not begun and isinstance(error, ValueError)):
                shutil.rmtree(out / WORK)
                if not any(out.iterdir()):
                    out.rmdir()
            raise
        records = _make_shards(out, job, selection, num_proc, backend, say, progress)
        manifest = make_manifest(job, selection, records)
        write_card(out, job, manifest)
        write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
        shutil.rmtree(out / WORK)
        return manifest


@contextmanager
def _no_leftovers(out: Path) -> Iterator[None]:
    """Delete what earlier runs, and then this one's workers, were writing when they were killed."""

    def delete() -> None:
        for leftover in out.rglob(".*.part"):
            leftover.unlink(missing_ok=True)

    delete()
    try:
        yield
    finally:
        delete()


def _make_shards(
    out: Path, job: Job, selection: Selection, num_proc: int, backend: str, say: Say, progress: Progress
) -> list[dict[str, Any]]:
    """Make the shards that no earlier run has made; returns the records of all, in order."""
    shards = job.shards()
    records = {shard: record for shard in shards if (record := find_record(out, shard, say))}
    todo = [shard for shard in shards if shard not in records]
    done = sum(len(shard.indices) for shard in records)
    progress("pages", done, job.num)
    make = partial(make_shard, job=job, selection=selection, out=out.absolute())
    for shard, record in run_tasks(make, todo, num_proc, backend):
        records[shard] = record
        done += len(shard.indices)
        progress("pages", done, job.num)
    if job.layout == "folders":
        for split in ("train", "test"):
            rows = [row for shard in shards if shard.split == split for row in records[shard]["metadata"]]
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_atomically(out / split / "metadata.jsonl", text.encode())
    return [records[shard] for shard in shards]


def check_folder(out: Path, job: Job) -> dict[str, Any] | None:
    """The manifest if this very job was finished in `out`; None if it may begin there, or go on; else ValueError."""
    description = job.describe()
    for path in (out / MANIFEST, out / BEGUN):
        if path.is_file():
            there = read_json(path)
            found = there.get("job", {}) if isinstance(there, dict) else None
            if not isinstance(found, dict) or (path.name == MANIFEST and not set(there) >= _MANIFEST_KEYS):
                raise ValueError(f"{path} is damaged: delete it, and repeat the command that made the data set.")
            if found != description:
                keys = sorted(key for key in {*found, *description} if found.get(key) != description.get(key))
                raise ValueError(
                    f"{out} holds another data set (differs in: {', '.join(keys)}): name a new folder, "
                    "or repeat the command that began it to go on with it."
                )
            return there if path.name == MANIFEST else None
    # A run that was killed before it wrote BEGUN left an empty folder of its own.
    if out.exists() and any(path.name != WORK for path in out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new folder, so that no two data sets mix.")
    return None


def make_manifest(job: Job, selection: Selection, records: Sequence[dict]) -> dict[str, Any]:
    """The manifest from the records of all shards; the same for the same job, however often it was interrupted."""
    used = Counter()
    for record in records:
        used.update(record["sources"])
    fonts = opened.fonts(tuple(job.recipe.fonts)) if any(selection.families.values()) else []
    missing = opened.without(job.recipe) if fonts else ""
    return {
        "job": job.describe(),
        **({"without": missing} if missing else {}),
        "lines": sum(record["lines"] for record in records),
        "sources": selection.sources,
        "stages": selection.stages,
        "engine": selection.engine,
        "used": dict(sorted(used.items())),
        "fonts": [font.describe() for font in fonts if Path(font.path).name in used],
        # Only Parquet files are listed: the other layout has too many files.
        "files": {} if job.layout == "folders" else {name: sha for r in records for name, sha in r["files"].items()},
        "versions": {name: version(name) for name in _PACKAGES},
    }
