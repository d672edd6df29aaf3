"""Text-free pages for training: crops of photographs, reduced until they are sharp, with empty masks.

    python training/tiny/photo_pages.py --photo-list training/tiny/tiny_photos.txt -o data/photos

`train_data_dir` takes the folder beside pages with text. Without such pages a small network learns that all edges are
strokes, and makes photographs without text worse than bicubic does.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tadisr.io.atomic import replacing_folder
from tadisr.io.images import read_image
from tadisr.io.messages import say
from tadisr.training.data.segmentation_crops import photo_list
from tadisr.training.engine.command_line import mistakes_in_one_line


def crops(image: np.ndarray, side: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """`count` crops (side, side, 3) of a photograph, each after reducing it to a random size, at most 2/3 of its own.

    A photograph that is too small for that gives no crop.
    """
    smallest = side / min(image.shape[:2])
    if smallest > 2 / 3:
        return
    for _ in range(count):
        factor = float(np.exp(rng.uniform(np.log(smallest), np.log(2 / 3))))
        size = [max(side, round(factor * length)) for length in image.shape[1::-1]]
        reduced = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        x, y = (int(rng.integers(length - side + 1)) for length in size)
        yield reduced[y : y + side, x : x + side]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make text-free pages of photographs.")
    parser.add_argument("--photo-list", type=Path, required=True, help="image files, one a line")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512, help="side of a page (default: %(default)s)")
    parser.add_argument("--per-photo", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    files = photo_list(args.photo_list)
    if args.output.exists():
        raise ValueError(f"{args.output} is there already: remove it first.")
    empty = Image.new("L", (args.size, args.size))
    made = 0
    with replacing_folder(args.output) as part:
        folders = {kind: part / "train" / kind for kind in ("hr", "mask")}
        for folder in folders.values():
            folder.mkdir(parents=True)
        for number, file in enumerate(files):
            rng = np.random.default_rng([args.seed, number])
            for page in crops(read_image(file).rgb, args.size, args.per_photo, rng):
                Image.fromarray(page).save(folders["hr"] / f"{made:06d}.png", compress_level=1)
                empty.save(folders["mask"] / f"{made:06d}.png")
                made += 1
        if not made:
            raise ValueError(f"None of the {len(files)} photographs is large enough for a page of {args.size} pixels.")
    say(f"{made} pages of {len(files)} photographs in {args.output}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
