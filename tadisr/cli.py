"""The `tadisr` command. Subcommands are named by module path and imported when they run, so `--help` is instant."""

import argparse
import difflib
import logging
import os
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from tadisr import TORCH_PACKAGES
from tadisr.io.messages import UserError, say

# name: (module with `register(parser)` and `run(args)`, what it does)
COMMANDS = {
    "upscale": ("tadisr.commands.upscale", "restore photos: 4 times larger, sharp text, and a mask of the text"),
    "app": ("tadisr.commands.app", "open a web page of your own: drop a picture, see it restored"),
    "fix-text": ("tadisr.commands.fix_text", "put legible text into another program's enlargement; its look stays"),
    "refine": ("tadisr.commands.refine", "sharpen the lines of text in a photo; its size stays"),
    "evaluate": ("tadisr.commands.evaluate", "measure methods: PSNR, SSIM, LPIPS, FID, and what text is still read"),
    "evaluate-lines": ("tadisr.commands.evaluate_lines", "measure methods on cropped text lines, as on TextZoom"),
    "board": ("tadisr.data_synthesis.board.command", "make the frozen test set: 300 images with exact text"),
    "convert": ("tadisr.commands.convert", "make an adapter from a checkpoint that the authors of TADiSR released"),
    "export": ("tadisr.commands.export", "write a model as ONNX files, which run without PyTorch"),
    "plan": ("tadisr.training.plan_command", "count what training on a large base takes: memory, arithmetic, seconds"),
    "synthesize": ("tadisr.data_synthesis.command", "make training data: pages of text with exact masks, and their LR"),
    "synthesize-lines": ("tadisr.data_synthesis.command_lines", "make training data for TextDiff: lines of text"),
}
BROKEN_PIPE = 141  # what a shell shows for a command that ended because nobody read on


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see '{self.prog} --help')")

    def check_known(self, extras: list[str]) -> None:
        """Raise UserError for arguments that no option or input took, with what may have been meant."""
        if extras:
            unknown = next((extra for extra in extras if extra.startswith("-")), None)
            if unknown is None:
                self.error(f"unexpected argument {extras[0]}")
            self.error(f"no option {unknown}{_meant(unknown.partition('=')[0], self._option_string_actions)}")


def main(argv: list[str] | None = None) -> int:
    """Run the command line: 0 if all was done, 1 if a part was not, 2 after a user's mistake, 130 after Ctrl-C."""
    argv = sys.argv[1:] if argv is None else argv
    if not sys.warnoptions:  # libraries warn their callers; whoever types a command can do nothing about it
        warnings.simplefilter("ignore")
        logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it talks of kernels when it is imported
    try:
        try:
            return _run(argv)
        except UserError as error:
            say(str(error))
            return 2
        except ModuleNotFoundError as error:
            if (package := str(error.name).partition(".")[0]) not in TORCH_PACKAGES:
                raise
            say(f"{package} is missing: pip install 'tadisr[torch]'")
            return 2
        except KeyboardInterrupt:
            say("interrupted")
            return 130
        finally:
            sys.stdout.flush()  # here, not when Python ends, which would say that it could not
    except BrokenPipeError:  # `tadisr ... | head`: whoever read has seen enough
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # a stream without a file
                os.dup2(nowhere, stream.fileno())
        return BROKEN_PIPE


def _run(argv: list[str]) -> int:
    parser = _Parser(prog="tadisr", description="Text-aware super-resolution: photos with text, restored and legible.")
    parser.add_argument("-V", "--version", action="version", version=f"tadisr {version('tadisr')}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    argv = argv[1:] + ["--help"] if argv[:1] == ["help"] else argv or ["--help"]
    wanted = next((arg for arg in argv if not arg.startswith("-")), None)
    if wanted not in (None, *COMMANDS):
        parser.error(f"no command {wanted}{_meant(wanted, COMMANDS)}")
    for name, (module, text) in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == wanted:
            import_module(module).register(subparser)
    args, extras = parser.parse_known_args(argv)
    if args.command is None:
        parser.check_known(extras)
        parser.error("no command")
    subparsers.choices[args.command].check_known(extras)
    return import_module(COMMANDS[args.command][0]).run(args)


def _meant(word: str | None, known: Iterable[str]) -> str:
    """The nearest of the known words, in words; nothing where none is near."""
    near = difflib.get_close_matches(word or "", known, 1)
    return f": did you mean {near[0]}?" if near else ""
