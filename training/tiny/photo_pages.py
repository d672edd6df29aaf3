"""Text-free pages for training: crops of photographs, reduced until they are sharp, with empty masks.

    python training/tiny/photo_pages.py --photo-list training/tiny/tiny_photos.txt -o data/photos

The folder is one that `train_data_dir` takes, beside pages with text. Without such pages a small network learns that
all edges are strokes, and makes photographs without text worse than bicubic does.
"""

import argparse
import shutil
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tadisr.io.images import ImageError, read_image


def crops(image: np.ndarray, side: int, count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """`count` crops (side, side, 3), each from the photograph reduced by a factor of its own, to two thirds at least.

    None of a photograph that is too small for that.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photo-list", type=Path, required=True, help="image files, one a line")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--size", type=int, default=512, help="side of a page (default: %(default)s)")
    parser.add_argument("--per-photo", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if not args.photo_list.is_file():
        parser.error(f"{args.photo_list} is not there")
    files = [line.strip() for line in args.photo_list.read_text(encoding="utf-8").splitlines() if line.strip()]
    if args.output.exists():
        parser.error(f"{args.output} is there already: remove it first")
    part = args.output.with_name(f".{args.output.name}.part")  # renamed when it is whole
    shutil.rmtree(part, ignore_errors=True)
    folders = {kind: part / "train" / kind for kind in ("hr", "mask")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    empty = Image.new("L", (args.size, args.size))
    made = 0
    for number, file in enumerate(files):
        try:
            image = read_image(file).rgb
        except ImageError as error:
            parser.error(str(error))
        for page in crops(image, args.size, args.per_photo, np.random.default_rng([args.seed, number])):
            Image.fromarray(page).save(folders["hr"] / f"{made:06d}.png", compress_level=1)
            empty.save(folders["mask"] / f"{made:06d}.png")
            made += 1
    if not made:
        parser.error(f"none of the {len(files)} photographs is large enough for a page of {args.size} pixels")
    part.rename(args.output)
    print(f"{made} pages of {len(files)} photographs in {args.output}")  # noqa: T201


if __name__ == "__main__":
    main()
