"""What `tadisr upscale` says of its plan and its results: lines for a person, JSON for a script."""

import json
from collections import Counter
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tadisr.commands.estimate import megapixels
from tadisr.commands.origin import Model
from tadisr.commands.plan import FAILED, PLANNED, RESTORED, SKIPPED, Job, Plan
from tadisr.io.messages import say, shortened


def say_plan(plan: Plan, quiet: bool = False) -> None:
    """What is known before any work: what is left out or cannot be done, and what a person should know.

    `quiet`: only the former.
    """
    kinds: dict[str, list[tuple[Path, str]]] = {}
    for path, why in plan.left_out:
        kinds.setdefault(path.suffix.lower(), []).append((path, why))
    for (_, why), *others in kinds.values():
        also = shortened([str(path) for path, _ in others])
        say(f"left out: {why}{f'; also {also}' if also else ''}")
    lines = [job.error for job in plan.of(FAILED) if job.error]
    skipped = len(plan.of(SKIPPED))
    if not quiet:
        lines += plan.remarks + [remark for job in plan.of(PLANNED) for remark in job.remarks]
        if skipped == len(plan.jobs):
            lines.append("nothing to do: every output exists, and was made in the same way")
        elif skipped:
            lines.append(f"{skipped} skipped: their outputs exist, and were made in the same way")
    for line in dict.fromkeys(lines):  # the pages of a file have the same
        say(line)


def dry_run(plan: Plan) -> Iterable[str]:
    """A line for each job, and how much all of them take."""
    for job in plan.of(PLANNED):
        (height, width), header = job.size, job.header
        yield f"{job.name}: {header.width} x {header.height} to {width} x {height}: {job.outputs['image']}"
    planned = plan.of(PLANNED)
    counts = Counter(job.status for job in plan.jobs)
    left = "".join(f", {counts[status]} {status}" for status in (SKIPPED, FAILED) if counts[status])
    memory = max((job.memory for job in planned), default=0) / 1e9
    disk = sum(job.disk for job in planned) / 1e9
    size = megapixels(sum(job.pixels[1] for job in planned))
    needed = f"memory for the largest {memory:.2f} GB, on the disk about {disk:.2g} GB"
    yield f"{len(planned)} to restore{left}; {size}, {needed}"


def say_results(plan: Plan, quiet: bool = False) -> None:
    """What was done; with `quiet` only what was not."""
    jobs = [job for job in plan.jobs if job.status != SKIPPED]
    done, left = plan.of(RESTORED), plan.of(PLANNED)
    if quiet and len(done) == len(jobs):
        return
    first, one = jobs[0], len(jobs) == 1
    if lines := sum(job.lines or 0 for job in done):
        to_check = sum(job.to_check or 0 for job in done)
        pictures = first.outputs["report_picture"] if one else "the _report.png files"
        say(f"{to_check} of {lines} lines of text to check: see {pictures}")
    together = len({job.outputs["image"] for job in jobs}) == 1 and not left
    where = f": {first.outputs['image']}" if together else f", in {plan.folder}"
    rest = f"; {len(left)} left: the same command with --skip-existing goes on" if left else ""
    say(f"{len(done)} of {len(jobs)} restored{where if done else ''}{rest}")


def as_json(plan: Plan, model: Model | None, about: dict[str, str] | None, seconds: float, error: str | None) -> str:
    """The summary for `--json`; docs/upscale.md has its fields. `about`: what runs the model, as `Restorer.about`."""
    counts = Counter(job.status for job in plan.jobs)
    lines = [job for job in plan.jobs if job.lines is not None]
    used = None if model is None else {"name": model.name, "sha256": model.sha256}
    if used and about:
        used |= about
    summary = {
        "tadisr": version("tadisr"),
        "model": used,
        "images": [_image(job) for job in plan.jobs],
        "left_out": [{"path": str(path), "reason": why} for path, why in plan.left_out],
        "remarks": plan.remarks,
        "totals": {
            **{status.replace(" ", "_"): counts[status] for status in (RESTORED, SKIPPED, FAILED, PLANNED)},
            "left_out": len(plan.left_out),
            "lines": sum(job.lines or 0 for job in lines) if lines else None,
            "lines_to_check": sum(job.to_check or 0 for job in lines) if lines else None,
            "seconds": round(seconds, 3),
        },
        "error": error,
    }
    return json.dumps(summary, indent=1)  # ASCII: any terminal takes it, and names that are no text survive


def _image(job: Job) -> dict[str, Any]:
    outputs: dict[str, Path] = job.outputs if job.status in (RESTORED, SKIPPED, PLANNED) else {}
    if job.part and job.part.exists() and job.status in (RESTORED, SKIPPED):  # interrupted before it was one file
        outputs = outputs | {"image": job.part}
    known = bool(job.header.format)
    return {
        "input": str(job.source),
        "page": job.page + 1,
        "pages": job.pages,
        "status": job.status,
        "error": job.error,
        "remarks": job.remarks,
        "outputs": {kind: str(path) for kind, path in outputs.items()},
        "input_size": [job.header.height, job.header.width] if known else None,
        "size": list(job.size) if known else None,
        "seconds": None if job.seconds is None else round(job.seconds, 3),
        "lines": job.lines,
        "lines_to_check": job.to_check,
    }
