"""`tadisr upscale`: files in, restored files and text masks out."""

import argparse
from collections.abc import Iterable
from pathlib import Path

from tadisr.cli import UserError
from tadisr.files import ImageError, LoadedImage, OutputPaths, find_inputs, output_paths, read_image, write_image


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image files, folders, or patterns such as 'scans/*.jpg'"
    )
    parser.add_argument(
        "-o", "--output", metavar="OUT", help="folder, or a file for a single input (default: tadisr-output/)"
    )
    parser.add_argument("--model", default="tadisr-tiny", help="bundled name, folder or Hub id (default: %(default)s)")
    parser.add_argument("--revision", help="revision of a Hub model")
    parser.add_argument("--scale", type=int, default=4, help="integer factor (default: %(default)s)")
    parser.add_argument(
        "--tile", default="auto", help="side of a tile in output pixels, auto or none (default: %(default)s)"
    )
    parser.add_argument(
        "--overlap", type=int, default=64, help="overlap of tiles in output pixels (default: %(default)s)"
    )
    parser.add_argument(
        "--color-fix", default="none", choices=["none", "wavelet", "adain"], help="(default: %(default)s)"
    )
    parser.add_argument("--mask", action=argparse.BooleanOptionalAction, default=True, help="write <name>_mask.png")
    parser.add_argument(
        "--compare", action="store_true", help="write <name>_compare.png: bicubic, restored, text overlaid"
    )
    parser.add_argument("--skip-existing", action="store_true", help="leave out inputs whose outputs are all there")
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    parser.add_argument(
        "--dtype", default="auto", choices=["auto", "float32", "float16", "bfloat16"], help="(default: auto)"
    )


def run(args: argparse.Namespace) -> int:
    """Restore every input; 0 if all were, 1 if some could not be, after the rest were done."""
    try:
        tile = args.tile if args.tile == "auto" else None if args.tile == "none" else int(args.tile)
    except ValueError:
        raise UserError(f"--tile takes a number, auto or none, not {args.tile!r}") from None
    try:
        inputs = find_inputs(args.inputs)
        outputs = output_paths(inputs, args.output)
    except ImageError as error:
        raise UserError(str(error)) from None
    jobs = list(zip(inputs, outputs, strict=True))
    if args.skip_existing:
        jobs = [job for job in jobs if not all(path.exists() for path in _wanted(job[1], args))]
    if not jobs:
        print("Nothing to do: every output exists.")  # noqa: T201
        return 0
    pipe = _load(args)
    try:
        pipe.check_inputs(args.scale, tile, args.overlap, args.color_fix, "pil")
    except ValueError as error:
        raise UserError(str(error)) from None

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failures: list[str] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        images = progress.add_task("images", total=len(jobs))
        for source, output in jobs:
            tiles = progress.add_task(source.name, total=None)

            def track(grid: Iterable, tiles: int = tiles) -> Iterable:
                return progress.track(list(grid), task_id=tiles)

            try:
                _upscale(pipe, read_image(source), output, args, tile, track)
            except ImageError as error:
                failures.append(str(error))
            except (MemoryError, RuntimeError) as error:
                if "memory" not in str(error).lower():
                    raise
                failures.append(f"{source}: not enough memory: try a smaller --tile, or shrink the image")
            progress.remove_task(tiles)
            progress.advance(images)
    console = Console(stderr=True, soft_wrap=True, highlight=False)
    for failure in failures:
        console.print(f"tadisr: {failure}", markup=False)
    done = len(jobs) - len(failures)
    print(f"{done} of {len(jobs)} restored, in {jobs[0][1].image.parent}")  # noqa: T201
    return 1 if failures else 0


def _wanted(output: OutputPaths, args: argparse.Namespace) -> list[Path]:
    return [output.image, *([output.mask] if args.mask else []), *([output.compare] if args.compare else [])]


def _load(args: argparse.Namespace):  # noqa: ANN202 - the pipeline's type would import torch
    import torch
    from diffusers.utils import logging
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    from tadisr import TADiSRPipeline

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    device = args.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    dtype = args.dtype
    if dtype == "auto":
        dtype = "float32" if device.startswith("cpu") else "bfloat16" if device.startswith("cuda") else "float16"
    try:
        pipe = TADiSRPipeline.from_pretrained(args.model, torch_dtype=getattr(torch, dtype), revision=args.revision)
        return pipe.to(device)
    except (OSError, ValueError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise UserError(f"cannot load {args.model}: {str(error).splitlines()[0]}") from None
    except (RuntimeError, AssertionError) as error:  # a device that this torch does not know or have
        raise UserError(f"cannot use device {device}: {str(error).splitlines()[0]}") from None


def _upscale(pipe, loaded: LoadedImage, output: OutputPaths, args, tile, track) -> None:  # noqa: ANN001
    import numpy as np

    result = pipe(loaded.rgb, args.scale, tile, args.overlap, args.color_fix, tile_progress=track)
    image, mask = np.asarray(result.images[0]), np.asarray(result.text_masks[0])
    alpha = None if loaded.alpha is None else _enlarge(loaded.alpha, args.scale)
    if args.mask:
        write_image(output.mask, mask)
    if args.compare:
        red = image.copy()
        red[..., 0] = np.maximum(red[..., 0], mask)
        red[..., 1:] = red[..., 1:] * (1 - mask[..., None] / 510.0)
        write_image(output.compare, np.concatenate([_enlarge(loaded.rgb, args.scale), image, red], axis=1))
    # last: a restored image that is there is complete
    write_image(output.image, image, alpha, loaded.icc_profile)


def _enlarge(pixels, scale: int):  # noqa: ANN001, ANN202
    import numpy as np
    from PIL import Image

    size = (pixels.shape[1] * scale, pixels.shape[0] * scale)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC))
