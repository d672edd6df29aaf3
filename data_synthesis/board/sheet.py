"""Drawing on a sheet: lines of text with their boxes, boxes and rules, perspective. All of it in whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tadisr.data_synthesis.board.dice import Dice, noise

Color = tuple[int, int, int]
Quad = tuple[tuple[float, float], ...]
_REFERENCE = {"Latin": "H", "Cyrillic": "Н", "Greek": "Η", "Chinese": "国", "Japanese": "国", "Korean": "국"}
_PROBE = 400  # pixels per em at which reference glyphs are measured
_PADDING = 0.12  # of a glyph's height, between the ink and the line's box


@dataclass(frozen=True)
class Line:
    """A line of text: `quad` are its corners in pixels, clockwise from the text's top left; `height` its glyphs'.

    The height is a capital's in Latin, Cyrillic and Greek, and else that of a square character's ink.
    """

    text: str
    quad: Quad
    height: float
    script: str

    def moved(self, x: float, y: float, scale: float = 1.0) -> "Line":
        """The line after a scaling and then a shift."""
        quad = tuple((scale * a + x, scale * b + y) for a, b in self.quad)
        return replace(self, quad=quad, height=self.height * scale)


@dataclass
class Sheet:
    """An RGB image with the lines that stand on it."""

    image: Image.Image
    lines: list[Line] = field(default_factory=list)

    @classmethod
    def plain(cls, size: tuple[int, int], color: Color) -> "Sheet":
        """An empty sheet, (width, height)."""
        return cls(Image.new("RGB", size, color))

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size

    def box(self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0) -> None:
        """Fill a rectangle."""
        corners = [round(left), round(top), round(right) - 1, round(bottom) - 1]
        if corners[2] >= corners[0] and corners[3] >= corners[1]:
            ImageDraw.Draw(self.image).rounded_rectangle(corners, round(radius), color)

    def write(
        self, text: "Text", x: float, y: float, color: Color, outline: Color | None = None, thickness: int = 0,
        subpixel: bool = False,
    ) -> None:  # fmt: skip
        """Draw a text whose ink begins at (x, y), with an outline if there is one."""
        x, y = round(x), round(y)
        if outline is not None and thickness:
            cover, pad = text.cover(thickness), thickness
            self.image.paste(outline, (x - pad, y - pad), cover)
        if subpixel:
            self._paste_subpixel(text, x, y, color)
        else:
            self.image.paste(color, (x, y), text.cover())
        width, height = text.size
        pad = _PADDING * text.height
        quad = corners_of(x - pad, y - pad, x + width + pad, y + height + pad)
        self.lines.append(Line(text.text, quad, text.height, text.script))

    def _paste_subpixel(self, text: "Text", x: int, y: int, color: Color) -> None:
        """Red, green and blue lie beside each other on a screen: each takes its own third of a pixel's coverage."""
        wide = np.asarray(text.cover(0, 3), np.int64)
        width, height = text.size
        wide = np.pad(wide, ((0, 0), (3, max(0, 3 * width + 9 - wide.shape[1]))))
        # the usual filter of five thirds
        soft = (
            wide[:, :-4] + 2 * wide[:, 1:-3] + 3 * wide[:, 2:-2] + 2 * wide[:, 3:-1] + wide[:, 4:]
        ) // 9  # soft[:, i] lies at wide[:, i + 2]
        area = self.image.crop((x, y, x + width + 1, y + height))
        pixels = np.asarray(area, np.int64)
        covers = np.stack([soft[:height, 1 + c :: 3][:, : width + 1] for c in range(3)], axis=-1)
        mixed = (pixels * (255 - covers) + np.array(color) * covers + 127) // 255
        self.image.paste(Image.fromarray(mixed.astype(np.uint8)), (x, y))

    def light(self, dice: Dice, least: float) -> None:
        """Let the light fall off along one direction, to `least` of itself."""
        width, height = self.size
        ends = [dice.between(least, 1.0) for _ in range(4)]
        ys, xs = (np.arange(n, dtype=np.float64) / max(1, n - 1) for n in (height, width))
        top, bottom = (ends[i] * (1 - xs) + ends[i + 1] * xs for i in (0, 2))
        field_ = ((1 - ys)[:, None] * top + ys[:, None] * bottom) * 65536
        pixels = np.asarray(self.image, np.int64) * field_.astype(np.int64)[..., None] // 65536
        self.image = Image.fromarray(pixels.astype(np.uint8))

    def grain(self, dice: Dice, levels: float, size: int = 1) -> None:
        """Add gray noise of so many levels, in grains of `size` pixels: the texture of paper or plaster."""
        width, height = self.size
        shape = (height // size + 1, width // size + 1)
        values = noise(shape, dice.integer(0, 1 << 40)) * round(levels * 256) // (65536 * 256)
        values = values.repeat(size, axis=0).repeat(size, axis=1)[:height, :width, None]
        self.image = Image.fromarray((np.asarray(self.image, np.int64) + values).clip(0, 255).astype(np.uint8))

    def turned(self) -> "Sheet":
        """The sheet turned by 90 degrees against the clock: its lines run upwards."""
        width = self.size[0]
        lines = [replace(line, quad=tuple((y, width - x) for x, y in line.quad)) for line in self.lines]
        return Sheet(self.image.transpose(Image.Transpose.ROTATE_90), lines)

    def mount(self, other: "Sheet", corners: Quad) -> None:
        """Lay another sheet on this one so that its corners come to lie at `corners`, clockwise from its top left."""
        matrix = _projection(other.size, corners)
        pixels, cover = _warp(np.asarray(other.image), _inverse(matrix), self.size)
        self.image.paste(pixels, (0, 0), cover)
        for line in other.lines:
            quad = tuple(_project(matrix, point) for point in line.quad)
            scale = _side(quad) / _side(line.quad)
            self.lines.append(replace(line, quad=quad, height=line.height * scale))


def corners_of(left: float, top: float, right: float, bottom: float) -> Quad:
    """A rectangle's corners, clockwise from its top left."""
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """A Gaussian blur of that many pixels; Pillow's, of whole numbers."""
    return image.filter(ImageFilter.GaussianBlur(radius))


class Text:
    """A line of text in a face, at a glyph height in pixels."""

    def __init__(self, text: str, face: Path, height: float, script: str):
        self.text, self.height, self.script, self._face = text, height, script, face
        self._em = height * _PROBE / _reference(face, script)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the ink."""
        left, top, right, bottom = self._bounds(1)
        return right - left, bottom - top

    def _bounds(self, times: int, thickness: int = 0) -> tuple[int, int, int, int]:
        left, top, right, bottom = font(self._face, self._em * times).getbbox(self.text, stroke_width=thickness)
        return int(left), int(top), int(right), int(bottom)

    def cover(self, thickness: int = 0, wide: int = 1) -> Image.Image:
        """Its coverage, 8 bits; `thickness`: widened on all sides; `wide`: at so many times the width."""
        left, top, right, bottom = self._bounds(wide, thickness)
        image = Image.new("L", (max(1, right - left), max(1, bottom - top)))
        pen = ImageDraw.Draw(image)
        pen.text((-left, -top), self.text, 255, font(self._face, self._em * wide), stroke_width=thickness)
        if wide > 1:
            height = self.size[1]
            image = image.crop((0, 0, image.width, height * wide)).reduce((1, wide))
        return image


@lru_cache(maxsize=4096)
def font(face: Path, em: float) -> ImageFont.FreeTypeFont:
    """A face at a size, laid out by Pillow alone: HarfBuzz is not in every build."""
    return ImageFont.truetype(str(face), em, layout_engine=ImageFont.Layout.BASIC)


@lru_cache
def _reference(face: Path, script: str) -> float:
    _, top, _, bottom = font(face, _PROBE).getbbox(_REFERENCE[script])
    return bottom - top


@lru_cache(maxsize=1 << 16)
def draws(face: Path, char: str) -> bool:
    """Whether the face has a glyph of its own for a character."""
    if char == " ":
        return True
    drawn, placeholder = (_glyph(face, one) for one in (char, "\U0010ffff"))  # no face has a glyph for the latter
    return drawn.getbbox() is not None and drawn.tobytes() != placeholder.tobytes()


def _glyph(face: Path, char: str) -> Image.Image:
    image = Image.new("L", (48, 48))
    ImageDraw.Draw(image).text((8, 8), char, 255, font(face, 24))
    return image


def _side(quad: Sequence[tuple[float, float]]) -> float:
    """The mean of a quad's left and right sides."""
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = quad
    return (((ax - dx) ** 2 + (ay - dy) ** 2) ** 0.5 + ((bx - cx) ** 2 + (by - cy) ** 2) ** 0.5) / 2


_Matrix = tuple[float, float, float, float, float, float, float, float, float]


def _projection(size: tuple[int, int], corners: Quad) -> _Matrix:
    """The projective map from a sheet's pixels to `corners` (Heckbert's square to quad, in closed form)."""
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    sx, sy = x0 - x1 + x2 - x3, y0 - y1 + y2 - y3
    dx1, dy1, dx2, dy2 = x1 - x2, y1 - y2, x3 - x2, y3 - y2
    area = dx1 * dy2 - dx2 * dy1
    g, h = (sx * dy2 - dx2 * sy) / area, (dx1 * sy - sx * dy1) / area
    w, t = size
    return (
        (x1 - x0 + g * x1) / w, (x3 - x0 + h * x3) / t, x0,
        (y1 - y0 + g * y1) / w, (y3 - y0 + h * y3) / t, y0,
        g / w, h / t, 1.0,
    )  # fmt: skip


def _project(matrix: _Matrix, point: tuple[float, float]) -> tuple[float, float]:
    (a, b, c, d, e, f, g, h, i), (x, y) = matrix, point
    w = g * x + h * y + i
    return (a * x + b * y + c) / w, (d * x + e * y + f) / w


def _inverse(m: _Matrix) -> _Matrix:
    """Up to a factor, by cofactors."""
    a, b, c, d, e, f, g, h, i = m
    return (
        e * i - f * h, c * h - b * i, b * f - c * e,
        f * g - d * i, a * i - c * g, c * d - a * f,
        d * h - e * g, b * g - a * h, a * e - b * d,
    )  # fmt: skip


def _warp(pixels: np.ndarray, back: _Matrix, size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
    """An image through the inverse of a map, and where it lies; drawn at twice the size and reduced.

    Places are computed in single float64 operations, which all processors round alike, then in 8 bits of fraction.
    """
    width, height = (2 * side for side in size)
    a, b, c, d, e, f, g, h, i = back
    xs, ys = (np.arange(width) + 0.5) / 2, ((np.arange(height) + 0.5) / 2)[:, None]
    w = g * xs + h * ys + i
    u, v = (a * xs + b * ys + c) / w - 0.5, (d * xs + e * ys + f) / w - 0.5
    rows, columns = pixels.shape[:2]
    inside = (u > -0.5) & (v > -0.5) & (u < columns - 0.5) & (v < rows - 0.5)
    u, v = ((np.clip(p, 0, n - 1) * 256).astype(np.int64) for p, n in ((u, columns), (v, rows)))
    left, top, fx, fy = u >> 8, v >> 8, (u & 255)[..., None], (v & 255)[..., None]
    right, bottom = np.minimum(left + 1, columns - 1), np.minimum(top + 1, rows - 1)
    source = pixels.astype(np.int64)
    upper = source[top, left] * (256 - fx) + source[top, right] * fx
    lower = source[bottom, left] * (256 - fx) + source[bottom, right] * fx
    mixed = (upper * (256 - fy) + lower * fy + (1 << 15)) >> 16
    return (
        Image.fromarray(mixed.astype(np.uint8)).reduce(2),
        Image.fromarray((inside * 255).astype(np.uint8)).reduce(2),
    )
