"""`tadisr refine`: a photo in, the same photo with its lines of text sharpened out."""

import argparse
import re
from pathlib import Path

import numpy as np

from tadisr.commands.options import enough_memory, load_model
from tadisr.io.images import ImageError, read_image, write_image
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
    """Refine the photo; 0 when it is written."""
    if not 0 <= args.seed < 2**63:
        raise UserError(f"--seed must be at least 0 and below 2**63, not {args.seed}")
    try:
        loaded = read_image(args.photo)
        # not where `upscale` writes: what is refined is often its output
        place = args.output or DEFAULT_FOLDER / f"{args.photo.stem}_refined.png"
        output = output_paths([args.photo], place)[0].image
        pixels, said = _refine(loaded.rgb, args)
        write_image(output, pixels, loaded.alpha, loaded.icc_profile)
    except ImageError as error:
        raise UserError(str(error)) from None
    if loaded.frames > 1:
        say(f"{args.photo} holds {loaded.frames} frames or pages: only the first was refined")
    say(f"{said}: {output}")
    return 0


def _refine(photo: np.ndarray, args: argparse.Namespace) -> tuple[np.ndarray, str]:
    """The refined photo, and what was done, in words."""
    import torch

    from tadisr.models.textdiff.photo import find_boxes, read_boxes, refine_lines
    from tadisr.ocr import load_photo_engine

    try:
        quads = None if args.boxes == "auto" else read_boxes(args.boxes)
    except OSError as error:
        raise UserError(f"--boxes: cannot read {args.boxes}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"--boxes: {error}") from None
    pipe = load_model(args.model, args.device, "TextDiffPipeline", revision=args.revision).pipe
    try:
        pipe.check_inputs(args.steps, 1, "np", args.temperature, args.strength)
    except ValueError as error:
        message = re.sub(r"^(temperature|strength)", r"--\1", str(error).replace("num_inference_steps", "--steps"))
        raise UserError(message) from None
    if quads is None:
        try:
            engine = load_photo_engine()
        except ImportError as error:
            raise UserError(f"--boxes auto: {error} Or name the lines in a file.") from None
        quads = find_boxes(photo, engine)
    if not quads:
        return photo, "no text found, written unchanged" if args.boxes == "auto" else "no boxes, written unchanged"

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
