"""`tadisr synthesize`: training data out of installed fonts and, if given, photographs."""

import argparse
import os
from pathlib import Path

from tadisr.cli import UserError, say

SCALE = 4  # of `Degradation`
MIN_SIZE = 64


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="new folder for hr/, mask/, lr/, metadata.jsonl"
    )
    parser.add_argument("--count", type=int, default=1000, help="pages (default: %(default)s)")
    parser.add_argument("--size", type=int, default=320, help="side of an HR page in pixels (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same pages (default: %(default)s)")
    parser.add_argument(
        "--photos",
        metavar="PATH",
        type=Path,
        nargs="+",
        default=[],
        help="backgrounds: image files, or folders of them",
    )
    parser.add_argument(
        "--photo-list", metavar="FILE", type=Path, help="text file that names more of them, one path a line"
    )
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")


def run(args: argparse.Namespace) -> int:
    """Write the data set; 0 when all of it is there."""
    for name, least in (("count", 1), ("size", MIN_SIZE), ("seed", 0), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} must be at least {least}, not {getattr(args, name)}")
    if args.size % SCALE:
        raise UserError(f"--size must be divisible by {SCALE}, and {args.size} is not")

    from tadisr.data_synthesis.compose import PageStyle
    from tadisr.data_synthesis.ftsr import synthesize
    from tadisr.data_synthesis.sources import find_images

    try:
        if args.output.exists() and any(args.output.iterdir()):
            raise UserError(f"{args.output} is not empty: name a new folder, so that no two data sets mix")
        photos = find_images([*args.photos, *(_read_list(args.photo_list) if args.photo_list else [])])
        synthesize(
            args.output,
            args.count,
            seed=args.seed,
            photos=photos,
            style=PageStyle(size=args.size),
            workers=min(args.workers, args.count),
        )
    except OSError as error:  # a folder that cannot be written, a list that cannot be read
        raise UserError(f"{error.filename}: {error.strerror}" if error.strerror else str(error)) from None
    except ValueError as error:  # a photograph that cannot be read
        raise UserError(str(error)) from None
    say(f"{args.count} pages in {args.output}")
    return 0


def _read_list(path: Path) -> list[Path]:
    """The paths in the file, without those that do not exist."""
    paths = [Path(line.strip()) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    there = [photo for photo in paths if photo.exists()]
    if not there:
        raise UserError(f"{path}: none of its {len(paths)} photos exist: are the paths right, seen from this folder?")
    if len(there) < len(paths):
        say(f"{path}: {len(paths) - len(there)} of its {len(paths)} photos do not exist and are left out")
    return there
