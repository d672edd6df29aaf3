"""`tadisr synthesize`: an FTSR data set out of free sources, or out of the paper's."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tadisr.io.messages import UserError, say

if TYPE_CHECKING:
    from tadisr.data_synthesis.recipe import Recipe

SCALE = 4


def register(parser: argparse.ArgumentParser) -> None:
    """Add this command's arguments."""
    add = parser.add_argument
    add("-o", "--output", metavar="DIR", type=Path, required=True, help="folder of the data set")
    add("--num", type=int, default=1000, help="triplets, each tenth for testing (default: %(default)s)")
    add("--size", type=int, default=512, help="side of an HR image in pixels (default: %(default)s)")
    add("--seed", type=int, default=0, help="the same seed gives the same bytes (default: %(default)s)")
    add(
        "--recipe",
        default="free",
        help="free (the default: needs no data set), paper, tiny, tiny_lines, or a .yaml file",
    )
    add(
        "--source",
        metavar="KIND=PATH",
        action="append",
        default=[],
        help="where a source of the recipe lies, such as lsdir=/data/LSDIR (default: data/sources/KIND); repeatable",
    )
    add(
        "--photos",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=[],
        help="folders of photographs instead of the recipe's",
    )
    add("--segmenter", metavar="MODEL", help="instead of the recipe's: makes masks for crops without one")
    add("--enhancer", metavar="MODEL", help="super-resolves the crops that are kept (the paper: HAT's file)")
    add(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where segmenter and enhancer run (default: on every GPU that is visible, or else on the CPU)",
    )
    add(
        "--fonts",
        metavar="DIR",
        type=Path,
        nargs="+",
        default=[],
        help="folders of fonts, such as a pip or npm folder of font packages, instead of the installed fonts",
    )
    add("--num-proc", type=int, default=os.cpu_count() or 1, help="processes (default: one per core)")
    add("--backend", choices=("local", "ray"), default="local", help="ray: on a cluster, with Ray Data")
    add("--layout", choices=("parquet", "folders"), default="parquet", help="folders: lr/, hr/, mask/, metadata.jsonl")
    add("--push-to-hub", metavar="USER/NAME", help="then upload it as a data set on the Hub")
    add("--private", action="store_true", help="with --push-to-hub: a private one")


def run(args: argparse.Namespace) -> int:
    """Write the data set; 0 when all of it is there."""
    for name, least in (("num", 1), ("size", 64), ("seed", 0), ("num_proc", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {getattr(args, name)}")
    if args.size % SCALE:
        raise UserError(f"--size must be divisible by {SCALE}, and {args.size} is not")
    try:
        from tadisr.data_synthesis.recipe import load_recipe
        from tadisr.data_synthesis.writing.card import push_to_hub, table
        from tadisr.data_synthesis.writing.shards import Job
        from tadisr.data_synthesis.writing.synthesize import synthesize
        from tadisr.io.progress import Bars
        from tadisr.loading.hub import writable_repository
    except ImportError as error:
        raise UserError(f"{error.name} is missing: pip install 'tadisr[synth]'") from None

    try:
        recipe = place_sources(load_recipe(args.recipe), args.source, args.photos)
        recipe.segmenter, recipe.enhancer = args.segmenter or recipe.segmenter, args.enhancer or recipe.enhancer
        recipe.fonts = [*map(str, args.fonts)] or recipe.fonts
        job = Job(recipe, args.num, args.seed, args.size, args.layout)
        if args.push_to_hub:
            writable_repository(args.push_to_hub, args.private, "dataset")
        with Bars() as bars:
            manifest = synthesize(args.output, job, args.num_proc, args.backend, bars.say, bars.set, args.device)
        for line in table(manifest):
            say(line)
        say(f"{args.num} triplets with {manifest['lines']} lines of text in {args.output}")
        if args.push_to_hub:
            say(f"pushed to {push_to_hub(args.output, args.push_to_hub, args.private)}")
    except OSError as error:  # a source that is not there, a disk that is full
        raise UserError(f"{error.filename}: {error.strerror}" if error.strerror else str(error)) from None
    except (ValueError, ImportError, RuntimeError) as error:
        raise UserError(str(error)) from None
    except KeyboardInterrupt:
        say(f"interrupted; the same command goes on with {args.output}")
        return 130
    return 0


def place_sources(recipe: "Recipe", places: list[str], photos: list[Path]) -> "Recipe":
    """The recipe with its sources' paths filled in from KIND=PATH; `photos` replace the backgrounds."""
    paths = {}
    for place in places:
        kind, equals, path = place.partition("=")
        if not equals or not path:
            raise UserError(f"--source takes KIND=PATH, not {place}")
        paths[kind] = path
    if recipe.degradation.scale != SCALE:
        raise UserError(f"data sets are made {SCALE}x: the recipe's degradation has scale {recipe.degradation.scale}")
    if photos and not recipe.photos:
        raise UserError("--photos: the recipe takes no photographs (photos: 0)")
    if photos:
        recipe.backgrounds = [{"kind": "folder", "path": str(folder)} for folder in photos]
    specs = [*recipe.backgrounds, *recipe.crops]
    if unknown := sorted(set(paths) - {spec["kind"] for spec in specs}):
        kinds = ", ".join(sorted({spec["kind"] for spec in specs}))
        raise UserError(f"--source {unknown[0]}: the recipe has no such source; it has {kinds}")
    for spec in specs:
        if spec["kind"] in paths:
            spec["path"] = paths[spec["kind"]]
        elif "path" not in spec and spec["kind"] != "free":
            spec["path"] = f"data/sources/{spec['kind']}"
    return recipe
