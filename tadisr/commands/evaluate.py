"""`tadisr evaluate`: methods on pairs of LR and HR images, by one frozen protocol."""

import argparse
from functools import partial
from pathlib import Path

from tadisr.commands.options import usable_device
from tadisr.io.messages import UserError, say
from tadisr.io.progress import Bars
from tadisr.ocr import ENGINES


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "--data", metavar="DIR", required=True, help="hr/ and lr/ (and truth.json), an FTSR data set, or Real-CE"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        required=True,
        metavar="METHOD",
        help="WHAT or NAME=WHAT, by commas or spaces: nearest, bicubic, lanczos, realesrgan, a .pth or .safetensors "
        "file for spandrel, a folder of images made elsewhere, or a TADiSR pipeline's name, folder or Hub id",
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="reports and restored images")
    parser.add_argument("--split", help="of the data set (default: test; Real-CE: val)")
    parser.add_argument("--scale", type=int, default=4, help="of HR to LR (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--engines",
        default="rapidocr",
        help=f"{', '.join(ENGINES)}; of several, by commas, the first judges. Options follow as "
        "'paddleocr:detection=DIR;recognition=DIR', 'tesseract:languages=deu+eng' (default: %(default)s)",
    )
    parser.add_argument(
        "--normalize",
        default="none",
        choices=["none", "alnum"],
        help="of texts before they are compared (default: none)",
    )
    parser.add_argument(
        "--weights", metavar="DIR", type=Path, help="holds what would be downloaded: backbones of LPIPS and FID"
    )
    parser.add_argument(
        "--tile", default="1024", help="side of a tile in output pixels, or none (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    parser.add_argument("--workers", type=int, metavar="N", help="lines read side by side (default: one per core)")
    parser.add_argument("--seed", type=int, default=0, help="of intervals and tests (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the reports and print the table; 0 when all was measured, 1 when images had to be left out."""
    for name in ("scale", "limit", "workers"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1, not {getattr(args, name)}")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, not {args.seed}")
    try:
        tile = None if args.tile == "none" else int(args.tile)
    except ValueError:
        raise UserError(f"--tile takes a number or none, not {args.tile}") from None
    if tile is not None and tile < 64:
        raise UserError(f"--tile must be at least 64, not {tile}")
    if args.weights is not None and not args.weights.is_dir():
        raise UserError(f"--weights: no folder {args.weights}")
    specs = [spec for group in args.methods for spec in group.split(",") if spec]
    if not specs:
        raise UserError("--methods names none")
    try:
        from tadisr.evaluation.markdown import main_table
        from tadisr.evaluation.methods import Options, load_methods
        from tadisr.evaluation.pairs import open_data
        from tadisr.evaluation.report import EvaluationOptions, evaluate
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'tadisr[ocr,metrics]'") from None
    engines = [engine.strip() for engine in args.engines.split(",")]
    try:
        data = open_data(args.data, args.split, args.scale)
        args.output.mkdir(parents=True, exist_ok=True)
        device = usable_device(args.device)
        methods = load_methods(specs, data, Options(device, tile, args.weights))
        options = EvaluationOptions(
            engines, args.weights, device, args.workers, args.normalize, args.seed, args.limit
        )  # fmt: skip
        with Bars() as bars:
            report = evaluate(data, methods, args.output, options, partial(bars.set, "restored images"))
    except OSError as error:  # a data set that is not there, a disk that is full
        raise UserError(f"{error.filename}: {error.strerror}" if error.strerror else str(error)) from None
    except MemoryError:
        raise UserError(f"not enough memory: try a smaller --tile than {args.tile}, or another --device") from None
    except (ValueError, ImportError, RuntimeError, FloatingPointError) as error:
        raise UserError(str(error)) from None
    print(main_table(report))  # noqa: T201
    for note in report["settings"]["notes"]:
        say(note)
    say(f"report.html, report.md and report.json in {args.output}")
    return int(len(report["images"]) < min(len(data), args.limit or len(data)))
