"""Full images with text: an HR page, its exact text mask, and where each line is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from tadisr.data_synthesis.corpus import random_text
from tadisr.data_synthesis.fonts import Font
from tadisr.data_synthesis.render import Glyphs, draw_text, stack_lines, warp


@dataclass
class PageStyle:
    """What pages look like. Sizes in HR pixels; probabilities in [0, 1]."""

    size: int = 320
    """Side of the square page."""
    font_size: tuple[int, int] = (16, 96)
    """Pixels per em, drawn log-uniformly."""
    lines: tuple[int, int] = (3, 14)
    """Lines that are tried; those that find no free place are dropped."""
    chinese: float = 0.45
    kana: float = 0.04
    photo: float = 0.55
    """Share of pages on photographs; the others are plain, shaded or paper-like."""
    panel: float = 0.5
    """Chance of each of up to three coloured panels (signs, labels, buttons) beneath the text."""
    paragraph: float = 0.3
    """Share of items that are blocks of two to seven lines in one face."""
    vertical: float = 0.1
    rotated: float = 0.35
    outline: float = 0.15
    shadow: float = 0.15
    min_contrast: float = 0.16
    """Least luminance difference between a line and what is beneath it."""


@dataclass
class Page:
    """image (H, W, 3) uint8 RGB, mask (H, W) uint8, and lines [{"text", "quad"}].

    Quads are (x, y) corners, clockwise from the text's own top left.
    """

    image: np.ndarray
    mask: np.ndarray
    lines: list[dict] = field(default_factory=list)


@lru_cache(maxsize=256)
def _read_photo(path: Path, longest: int = 2048) -> np.ndarray:
    """RGB uint8, at most `longest` pixels on the long side: that many are kept in memory between pages."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is not an image that OpenCV reads.")
    if (shrink := longest / max(image.shape[:2])) < 1:
        image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def photo_crop(path: Path, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a photograph, shrunk by 1 to 4 so that it is sharp at its new size; float32 in [0, 1]."""
    photo = _read_photo(path)
    side = int(min(size * rng.uniform(1, 4), *photo.shape[:2]))
    y, x = rng.integers(0, photo.shape[0] - side + 1), rng.integers(0, photo.shape[1] - side + 1)
    crop = cv2.resize(photo[y : y + side, x : x + side], (size, size), interpolation=cv2.INTER_AREA)
    return crop.astype(np.float32) / 255


def plain_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """A flat, shaded or paper-like surface; float32 in [0, 1]."""
    color = rng.uniform(0.75, 1, 3) if rng.random() < 0.5 else rng.uniform(0, 1, 3)
    image = np.empty((size, size, 3), np.float32)
    image[:] = color
    if rng.random() < 0.5:  # shading across the page
        slope = rng.uniform(-0.3, 0.3, 2)
        ys, xs = np.linspace(-0.5, 0.5, size, dtype=np.float32)[:, None], np.linspace(-0.5, 0.5, size, dtype=np.float32)
        image += (slope[0] * ys + slope[1] * xs)[..., None]
    if rng.random() < 0.5:  # paper, plaster
        grain = cv2.resize(
            rng.normal(0, rng.uniform(0.005, 0.04), (size // int(rng.integers(1, 9)),) * 2), (size, size)
        )
        image += grain[..., None].astype(np.float32)
    return image.clip(0, 1)


def _add_panel(image: np.ndarray, rng: np.random.Generator) -> None:
    size = image.shape[0]
    h, w = rng.integers(size // 8, size, 2)
    y, x = rng.integers(0, size - h + 1), rng.integers(0, size - w + 1)
    color = rng.uniform(0, 1, 3).astype(np.float32)
    opacity = rng.choice([1.0, rng.uniform(0.5, 1)])
    area = image[y : y + h, x : x + w]
    area[:] = area * (1 - opacity) + color * opacity
    if rng.random() < 0.4:
        frame = tuple(float(c) for c in rng.uniform(0, 1, 3))
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), frame, int(rng.integers(1, 5)), cv2.LINE_AA)


def _text_color(beneath: np.ndarray, min_contrast: float, rng: np.random.Generator) -> np.ndarray:
    weights = np.float32([0.299, 0.587, 0.114])
    luma = float(beneath @ weights)
    for _ in range(20):
        color = rng.uniform(0, 1, 3).astype(np.float32)
        if rng.random() < 0.5:  # black, white and grays are most of what is printed
            color[:] = rng.choice([rng.uniform(0, 0.25), rng.uniform(0.8, 1)])
        if abs(float(color @ weights) - luma) >= min_contrast:
            return color
    return np.full(3, 0.0 if luma > 0.5 else 1.0, np.float32)


def _draw_item(style: PageStyle, fonts: Sequence[Font], rng: np.random.Generator) -> Glyphs | None:
    """A line or a block of lines in one face; None where no installed face has the characters."""
    script = str(
        rng.choice(["chinese", "kana", "latin"], p=[style.chinese, style.kana, 1 - style.chinese - style.kana])
    )
    low, high = style.font_size
    count = int(rng.integers(2, 8)) if rng.random() < style.paragraph else 1
    if count > 1:
        high = min(high, 48)
    size = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    texts = [random_text(rng, script) for _ in range(count)]
    vertical = count == 1 and rng.random() < style.vertical and (script != "latin" or len(texts[0]) < 8)
    room = max(1, int(style.size / (size * (0.55 if script == "latin" and not vertical else 1.05))))
    texts = [text[:room].strip() or text[0] for text in texts]
    for _ in range(30):
        font = fonts[rng.integers(len(fonts))]
        if font.covers("".join(texts)):
            break
    else:
        return None
    outline = int(rng.integers(1, 2 + size // 16)) if rng.random() < style.outline else 0
    try:
        drawn = [draw_text(text, font, size, vertical, outline) for text in texts]
    except (OSError, ValueError):  # a broken font file, an empty glyph
        return None
    glyphs = stack_lines(drawn, rng.uniform(1.05, 1.8), rng.choice([0, 0, 0.5, 1])) if count > 1 else drawn[0]
    if rng.random() < style.rotated:
        glyphs = warp(
            glyphs, rng.normal(0, 8) if rng.random() < 0.85 else rng.uniform(-60, 60), rng.uniform(0, 0.12), rng
        )
    return glyphs


def compose_page(style: PageStyle, fonts: Sequence[Font], photos: Sequence[Path], rng: np.random.Generator) -> Page:
    """One page: background, panels, lines of text that do not overlap."""
    size = style.size
    on_photo = bool(photos) and rng.random() < style.photo
    image = photo_crop(photos[rng.integers(len(photos))], size, rng) if on_photo else plain_background(size, rng)
    for _ in range(3):
        if rng.random() < style.panel:
            _add_panel(image, rng)
    mask = np.zeros((size, size), np.float32)
    taken = np.zeros((size, size), bool)
    lines = []
    for _ in range(rng.integers(style.lines[0], style.lines[1] + 1)):
        glyphs = _draw_item(style, fonts, rng)
        if glyphs is None:
            continue
        h, w = glyphs.fill.shape
        if h > size or w > size:
            continue
        for _ in range(12):
            y, x = int(rng.integers(0, size - h + 1)), int(rng.integers(0, size - w + 1))
            if not taken[y : y + h, x : x + w].any():
                break
        else:
            continue
        place = np.s_[y : y + h, x : x + w]
        taken[place] = True
        _paint(image[place], glyphs, style, rng)
        np.maximum(mask[place], glyphs.fill, out=mask[place])
        lines += [{"text": text, "quad": (quad + [x, y]).round(1).tolist()} for text, quad in glyphs.lines]
    return Page((image * 255).round().clip(0, 255).astype(np.uint8), (mask * 255).round().astype(np.uint8), lines)


def _paint(area: np.ndarray, glyphs: Glyphs, style: PageStyle, rng: np.random.Generator) -> None:
    """Blend drawn text onto `area` (H, W, 3), in place."""
    color = _text_color(area.mean(axis=(0, 1)), style.min_contrast, rng)
    fill, outline = glyphs.fill, glyphs.outline
    if rng.random() < 0.5:  # a camera's softness: rendered edges are harder than any photograph's
        sigma = rng.uniform(0.3, 0.8)
        outline = cv2.GaussianBlur(outline, (0, 0), sigma) if outline is not fill else None
        fill = cv2.GaussianBlur(fill, (0, 0), sigma)
        outline = fill if outline is None else outline
    if rng.random() < style.shadow:
        shift = rng.integers(-3, 4, 2)
        shadow = cv2.GaussianBlur(np.roll(outline, shift, (0, 1)), (0, 0), rng.uniform(0.5, 3))[..., None]
        area[:] = area * (1 - 0.7 * shadow)
    if outline is not fill:
        border = _text_color(color, 0.3, rng)
        area[:] = area * (1 - outline[..., None]) + border * outline[..., None]
    ink = color
    if rng.random() < 0.15:  # gradient fill
        ramp = np.linspace(0, 1, area.shape[0], dtype=np.float32)[:, None, None]
        other = (color + rng.uniform(-0.25, 0.25, 3)).clip(0, 1).astype(np.float32)
        ink = color * (1 - ramp) + other * ramp
    opacity = 1.0 if rng.random() < 0.8 else rng.uniform(0.6, 1)
    alpha = fill[..., None] * opacity
    area[:] = area * (1 - alpha) + ink * alpha
