"""`tadisr evaluate-lines`: methods on cropped text lines, by the protocol of scene text super-resolution."""

import argparse
import json
from functools import partial
from pathlib import Path
from typing import Any

from tadisr.commands.options import check_folder, check_numbers, one_line_errors, usable_device
from tadisr.io.atomic import write_atomically
from tadisr.io.messages import UserError, say, show
from tadisr.io.progress import Bars
from tadisr.io.structured import read_yaml
from tadisr.ocr import ENGINES

LISTS = ("data", "methods", "judges")


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("--config", metavar="FILE", type=Path, help="YAML: data, methods and judges, as the options")
    add("--data", nargs="+", metavar="DIR", help="TextZoom's databases, or photos: hr/, lr/, truth.json")
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="WHAT or NAME=WHAT, a TextDiff or TADiSR model, a .pt or .pth file; ':steps=N', ':output=coarse' and "
        "':refine=MODEL;steps=N' follow it",
    )
    add(
        "--judges",
        nargs="+",
        metavar="JUDGE",
        help=f"{', '.join(ENGINES)}, crnn:PATH, aster:FILE, moran:FILE (TorchScript)",
    )
    add(
        "--allow-code",
        action="store_true",
        help="let TorchScript files among methods and judges run: each is a program with all your rights, so this is "
        "for files of people whom you trust",
    )
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="report.md and report.json")
    add("--limit", type=int, metavar="N", help="only the first N lines of each set")
    add("--batch-size", type=int, default=64, metavar="N", help="lines at once (default: %(default)s)")
    add("--weights", metavar="DIR", type=Path, help="holds LPIPS' backbone, which is else downloaded")
    add("--device", default="auto", help="cpu, cuda, mps, ... (default: the fastest here)")
    add("--seed", type=int, default=0, help="of intervals and tests (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the reports and print the tables; 0 when all was measured."""
    given = _read(args.config) if args.config else {}
    for name in LISTS:
        given[name] = getattr(args, name) or given.get(name)
        if not given[name]:
            raise UserError(f"no {name}: give --{name}, or a --config that lists them")
    check_numbers(args, "limit", "batch_size")
    if args.weights is not None and not args.weights.is_dir():
        raise UserError(f"--weights: no folder {args.weights}")
    try:
        from torch.utils.data import Subset

        from tadisr.evaluation.line_data import open_line_sets
        from tadisr.evaluation.line_methods import check_line_methods, load_line_methods
        from tadisr.evaluation.line_recognizers import check_recognizer, load_recognizer
        from tadisr.evaluation.text_lines import check_sets, evaluate_lines
        from tadisr.metrics.perceptual import LPIPS
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'tadisr[ocr,metrics,train]'") from None
    device = usable_device(args.device)
    with one_line_errors(f"a smaller --batch-size than {args.batch_size}"):
        subsets = {}
        for name, lines in (item for path in given["data"] for item in open_line_sets(path).items()):
            if name in subsets:
                raise ValueError(f"Two sets of lines are called {name}: rename a folder.")
            subsets[name] = lines
            if args.limit is not None and len(lines) > args.limit:
                subsets[name] = Subset(lines, range(args.limit))
                subsets[name].batch_size = getattr(lines, "batch_size", None)
        names = [spec.partition(":")[0] for spec in given["judges"]]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"Two judges are called {twice[0]}: judge with one after the other.")
        for spec in given["judges"]:
            check_recognizer(spec)
        check_sets(check_line_methods(given["methods"]), subsets, args.batch_size)
        args.output.mkdir(parents=True, exist_ok=True)
        check_folder(args.output)
        judges = {
            name: load_recognizer(spec, device, args.allow_code)
            for name, spec in zip(names, given["judges"], strict=True)
        }
        methods = load_line_methods(given["methods"], device, args.allow_code)
        lpips, note = None, ""
        try:
            lpips = LPIPS(args.weights, device)
        except (FileNotFoundError, ImportError) as error:
            note = f"LPIPS is left empty: {error}"
        with Bars() as bars:
            progress = partial(bars.set, "restored lines")
            report = evaluate_lines(methods, subsets, judges, args.batch_size, lpips, args.seed, progress)
        show(report.to_markdown().removesuffix("\n"))
        settings = {name: list(map(str, given[name])) for name in LISTS} | {"limit": args.limit}
        text = json.dumps({"settings": settings, **report.to_dict()}, indent=2, ensure_ascii=False)
        write_atomically(args.output / "report.json", text + "\n")
        write_atomically(args.output / "report.md", report.to_markdown())
    if note:
        say(note)
    say(f"report.md and report.json in {args.output}")
    return 0


def _read(path: Path) -> dict[str, Any]:
    """A config file's lists."""
    try:
        values = read_yaml(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(str(error)) from None
    if not isinstance(values, dict) or set(values) - set(LISTS):
        found = ", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__
        raise UserError(f"{path} may hold {', '.join(LISTS)}; it holds {found}")
    for name, value in values.items():
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise UserError(f"{path}: {name} must be a list of texts (in quotes where a colon is followed by a space)")
    return values
