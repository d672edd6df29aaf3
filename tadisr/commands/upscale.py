"""`tadisr upscale`: files in, restored files and text masks out."""

import argparse
import errno
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, compress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tadisr.commands.options import enough_memory, load_model
from tadisr.commands.text_report import load_thresholds, report_paths, write_report
from tadisr.io.images import ImageError, LoadedImage, Metadata, read_image, write_image
from tadisr.io.messages import UserError, say
from tadisr.io.names import OutputPaths, find_inputs, output_paths
from tadisr.io.progress import Bars

if TYPE_CHECKING:
    from tadisr.loading.load import Restored
    from tadisr.trust.check import TrustReport

OVERLAP = 64
Job = tuple[Path, OutputPaths]  # what to read, and where to write it
# After these, every further image would cost its time and fail the same way.
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="image files, folders, or patterns such as 'scans/*.jpg'")
    add("-o", "--output", metavar="OUT", help="folder, or a file for a single input (default: tadisr-output/)")
    add("--model", default="tadisr-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    add("--revision", help="revision of a Hub model")
    add(
        "--base-model", metavar="BASE", help="an adapter's base, a folder or Hub id, where the one it names is not here"
    )
    add(
        "--scale",
        type=int,
        default=4,
        help="whole factor; another than the model's own is resized from that (default: %(default)s)",
    )
    add("--tile", type=_tile, default="auto", help="side of a tile in output pixels, auto or none (default: auto)")
    add(
        "--overlap", type=int, help=f"least overlap of tiles in output pixels (default: {OVERLAP}, at most half a tile)"
    )
    add("--color-fix", default="none", choices=["none", "wavelet", "adain"], help="(default: %(default)s)")
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
    add(
        "--skip-existing",
        action="store_true",
        help="leave out inputs whose outputs are all there, by their names, whatever made them",
    )
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    add(
        "--dtype",
        default="auto",
        choices=["auto", "float32", "float16", "bfloat16"],
        help="(default: bfloat16 on cuda, and on processors with matrix units for it; else float32)",
    )


def run(args: argparse.Namespace) -> int:
    """Restore every input; 0 if all were, 1 if some could not be, after the rest were done."""
    jobs, skipped = _plan(args)
    if not jobs:
        say("nothing to do: every output exists")
        return 0
    if skipped:
        say(f"{skipped} skipped: outputs of their names exist")
    thresholds = load_thresholds(args)
    base = {} if args.base_model is None else {"base_model": args.base_model}
    restorer = load_model(args.model, args.device, "TADiSRPipeline", args.dtype, revision=args.revision, **base)
    if args.overlap is None:
        args.overlap = OVERLAP if args.tile in (None, "auto") else min(OVERLAP, args.tile // 2)
    options = {name: getattr(args, name) for name in ("scale", "tile", "overlap", "color_fix")}
    try:
        restorer.pipe.check_inputs(**options, output_type="uint8")
    except ValueError as error:
        raise UserError(str(error)) from None

    done, failed, reports, remarks = 0, 0, [], []
    try:
        with Bars() as bars:
            for number, (source, output) in enumerate(jobs):
                bars.set("images", number, len(jobs))
                try:
                    with enough_memory(source, "try a smaller --tile, or crop or shrink the image"):
                        loaded = read_image(source)
                        _check_memory(loaded, args.scale)
                        progress = _tile_progress(bars, source.name, number, len(jobs))
                        restored = restorer.restore(loaded.rgb, **options, tile_progress=progress)
                        _write(loaded, restored, output, args)
                except FloatingPointError as error:
                    raise UserError(f"{source}: {error}") from None
                except ImageError as error:
                    failed += 1
                    remarks.append(str(error))
                    if getattr(error.__cause__, "errno", None) in _DISK_FULL:
                        break
                    continue
                done += 1
                if loaded.frames > 1:
                    remarks.append(f"{source} holds {loaded.frames} frames or pages: only the first was restored")
                if thresholds is not None:
                    try:
                        reports.append(write_report(loaded, restored.image, output, thresholds, args.model))
                    except (ImageError, MemoryError) as error:
                        remarks.append(f"{source} was restored, but not reported on: {error or 'not enough memory'}")
    finally:  # also after Ctrl-C
        for remark in remarks:
            say(remark)
        _say_results(jobs, done, failed, reports)
    return 0 if done == len(jobs) and len(reports) == (done if args.report else 0) else 1


def _say_results(jobs: Sequence[Job], done: int, failed: int, reports: "Sequence[TrustReport]") -> None:
    first, one = jobs[0][1], len(jobs) == 1
    if lines := sum(len(report.lines) for report in reports):
        to_check = sum(len(report.to_check) for report in reports)
        pictures = report_paths(first)[1] if one else "the _report.png files"
        say(f"{to_check} of {lines} lines of text to check: see {pictures}")
    where = f": {first.image}" if one else f", in {first.image.parent}"
    left = len(jobs) - done - failed
    rest = f"; {left} left: the same command with --skip-existing goes on" if left else ""
    say(f"{done} of {len(jobs)} restored{where if done else ''}{rest}")


def _tile(text: str) -> int | str | None:
    if text in ("auto", "none"):
        return None if text == "none" else text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, auto or none, not {text!r}") from None


def _plan(args: argparse.Namespace) -> tuple[list[Job], int]:
    """What to read and where to write it, and how many are skipped.

    Fails here, not after minutes of work, if nothing can be written there.
    """
    try:
        inputs = find_inputs(args.inputs)
        outputs = output_paths(inputs, args.output)
    except ImageError as error:
        raise UserError(str(error)) from None
    reports = [report_paths(output) if args.report else () for output in outputs]
    taken = {os.path.abspath(path).casefold() for path in chain(inputs, *outputs)}
    for path in chain(*reports):
        if os.path.abspath(path).casefold() in taken:
            raise UserError(f"the report {path} would meet another picture of that name: rename that or its input")
    wanted = (True, args.mask, args.compare)
    jobs = [
        (source, output)
        for source, output, report in zip(inputs, outputs, reports, strict=True)
        if not args.skip_existing or not all(path.exists() for path in (*compress(output, wanted), *report))
    ]
    folder = outputs[0].image.parent
    place = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(4096))
    except OSError as error:
        advice = "make room there or choose another folder"
        raise UserError(f"cannot write in {folder}: {error.strerror}: {advice}") from None
    return jobs, len(inputs) - len(jobs)


def _tile_progress(bars: Bars, name: str, before: int, total: int) -> Callable[[Iterable], Iterator]:
    """What to wrap an image's tiles in: it shows how many of its tiles and of all images are done."""

    def progress(grid: Iterable) -> Iterator:
        tiles = list(grid)  # smaller ones come in a second call, where memory was short
        for done, tile in enumerate(tiles):
            bars.set("images", before + done / len(tiles), total)
            bars.set(name, done, len(tiles))
            yield tile
        bars.remove(name)

    return progress


def _check_memory(loaded: LoadedImage, scale: int) -> None:
    """Refuse what cannot fit, for systems promise memory that they do not have, and end whoever uses it."""
    import psutil

    # 24 bytes: a float and a byte for each of three colours and the mask, and what writing takes
    needed = loaded.rgb[..., 0].size * scale**2 * 24
    free = psutil.virtual_memory().available
    if needed > free:
        raise ImageError(
            f"{loaded.path} would take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: "
            "crop or shrink it, or lower --scale"
        )


def _write(loaded: LoadedImage, restored: "Restored", output: OutputPaths, args: argparse.Namespace) -> None:
    pixels, mask = restored.image, restored.mask
    assert mask is not None  # a TADiSR model always gives one
    if args.mask:
        write_image(output.mask, mask)
    if args.compare:
        photo, text = Image.fromarray(pixels), Image.fromarray(mask)
        red = Image.blend(photo, Image.new("RGB", photo.size, "red"), 0.5)
        overlaid = np.asarray(Image.composite(red, photo, text))
        row = np.concatenate([_bicubic(loaded.rgb, photo.size), pixels, overlaid], axis=1)
        write_image(output.compare, row, metadata=Metadata(loaded.icc_profile))
    alpha = None if loaded.alpha is None else _bicubic(loaded.alpha, pixels.shape[1::-1])
    # The image comes last: where it is there, everything is.
    write_image(output.image, pixels, alpha, Metadata(loaded.icc_profile))


def _bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
