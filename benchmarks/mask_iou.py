"""Text mask IoU and PSNR on synthesised pages (exact masks).

python benchmarks/mask_iou.py data/ftsr/test [--model tadisr-tiny] [--limit 200]
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.metrics.image import psnr


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="tadisr-tiny")
    parser.add_argument("--limit", type=int, default=200)
    args = parser.parse_args()
    pipe = TADiSRPipeline.from_pretrained(args.model)
    overlap = union = 0
    scores = []
    for path in sorted((args.data / "hr").glob("*.png"))[: args.limit]:
        hr, lr = (Image.open(args.data / part / path.name) for part in ("hr", "lr"))
        truth = cv2.imread(str(args.data / "mask" / path.name), cv2.IMREAD_GRAYSCALE) > 127
        result = pipe(lr)
        mask = np.asarray(result.text_masks[0]) > 127
        overlap, union = overlap + (mask & truth).sum(), union + (mask | truth).sum()
        bicubic = np.asarray(lr.resize(hr.size, Image.Resampling.BICUBIC))
        scores.append((psnr(np.asarray(result.images[0]), np.asarray(hr)), psnr(bicubic, np.asarray(hr))))
    ours, bicubic = np.mean(scores, axis=0)
    print(f"{len(scores)} pages: mask IoU {overlap / union:.3f}; PSNR {ours:.2f} dB, bicubic {bicubic:.2f} dB")


if __name__ == "__main__":
    main()
