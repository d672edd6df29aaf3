"""One image of `tadisr upscale`: read, restored, written, reported on, and spoken of."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tadisr.commands.options import call_options, enough_memory, how_restored, is_full
from tadisr.commands.origin import Asserted, Maker
from tadisr.commands.pages import finish
from tadisr.commands.plan import JPEG, RESTORED, Job, Plan
from tadisr.commands.text_report import write_report
from tadisr.io.images import ImageError, LoadedImage, Metadata, read_image, write_image
from tadisr.io.messages import UserError
from tadisr.io.progress import Bars
from tadisr.lettering import draw_lines
from tadisr.transparency import seen
from tadisr.trust import check

if TYPE_CHECKING:
    from tadisr.loading.load import Restored, Restorer


def restore_job(
    job: Job,
    restorer: "Restorer",
    maker: Maker,
    text_mask: np.ndarray | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
) -> bool:
    """Read, restore, write and report on one image, and note in the job what became of it; whether the disk is full.

    Raises UserError for what would fail with every other image too.
    """
    started, options = time.perf_counter(), call_options(maker.args)
    if text_mask is not None:
        options["text_mask"] = text_mask
    if (maker.args.abstain or maker.args.retrace) and maker.thresholds:
        options["report"] = maker.thresholds
    try:
        with enough_memory(job.name, "try a smaller --tile, or crop or shrink the image"):
            loaded = _read(job)
            restored = restorer.restore(loaded.pixels, scale=job.factor, tile_progress=progress, **options)
            if maker.asserted:
                restored = _follow(restorer, loaded.pixels, restored, maker.asserted, scale=job.factor, **options)
            _write(job, loaded, restored, maker)
        job.status = RESTORED
        job.found += [*loaded.remarks, *how_restored(restored)]
        job.remarks += job.found
        if maker.args.report:
            try:
                _report(job, loaded, restored, maker)
            except (ImageError, MemoryError) as error:
                job.unreported = str(error or "not enough memory")
    except FloatingPointError as error:
        raise UserError(f"{job.name}: {error}") from None
    except (ImageError, ImportError) as error:  # a package that this kind of image needs
        job.fail(error if isinstance(error, ImageError) else f"{job.name}: {error}")
        return is_full(error)
    except ValueError as error:
        if text_mask is None and not maker.asserted:
            raise
        given = f"--asserted {maker.args.asserted}" if maker.asserted else f"--text-mask {maker.args.text_mask}"
        raise UserError(f"{given}: {error}") from None
    finally:
        job.seconds = time.perf_counter() - started
    return False


def say_job(plan: Plan, job: Job, maker: Maker, remarks: list[str], bars: Bars, count: tuple[int, int]) -> bool:
    """Say what became of a job, one of so many, and write the file whose last page it is; whether the disk is full."""
    remarks += [f"{job.name}: {remark}" for remark in job.found]
    if job.error:
        remarks.append(job.error)
    elif job.unreported:
        job.remarks.append(f"not reported on: {job.unreported}")
        remarks.append(f"{job.name} was restored, but {job.remarks[-1]}")
    number, total = count
    if total > 1:
        how = "restored in" if job.status == RESTORED else "failed after"
        bars.line(f"{number} of {total}: {job.name}: {how} {job.seconds:.1f} s")
    return is_full(finish(plan.jobs, job, maker, remarks))


def _follow(
    restorer: "Restorer", pixels: np.ndarray, first: "Restored", asserted: Asserted, **options: Any
) -> "Restored":
    """A photo restored again where somebody said what lines read."""
    assert first.mask is not None
    lines = [(quad * first.mask.shape[::-1], text) for quad, text in asserted]
    mask = draw_lines(lines, first.mask, pixels[..., :3])
    return restorer.restore(pixels, text_mask=mask, first=first, **options)


def _read(job: Job) -> LoadedImage:
    """The input, as it was when the plan was made."""
    _ = job.input_hash  # of what is read now, or of what was there before: never of what comes later
    loaded = read_image(job.source, page=job.page)
    if loaded.rgb.shape[:2] != (job.header.height, job.header.width):
        raise ImageError(f"{job.source} has changed while the command ran: try it again")
    return loaded


def _write(job: Job, loaded: LoadedImage, restored: "Restored", maker: Maker) -> None:
    pixels, mask = restored.image, restored.mask
    assert mask is not None  # a TADiSR model always gives one
    records = {kind: maker.record(job, kind) for kind in job.outputs}
    metadata = loaded.metadata.scaled(job.factor)
    if maker.args.metadata == "none":
        metadata = replace(metadata, exif=None, xmp=None)
    if "mask" in job.outputs:
        write_image(job.outputs["mask"], mask, made_by=records["mask"])
    if "compare" in job.outputs:
        before, after = seen(loaded.pixels, pixels)
        photo, text = Image.fromarray(after), Image.fromarray(mask)
        red = Image.blend(photo, Image.new("RGB", photo.size, "red"), 0.5)
        overlaid = np.asarray(Image.composite(red, photo, text))
        row = np.concatenate([_bicubic(before, photo.size), after, overlaid], axis=1)
        profile = Metadata(loaded.metadata.icc_profile)
        write_image(job.outputs["compare"], row, metadata=profile, made_by=records["compare"])
    path = job.part or job.outputs["image"]
    if path.suffix.lower() in JPEG:  # which knows no transparency
        (pixels,) = seen(pixels)
    # The image comes last: where it is there, everything is.
    write_image(path, *loaded.layers(pixels), metadata, maker.args.quality, records["image"])


def _report(job: Job, loaded: LoadedImage, restored: "Restored", maker: Maker) -> None:
    assert maker.thresholds is not None
    origin = {"input": str(job.source), "model": maker.args.model, "made_by": maker.record(job, "report_picture")}
    before, after = seen(loaded.pixels, restored.image)
    report = restored.report or check.check_text(before, after, maker.thresholds)
    if maker.asserted and report.error is None:
        lines = [(quad * after.shape[1::-1], text) for quad, text in maker.asserted]
        report = check.with_asserted(report, lines)
    write_report(before, after, report, job.outputs, origin)
    job.lines, job.to_check = len(report.lines), len(report.to_check)


def _bicubic(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
