"""What `tadisr upscale` is going to do: found by the headers of its inputs, before a model or torch is loaded."""

import argparse
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import psutil

from tadisr.commands.options import check_folder, existing
from tadisr.commands.text_report import report_paths
from tadisr.io.hashing import sha256
from tadisr.io.images import WRITABLE, ImageError, ImageHeader, check_encoder, check_writable, read_header
from tadisr.io.messages import UserError, shortened
from tadisr.io.names import DEFAULT_FOLDER, Input, OutputPaths, find_inputs, output_is_file, output_paths

SCALE = 4
MAX_SCALE, LEAST_TILE = 100, 64  # as TADiSRPipeline has them
MOST_PAGES = 1000  # of a file
FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tif": ".tif", "avif": ".avif", "same": None}
JPEG = (".jpg", ".jpeg")
_SAME = {"JPEG": ".jpg", "WEBP": ".webp", "TIFF": ".tif", "AVIF": ".avif"}  # by a file's format; others become PNG
# Bytes of memory for an output pixel: floats and bytes of three colours and the mask, and what writing takes.
PIXEL_MEMORY, _MEMORY_OF_ALPHA = 24, 8
# Bytes on the disk for an output pixel of a photo; what has few colours takes a tenth.
_DISK = {".png": 1.5, ".tif": 1.5, ".tiff": 1.5, ".webp": 1.0, ".jpg": 0.8, ".jpeg": 0.8, ".avif": 0.5}

PLANNED, RESTORED, SKIPPED, FAILED = "not started", "restored", "skipped", "failed"


@dataclass
class Job:
    """A page of an input: what is to be done with it, and later what was done."""

    header: ImageHeader
    outputs: dict[str, Path]
    """The files to write: "image", and where they are wanted "mask", "compare", "report" and "report_picture"."""
    page: int = 0
    pages: int = 1
    """How many of the file's pages are restored."""
    part: Path | None = None
    """Where the restored image waits until all pages of its output are restored; None where it has one page."""
    factor: float = SCALE
    status: str = PLANNED
    error: str | None = None
    remarks: list[str] = field(default_factory=list)
    """What a person should know, one line each."""
    found: list[str] = field(default_factory=list)
    """Those of the remarks that the image itself gave cause for."""
    unreported: str | None = None
    """Why there is no report on a restored image."""
    seconds: float | None = None
    lines: int | None = None
    """Lines of text that were read before and after; None without a report."""
    to_check: int | None = None

    @property
    def source(self) -> Path:
        """The input file."""
        return self.header.path

    @property
    def name(self) -> str:
        """What messages call the input."""
        return f"{self.source}, page {self.page + 1}" if self.pages > 1 else str(self.source)

    @property
    def is_there(self) -> bool:
        """Whether all outputs exist."""
        waits = self.part is not None and self.part.exists()
        return all((kind == "image" and waits) or path.exists() for kind, path in self.outputs.items())

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the output."""
        return max(1, round(self.header.height * self.factor)), max(1, round(self.header.width * self.factor))

    @property
    def pixels(self) -> tuple[int, int]:
        """Of the input and of the output."""
        return self.header.height * self.header.width, self.size[0] * self.size[1]

    @property
    def memory(self) -> int:
        """Bytes that the result takes while it is made; by a factor that is not whole, first by the model's own."""
        pixels = self.size[0] * self.size[1]
        if self.factor != int(self.factor):
            pixels += self.header.height * self.header.width * max(SCALE, math.ceil(self.factor)) ** 2
        return pixels * (PIXEL_MEMORY + _MEMORY_OF_ALPHA * self.header.has_alpha)

    @property
    def disk(self) -> float:
        """Bytes that the outputs of a photo take, roughly."""
        image = self.size[0] * self.size[1] * _DISK[self.outputs["image"].suffix.lower()] * (2 if self.part else 1)
        return image + 3 * self.size[0] * self.size[1] * _DISK[".png"] * ("compare" in self.outputs)

    @cached_property
    def input_hash(self) -> str:
        """SHA-256 of the input file; raises ImageError where it cannot be read."""
        try:
            status = self.source.stat()
            return _hash_of(self.source, status.st_mtime_ns, status.st_size)
        except OSError as error:
            raise ImageError(f"cannot read {self.source}: {error.strerror}: check its name and permissions") from error

    def fail(self, error: object) -> None:
        """It cannot be done, and why."""
        self.status, self.error = FAILED, str(error)


@lru_cache(16)
def _hash_of(path: Path, _mtime: int, _size: int) -> str:
    """Hashed once for all pages of a file."""
    return sha256(path)


@dataclass
class Plan:
    """All that the command is going to do, in this order."""

    jobs: list[Job]
    left_out: list[tuple[Path, str]]
    """Pictures that a folder or a pattern names and that cannot be read, and why."""
    remarks: list[str]
    folder: Path
    """Where the outputs go."""

    def of(self, status: str) -> list[Job]:
        """The jobs with that status."""
        return [job for job in self.jobs if job.status == status]


def make_plan(args: argparse.Namespace) -> Plan:
    """What to read and where to write it. What the headers show to be impossible is marked as failed.

    Raises UserError for a mistake in the command itself, and where nothing can be written.
    """
    check_options(args)
    out = DEFAULT_FOLDER if args.output is None else Path(args.output)
    try:
        is_file = output_is_file(out)
        suffix = out.suffix.lower() if is_file else FORMATS[args.format or "png"]
        _check_format(args, out if is_file else None, suffix)
        found = find_inputs(args.inputs, None if is_file else out)
        if not found.inputs:
            (_, why), *others = found.left_out
            also = shortened([str(path) for path, _ in others])
            raise ImageError(f"nothing to restore: {why}{f'; also {also}' if also else ''}")
        headers = [_headers(one.path, args.pages) for one in found.inputs]
        inputs = [
            one._replace(pages=len(pages), suffix=suffix or _same_suffix(one.path, pages[0]))
            for one, pages in zip(found.inputs, headers, strict=True)
        ]
        outputs = output_paths(inputs, args.output)
    except ImageError as error:
        raise UserError(str(error)) from None
    jobs = []
    for one, pages, output in zip(inputs, headers, outputs, strict=True):
        jobs += _jobs(one, pages, output, args)
    _check_reports(jobs)
    folder = out.parent if is_file else out
    check_folder(folder)
    if is_file:
        for path in jobs[0].outputs.values():
            _check_name(path, "give -o a shorter one")
    for job in (job for job in jobs if job.status == PLANNED):
        try:
            _check_possible(job, args)
        except ImageError as error:
            job.fail(error)
    remarks = []
    if found.twins:
        name, known = found.twins[0]
        more = f", and {len(found.twins) - 1} other names are of known files" if len(found.twins) > 1 else ""
        remarks.append(f"{name} is the same file as {known}{more}: each file is restored once")
    return Plan(jobs, found.left_out, remarks, folder)


def check_disk(plan: Plan) -> str | None:
    """A warning where the outputs may not fit on the disk; raises UserError where they cannot."""
    needed = sum(job.disk for job in plan.of(PLANNED))
    free = shutil.disk_usage(existing(plan.folder)).free
    if needed <= free:
        return None
    sizes = f"the outputs take about {needed / 1e9:.2g} GB, and {free / 1e9:.2g} are free in {plan.folder}"
    if needed / 10 > free:
        raise UserError(f"{sizes}: make room there or choose another folder")
    return f"{sizes}: they may not fit"


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for options that can never work."""
    if args.scale is not None and not 0 < args.scale <= MAX_SCALE:
        raise UserError(f"--scale must be a number above 0 and at most {MAX_SCALE}, not {args.scale:g}")
    for name in ("width", "height", "max_side"):
        if (side := getattr(args, name)) is not None and side < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {side}")
    if isinstance(args.tile, int) and args.tile < LEAST_TILE:
        raise UserError(f"--tile must be auto, none or at least {LEAST_TILE} output pixels, not {args.tile}")
    most = args.tile // 2 if isinstance(args.tile, int) else math.inf
    if args.overlap is not None and not 0 <= args.overlap <= most:
        tile = "none" if args.tile is None else args.tile
        raise UserError(f"--overlap must be from 0 to half a tile, not {args.overlap} for --tile {tile}")
    if args.only_text and (args.reduction != 1 or args.text_mask is not None):
        raise UserError("--only-text does not go with --reduction or --text-mask: leave one of them out")
    if args.abstain and args.text_mask is not None:
        raise UserError("--abstain does not go with --text-mask: what a person drew is not doubted")
    for name in ("asserted", "retrace"):
        if getattr(args, name) and (args.only_text or args.abstain or args.reduction != 1 or args.text_mask):
            raise UserError(f"--{name} does not go with --only-text, --abstain, --reduction or --text-mask")
    if args.asserted and args.retrace:
        raise UserError("--asserted does not go with --retrace: leave one of them out")
    if args.fidelity is not None and not 0 <= args.fidelity <= 1:
        raise UserError(f"--fidelity must be from 0 to 1, not {args.fidelity:g}")
    if args.quality is not None and not 1 <= args.quality <= 100:
        raise UserError(f"--quality must be from 1 to 100, not {args.quality}")


def _check_format(args: argparse.Namespace, file: Path | None, suffix: str | None) -> None:
    """Raise UserError where the name of the output and its options contradict one another, ImageError where Pillow
    cannot write the format."""
    wanted = FORMATS[args.format] if args.format else None
    if file and args.format and (wanted is None or WRITABLE[wanted][0] != WRITABLE[file.suffix.lower()][0]):
        raise UserError(f"--format {args.format} and the name {file} contradict one another: leave --format out")
    if args.quality is not None and suffix not in (None, ".webp", ".avif", *JPEG):
        raise UserError("--quality is for jpg, webp and avif: add --format jpg, or name such a file")
    if suffix is not None:
        check_encoder(suffix)


def _headers(path: Path, pages: str | None) -> list[ImageHeader | ImageError]:
    """The headers of an input's pages that are to be restored, or why there is none; at least one."""
    try:
        first = read_header(path)
        every = pages == "all" or (pages is None and first.format == "TIFF")  # of an animation nobody means that
        if every and first.frames > MOST_PAGES:
            raise ImageError(f"{path} holds more than {MOST_PAGES} pages: split it, or add --pages first")
    except ImageError as error:
        return [error]
    headers: list[ImageHeader | ImageError] = [first]
    for page in range(1, first.frames if every else 1):
        try:
            headers.append(read_header(path, page=page))
        except ImageError as error:  # the other pages may be whole
            headers.append(ImageError(f"page {page + 1}: {error}"))
    return headers


def _same_suffix(path: Path, header: ImageHeader | ImageError) -> str:
    """The suffix of an output in the format of its input; .png where that is not written."""
    suffix = path.suffix.lower()
    if isinstance(header, ImageError):
        return suffix if suffix in WRITABLE else ".png"
    kind = _SAME.get(header.format, ".png")
    return suffix if suffix in WRITABLE and WRITABLE[suffix][0] == WRITABLE[kind][0] else kind


def _jobs(
    one: Input, headers: Sequence[ImageHeader | ImageError], output: OutputPaths, args: argparse.Namespace
) -> list[Job]:
    """The jobs of one input, a page each."""
    jobs = []
    for page, header in enumerate(headers):
        paths = output.of_page(page, one.is_joined) if len(headers) > 1 else output
        wanted = {"image": paths.image}
        wanted |= {"mask": paths.mask} if args.mask else {}
        wanted |= {"compare": paths.compare} if args.compare else {}
        wanted |= dict(zip(("report", "report_picture"), report_paths(paths), strict=True)) if args.report else {}
        unread = isinstance(header, ImageError)
        part = parts_of(paths.image) / f"{page + 1:04}.tif" if one.is_joined else None
        shown = ImageHeader(one.path, "", 0, 0, 1, False, False) if unread else header
        job = Job(shown, wanted, page, len(headers), part)
        if unread:
            job.fail(header)
        elif header.frames > len(headers):
            job.remarks.append(
                f"{one.path} holds {header.frames} frames or pages, and only the first is restored: --pages all takes "
                "all"
            )
        if job.header.has_alpha and paths.image.suffix.lower() in JPEG:
            job.remarks.append(f"{one.path} is transparent, and JPEG cannot be: it is laid on one colour")
        jobs.append(job)
    return jobs


def parts_of(image: Path) -> Path:
    """The hidden folder where restored pages wait until the file `image` of all of them can be written."""
    return image.with_name(f".{image.name}.parts")


def _factor(header: ImageHeader, args: argparse.Namespace) -> float:
    """By how much the sides of the image grow; a whole number as an int."""
    factor = SCALE if args.scale is None else args.scale
    for name in ("width", "height"):
        wanted, side = getattr(args, name), getattr(header, name)
        if wanted is not None:
            if wanted > MAX_SCALE * side:
                raise ImageError(f"{header.path} has a {name} of {side} pixels: --{name} {wanted} is too much for it")
            factor = wanted / side
    if args.max_side is not None:
        factor = min(factor, args.max_side / max(header.height, header.width))
    return int(factor) if factor == int(factor) else factor


def _check_possible(job: Job, args: argparse.Namespace) -> None:
    """Set the factor of the job; raise ImageError for what cannot be written or cannot fit the memory.

    Systems promise memory that they lack, and end whoever uses it.
    """
    job.factor = _factor(job.header, args)
    if isinstance(args.tile, int) and args.tile < job.factor:
        raise ImageError(f"{job.source}: --tile must be at least {math.ceil(job.factor)} to make it so much larger")
    height, width = job.size
    check_writable(job.outputs["image"], height, width)
    for kind, path in (*job.outputs.items(), *([("part", job.part.parent)] if job.part else [])):
        if kind == "compare":
            check_writable(path, height, 3 * width)
        try:
            _check_name(path, "rename the input")
        except UserError as error:
            raise ImageError(str(error)) from None
    free = psutil.virtual_memory().available
    if job.memory > free:
        raise ImageError(
            f"{job.name} would take {job.memory / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: "
            "crop or shrink it, or lower --scale"
        )


def _check_name(path: Path, advice: str) -> None:
    """Raise UserError for a name that the disk does not take."""
    try:
        limits = [os.pathconf(existing(path.parent), name) for name in ("PC_NAME_MAX", "PC_PATH_MAX")]
    except (AttributeError, OSError, ValueError):  # Windows, or a file system without an answer
        limits = [255, 32767]
    for name, limit in zip((path.name, os.path.abspath(path)), limits, strict=True):
        length = len(os.fsencode(name))
        if length > limit:
            raise UserError(f"the name {name} has {length} bytes, and {limit} are possible: {advice}")


def _check_reports(jobs: Sequence[Job]) -> None:
    """Raise UserError for a report that would have the name of another output or of an input."""
    reports = ("report", "report_picture")
    taken = {os.path.abspath(job.source).casefold() for job in jobs}
    taken |= {
        os.path.abspath(path).casefold() for job in jobs for kind, path in job.outputs.items() if kind not in reports
    }
    for path in (job.outputs[kind] for job in jobs for kind in reports if kind in job.outputs):
        if os.path.abspath(path).casefold() in taken:
            raise UserError(f"the report {path} would meet another picture of that name: rename that or its input")
