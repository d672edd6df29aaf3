"""`tadisr evaluate`: methods on pairs of LR and HR images, by one frozen protocol."""

import argparse
from functools import partial
from pathlib import Path

from tadisr.commands.options import check_folder, check_numbers, one_line_errors, usable_device
from tadisr.io.messages import UserError, say, show
from tadisr.io.progress import Bars
from tadisr.ocr import ENGINES


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--data", metavar="DIR", required=True, help="hr/ and lr/ (and truth.json), an FTSR data set, or Real-CE")
    add(
        "--methods",
        nargs="+",
        required=True,
        metavar="METHOD",
        help="WHAT or NAME=WHAT, by commas or spaces: nearest, bicubic, lanczos, realesrgan, a .pth or .safetensors "
        "file for spandrel, a folder of images made elsewhere, or a TADiSR pipeline's name, folder or Hub id",
    )
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="reports and restored images")
    add("--split", help="of the data set (default: test; Real-CE: val)")
    add("--scale", type=int, default=4, help="of HR to LR (default: %(default)s)")
    add("--limit", type=int, metavar="N", help="only the first N images")
    add(
        "--engines",
        default="rapidocr",
        help=f"{', '.join(ENGINES)}; of several, by commas, the first judges. Options follow as "
        "'paddleocr:detection=DIR;recognition=DIR', 'tesseract:languages=deu+eng' (default: %(default)s)",
    )
    add(
        "--normalize",
        default="none",
        choices=["none", "alnum"],
        help="of texts before they are compared (default: none)",
    )
    add(
        "--truth",
        choices=["engine", "annotation"],
        default="engine",
        help="engine: what the first engine reads in the HR images, as the paper's OCR-A (the default), and annotated "
        "text beside it; annotation: the text that the data set states, alone",
    )
    add("--trust", action="store_true", help="also print how many of the lines that a report would call fine are right")
    add("--weights", metavar="DIR", type=Path, help="holds what would be downloaded: backbones of LPIPS and FID")
    add("--tile", default="1024", help="side of a tile in output pixels, or none (default: %(default)s)")
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    add("--workers", type=int, metavar="N", help="lines read side by side (default: one per core)")
    add("--seed", type=int, default=0, help="of intervals and tests (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the reports and print the table; 0 when all was measured, 1 when images had to be left out."""
    check_numbers(args, "scale", "limit", "workers")
    try:
        tile = None if args.tile == "none" else int(args.tile)
    except ValueError:
        raise UserError(f"--tile takes a number or none, not {args.tile}") from None
    if tile is not None and tile < 64:
        raise UserError(f"--tile must be none or at least 64, not {tile}")
    if args.weights is not None and not args.weights.is_dir():
        raise UserError(f"--weights: no folder {args.weights}")
    specs = [spec for group in args.methods for spec in group.split(",") if spec]
    if not specs:
        raise UserError("--methods names none")
    try:
        from tadisr.evaluation.markdown import main_table, trust_table
        from tadisr.evaluation.methods import Options, load_methods
        from tadisr.evaluation.pairs import open_data
        from tadisr.evaluation.report import EvaluationOptions, evaluate, open_engines
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'tadisr[ocr,metrics]'") from None
    engines = [engine.strip() for engine in args.engines.split(",")]
    with one_line_errors(f"a smaller --tile than {args.tile}, or another --device"):
        data = open_data(args.data, args.split, args.scale)
        if args.truth == "annotation":
            data.find_lines = False
        args.output.mkdir(parents=True, exist_ok=True)
        check_folder(args.output)
        device = usable_device(args.device)
        options = EvaluationOptions(engines, args.weights, device, args.workers, args.normalize, args.seed, args.limit)
        opened = open_engines(options)
        methods = load_methods(specs, data, Options(device, tile, args.weights))
        with Bars() as bars:
            report = evaluate(data, methods, args.output, options, partial(bars.set, "restored images"), opened)
    show(main_table(report))
    if args.trust:
        show("\n" + trust_table(report))
    for note in report["settings"]["notes"]:
        say(note)
    say(f"report.html, report.md and report.json in {args.output}")
    return int(len(report["images"]) < min(len(data), args.limit or len(data)))
