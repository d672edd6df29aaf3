"""`tadisr refine`: a photo in, the same photo with its lines of text sharpened out."""

import argparse
from pathlib import Path

import numpy as np

from tadisr.commands.options import check_folder, enough_memory, find_model, load_model, usable_device
from tadisr.io.images import ImageError, check_writable, read_image, write_image
from tadisr.io.messages import UserError, say
from tadisr.io.names import DEFAULT_FOLDER, output_paths


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("photo", metavar="PHOTO", type=Path, help="at its final size, such as another method's output")
    add("-o", "--output", metavar="OUT", help="file or folder (default: tadisr-output/NAME_refined.png)")
    add(
        "--model", default="textdiff-tiny", help="TextDiff pipeline: bundled, a folder or Hub id (default: %(default)s)"
    )
    add("--revision", help="revision of a Hub model")
    add(
        "--boxes",
        default="auto",
        metavar="auto|FILE",
        help="where the lines are: found by RapidOCR (needs the extra tadisr[ocr]), or a JSON file, a list of "
        '{"quad": [[x, y], ...]}, four corners in pixels, clockwise from the text\'s top left (default: %(default)s)',
    )
    add("--steps", type=int, default=5, help="of diffusion, 1 to 200 (default: %(default)s)")
    add("--strength", type=float, help="share of the change, 0 to 1 (default: the model's; textdiff-tiny's is 0.2)")
    add("--temperature", type=float, help="of its noise, 0 (none) to 1 (default: the model's)")
    add("--seed", type=int, default=0, help="of its noise (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")


def run(args: argparse.Namespace) -> int:
    """Refine the photo; 0 when it is written, 1 when it is one page of several."""
    _check_numbers(args)
    try:
        loaded = read_image(args.photo)
        # not where `upscale` writes: what is refined is often its output
        place = args.output or DEFAULT_FOLDER / f"{args.photo.stem}_refined.png"
        output = output_paths([args.photo], place)[0].image
        check_writable(output, *loaded.rgb.shape[:2])
        check_folder(output.parent)
        pixels, said = _refine(loaded.rgb, args)
        write_image(output, loaded.layers(pixels)[0], loaded.alpha, loaded.metadata)
    except ImageError as error:
        raise UserError(str(error)) from None
    for remark in loaded.remarks:
        say(f"{args.photo}: {remark}")
    if loaded.frames > 1:
        say(f"{args.photo} holds {loaded.frames} frames or pages: only the first was refined")
    say(f"{said}: {output}")
    return int(loaded.frames > 1)


def _check_numbers(args: argparse.Namespace) -> None:
    """Raise UserError for numbers that no model takes."""
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    for name in ("strength", "temperature"):
        value = getattr(args, name)
        if value is not None and not 0 <= value <= 1:
            raise UserError(f"--{name} must be from 0 to 1, not {value:g}")


def _find_lines(photo: np.ndarray, boxes: str) -> list[np.ndarray]:
    """Where the lines are: found, or read from a file, and within the photo."""
    from tadisr.models.textdiff.photo import check_quads, find_boxes, read_boxes
    from tadisr.ocr import load_photo_engine

    if boxes == "auto":
        try:
            engine = load_photo_engine()
        except ImportError as error:
            raise UserError(f"--boxes auto: {error} Or name the lines in a file.") from None
        return find_boxes(photo, engine)
    try:
        quads = read_boxes(boxes)
        check_quads(quads, *photo.shape[:2])
    except OSError as error:
        raise UserError(f"--boxes: cannot read {boxes}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--boxes: {error}") from None
    return quads


def _refine(photo: np.ndarray, args: argparse.Namespace) -> tuple[np.ndarray, str]:
    """The refined photo, and what was done, in words. The model is loaded last, when all else is known to work."""
    # With the Hub's client, which `tadisr refine --help` does without.
    from tadisr.loading.repositories import most_steps

    folder = find_model(args.model, "TextDiffPipeline", args.revision)
    if not 1 <= args.steps <= most_steps(folder):
        raise UserError(f"--steps must be an integer from 1 to {most_steps(folder)}, not {args.steps}")
    usable_device(args.device)
    quads = _find_lines(photo, args.boxes)
    if not quads:
        return photo, "no text found, written unchanged" if args.boxes == "auto" else "no boxes, written unchanged"
    import torch

    from tadisr.models.textdiff.photo import refine_lines

    pipe = load_model(args.model, args.device, "TextDiffPipeline", found=folder).pipe

    def refiner(lines: list[np.ndarray]) -> list[np.ndarray]:
        return pipe.refine(
            lines,
            args.steps,
            generator=torch.Generator().manual_seed(args.seed),
            output_type="np",
            temperature=args.temperature,
            strength=args.strength,
            # The share of the change is the product of both strengths, and --strength replaces that product.
            residual_strength=None if args.strength is None else 1.0,
        ).images

    try:
        with enough_memory(args.photo, "crop or shrink the photo"):
            refined = refine_lines(photo, quads, refiner)
    except ValueError as error:
        raise UserError(str(error)) from None
    share = args.strength if args.strength is not None else pipe.config.strength * pipe.config.residual_strength
    return refined, f"{len(quads)} {'line' if len(quads) == 1 else 'lines'} of text refined at strength {share:.2g}"
