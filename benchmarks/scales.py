"""Factors other than a model's own: PSNR of bicubic, of the network run at that factor, and of its own resized.

    python benchmarks/scales.py [tadisr-tiny] --data DATA [--limit 4]

DATA is what `tadisr evaluate` takes; the middles of its HR images, 360 pixels at most, are reduced bicubically, with
noise of 4 gray levels.
"""

import argparse

import numpy as np
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.evaluation.pairs import open_data
from tadisr.metrics.image import psnr

SIDE = 360  # a multiple of every factor
FACTORS = (1, 2, 3, 4, 5, 6, 8)


def middle(image: np.ndarray) -> np.ndarray:
    """A view of the middle, its sides multiples of 120, SIDE at most."""
    height, width = (min(SIDE, side // 120 * 120) for side in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tadisr-tiny")
    parser.add_argument("--data", required=True)
    parser.add_argument("--limit", type=int, default=4)
    args = parser.parse_args()
    pipe = TADiSRPipeline.from_pretrained(args.model)
    data, native = open_data(args.data), pipe.config.native_scale
    for factor in FACTORS:
        scores = []
        for i in range(min(args.limit, len(data))):
            hr = middle(data[i].hr)
            size = hr.shape[1], hr.shape[0]
            lr = np.asarray(Image.fromarray(hr).resize([side // factor for side in size], Image.Resampling.BICUBIC))
            lr = (lr + np.random.default_rng(i).normal(0, 4, lr.shape)).clip(0, 255).round().astype(np.uint8)
            made = [np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))]
            for own in (None, native):
                pipe.register_to_config(native_scale=own)
                made.append(np.asarray(pipe(lr, scale=factor).images[0]))
            scores.append([psnr(image, hr) for image in made])
        before, direct, resized = np.mean(scores, axis=0)
        print(f"{factor}x: bicubic {before:.2f} dB, at that factor {direct:.2f}, resized {resized:.2f}")


if __name__ == "__main__":
    main()
