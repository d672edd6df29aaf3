"""`tadisr upscale` of documents: a PDF or an archive in, the same with its pictures restored out."""

import argparse
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tadisr.commands.estimate import Estimate, megapixels
from tadisr.commands.options import (
    call_options,
    check_folder,
    enough_memory,
    find_graph,
    find_model,
    how_restored,
    is_full,
    load_restorer,
)
from tadisr.commands.origin import Model, record_of
from tadisr.commands.plan import FAILED, PIXEL_MEMORY, PLANNED, RESTORED, SCALE, SKIPPED, check_options
from tadisr.io.documents import DOCUMENTS, open_document, read_record
from tadisr.io.hashing import sha256
from tadisr.io.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, ImageError, read_made_by, write_image
from tadisr.io.messages import UserError, say, show
from tadisr.io.names import DEFAULT_FOLDER
from tadisr.io.pictures import Document, Picture
from tadisr.io.progress import Bars

if TYPE_CHECKING:
    from tadisr.loading.load import Restorer

DPI = 600
QUALITY = 90
LEAST_GAIN = 1.25  # of the resolution: less is not worth a new picture
_OF_IMAGES = ("compare", "report", "text_mask", "asserted", "width", "height", "pages", "format")


@dataclass
class Job:
    """A document, and what became of it."""

    source: Path
    output: Path
    status: str = PLANNED
    error: str | None = None
    remarks: list[str] = field(default_factory=list)
    pictures: int = 0
    """That are restored."""
    left: int = 0
    """That stay as they are."""
    failed: int = 0
    """Of those, how many could have been restored."""
    seconds: float | None = None


def are_documents(names: Sequence[str]) -> bool:
    """Whether the inputs of a command are documents; UserError where only some are."""
    documents = [name for name in names if Path(name).suffix.lower() in DOCUMENTS and not Path(name).is_dir()]
    if documents and len(documents) < len(names):
        raise UserError(f"{documents[0]} is a document, and other inputs are not: give those to another command")
    return any(Path(name).is_file() for name in documents)


def run(args: argparse.Namespace) -> int:
    """Restore every document; 0 if all were, 1 if some could not be, after the rest were done."""
    _check_options(args)
    jobs = _jobs(args)
    restorer, model, error, started = None, None, None, time.perf_counter()
    try:
        graph = find_graph(args)
        model = Model(args.model, graph or find_model(args.model, "TADiSRPipeline", args.revision), args.base_model)
        for job in jobs:
            began = time.perf_counter()
            try:
                with open_document(job.source) as document:
                    restorer = _restore(job, document, model, restorer, args)
            except (ImageError, ImportError) as problem:
                job.status, job.error = FAILED, str(problem)
                say(job.error)
                if is_full(problem):
                    raise UserError("the disk is full: make room there, and give the same command again") from None
            except FloatingPointError as problem:
                raise UserError(f"{job.source}: {problem}") from None
            job.seconds = time.perf_counter() - began
    except (UserError, KeyboardInterrupt) as stopped:
        error = str(stopped) or "interrupted"
        if any(_parts(job).is_dir() for job in jobs):
            say("what is restored is kept: the same command goes on")
        raise
    finally:
        if args.json:
            show(_as_json(jobs, model, restorer, time.perf_counter() - started, error))
    return int(any(job.status == FAILED or job.failed for job in jobs))


def _check_options(args: argparse.Namespace) -> None:
    for name in _OF_IMAGES:
        if getattr(args, name):
            raise UserError(f"--{name.replace('_', '-')} is for images, not for documents")
    if args.metadata == "none":
        raise UserError("--metadata none is for images: documents keep all that they hold")
    check_options(args)
    if args.dpi is not None and args.dpi < 1:
        raise UserError(f"--dpi must be at least 1, not {args.dpi}")


def _jobs(args: argparse.Namespace) -> list[Job]:
    """The documents and where each one goes."""
    sources = [Path(name) for name in args.inputs]
    out = DEFAULT_FOLDER if args.output is None else Path(args.output)
    if out.suffix.lower() in DOCUMENTS and not out.is_dir():
        if len(sources) > 1:
            raise UserError(f"{out} is one file, but there are {len(sources)} inputs: name a folder instead")
        if out.suffix.lower() != sources[0].suffix.lower():
            raise UserError(f"{sources[0]} stays a {sources[0].suffix} file: {out} cannot be its name")
        outputs = [out]
    elif out.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES) and not out.is_dir():
        raise UserError(f"{sources[0]} stays a {sources[0].suffix} file: {out} cannot be its name")
    else:
        outputs = [out / source.name for source in sources]
    for source, output in zip(sources, outputs, strict=True):
        if output.exists() and any(other.exists() and output.samefile(other) for other in sources):
            raise UserError(f"{output} would replace the input {source}: name another output")
    if len({str(output).casefold() for output in outputs}) < len(outputs):
        raise UserError("two of the documents have one name: restore them by commands of their own")
    for folder in {output.parent for output in outputs}:
        check_folder(folder)
    return [Job(source, output) for source, output in zip(sources, outputs, strict=True)]


def _restore(
    job: Job, document: Document, model: Model, restorer: "Restorer | None", args: argparse.Namespace
) -> "Restorer | None":
    """Restore the pictures one after the other, then write the document. Gives the model, loaded if it was needed."""
    chosen = {index: factor for index, picture in enumerate(document.pictures) if (factor := _factor(picture, args))}
    enough = len(document.pictures) - len(chosen)
    reasons = [*document.left, *([f"{enough} are fine enough: {_wanted(args)}"] if enough else [])]
    job.left = len(document.left) + enough
    job.remarks += document.remarks
    if not chosen:
        why = f"; {reasons[0]}" if reasons else ": text that fonts draw is sharp at any size"
        raise ImageError(f"{job.source} holds no pictures to restore{why}")
    made_by = {
        "model": Path(model.name).name, "weights": model.sha256[:16], "base": model.base, "quality": args.quality,
        "color_fix": args.color_fix, "fidelity": args.fidelity,
        "reduction": None if args.reduction == 1 else args.reduction,
        "only_text": "yes" if args.only_text else None, "abstain": "yes" if args.abstain else None,
        "retrace": "yes" if args.retrace else None,
    }  # fmt: skip
    whole = record_of(
        {
            **made_by,
            "input": sha256(job.source)[:16],
            "scale": args.scale,
            "dpi": _most(args),
            "max_side": args.max_side,
        }
    )
    if args.skip_existing and job.output.exists() and read_record(job.output) == whole:
        job.status = SKIPPED
        if not args.quiet:
            say(f"{job.source}: skipped: {job.output} is there, and was made in the same way")
        return restorer
    if args.dry_run and not args.json:
        restored = megapixels(sum(_pixels(document.pictures[i], factor)[1] for i, factor in chosen.items()))
        show(f"{job.source}: {len(chosen)} pictures, {restored} restored, to {job.output}")
    if args.dry_run:
        return restorer
    parts = _parts(job)
    parts.mkdir(parents=True, exist_ok=True)
    files: dict[int, Path] = {}
    failed = []
    with Bars(pause=60, quiet=args.quiet) as bars:
        tell = None if args.quiet else lambda line: bars.say(f"{job.source}: {line}")
        estimate = Estimate("picture", [_pixels(document.pictures[i], factor) for i, factor in chosen.items()], tell)
        for done, (index, factor) in enumerate(chosen.items()):
            bars.set(job.source.name, done, len(chosen))
            picture = document.pictures[index]
            file = parts / f"{index:05}{picture.suffix}"
            try:
                record = record_of({**made_by, "input": picture.digest()[:16], "factor": f"{factor:g}"})
                if file.exists() and read_made_by(file) == record:
                    estimate.leave_out(_pixels(picture, factor))
                else:
                    restorer = restorer or load_restorer(args, model.path)
                    job.remarks += _restore_picture(picture, factor, file, record, restorer, args, estimate)
                files[index] = file
            except ImageError as error:
                if is_full(error):
                    raise
                failed.append(str(error))
    job.remarks += failed
    job.failed = len(failed)
    job.left += job.failed
    if not files:
        with suppress(OSError):  # not empty: an earlier run's
            parts.rmdir()
        raise ImageError(f"{job.source}: none of its pictures could be restored: {failed[0]}")
    document.write(job.output, files, whole if not failed else f"{whole} failed={len(failed)}")
    shutil.rmtree(parts, ignore_errors=True)
    job.status, job.pictures = RESTORED, len(files)
    if not args.quiet:
        left = f", {job.left} left as they are ({reasons[0] if reasons else failed[0]})" if job.left else ""
        say(f"{job.source}: {len(files)} pictures restored{left}: {job.output}")
    for remark in job.remarks:
        say(f"{job.source}: {remark}")
    return restorer


def _parts(job: Job) -> Path:
    """Where restored pictures lie until the document is written: what is there need not be made again."""
    return job.output.with_name(f".{job.output.name}.parts")


def _most(args: argparse.Namespace) -> int:
    return DPI if args.dpi is None else args.dpi


def _wanted(args: argparse.Namespace) -> str:
    side = "" if args.max_side is None else f" and at most {args.max_side} pixels a side"
    return f"{_most(args)} dpi{side} are wanted"


def _factor(picture: Picture, args: argparse.Namespace) -> float | None:
    """By how much a picture's sides grow; None where it stays."""
    wanted = factor = float(SCALE if args.scale is None else args.scale)
    is_bounded = args.scale is None or args.dpi is not None
    if is_bounded and picture.dpi is not None:
        factor = min(factor, _most(args) / picture.dpi)
    if args.max_side is not None:
        factor = min(factor, args.max_side / max(picture.height, picture.width))
    return factor if factor >= min(LEAST_GAIN, wanted) else None


def _pixels(picture: Picture, factor: float) -> tuple[int, int]:
    """Of the picture, and of it when it is restored."""
    pixels = picture.height * picture.width
    return pixels, round(pixels * factor**2)


def _restore_picture(
    picture: Picture,
    factor: float,
    file: Path,
    record: str,
    restorer: "Restorer",
    args: argparse.Namespace,
    estimate: Estimate,
) -> list[str]:
    """Write one picture, restored. Gives what a person should know of it."""
    pixels = picture.height * picture.width * max(factor, SCALE) ** 2
    free = psutil.virtual_memory().available
    if PIXEL_MEMORY * pixels > free:
        raise ImageError(
            f"{picture.name} would take {PIXEL_MEMORY * pixels / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free"
        )
    with enough_memory(picture.name, "try a smaller --tile"):
        loaded = picture.load(file.parent)
        estimate.begin(picture.height * picture.width)
        restored = restorer.restore(loaded.pixels, scale=factor, tile_progress=estimate.of_tiles, **call_options(args))
        estimate.reach(1)
    quality = args.quality or (QUALITY if file.suffix.lower() in (".jpg", ".jpeg") else None)
    write_image(file, *loaded.layers(restored.image), loaded.metadata.scaled(factor), quality, record)
    return [f"{picture.name}: {remark}" for remark in (*loaded.remarks, *how_restored(restored))]


def _as_json(
    jobs: list[Job], model: Model | None, restorer: "Restorer | None", seconds: float, error: str | None
) -> str:
    used = None if model is None else {"name": model.name, "sha256": model.sha256}
    if used and restorer:
        used |= restorer.about()
    documents = [
        {
            "input": str(job.source), "output": str(job.output) if job.status != FAILED else None,
            "status": job.status, "error": job.error, "remarks": job.remarks, "pictures": job.pictures,
            "left": job.left, "seconds": job.seconds and round(job.seconds, 3),
        } for job in jobs
    ]  # fmt: skip
    summary = {"tadisr": version("tadisr"), "model": used, "documents": documents}
    return json.dumps(summary | {"seconds": round(seconds, 3), "error": error}, indent=1)
