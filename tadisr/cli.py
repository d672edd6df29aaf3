"""The `tadisr` command. Subcommands are named by module path and imported when they run, so `--help` is instant."""

import argparse
import sys
import warnings
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from tadisr.io.messages import UserError, say

# name: (module with `register(parser)` and `run(args)`, what it does)
COMMANDS = {
    "upscale": ("tadisr.commands.upscale", "restore photos: 4 times larger, sharp text, and a mask of the text"),
    "refine": ("tadisr.commands.refine", "sharpen the lines of text in a photo; its size stays"),
    "evaluate": ("tadisr.commands.evaluate", "measure methods: PSNR, SSIM, LPIPS, FID, and what text is still read"),
    "evaluate-lines": ("tadisr.commands.evaluate_lines", "measure methods on cropped text lines, as on TextZoom"),
    "convert": ("tadisr.commands.convert", "make an adapter from a checkpoint that the authors of TADiSR released"),
    "plan": ("tadisr.training.plan_command", "count what training on a large base takes: memory, arithmetic, seconds"),
    "synthesize": ("tadisr.data_synthesis.command", "make training data: pages of text with exact masks, and their LR"),
    "synthesize-lines": ("tadisr.data_synthesis.command_lines", "make training data for TextDiff: lines of text"),
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see '{self.prog} --help')")


def main(argv: list[str] | None = None) -> int:
    """Run the command line: 0 if all was done, 1 if a part was not, 2 after a user's mistake, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    if not sys.warnoptions:  # libraries warn their callers; whoever types a command can do nothing about it
        warnings.simplefilter("ignore")
    parser = _Parser(prog="tadisr", description="Text-aware super-resolution: photos with text, restored and legible.")
    parser.add_argument("--version", action="version", version=f"tadisr {version('tadisr')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((arg for arg in argv if not arg.startswith("-")), None)
    try:
        for name, (module, text) in COMMANDS.items():
            subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
            if name == wanted:
                import_module(module).register(subparser)
        args = parser.parse_args(argv)
        return import_module(COMMANDS[args.command][0]).run(args)
    except UserError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("interrupted")
        return 130
