"""What must not happen to pictures: photographs without text made worse than bicubic, flat regions given a texture.

    python benchmarks/faithfulness.py MODEL --photos training/configs/tiny_test_photos.txt --pairs DATA

PHOTOS lists image files without text, one a line; each is reduced to 768 pixels, and its LR image made by the mild
degradation. DATA is what `tadisr evaluate` takes. Flat regions are where the HR image's own high frequencies, smoothed,
are among the weakest fifth of the picture; their energy in the SR image is reported over that in the HR image.
"""

import argparse
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tadisr.data_synthesis.degrade import Degradation, degrade

from tadisr import TADiSRPipeline
from tadisr.evaluation.data import open_data
from tadisr.files import read_image
from tadisr.metrics.image import psnr

SIDE = 768


def high_frequencies(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (H, W): luma less its own blur, squared."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (gray - cv2.GaussianBlur(gray, (0, 0), 2)) ** 2


def flatness(sr: np.ndarray, hr: np.ndarray) -> float:
    """Energy of the SR image's high frequencies in the HR image's flat regions, over the HR image's there."""
    energy = cv2.GaussianBlur(high_frequencies(hr), (0, 0), 8)
    flat = energy <= np.percentile(energy, 20)
    return float(high_frequencies(sr)[flat].mean() / max(high_frequencies(hr)[flat].mean(), 1e-3))


def bicubic(lr: np.ndarray, scale: int = 4) -> np.ndarray:
    size = (lr.shape[1] * scale, lr.shape[0] * scale)
    return np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))


def photograph(path: str) -> np.ndarray:
    """The middle of a photograph, SIDE x SIDE at most, reduced first so that it is sharp."""
    image = Image.fromarray(read_image(path).rgb)
    factor = max(SIDE / min(image.size), 0.25)
    if factor < 1:
        image = image.resize([round(factor * side) for side in image.size], Image.Resampling.LANCZOS)
    left, top = ((side - min(side, SIDE)) // 2 for side in image.size)
    return np.asarray(image.crop((left, top, left + SIDE, top + SIDE)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--pairs", metavar="DATA")
    args = parser.parse_args()
    pipe = TADiSRPipeline.from_pretrained(args.model)
    if args.photos:
        files = [line for line in args.photos.read_text(encoding="utf-8").splitlines() if line.strip()]
        rows = []
        for file in files:
            hr = photograph(file)
            lr = degrade(hr, Degradation.preset("mild"), np.random.default_rng(zlib.crc32(Path(file).name.encode())))
            sr = np.asarray(pipe(Image.fromarray(lr)).images[0])
            rows.append((psnr(bicubic(lr), hr), psnr(sr, hr), flatness(sr, hr)))
            print(f"{Path(file).name}: bicubic {rows[-1][0]:.2f} dB, {rows[-1][1]:.2f} dB; flat {rows[-1][2]:.2f}")  # noqa: T201
        means, gains = np.mean(rows, axis=0), np.array(rows)[:, 1] - np.array(rows)[:, 0]
        print(f"{len(rows)} photographs without text: bicubic {means[0]:.2f} dB, {means[1]:.2f} dB, gain at least "
              f"{gains.min():+.2f}; high frequencies of flat regions over the HR image's: {means[2]:.2f}")  # noqa: T201  # fmt: skip
    if args.pairs:
        data = open_data(args.pairs)
        pairs = [data[i] for i in range(len(data))]
        values = {
            "SR": [flatness(np.asarray(pipe(Image.fromarray(pair.lr)).images[0]), pair.hr) for pair in pairs],
            "bicubic": [flatness(bicubic(pair.lr), pair.hr) for pair in pairs],
        }
        for name, ratios in values.items():
            print(f"{name}: flat regions of {len(pairs)} pairs, over the HR images': median {np.median(ratios):.2f}, "
                  f"largest {np.max(ratios):.2f}")  # noqa: T201  # fmt: skip


if __name__ == "__main__":
    main()
