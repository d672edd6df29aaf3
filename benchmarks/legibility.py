"""How small text may be: what an OCR engine reads of lines of known height, restored and merely enlarged.

    python benchmarks/legibility.py MODEL -o FOLDER [--lines 24]

Lines are drawn with the installed fonts, dark on light unless the case says otherwise, and made LR by the mild
degradation. Heights are those of a capital (Latin, digits) or of a character's square (Chinese, kana), in LR pixels.
The table holds the mean similarity (indel) to the drawn text; a height counts as legible where that is 0.8 or more.
FOLDER gets the table and a picture of each case: bicubic, restored, HR.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from rapidfuzz.distance import Indel

from tadisr import TADiSRPipeline
from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.text.corpus import ChineseCorpus, KanaCorpus, LatinCorpus, number
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts
from tadisr.ocr import load_engine

SCALE = 4
HEIGHTS = (4, 5, 6, 7, 8, 10, 12, 16)
LEGIBLE = 0.8
HANDWRITTEN = ("dancing", "kaushan", "script", "hand", "yusei", "wenkai")
Text = Callable[[np.random.Generator], str]


class Case(NamedTuple):
    """What is drawn."""

    text: Text
    square: bool = False
    """Heights are of a character's square."""
    inverted: bool = False
    vertical: bool = False
    handwritten: bool = False


def _of(corpus: type, length: int) -> Text:
    return lambda rng: corpus().text(rng, length)


CASES = {
    "Latin": Case(_of(LatinCorpus, 16)),
    "digits": Case(number),
    "Chinese": Case(_of(ChineseCorpus, 8), square=True),
    "katakana": Case(_of(KanaCorpus, 8), square=True),
    "Latin, light on dark": Case(_of(LatinCorpus, 16), inverted=True),
    "Chinese, vertical": Case(_of(ChineseCorpus, 6), square=True, vertical=True),
    "Latin, handwriting and script faces": Case(_of(LatinCorpus, 16), handwritten=True),
}


def draw(text: str, font: Font, height: int, case: Case, rng: np.random.Generator) -> np.ndarray:
    """An HR line, (H, W, 3) uint8, sides multiples of SCALE; `height` in HR pixels."""
    size = float(height)
    if not case.square:
        box = font.load(100.0).getbbox("H")
        size = 100.0 * height / max(box[3] - box[1], 1)
    face = font.load(size)
    margin = height // 2 + SCALE
    left, top, right, bottom = face.getbbox(text)
    if case.vertical:
        width, tall = height + 2 * margin, round(1.1 * height) * len(text) + 2 * margin
    else:
        width, tall = right - left + 2 * margin, bottom - top + 2 * margin
    width, tall = (-(-side // SCALE) * SCALE for side in (width, tall))
    ground, ink = rng.uniform(190, 245), rng.uniform(10, 70)
    if case.inverted:
        ground, ink = ink, ground
    image = Image.new("L", (width, tall), round(ground))
    pen = ImageDraw.Draw(image)
    if case.vertical:
        for i, char in enumerate(text):
            pen.text((width / 2, margin + (i + 0.5) * round(1.1 * height)), char, round(ink), face, anchor="mm")
    else:
        pen.text((margin - left, margin - top), text, round(ink), face)
    tint = rng.uniform(0.9, 1.0, 3)
    return (np.asarray(image)[..., None] * tint + 0.5).astype(np.uint8)


def fonts_for(case: Case, fonts: Fonts) -> Fonts:
    def wanted(font: Font) -> bool:
        return any(word in font.family.lower() for word in HANDWRITTEN) == case.handwritten

    return Fonts([font for font in fonts if wanted(font)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=24, help="of each height and case")
    parser.add_argument("--heights", type=int, nargs="+", default=HEIGHTS)
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    pipe, engine, fonts = TADiSRPipeline.from_pretrained(args.model), load_engine("rapidocr"), discover_fonts()
    degradation = Degradation.preset("mild")
    rows = []
    for number_of_case, (name, case) in enumerate(CASES.items()):
        faces = fonts_for(case, fonts)
        scores: dict[str, list[float]] = {"bicubic": [], "restored": []}
        samples = []
        for height in args.heights:
            similar: dict[str, list[float]] = {method: [] for method in scores}
            for i in range(args.lines):
                rng = np.random.default_rng([number_of_case, height, i])
                text = case.text(rng).strip()
                hr = draw(text, faces.pick(text, rng), SCALE * height, case, rng)
                lr = Image.fromarray(degrade(hr, degradation, rng))
                images = {
                    "bicubic": lr.resize((hr.shape[1], hr.shape[0]), Image.Resampling.BICUBIC),
                    "restored": pipe(lr).images[0],
                }
                if i == 0:
                    samples.append([*images.values(), Image.fromarray(hr)])
                for method, image in images.items():
                    read = engine.read([_turned(np.asarray(image), case)])[0].text
                    similar[method].append(Indel.normalized_similarity(text.replace(" ", ""), read.replace(" ", "")))
            for method, values in similar.items():
                scores[method].append(float(np.mean(values)))
        for method, values in scores.items():
            legible = [height for height, value in zip(args.heights, values, strict=True) if value >= LEGIBLE]
            cells = " | ".join(f"{value:.2f}" for value in values)
            rows.append(f"| {name}, {method} | {cells} | {min(legible) if legible else '–'} |")
            print(rows[-1], flush=True)  # noqa: T201
        _sheet(samples, case.vertical).save(args.output / f"{name.replace(', ', '_').replace(' ', '_').lower()}.png")
    head = (
        f"| LR pixels | {' | '.join(map(str, args.heights))} | legible from |\n|---|{'---:|' * (len(args.heights) + 1)}"
    )
    (args.output / "legibility.md").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")


def _turned(image: np.ndarray, case: Case) -> np.ndarray:
    """As OCR engines take a vertical line: turned by 90 degrees."""
    return np.ascontiguousarray(np.rot90(image)) if case.vertical else image


def _sheet(samples: list[list[Image.Image]], vertical: bool) -> Image.Image:
    """The samples of all heights: columns bicubic, restored, HR; of vertical lines rows."""
    if vertical:
        samples = [[image.rotate(90, expand=True) for image in row] for row in samples]
    width = max(image.width for row in samples for image in row) + 4
    sheet = Image.new("RGB", (3 * width, sum(max(image.height for image in row) + 4 for row in samples)), "white")
    top = 0
    for row in samples:
        for i, image in enumerate(row):
            sheet.paste(image, (i * width, top))
        top += max(image.height for image in row) + 4
    return sheet


if __name__ == "__main__":
    main()
