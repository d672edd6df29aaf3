"""`tadisr upscale`: files in, restored files and text masks out."""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tadisr.commands import cluster, documents, summary
from tadisr.commands.estimate import Estimate
from tadisr.commands.one_image import restore_job, say_job
from tadisr.commands.options import (
    OVERLAP,
    find_graph,
    find_model,
    load_restorer,
)
from tadisr.commands.origin import Maker, Model
from tadisr.commands.pages import finish
from tadisr.commands.plan import (
    FAILED,
    FORMATS,
    MAX_SCALE,
    PLANNED,
    RESTORED,
    SCALE,
    SKIPPED,
    Plan,
    check_disk,
    make_plan,
)
from tadisr.commands.text_report import load_asserted, load_thresholds
from tadisr.io.images import ImageError, read_image
from tadisr.io.messages import UserError, say, show
from tadisr.io.progress import Bars

if TYPE_CHECKING:
    from tadisr.loading.load import Restorer


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="image files, folders, patterns such as 'scans/**/*.jpg', or documents",
    )
    add("-o", "--output", metavar="OUT", help="folder, or a file for a single input (default: tadisr-output/)")
    add("--model", default="tadisr-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    add("--revision", help="revision of a Hub model")
    add(
        "--base-model", metavar="BASE", help="an adapter's base, a folder or Hub id, where the one it names is not here"
    )
    size = parser.add_mutually_exclusive_group().add_argument
    size(
        "--scale",
        type=float,
        help=f"factor, such as 2 or 2.5; another than the model's own is resized from that (default: {SCALE})",
    )
    size("--keep-size", dest="scale", action="store_const", const=1, help="as --scale 1: restored, then reduced")
    add("--dpi", type=int, help=f"documents: the most that pictures get without --scale (default: {documents.DPI})")
    size("--width", type=int, metavar="PIXELS", help="of the outputs, instead of a factor; the aspect is kept")
    size("--height", type=int, metavar="PIXELS", help="likewise")
    add("--max-side", type=int, metavar="PIXELS", help="of the outputs: the factor falls where a side would be longer")
    add(
        "--format",
        choices=FORMATS,
        help="of the restored images; same: as the input (default: png, or what -o FILE says)",
    )
    add("--quality", type=int, metavar="1..100", help="of jpg (default: 95), avif (90) and webp (lossless)")
    add(
        "--metadata",
        choices=["keep", "none"],
        default="keep",
        help="keep: EXIF and XMP of the input go into the output; colour profile and DPI always do (default: keep)",
    )
    add(
        "--pages",
        choices=["all", "first"],
        help="of a file with several, as NAME_001.png, ..., or in one tif (default: all of a TIFF, the first frame of "
        "an animation)",
    )
    add("--tile", type=_tile, default="auto", help="side of a tile in output pixels, auto or none (default: auto)")
    add(
        "--overlap", type=int, help=f"least overlap of tiles in output pixels (default: {OVERLAP}, at most half a tile)"
    )
    add("--color-fix", default="none", choices=["none", "wavelet", "adain"], help="(default: %(default)s)")
    add("--fidelity", type=float, metavar="0..1", help="of text: 0 faithful and soft, 1 sharp (default: the model's)")
    add(
        "--reduction",
        type=_reduction,
        default=1,
        metavar="FACTOR",
        help="make images so many times smaller first, or auto: as much as they are out of focus or enlarged (default: "
        "%(default)s)",
    )
    add(
        "--only-text",
        action="store_true",
        help="restore lines of text and what is near them, and enlarge the rest bicubically: faster (extra ocr)",
    )
    add(
        "--text-mask",
        metavar="FILE",
        help="of a single input, for models that are trained for it: an image that is white where text is, black where "
        "none is, transparent where the model decides",
    )
    add(
        "--asserted",
        metavar="REPORT",
        help="of a single input, for models that follow masks: the report of --report, into which somebody wrote what "
        'lines say, as their "asserted": their strokes are drawn so',
    )
    add(
        "--abstain",
        action="store_true",
        help="read every line of text before and after, and keep the input's strokes, enlarged, where the result reads "
        "differently and not more surely (extra ocr)",
    )
    add(
        "--retrace",
        action="store_true",
        help="read every line of text before and after, and draw those that surely read in the input so; for models "
        "that follow masks (extra ocr)",
    )
    add("--mask", action=argparse.BooleanOptionalAction, default=True, help="write <name>_mask.png (default: yes)")
    add("--compare", action="store_true", help="write <name>_compare.png: bicubic, restored, text overlaid in red")
    add(
        "--report",
        action="store_true",
        help="read every line of text before and after, and write <name>_report.json and <name>_report.png: which ones "
        "to check (needs the extra tadisr[ocr])",
    )
    add("--min-agreement", type=float, metavar="X", help="report: least agreement of the two readings (default: 1)")
    add("--max-score-drop", type=float, metavar="X", help="report: most that confidence may fall (default: 0.1)")
    add("--min-score", type=float, metavar="X", help="report: least confidence (default: 0.5)")
    add("--sure-score", type=float, metavar="X", help="report: least confidence before and after (default: 0.97)")
    add(
        "--skip-existing",
        action="store_true",
        help="leave out inputs whose outputs are all there, made of the same input by the same model and options",
    )
    add("--dry-run", action="store_true", help="only print what would be done")
    add("--json", action="store_true", help="print a summary as JSON on stdout")
    add("-q", "--quiet", action="store_true", help="say only what could not be done")
    add("--backend", choices=("local", "ray"), default="local", help="ray: a cluster's workers, which see these files")
    add("--workers", type=int, metavar="N", help="ray: a model each (default: as many as GPUs, else processors)")
    add("--gpus-per-worker", type=float, metavar="SHARE", help="ray: such as 0.25 (default: 1 where there are any)")
    add(
        "--runtime",
        default="auto",
        choices=["auto", "torch", "onnx"],
        help="onnx: ONNX Runtime, for models with an ONNX graph (default: onnx on CPUs, and wherever torch is missing)",
    )
    add("--device", default="auto", help="cpu, cuda, mps, coreml, directml, ... (default: the fastest here)")
    add(
        "--dtype",
        default="auto",
        choices=["auto", "int8", "float32", "float16", "bfloat16"],
        help="(default: int8 with onnx; with torch bfloat16 on cuda, and on processors with matrix units for it, "
        "float16 beside a float32 VAE on GPUs that lack it, else float32)",
    )


def run(args: argparse.Namespace) -> int:
    """Restore every input; 0 if all were, 1 if some could not be, after the rest were done."""
    cluster.check_options(args)
    if documents.are_documents(args.inputs):
        return documents.run(args)
    if args.dpi is not None:
        raise UserError("--dpi is for documents: images keep their size in print")
    plan = make_plan(args)
    text_mask = _text_mask(args, plan)
    asserted = load_asserted(Path(args.asserted)) if args.asserted is not None else []
    if asserted and len(plan.jobs) > 1:
        raise UserError(f"--asserted is for one image, not for {len(plan.jobs)}")
    thresholds = load_thresholds(args)
    maker = None
    remarks: list[str] = []
    if plan.of(PLANNED):
        graph = find_graph(args)
        found = graph or find_model(args.model, "TADiSRPipeline", args.revision)
        maker = Maker(Model(args.model, found, args.base_model), args, thresholds, asserted)
        if args.skip_existing:
            _skip_existing(plan, maker, remarks)
        if warning := check_disk(plan):
            plan.remarks.append(warning)
    summary.say_plan(plan, args.quiet)
    about, error, started = None, None, time.perf_counter()
    try:
        if maker and plan.of(PLANNED) and not args.dry_run:
            if args.backend == "ray":
                about = cluster.restore_on_ray(plan, maker, remarks)
            else:
                restorer = load_restorer(args, maker.model.path)
                about = restorer.about()
                _restore_all(plan, restorer, maker, remarks, text_mask)
    except (UserError, KeyboardInterrupt) as stopped:
        error = str(stopped) or "interrupted"
        raise
    finally:  # also after Ctrl-C
        for remark in remarks:
            say(remark)
        if args.dry_run and not args.json:
            show("\n".join(summary.dry_run(plan)))
        elif about or plan.of(FAILED):
            summary.say_results(plan, args.quiet)
        if args.json:
            show(summary.as_json(plan, maker and maker.model, about, time.perf_counter() - started, error))
    wanted = (RESTORED, SKIPPED, *([PLANNED] if args.dry_run else []))
    unread = args.report and any(job.lines is None for job in plan.of(RESTORED))
    return int(any(job.status not in wanted for job in plan.jobs) or bool(plan.left_out) or unread)


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, auto or none, not {text!r}") from None


def _reduction(text: str) -> float | str:
    if text == "auto":
        return text
    try:
        factor = float(text)
    except ValueError:
        factor = 0
    if not 1 <= factor <= MAX_SCALE:
        raise argparse.ArgumentTypeError(f"expected auto or a number from 1 to {MAX_SCALE}, not {text!r}")
    return factor


def _skip_existing(plan: Plan, maker: Maker, remarks: list[str]) -> None:
    """Mark as skipped what is there and would be made again as it is; say how the others were made."""
    others: Counter[str] = Counter()
    for job in plan.of(PLANNED):
        if not job.is_there:
            continue
        try:
            other = maker.difference(job)
        except ImageError as error:
            job.fail(error)
            continue
        if other:
            others[other] += 1
        else:
            job.status = SKIPPED
    plan.remarks += [f"{n} restored anew: their outputs were made {other}" for other, n in others.items()]
    if not maker.args.dry_run:  # an interrupted run may have left all pages of a file
        for job in plan.of(SKIPPED):
            finish(plan.jobs, job, maker, remarks)


def _text_mask(args: argparse.Namespace, plan: Plan) -> np.ndarray | None:
    """The pixels of --text-mask; UserError where it cannot be used."""
    if args.text_mask is None:
        return None
    if len(plan.jobs) > 1:
        raise UserError(f"--text-mask is for one image, not for {len(plan.jobs)}")
    path = Path(args.text_mask)
    if any(output.exists() and path.exists() and output.samefile(path) for output in plan.jobs[0].outputs.values()):
        raise UserError(f"{path} would be replaced by an output: name another folder with -o, or add --no-mask")
    try:
        return read_image(path).pixels
    except ImageError as error:
        raise UserError(str(error)) from None


def _restore_all(
    plan: Plan, restorer: "Restorer", maker: Maker, remarks: list[str], text_mask: np.ndarray | None
) -> None:
    """Restore one after the other; `remarks` get what is to be said at the end."""
    args, jobs = maker.args, plan.of(PLANNED)
    with Bars(pause=60, quiet=args.quiet) as bars:
        estimate = Estimate("image", [job.pixels for job in jobs], None if args.quiet else bars.say)
        for number, job in enumerate(jobs):
            bars.set("images", number, len(jobs), line=False)
            estimate.begin(job.pixels[0])
            progress = _tile_progress(bars, estimate, job.source.name, number, len(jobs))
            full = restore_job(job, restorer, maker, text_mask, progress)
            if job.status == RESTORED:
                estimate.reach(1)
            if say_job(plan, job, maker, remarks, bars, (number + 1, len(jobs))) or full:
                break


def _tile_progress(
    bars: Bars, estimate: Estimate, name: str, before: int, total: int
) -> Callable[[Iterable], Iterator]:
    """What to wrap an image's tiles in: it shows how many of its tiles and of all images are done."""

    def progress(grid: Iterable) -> Iterator:
        tiles = list(grid)  # smaller ones come in a second call, where memory was short
        for done, tile in enumerate(estimate.of_tiles(tiles)):
            bars.set("images", before + done / len(tiles), total, line=False)
            bars.set(name, done, len(tiles))
            yield tile
        bars.remove(name)

    return progress
