"""`tadisr export`: a model as ONNX files, which run without PyTorch, or as one file for other programs."""

import argparse
from pathlib import Path
from typing import Any

from tadisr.commands.options import check_folder, find_model, load_model
from tadisr.commands.origin import Model
from tadisr.io.images import ImageError, read_image
from tadisr.io.messages import UserError, one_line, quiet, say
from tadisr.loading.graphs import FILES
from tadisr.loading.repositories import native_scale
from tadisr.pipelines.inputs import check_fidelity

PRECISIONS = ("float32", "int8")


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("model", metavar="MODEL", help="bundled name, folder or Hub id")
    add("-o", "--output", metavar="DIR", type=Path, help="folder for the ONNX files")
    add("--spandrel", metavar="FILE", type=Path, help="one .safetensors file for programs that load models by spandrel")
    add("--revision", help="revision of a Hub model")
    add("--base-model", metavar="BASE", help="an adapter's base, where the one it names is not here")
    add(
        "--precision",
        nargs="+",
        choices=list(FILES),
        default=list(PRECISIONS),
        help="one file each (default: float32 and int8)",
    )
    add("--fidelity", type=float, metavar="0..1", help="where the files' dial stands (default: as the model's)")
    add("--tile", type=int, metavar="PIXELS", help="of one size only, in output pixels (default: any size)")
    add(
        "--calibration",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="int8: LR images like those to be restored (default: drawn pages that the package carries)",
    )


def run(args: argparse.Namespace) -> int:
    """Write every file, the ONNX files each compared with the model; 0 when all are there."""
    if args.output is None and args.spandrel is None:
        raise UserError("give -o DIR for ONNX files, or --spandrel FILE")
    if args.spandrel is not None and args.spandrel.suffix != ".safetensors":
        raise UserError(f"--spandrel must name a .safetensors file, not {args.spandrel}")
    try:
        images = [read_image(path).rgb for path in args.calibration or ()]
    except ImageError as error:
        raise UserError(str(error)) from None
    folder = find_model(args.model, "TADiSRPipeline", args.revision)
    try:
        scale = native_scale(folder) or 4
    except ValueError as error:
        raise UserError(f"cannot export {args.model}: {one_line(error)}") from None
    if args.tile is not None and (args.tile < 1 or args.tile % scale):
        raise UserError(f"--tile must be a multiple of the model's factor, {scale}, not {args.tile}")
    try:
        check_fidelity(args.fidelity)
    except ValueError as error:
        raise UserError(f"--{error}") from None
    if args.output is not None:
        check_folder(args.output)
    base = {} if args.base_model is None else {"base_model": args.base_model}
    pipe = load_model(args.model, "cpu", "TADiSRPipeline", "float32", folder, **base).pipe.fuse_lora()
    if args.fidelity is not None:
        pipe.register_to_config(default_fidelity=args.fidelity)
    if args.spandrel is not None:
        _pack(pipe, args.model, args.spandrel)
    if args.output is None:
        return 0
    from tadisr.runtime.export import export  # and torch

    card = folder / "README.md"
    about = {
        "name": folder.name if args.model == str(folder) else args.model,
        "weights": Model(args.model, folder, args.base_model).sha256,
        "card": card.read_text(encoding="utf-8") if card.is_file() else "",
    }
    paths = {precision: args.output / FILES[precision] for precision in args.precision}
    try:
        with quiet():
            tile = None if args.tile is None else args.tile // scale
            written = export(pipe, paths, tile, images or None, license=_license(about["card"]), **about)
    except (OSError, ValueError, ImportError) as error:
        raise UserError(f"cannot export {args.model}: {one_line(error)}") from None
    for precision, info in written.items():
        near = "the same image as" if info.psnr is None else f"{info.psnr:.1f} dB from"
        size = paths[precision].stat().st_size / 1e6
        say(f"{paths[precision]}: {size:.1f} MB, {near} PyTorch's in float32")
    return 0


def _pack(pipe: Any, model: str, path: Path) -> None:
    """Write the file for spandrel."""
    from tadisr.loading.packed import pack

    try:
        with quiet():
            pack(pipe, path)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot export {model}: {one_line(error)}") from None
    say(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


def _license(card: str) -> str:
    """What the card's header says, or ""."""
    from huggingface_hub.repocard import ModelCard

    try:
        data: Any = ModelCard(card, ignore_metadata_errors=True).data
    except ValueError:
        return ""
    return str(data.get("license") or "")
