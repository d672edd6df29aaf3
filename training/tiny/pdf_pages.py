"""Pages for training from PDFs: what people really set, with the exact text and the exact strokes.

    python training/tiny/pdf_pages.py --pdfs FOLDER -o data/printed --num 2400

Books, tables, slides, posters, forms, specimens of faces, in the layouts and faces that their authors chose. Part of a
page is drawn three times: as it is, with its text in black, and in white. The last two differ by the strokes' coverage.
A third of the pages stay as drawn, some of them in other colours, as on a screen; the others are photographed or
scanned by the cameras of `tadisr.data_synthesis`.
"""

import argparse
import json
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pypdfium2 as pdfium
import pypdfium2.raw as raw
from PIL import Image

from tadisr.data_synthesis.backgrounds import procedural
from tadisr.data_synthesis.backgrounds.surfaces import paper
from tadisr.data_synthesis.layouts.camera import finish, take_by_phone
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.document import photographed
from tadisr.data_synthesis.layouts.typesetting import PageStyle, Setter
from tadisr.data_synthesis.parallel import run_tasks
from tadisr.data_synthesis.text.corpus import LatinCorpus
from tadisr.data_synthesis.text.fonts import Fonts, discover_fonts
from tadisr.data_synthesis.text.wrapping import is_wide
from tadisr.io.atomic import replacing_folder
from tadisr.io.messages import say
from tadisr.training.engine.command_line import mistakes_in_one_line

HEIGHTS = (20.0, 64.0)
"""Of a line, HR pixels from the bottom of a "g" to the top of an "h"."""
FLAT, DARK, LCD = 0.35, 0.25, 0.4


@dataclass(frozen=True)
class Word:
    """Part of a line, its box (left, top, right, bottom) in points, downwards from the page's top left."""

    text: str
    box: tuple[float, float, float, float]

    @property
    def height(self) -> float:
        return self.box[3] - self.box[1]


def words(page: pdfium.PdfPage, rng: np.random.Generator) -> list[Word]:
    """Upright pieces of one to six words, of one size each."""
    text, (left, _, _, top) = page.get_textpage(), page.get_bbox()
    found: list[Word] = []
    chars: list[tuple[str, tuple[float, float, float, float]]] = []
    most, widest = int(rng.integers(1, 7)), int(rng.integers(2, 15))

    def end() -> None:
        nonlocal chars, most, widest
        piece = unicodedata.normalize("NFKC", "".join(char for char, _ in chars)).strip()
        if piece:
            boxes = np.array([box for char, box in chars if char.strip()])
            found.append(Word(piece, (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())))
        chars, most, widest = [], int(rng.integers(1, 7)), int(rng.integers(2, 15))

    for number in range(raw.FPDFText_CountChars(text)):
        code = raw.FPDFText_GetUnicode(text, number)
        char = chr(code) if 32 <= code < 0x110000 and not 0xD800 <= code < 0xE000 else "\n"
        if char in "\n\r\u00ad\ufffe\ufffd" or 0xE000 <= code < 0xF900:
            end()
            continue
        if char == " ":  # its own box says nothing
            if chars and sum(one == " " for one, _ in chars) + 1 < most:
                chars.append((char, chars[-1][1]))
            else:
                end()
            continue
        angle = raw.FPDFText_GetCharAngle(text, number)
        x0, y0, x1, y1 = text.get_charbox(number, loose=True)
        box = (x0 - left, top - y1, x1 - left, top - y0)
        if chars:
            last = chars[-1][1]
            height = last[3] - last[1]
            if abs(box[1] - last[1]) > 0.1 * height or not -0.3 < (box[0] - last[2]) / max(height, 0.1) < 0.9:
                end()
        if min(angle, abs(2 * np.pi - angle)) > 0.01 or box[3] - box[1] < 1:
            end()
            continue
        chars.append((char, box))
        if sum(is_wide(one) for one, _ in chars) >= widest:
            end()
    end()
    return found


def _drawn(page: pdfium.PdfPage, scale: float, window: tuple[float, float, float, float], lcd: bool) -> np.ndarray:
    """Part of the page (left, top, right, bottom; points), (H, W, 3) float32 in [0, 1]."""
    x0, y0, x1, y1 = window
    width, height = page.get_size()
    options: dict[str, Any] = {"scale": scale, "crop": (x0, height - y1, width - x1, y0)}
    bitmap = page.render(**options, optimize_mode="lcd" if lcd else None, may_draw_forms=False)
    return cv2.cvtColor(np.ascontiguousarray(bitmap.to_numpy()[..., :3]), cv2.COLOR_BGR2RGB).astype(np.float32) / 255


def _text_in(page: pdfium.PdfPage, level: int) -> None:
    """All text of the page in one gray."""
    for thing in page.get_objects(filter=(raw.FPDF_PAGEOBJ_TEXT,), max_depth=8):
        raw.FPDFPageObj_SetFillColor(thing, level, level, level, 255)
        raw.FPDFPageObj_SetStrokeColor(thing, level, level, level, 255)


def sheet(page: pdfium.PdfPage, size: tuple[int, int], flat: bool, rng: np.random.Generator) -> Canvas | None:
    """Part of a page around one of its lines, of `size` (H, W) pixels, or None where that is no use."""
    found = words(page, rng)
    anchors = [word for word in found if len(word.text) > 1 and word.height > 2]
    if not anchors:
        return None
    anchor = anchors[int(rng.integers(len(anchors)))]
    low, high = np.log(HEIGHTS)
    scale = float(np.exp(rng.uniform(low, high))) / anchor.height
    width, height = page.get_size()
    scale = max(scale, (size[1] + 2) / width, (size[0] + 2) / height)
    if anchor.height * scale > 1.5 * HEIGHTS[1]:
        return None
    h, w = (size[0] + 1) / scale, (size[1] + 1) / scale  # PDFium may round downwards
    x0 = float(np.clip(rng.uniform(anchor.box[2] - w, anchor.box[0]) if anchor.box[2] - anchor.box[0] < w
                       else anchor.box[0], 0, width - w))  # fmt: skip
    y0 = float(np.clip(anchor.box[1] - rng.uniform(0, 1) * (h - anchor.height), 0, height - h))
    window = (x0, y0, x0 + w, y0 + h)
    lcd = flat and rng.random() < LCD
    image = _drawn(page, scale, window, lcd)[: size[0], : size[1]]
    levels = []
    for level in (0, 255):
        _text_in(page, level)
        levels.append(_drawn(page, scale, window, False)[: size[0], : size[1]])
    cover = (levels[1] - levels[0]).mean(axis=2).clip(0, 1)
    if flat and rng.random() < DARK:
        image = _recoloured(image, rng)
    elif not flat:
        texture = paper(size, rng)
        tint = rng.uniform(0.8, 1.0) * np.array([1, rng.uniform(0.93, 1), rng.uniform(0.75, 1)], np.float32)
        image = (image * (texture / texture.mean(axis=(0, 1))) * tint).clip(0, 1)
        fade = np.float32(rng.uniform(0, 0.3) if rng.random() < 0.4 else 0.0)
        image += (float(image.mean()) - image) * fade
    canvas = Canvas(np.ascontiguousarray(image, np.float32))
    canvas.mask = cover.astype(np.float32)
    for word in found:
        left, top, right, bottom = (np.array(word.box) - [x0, y0, x0, y0]) * scale
        if right < 1 or bottom < 1 or left > size[1] - 1 or top > size[0] - 1:
            continue
        quad = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)
        canvas.lines.append({"text": "" if _doubtful(word.text) else word.text, "quad": quad, "font": ""})
    inside = np.zeros(size, np.uint8)
    for line in canvas.lines:
        grown = line["quad"] + np.array([[-3, -3], [3, -3], [3, 3], [-3, 3]], np.float32)
        cv2.fillConvexPoly(inside, np.round(grown).astype(np.int32), 1)
    ink = cover > 0.5
    # text that PDFium names no line for, or lines whose strokes are not the page's own text
    if ink.sum() < 100 or (ink & (inside == 0)).sum() > 0.05 * ink.sum():
        return None
    shown = [line for line in canvas.visible_lines() if line["text"]]
    return canvas if shown else None


def _doubtful(text: str) -> bool:
    """Whether most letters are accented: a face whose letters are not those that its file names."""
    letters = [char for char in text if char.isalpha()]
    return sum("\u00a0" <= char <= "\u00ff" for char in letters) > 0.4 * len(letters)


def _recoloured(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """As in a dark theme: light and dark change places; the new black and white have a tint."""
    black, white = rng.uniform(0.02, 0.25, 3), rng.uniform(0.75, 1.0, 3)
    inverted = 1 - image if rng.random() < 0.7 else image
    return (black + (white - black) * inverted).astype(np.float32)


@cache
def _opened(path: str) -> pdfium.PdfDocument:
    return pdfium.PdfDocument(path)


@cache
def _materials() -> tuple[Fonts, Any]:
    return discover_fonts(), LatinCorpus()


def one_page(
    groups: list[list[str]], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[dict[str, Any]], str]:
    """The image (S, S, 3) and the mask (S, S), both uint8, its lines, and the file they come from."""
    while True:
        group = groups[int(rng.integers(len(groups)))]
        path = group[int(rng.integers(len(group)))]
        with suppress(pdfium.PdfiumError):
            document = _opened(path)
            flat = rng.random() < FLAT
            side = (size, size)
            if not flat:
                side = (round(size * rng.uniform(0.9, 1.35)), round(size * rng.uniform(0.75, 1.3)))
            made = sheet(document[int(rng.integers(len(document)))], side, flat, rng)
            if made is None:
                continue
            page = made
            if not flat:
                page = Canvas(np.ascontiguousarray(procedural(size, rng), np.float32))
                fonts, corpus = _materials()
                setter = Setter(PageStyle(), fonts, [corpus], rng, page.image)
                photographed(page, made, setter)
                finish(page.image, setter.finish, rng)
                if rng.random() < 0.6:
                    take_by_phone(page.image, rng)
            lines = page.visible_lines()
            if not any(line["text"] for line in lines) or (page.mask > 0.5).sum() < 200:
                continue
            image = (page.image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
            mask = (page.mask > 0.5).astype(np.uint8) * 255
            named = [{"text": line["text"], "quad": line["quad"].round(2).tolist()} for line in lines]
            return image, mask, named, path


def _some(task: tuple[list[list[str]], int, int, list[int], str]) -> list[dict[str, Any]]:
    groups, size, seed, numbers, folder = task
    rows = []
    for number in numbers:
        image, mask, lines, path = one_page(groups, size, np.random.default_rng([seed, number]))
        name = f"{number:06d}.png"
        Image.fromarray(image).save(Path(folder, "hr", name), compress_level=1)
        Image.fromarray(mask).save(Path(folder, "mask", name), compress_level=1)
        rows.append({"file_name": f"hr/{name}", "lines": lines, "source": path})
    return rows


def pdf_groups(folder: Path) -> Iterator[list[str]]:
    """The PDFs of each folder in the folder: as many pages come from each."""
    for part in sorted(path for path in folder.iterdir() if path.is_dir()):
        if files := sorted(str(file) for file in part.rglob("*.pdf")):
            yield files


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Make training pages of PDFs.")
    parser.add_argument("--pdfs", type=Path, required=True, help="a folder of folders of PDFs, drawn from equally")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--num", type=int, default=2400, help="(default: %(default)s)")
    parser.add_argument("--size", type=int, default=512, help="side of a page (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-proc", type=int, default=2)
    args = parser.parse_args(argv)
    groups = list(pdf_groups(args.pdfs))
    if not groups:
        raise ValueError(f"{args.pdfs} has no folder with PDFs.")
    if args.output.exists():
        raise ValueError(f"{args.output} is there already: remove it first.")
    with replacing_folder(args.output) as part:
        folder = part / "train"
        for kind in ("hr", "mask"):
            (folder / kind).mkdir(parents=True)
        tasks = [
            (groups, args.size, args.seed, list(range(start, min(start + 40, args.num))), str(folder))
            for start in range(0, args.num, 40)
        ]
        rows = [row for _, made in run_tasks(_some, tasks, args.num_proc) for row in made]
        rows.sort(key=lambda row: row["file_name"])
        with (folder / "metadata.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    say(f"{args.num} pages of {sum(map(len, groups))} PDFs in {args.output}")


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
