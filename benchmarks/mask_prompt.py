"""What a mask prompt is worth to readers, and how far a wrong one reaches.

    python benchmarks/mask_prompt.py MODEL DATA [--engines rapidocr tesseract] [--pages 100]

DATA is a folder of `tadisr synthesize`, of which the test split is taken. Each page is restored without a mask, with
its true mask, and with a wrong one: in the box of its longest line the mask of another page's longest line is given,
and nothing elsewhere. Nothing is softened. The first table holds the mean OCR-A of all annotated lines, against what
is written there, the second by how many gray levels of 255 the wrong mask changes the image, by the distance from the
box in pixels.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from tadisr import TADiSRPipeline
from tadisr.datasets.ftsr import open_pages
from tadisr.metrics.image import psnr
from tadisr.metrics.text import ocr_accuracy
from tadisr.ocr import OCREngine, crop_line, load_engine

BANDS = (0, 1, 8, 16, 32, 64, 10_000)


def readable(lines: Sequence[Any], image: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Text and quad of each line that lies within the image."""
    corner = np.array(image.shape[1::-1], np.float32)
    quads = [(line["text"], np.array(line["quad"], np.float32)) for line in lines]
    return [(text, quad) for text, quad in quads if (quad >= 0).all() and (quad <= corner).all()]


def read(engine: OCREngine, image: np.ndarray, lines: Sequence[tuple[str, np.ndarray]]) -> list[float]:
    """OCR-A of each line."""
    found = engine.read([crop_line(image, quad) for _, quad in lines]) if lines else []
    return [ocr_accuracy(one.text, text) for one, (text, _) in zip(found, lines, strict=True)]


def longest(lines: Sequence[tuple[str, np.ndarray]]) -> tuple[slice, slice]:
    """The box (rows, columns) around the widest line."""
    quad = max((quad for _, quad in lines), key=lambda quad: np.ptp(quad[:, 0]))
    (left, top), (right, bottom) = quad.min(0).astype(int), np.ceil(quad.max(0)).astype(int)
    return slice(top, bottom + 1), slice(left, right + 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--engines", nargs="+", default=["rapidocr"])
    parser.add_argument("--pages", type=int, default=100)
    args = parser.parse_args()
    pipe, pages = TADiSRPipeline.from_pretrained(args.model), open_pages(args.data, "test")
    engines = {name: load_engine(name) for name in args.engines}
    scores: dict[tuple[str, str], list[float]] = {}
    changes: dict[int, list[np.ndarray]] = {band: [] for band in BANDS[:-1]}
    other: np.ndarray | None = None
    for number in range(min(args.pages, len(pages))):
        hr, mask, lr = pages.hr(number), pages.mask(number), pages.lr(number)
        if not (lines := readable(pages.lines(number), hr)):
            continue
        images = {
            name: pipe(lr, output_type="uint8", text_mask=given, fidelity=1).images[0]
            for name, given in (("without", None), ("true mask", mask))
        }
        box = longest(lines)
        if other is not None:
            height, width = mask[box].shape
            wrong = np.zeros((*mask.shape, 2), np.uint8)
            wrong[box] = np.dstack([cv2.resize(other, (width, height)), np.full((height, width), 255, np.uint8)])
            changed = (
                pipe(lr, output_type="uint8", text_mask=wrong, fidelity=1).images[0].astype(int) - images["without"]
            )
            distance = cv2.distanceTransform(255 - wrong[..., 1], cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            for least, most in zip(BANDS, BANDS[1:], strict=False):
                changes[least].append(np.abs(changed)[(distance >= least) & (distance < most)].ravel())
        other = mask[box]
        for name, image in images.items():
            scores.setdefault((name, "PSNR"), []).append(psnr(image, hr))
            for engine, reader in engines.items():
                scores.setdefault((name, engine), []).extend(read(reader, image, lines))
    columns = ["PSNR", *engines]
    table = ["| | " + " | ".join(columns) + " |", "|---|" + "---:|" * len(columns)]
    for name in ("without", "true mask"):
        table.append(f"| {name} | " + " | ".join(f"{np.mean(scores[name, column]):.3f}" for column in columns) + " |")
    table += ["", "| pixels from a wrong mask | mean change | most |", "|---|---:|---:|"]
    for least, values in changes.items():
        if values and (joined := np.concatenate(values)).size:
            table.append(f"| {least} and more | {joined.mean():.3f} | {joined.max()} |")
    print("\n".join(table))  # noqa: T201


if __name__ == "__main__":
    main()
