"""Pages whose masks are what a person would type: for the training of mask prompts.

    python training/tiny/typed_masks.py data/photographed -o data/photographed_typed --model tadisr-tiny

Each annotated line is drawn by `tadisr.lettering`, as `tadisr app` does with what somebody types: in the nearest face
that is installed, fitted to the mask that the model finds in the page's own LR image. So strokes are where an asserted
line's strokes would be, and not always where they are. Lines that no face draws keep the page's mask.
"""

import argparse
import multiprocessing
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

import tadisr
from tadisr.datasets.ftsr import open_pages
from tadisr.io.atomic import replacing_folder
from tadisr.io.messages import say
from tadisr.lettering import draw_lines
from tadisr.training.engine.command_line import mistakes_in_one_line


def typed(mask: np.ndarray, found: np.ndarray, lr: np.ndarray, lines: list) -> np.ndarray:
    """The mask (H, W) of a page with its lines drawn anew, fitted to the mask that was `found` and to the LR image."""
    made = mask.copy()
    for line in lines:
        try:
            drawn, given = cv2.split(draw_lines([(line["quad"], line["text"])], found, lr))
        except ValueError:  # no face has its letters, or it has no area
            continue
        made[given > 0] = drawn[given > 0]
    return made


def _make(task: tuple[str, str, Path, int, int, int]) -> int:
    source, model, out, first, step, stop = task
    pages, restorer = open_pages(source), tadisr.load(model, "cpu")
    numbers = range(first, min(stop, len(pages)), step)
    for number in numbers:
        lr, mask = pages.lr(number), pages.mask(number)
        found = restorer.restore(lr).mask
        assert found is not None
        Image.fromarray(pages.hr(number)).save(out / "hr" / f"{number:06d}.png", compress_level=1)
        made = typed(mask, found, lr, pages.lines(number))
        Image.fromarray(made).save(out / "mask" / f"{number:06d}.png")
    return len(numbers)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make pages whose masks are typed.")
    parser.add_argument("source", help="data set of `tadisr synthesize`")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default="tadisr-tiny", help="(default: %(default)s)")
    parser.add_argument("--num", type=int, default=1_000_000, metavar="N", help="the first N pages (default: all)")
    parser.add_argument("--num-proc", type=int, default=1)
    args = parser.parse_args(argv)
    if args.output.exists():
        raise ValueError(f"{args.output} is there already: remove it first.")
    with replacing_folder(args.output) as part:
        for kind in ("hr", "mask"):
            (part / "train" / kind).mkdir(parents=True)
        tasks = [(args.source, args.model, part / "train", i, args.num_proc, args.num) for i in range(args.num_proc)]
        if args.num_proc == 1:
            made = _make(tasks[0])
        else:
            with multiprocessing.get_context("spawn").Pool(args.num_proc) as pool:
                made = sum(pool.map(_make, tasks))
    say(f"{made} pages with typed masks in {args.output}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
