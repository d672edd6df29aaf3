"""What must not happen to pictures: photographs without text made worse than bicubic, flat regions given a texture.

    python benchmarks/faithfulness.py MODEL --photos training/tiny/tiny_test_photos.txt --pairs DATA

PHOTOS lists image files without text, one a line; each is reduced to 768 pixels, and its LR image made by the mild
degradation. DATA is what `tadisr evaluate` takes. Flat regions are where the HR image's own high frequencies, smoothed,
are among the weakest fifth of the picture: their root mean square there, in gray levels of 255. It should be no more in
SR than in HR; below half a level, which 8 bits hardly hold, nobody sees which is more.
"""

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.evaluation.pairs import open_data
from tadisr.io.images import read_image
from tadisr.metrics.image import psnr

SIDE = 768


def high_frequencies(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (H, W): luma less its own blur, squared."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (gray - cv2.GaussianBlur(gray, (0, 0), 2)) ** 2


def flatness(image: np.ndarray, hr: np.ndarray) -> float:
    """Root mean square of an image's high frequencies in the HR image's flat regions, in gray levels."""
    energy = cv2.GaussianBlur(high_frequencies(hr), (0, 0), 8)
    return float(np.sqrt(high_frequencies(image)[energy <= np.percentile(energy, 20)].mean()))


def compare(name: str, images: Sequence[np.ndarray], hrs: Sequence[np.ndarray]) -> None:
    """Print how much stronger the flat regions' high frequencies are in `images` than in `hrs`."""
    rms = np.array([(flatness(image, hr), flatness(hr, hr)) for image, hr in zip(images, hrs, strict=True)])
    more = rms[rms[:, 0] > rms[:, 1], 0]
    print(f"{name}, flat regions of {len(rms)} pictures: median {np.median(rms[:, 0]):.2f} gray levels, HR's "
          f"{np.median(rms[:, 1]):.2f}; more than HR's in {len(more)}, at most {max(more, default=0):.2f} levels, in "
          f"{(more > 0.5).sum()} more than half a level")  # noqa: T201  # fmt: skip


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
        named = [line for line in args.photos.read_text(encoding="utf-8").splitlines() if line.strip()]
        files = [file for file in named if Path(file).is_file()]
        if missing := sorted(set(named) - set(files)):
            print(f"left out, since they are not here: {', '.join(missing)}")  # noqa: T201
        if not files:
            sys.exit(f"None of the photographs in {args.photos} is here: install the packages that bring them.")
        hrs, srs, quality = [], [], []
        for file in files:
            hr = photograph(file)
            lr = degrade(hr, Degradation.preset("mild"), np.random.default_rng(zlib.crc32(Path(file).name.encode())))
            hrs.append(hr)
            srs.append(np.asarray(pipe(Image.fromarray(lr)).images[0]))
            quality.append((psnr(bicubic(lr), hr), psnr(srs[-1], hr)))
            print(f"{Path(file).name}: bicubic {quality[-1][0]:.2f} dB, {quality[-1][1]:.2f} dB")  # noqa: T201
        (before, after), gain = np.mean(quality, axis=0), np.diff(quality).min()
        print(f"{len(files)} photographs without text: bicubic {before:.2f} dB, {after:.2f} dB, gain at least "
              f"{gain:+.2f}")  # noqa: T201  # fmt: skip
        compare("SR", srs, hrs)
    if args.pairs:
        data = open_data(args.pairs)
        pairs = [data[i] for i in range(len(data))]
        hrs = [pair.hr for pair in pairs]
        compare("SR", [np.asarray(pipe(Image.fromarray(pair.lr)).images[0]) for pair in pairs], hrs)
        compare("bicubic", [bicubic(pair.lr) for pair in pairs], hrs)


if __name__ == "__main__":
    main()
