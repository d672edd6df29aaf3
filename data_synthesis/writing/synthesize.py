"""Write an FTSR data set, triplets of LR, HR and mask: resumable, and the same bytes for the same job."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tadisr.data_synthesis.judging.judge import Progress, Selection, judge_sources
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.writing.card import write_card
from tadisr.data_synthesis.writing.job import Job
from tadisr.data_synthesis.writing.manifest import BEGUN, MANIFEST, check_folder, make_manifest
from tadisr.data_synthesis.writing.shards import WORK, find_record, is_whole, make_shard, restore_records
from tadisr.io.atomic import write_atomically


def synthesize(
    out: Path,
    job: Job,
    num_proc: int = 1,
    backend: str = "local",
    say: Callable[[str], None] = lambda message: None,
    progress: Progress = lambda stage, done, total: None,
) -> dict[str, Any]:
    """Write the data set of `job` and return its manifest.

    After a kill at any moment, the same call goes on and ends with the same bytes. In a finished data set, it makes
    damaged and missing files again. `num_proc` and `backend` do not change a byte either.

    Args:
        out: the data set's folder.
        job: what to write.
        num_proc, backend: see `run_tasks`.
        say: called with messages for the user.
        progress: called with a stage, the work done and all work of the stage.

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
    for leftover in out.rglob(".*.part"):
        leftover.unlink()
    write_atomically(out / BEGUN, json.dumps({"job": job.describe()}))
    try:
        selection = judge_sources(job.recipe, out / WORK, num_proc, backend, progress)
    except (ValueError, FileNotFoundError, ImportError) as error:
        _clean_up(out, begun, error)
        raise
    records = _make_shards(out, job, selection, num_proc, backend, say, progress)
    manifest = make_manifest(job, selection, records)
    write_card(out, job, manifest)
    write_atomically(out / MANIFEST, (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    shutil.rmtree(out / WORK)
    return manifest


def _clean_up(out: Path, begun: bool, error: Exception) -> None:
    """Remove what a run wrote that could not judge its sources: the corrected command is another job.

    Files of an earlier run stay. Decisions stay if a source is merely missing: the user may put it back and repeat the
    command.
    """
    nothing = {path.name for path in (out / WORK).rglob("*") if path.is_file()} == {"job.json"}
    if nothing or (not begun and isinstance(error, ValueError)):
        shutil.rmtree(out / WORK)
        if not any(out.iterdir()):
            out.rmdir()


def _make_shards(
    out: Path,
    job: Job,
    selection: Selection,
    num_proc: int,
    backend: str,
    say: Callable[[str], None],
    progress: Progress,
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
