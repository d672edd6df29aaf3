"""Outputs of several pages: restored pages wait in a hidden folder until the file of all of them is written."""

from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from tadisr.commands.plan import MOST_PAGES, PLANNED, RESTORED, Job, parts_of
from tadisr.io.images import ImageError, join_pages, read_header, read_made_by
from tadisr.io.messages import shortened

if TYPE_CHECKING:
    from tadisr.commands.origin import Maker


def records(job: Job, kind: str) -> tuple[str | None, ...]:
    """What made an output of a job that is there; of a page, all places where it can be. `kind` as in `Job.outputs`."""
    if kind != "image" or job.part is None:
        return (read_made_by(job.outputs[kind]),)
    return read_made_by(job.part), *_of_pages(job.outputs["image"])


def finish(jobs: Sequence[Job], job: Job, maker: "Maker", remarks: list[str]) -> ImageError | None:
    """Write the file that holds the page `job`, of `jobs`, where its last page is done and something in it is new.

    `remarks` get what is to be said. Gives the error where the file cannot be written; the pages are then kept.
    """
    pages = [one for one in jobs if one.part and one.outputs["image"] == job.outputs["image"]]
    if any(one.status == PLANNED for one in pages) or not any(one.part and one.part.exists() for one in pages):
        return None
    output = job.outputs["image"]
    places = [_place(one, maker) for one in pages]
    try:
        join_pages(output, [place for place in places if place])
    except ImageError as error:
        for one in pages:
            if one.status == RESTORED:
                one.fail(error)
        remarks.append(f"{error}. What is restored is kept: the same command with --skip-existing goes on")
        return error
    rmtree(parts_of(output), ignore_errors=True)
    missing = [str(one.page + 1) for one, place in zip(pages, places, strict=True) if not place]
    if missing:
        job.remarks.append(f"{output} is without page {shortened(missing)} of {job.source}")
        remarks.append(job.remarks[-1])
    return None


def _place(job: Job, maker: "Maker") -> tuple[Path, int] | None:
    """Where a page lies as it would be made now: its part, or a page of the output that is there."""
    if job.part is None or not job.header.format:
        return None
    with suppress(ImageError):  # the input is gone
        record = maker.record(job, "image")
        part, *others = records(job, "image")
        if part == record:
            return job.part, 0
        if record in others:
            return job.outputs["image"], others.index(record)
    return None


def _of_pages(path: Path) -> tuple[str | None, ...]:
    with suppress(OSError):
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    return ()


@lru_cache(4)
def _read(path: Path, _mtime: int, _size: int) -> tuple[str | None, ...]:
    """Read once for all pages."""
    with suppress(ImageError):
        return tuple(read_made_by(path, page) for page in range(min(MOST_PAGES, read_header(path, 2**62).frames)))
    return ()
