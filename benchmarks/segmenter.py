"""Text segmentation on images with exact masks: foreground IoU, F, and speed.

python benchmarks/segmenter.py data/ftsr [--model text-segmenter-tiny] [--limit 200]

DATA is an FTSR data set (its test split is used) or KIND:PATH, such as textseg:data/TextSeg. Each image is measured as
it is and worn (blur, resampling, noise, JPEG at random strengths, the same in every run).
"""

import argparse
import time

import numpy as np
import torch

from tadisr.data_synthesis.judging.segment import TextSegmenter
from tadisr.metrics.segmentation import THRESHOLDS, foreground_scores, mask_counts
from tadisr.training.data.segmentation_crops import validation_images


def measure(segmenter: TextSegmenter, images: list[tuple[np.ndarray, np.ndarray]], batch_size: int):
    """Scores of `foreground_scores`, and milliseconds per megapixel."""
    started, pixels, counts = time.perf_counter(), 0, []
    for start in range(0, len(images), batch_size):
        batch, truths = zip(*images[start : start + batch_size], strict=True)
        for mask, truth in zip(segmenter.segment(list(batch), batch_size=batch_size), truths, strict=True):
            counts.append(mask_counts(mask, truth))
            pixels += truth.size
    return foreground_scores(np.stack(counts)), 1e9 * (time.perf_counter() - started) / pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data")
    parser.add_argument("--model", default="text-segmenter-tiny")
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    segmenter = TextSegmenter.from_pretrained(args.model).to(args.device)
    print(f"{args.model}, {sum(p.numel() for p in segmenter.parameters()):,} parameters, {args.device}\n")
    print("| images | threshold | fgIoU | F | precision | recall | ms per megapixel |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, worn in (("as they are", False), ("worn", True)):
        images = validation_images(args.data, args.limit, worn)
        measure(segmenter, images[: args.batch_size], args.batch_size)  # warm up
        scores, speed = measure(segmenter, images, args.batch_size)
        half = int(np.argmin(np.abs(THRESHOLDS - 0.5)))
        for at, note in ((half, ""), (int(scores["iou"].argmax()), " (best)")):
            numbers = " | ".join(f"{scores[key][at]:.3f}" for key in ("iou", "f", "precision", "recall"))
            print(f"| {len(images)} {name} | {THRESHOLDS[at]:.2f}{note} | {numbers} | {speed:.0f} |")


if __name__ == "__main__":
    main()
