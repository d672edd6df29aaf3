"""Text with exact anti-aliased masks."""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw
from tadisr.data_synthesis.fonts import Font


@dataclass
class Glyphs:
    """Drawn text, one line or a block of lines.

    fill: (H, W) float32 in [0, 1], exact coverage of the strokes: the text mask.
    outline: the same with a border of `outline_width` around the strokes, or equal to `fill`.
    lines: each line's text and its corners (x, y), (4, 2) float32, clockwise from the line's own top left.
    """

    fill: np.ndarray
    outline: np.ndarray
    lines: list[tuple[str, np.ndarray]]


def draw_text(text: str, font: Font, size: int, vertical: bool = False, outline_width: int = 0) -> Glyphs:
    """Draw one line, tightly cropped; vertical lines stack their characters."""
    face, pad = font.load(size), outline_width + 2
    if vertical:
        boxes = [face.getbbox(char) for char in text]
        width = max(box[2] - box[0] for box in boxes) + 2 * pad
        step = round(size * 1.05)
        places = [((width - box[2] - box[0]) / 2, pad + i * step) for i, box in enumerate(boxes)]
        canvas = (width, step * len(text) + size // 2 + 2 * pad)
        parts = list(zip(places, text, strict=True))
    else:
        left, top, right, bottom = face.getbbox(text)
        canvas = (int(right - left) + 2 * pad, int(bottom - top) + 2 * pad)
        parts = [((pad - left, pad - top), text)]

    def draw(stroke: int) -> np.ndarray:
        image = Image.new("L", canvas)
        brush = ImageDraw.Draw(image)
        for place, string in parts:
            brush.text(place, string, fill=255, font=face, stroke_width=stroke)
        return np.asarray(image, np.float32) / 255

    fill = draw(0)
    if not fill.any():
        raise ValueError(f"{text!r} draws nothing in {font.path}.")
    x, y, w, h = cv2.boundingRect((fill > 0.1).astype(np.uint8))
    quad = np.float32([[x, y], [x + w, y], [x + w, y + h], [x, y + h]])
    return Glyphs(fill, draw(outline_width) if outline_width else fill, [(text, quad)])


def stack_lines(lines: list[Glyphs], leading: float, align: float) -> Glyphs:
    """A block of lines, `leading` times their mean height apart; `align`: 0 flush left, 0.5 centred, 1 flush right."""
    step = round(leading * float(np.mean([line.fill.shape[0] for line in lines])))
    step = max(step, *(line.fill.shape[0] for line in lines))
    width = max(line.fill.shape[1] for line in lines)
    fill = np.zeros((step * len(lines), width), np.float32)
    outline = np.zeros_like(fill) if any(line.outline is not line.fill for line in lines) else fill
    placed = []
    for i, line in enumerate(lines):
        h, w = line.fill.shape
        y, x = i * step, round(align * (width - w))
        fill[y : y + h, x : x + w] = line.fill
        if outline is not fill:
            outline[y : y + h, x : x + w] = line.outline
        placed += [(text, quad + np.float32([x, y])) for text, quad in line.lines]
    return Glyphs(fill, outline, placed)


def warp(glyphs: Glyphs, angle: float, perspective: float, rng: np.random.Generator) -> Glyphs:
    """Turn by `angle` degrees and pull the corners by up to `perspective` of the line's height."""
    h, w = glyphs.fill.shape
    corners = np.float32([[0, 0], [w, 0], [w, h], [0, h]])
    turn = cv2.getRotationMatrix2D((w / 2, h / 2), angle, 1.0)
    target = corners @ turn[:, :2].T + turn[:, 2]
    target += rng.uniform(-perspective, perspective, (4, 2)) * min(h, w)
    target = (target - target.min(axis=0) + 1).astype(np.float32)
    size = tuple(np.ceil(target.max(axis=0) + 1).astype(int).tolist())
    matrix = cv2.getPerspectiveTransform(corners, target)

    def move(image: np.ndarray) -> np.ndarray:
        return cv2.warpPerspective(image, matrix, size, flags=cv2.INTER_LINEAR)

    fill = move(glyphs.fill)
    outline = fill if glyphs.outline is glyphs.fill else move(glyphs.outline)
    return Glyphs(
        fill, outline, [(text, cv2.perspectiveTransform(quad[None], matrix)[0]) for text, quad in glyphs.lines]
    )
