"""`tadisr synthesize-lines`: rendered text lines for TextDiff, as a database in TextZoom's layout."""

import argparse

from tadisr.io.messages import UserError, say


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", required=True, help="folder of the database")
    add("--num", type=int, default=1000, help="lines (default: %(default)s)")
    add("--split", choices=("train", "validation", "test"), default="test", help="(default: %(default)s)")
    add("--seed", type=int, default=0, help="(default: %(default)s)")
    add("--severity", choices=("easy", "medium", "hard", "mixed"), default="mixed", help="(default: %(default)s)")
    add("--fonts", metavar="DIR", nargs="+", default=[], help="folders (default: installed fonts)")
    add("--no-photos", action="store_true", help="painted surfaces only")
    add("--num-proc", type=int, default=1, help="processes (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    """Write the database; 0 when it is there."""
    try:
        from tadisr.data_synthesis.rendered_lines import RenderedLines, export

        lines = RenderedLines(args.num, args.split, args.seed, args.severity, "stroke", args.fonts, not args.no_photos)
        export(lines, args.output, args.num_proc)
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is missing: pip install 'tadisr[synth]'") from None
    except (ValueError, OSError, ImportError) as error:
        raise UserError(str(error)) from None
    say(f"{args.num} lines in {args.output}")
    return 0
