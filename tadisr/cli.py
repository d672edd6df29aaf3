"""The `tadisr` command. Subcommands are named by module path and imported when they run, so `--help` is instant."""

import argparse
import sys
from importlib import import_module
from importlib.metadata import version

# name: (module with `register(parser)` and `run(args)`, what it does)
COMMANDS = {
    "upscale": ("tadisr.commands.upscale", "restore photos: 4 times larger, sharp text, and a mask of the text"),
    "synthesize": ("tadisr.data_synthesis.command", "make training data: pages of text with exact masks, and their LR"),
}


class UserError(Exception):
    """A mistake of the user's, in one line; printed without a traceback."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line; the exit code is 0 where everything asked for was done."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="tadisr", description="Text-aware super-resolution: photos with text, restored and legible."
    )
    parser.add_argument("--version", action="version", version=f"tadisr {version('tadisr')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((arg for arg in argv if not arg.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:
            import_module(module).register(subparser)
    args = parser.parse_args(argv)
    try:
        return import_module(COMMANDS[args.command][0]).run(args)
    except UserError as error:
        print(f"tadisr: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        print("tadisr: interrupted; finished images are whole, --skip-existing goes on", file=sys.stderr)  # noqa: T201
        return 130
