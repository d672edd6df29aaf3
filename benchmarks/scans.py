"""What restoring a scan before it is read is worth: the character error rate of pages whose text is known.

    python benchmarks/scans.py [tadisr-tiny] [--text LICENSE] [--dpi 75 100 150] [--pages 6]

Pages of 12 x 16 cm are set in 6, 8 or 10 point type, each in the next of some common faces, drawn at 600 dpi, turned
by up to half a degree, and scanned: light that falls off, blur, reduction, noise, JPEG. Each engine finds and reads the
lines of the page as it is, enlarged bicubically, and restored, both as OCRmyPDF's plugin would do: to 300 dpi, by four
times at most. Characters are compared without spaces. The table holds the errors among all characters of all pages, and
on how many pages the restored one is better and worse than the page as it is.
"""

import argparse
import io
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from rapidfuzz.distance import Levenshtein

import tadisr
from tadisr.ocr import OCREngine, load_engine

DRAWN, WANTED, MOST = 600, 300, 4  # dpi, dpi, factor
POINTS = (6, 8, 10)
SIZE = (round(12 / 2.54 * DRAWN), round(16 / 2.54 * DRAWN))
MARGIN = DRAWN // 2
FACES = ("DejaVuSerif.ttf", "LiberationSans-Regular.ttf", "LiberationSerif-Regular.ttf", "DejaVuSans.ttf")


def page(words: str, face: str, points: int, seed: int) -> tuple[Image.Image, str]:
    """A drawn page and what stands on it."""
    font = ImageFont.truetype(face, round(points / 72 * DRAWN))
    step = round(1.35 * points / 72 * DRAWN)
    columns = int((SIZE[0] - 2 * MARGIN) / font.getlength("abcdefghijklmnopqrstuvwxyz ") * 27)
    lines = textwrap.wrap(words, columns)[: (SIZE[1] - 2 * MARGIN) // step]
    image = Image.new("L", SIZE, 245)
    ImageDraw.Draw(image).multiline_text((MARGIN, MARGIN), "\n".join(lines), 25, font, spacing=step - font.size)
    angle = np.random.default_rng(seed).uniform(-0.5, 0.5)
    return image.rotate(angle, Image.Resampling.BICUBIC, fillcolor=245), " ".join(lines)


def scanned(image: Image.Image, dpi: int, seed: int) -> np.ndarray:
    """(h, w, 3) uint8."""
    rng = np.random.default_rng([seed, dpi])
    soft = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.6) * DRAWN / dpi))
    small = np.asarray(
        soft.resize([round(side * dpi / DRAWN) for side in image.size], Image.Resampling.BOX), np.float32
    )
    light = np.linspace(1, rng.uniform(0.8, 1), small.shape[1])
    noisy = small * light + rng.normal(0, rng.uniform(1, 5), small.shape)
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=int(rng.integers(50, 90)))
    return np.asarray(Image.open(file).convert("RGB"))


def errors(engine: OCREngine, image: np.ndarray, text: str) -> int:
    """Characters that differ."""
    lines = sorted(engine.find(image), key=lambda line: float(np.mean(line.quad, 0)[1]))
    return Levenshtein.distance("".join("".join(line.text for line in lines).split()), "".join(text.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description="Character error rates of scans, before and after.")
    parser.add_argument("model", nargs="?", default="tadisr-tiny")
    parser.add_argument("--text", type=Path, default=Path("LICENSE"))
    parser.add_argument("--dpi", type=int, nargs="+", default=[75, 100, 150])
    parser.add_argument("--pages", type=int, default=6)
    parser.add_argument("--engines", nargs="+", default=["tesseract", "rapidocr"])
    args = parser.parse_args()
    restorer = tadisr.load(args.model)
    engines = {name: load_engine(name) for name in args.engines}
    words, at, pages = args.text.read_text(encoding="utf-8").split(), 0, []
    for number in range(args.pages):
        face, points = FACES[number % len(FACES)], POINTS[number % len(POINTS)]
        image, text = page(" ".join(words[at : at + 1000]), face, points, number)
        at = (at + len(text.split())) % max(1, len(words) - 500)
        pages.append((image, text))
    print(
        "| dpi | engine | as it is | bicubic | restored | pages better | worse |\n|---:|---|---:|---:|---:|---:|---:|"
    )
    for dpi in args.dpi:
        factor = min(MOST, WANTED / dpi)
        found = {name: [] for name in engines}
        for number, (image, text) in enumerate(pages):
            scan = scanned(image, dpi, number)
            size = [round(side * factor) for side in scan.shape[1::-1]]
            bicubic = np.asarray(Image.fromarray(scan).resize(size, Image.Resampling.BICUBIC))
            versions = scan, bicubic, restorer.restore(scan, scale=factor).image
            for name, engine in engines.items():
                found[name].append([errors(engine, version, text) for version in versions])
        characters = sum(len("".join(text.split())) for _, text in pages)
        for name, counts in found.items():
            counts = np.array(counts)
            rates = " | ".join(f"{100 * count / characters:.2f} %" for count in counts.sum(0))
            better, worse = (int(side.sum()) for side in (counts[:, 2] < counts[:, 0], counts[:, 2] > counts[:, 0]))
            print(f"| {dpi} | {name} | {rates} | {better} | {worse} |", flush=True)


if __name__ == "__main__":
    main()
