"""What the board shows: nine kinds of pictures with four lines of text each."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tadisr.data_synthesis.board.dice import Dice
from tadisr.data_synthesis.board.sheet import Color, Line, Quad, Sheet, Text, blurred, corners_of, draws
from tadisr.data_synthesis.board.sources import SPACED, Sources

_EDGES = " .,;:!?()[]\"'«»„“”‘’—–-…、。，；：！？（）「」『』・"
_LEAST = 2  # characters
_UPRIGHT = ("Chinese", "Japanese", "Korean")
"""Scripts whose vertical lines stack upright characters; others are turned."""


class Setter:
    """Draws the lines of one picture: `heights` of their glyphs in HR pixels, on `side` x `side` pixels."""

    def __init__(self, dice: Dice, sources: Sources, script: str, heights: Sequence[float], side: int):
        self.dice, self.sources, self.script, self.heights, self.side = dice, sources, script, heights, side
        self._language = dice.integer(0, 59)
        self._said: set[str] = set()

    def text(self, style: str, height: float, width: float, names: bool = False, full: bool = False) -> Text:
        """A text that fits `width` pixels: a part of a sentence, or a name; `full`: that nearly fills them."""
        faces = self.sources.faces(self.script, style)
        for attempt in range(400):
            least = width * (0.85 if full else 0.4) * (1 - attempt / 400)
            face = self.dice.pick(faces)
            if names and attempt < 300:
                words = [self.dice.pick(self.sources.names(self.script, self._language))]
            else:
                words = self._tokens(self.dice.pick(self.sources.sentences(self.script, self._language)))
                words = words[self.dice.integer(0, len(words) - 1) :]
            text = self._longest(words, face, height, width)
            if text is not None and text.size[0] >= least and (attempt >= 300 or text.text not in self._said):
                self._said.add(text.text)
                return text
        raise ValueError(f"No {self.script} text fits {width:.0f} pixels at glyphs of {height:.0f}.")

    def _tokens(self, sentence: str) -> list[str]:
        return sentence.split(" ") if self.script in SPACED else list(sentence.replace(" ", ""))

    def _longest(self, words: Sequence[str], face: Path, height: float, width: float) -> Text | None:
        """The text of the first words that fit; None where not even one does, or where the face lacks a character."""
        low, high = 0, min(len(words), 60)
        joint = " " if self.script in SPACED else ""
        while low < high:  # by halves
            middle = (low + high + 1) // 2
            if self._made(joint.join(words[:middle]), face, height).size[0] <= width:
                low = middle
            else:
                high = middle - 1
        text = joint.join(words[:low]).strip(_EDGES)
        fits = len(text) >= _LEAST and all(draws(face, char) for char in text)
        return self._made(text, face, height) if fits else None

    def _made(self, text: str, face: Path, height: float) -> Text:
        return Text(text or " ", face, height, self.script)

    def places(self, texts: Sequence[Text], top: float, bottom: float) -> list[float]:
        """Tops of texts one below the other, spread over what is left between `top` and `bottom`."""
        tall = [text.size[1] for text in texts]
        left = bottom - top - sum(tall)
        gaps = [self.dice.between(0.5, 1.5) for _ in range(len(texts) + 1)]
        gaps[0], gaps[-1] = gaps[0] * 0.6, gaps[-1] * 0.6
        unit, y, found = max(0.0, left) / sum(gaps), top, []
        for gap, height in zip(gaps, tall, strict=False):
            y += gap * unit
            found.append(y)
            y += height
        return found

    def color(self, low: int, high: int) -> Color:
        """Any colour whose channels lie in a range."""
        return (self.dice.integer(low, high), self.dice.integer(low, high), self.dice.integer(low, high))

    def pair(self) -> tuple[Color, Color]:
        """A ground and an ink on it, light on dark or dark on light."""
        light, dark = self.color(175, 255), self.color(0, 105)
        return (light, dark) if self.dice.chance(0.55) else (dark, light)

    def photograph(self) -> Sheet:
        """A part of a photograph as large as the picture."""
        with Image.open(self.sources.photo(self.dice.pick(self.sources.photos()))) as file:
            photo = file.convert("RGB")
        most = min(photo.size)
        part = self.dice.integer(most // 2, most)
        x, y = self.dice.integer(0, photo.width - part), self.dice.integer(0, photo.height - part)
        cut = photo.crop((x, y, x + part, y + part))
        if self.dice.chance(0.5):
            cut = cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return Sheet(cut.resize((self.side, self.side), Image.Resampling.BICUBIC))

    def wall(self) -> Sheet:
        """A plastered or painted surface."""
        wall = Sheet.plain((self.side, self.side), self.color(40, 220))
        wall.grain(self.dice, self.dice.between(4, 14), 4)
        wall.image = blurred(wall.image, 3)
        wall.light(self.dice, 0.6)
        return wall

    def corners(self, size: tuple[int, int], jitter: float) -> Quad:
        """Where a sheet of `size` comes to lie: in the middle, its corners moved by up to `jitter` of the side."""
        x, y = (self.side - size[0]) / 2, (self.side - size[1]) / 2
        moves = [self.dice.between(-jitter, jitter) * self.side for _ in range(8)]
        flat = corners_of(x, y, x + size[0], y + size[1])
        return tuple((px + moves[2 * i], py + moves[2 * i + 1]) for i, (px, py) in enumerate(flat))


def page(s: Setter) -> Sheet:
    """A printed sheet, a little turned."""
    return _printed(s, "plain" if s.dice.chance(0.5) else "book", s.color(228, 255), s.color(0, 70), 0.9)


def book(s: Setter) -> Sheet:
    """A scanned page of a book: toned paper, its back shining through, a dark gutter."""
    tone = s.dice.integer(205, 238)
    paper = (tone, tone - s.dice.integer(4, 16), tone - s.dice.integer(18, 50))
    ink = s.dice.integer(20, 75)
    sheet = _printed(s, "book", paper, (ink, ink - 5, ink - 10), 0.8, full=True)
    back = Sheet.plain(sheet.size, (255, 255, 255))
    for i, height in enumerate(s.heights):
        text = s.text("book", height, s.side * 0.85)
        shade = s.dice.integer(228, 246)
        back.write(text, s.side * 0.06, s.side * (0.03 + 0.24 * i), (shade, shade, shade))
    behind = blurred(back.image.transpose(Image.Transpose.FLIP_LEFT_RIGHT), s.side / 160)
    pixels = np.asarray(sheet.image, np.int64) * np.asarray(behind, np.int64) // 255
    width = max(2, round(s.side * s.dice.between(0.03, 0.1)))
    pixels[:, :width] = pixels[:, :width] * (90 + 165 * np.arange(width)[None, :, None] // width) // 255
    sheet.image = Image.fromarray(pixels.astype(np.uint8))
    return sheet


def _printed(s: Setter, style: str, paper: Color, ink: Color, least: float, full: bool = False) -> Sheet:
    inner = Sheet.plain((s.side, s.side), paper)
    left, right = s.side * s.dice.between(0.05, 0.09), s.side * s.dice.between(0.92, 0.96)
    texts = [s.text(style, height, right - left, full=full) for height in s.heights]
    for text, y in zip(texts, s.places(texts, s.side * 0.04, s.side * 0.96), strict=True):
        inner.write(text, left, y, ink)
    if s.dice.chance(0.3):
        y = s.side * 0.02
        inner.box(left, y, right, y + max(1, s.side // 200), ink)
    inner.grain(s.dice, s.dice.between(0.5, 3))
    sheet = Sheet.plain((s.side, s.side), paper)
    sheet.mount(inner, s.corners((s.side, s.side), 0.012))
    sheet.light(s.dice, least)
    return sheet


def sign(s: Setter) -> Sheet:
    """A plate with names, on a wall or in a scene, seen a little from the side."""
    sheet = s.wall() if s.dice.chance(0.5) else s.photograph()
    ground, ink = s.pair()
    side = round(s.side * 0.94)
    plate = Sheet.plain((side, side), ground)
    rim = side * 0.02
    if s.dice.chance(0.6):
        plate.box(rim, rim, side - rim, side - rim, ink, rim * 2)
        plate.box(2 * rim, 2 * rim, side - 2 * rim, side - 2 * rim, ground, rim)
    texts = [s.text("loud", height, side * 0.86, names=True) for height in s.heights]
    centred = s.dice.chance(0.6)
    for text, y in zip(texts, s.places(texts, 2.5 * rim, side - 2.5 * rim), strict=True):
        plate.write(text, (side - text.size[0]) / 2 if centred else side * 0.07, y, ink)
    plate.light(s.dice, 0.75)
    sheet.mount(plate, s.corners((side, side), 0.028))
    return sheet


def screen(s: Setter) -> Sheet:
    """A screenshot: flat rows, text by the thirds of a pixel or in grays."""
    ground, ink = s.pair()
    if s.dice.chance(0.5):
        gray = s.dice.integer(0, 60)
        ground, ink = (255, 255, 255), (gray, gray, gray)
    sheet, fine = Sheet.plain((s.side, s.side), ground), s.dice.chance(0.6)
    left = s.side * s.dice.between(0.04, 0.12)
    texts = [s.text("plain", height, s.side * 0.95 - left, names=s.dice.chance(0.5)) for height in s.heights]
    tops = s.places(texts, s.side * 0.03, s.side * 0.97)
    chosen = s.dice.integer(0, 5)
    for i, (text, y) in enumerate(zip(texts, tops, strict=True)):
        pad, color = text.height * 0.3, ink
        if i == chosen:
            color = (255, 255, 255)
            fill = s.color(0, 110)
            sheet.box(left * 0.5, y - pad, s.side - left * 0.5, y + text.size[1] + pad, fill, pad)
        elif s.dice.chance(0.4):
            red, green, blue = ((3 * a + b) // 4 for a, b in zip(ground, ink, strict=True))
            sheet.box(0, y + text.size[1] + pad, s.side, y + text.size[1] + pad + 1, (red, green, blue))
        sheet.write(text, left, y, color, subpixel=fine)
    return sheet


def receipt(s: Setter) -> Sheet:
    """A till's slip on a table: names with their prices, in a thin gray."""
    sheet = s.wall()
    side = round(s.side * 0.95)
    tone = s.dice.integer(222, 250)
    slip, gray = Sheet.plain((side, side), (tone, tone, tone - s.dice.integer(0, 10))), s.dice.integer(25, 110)
    texts = []
    for height in s.heights:
        text = s.text("mono", height, side * 0.66, names=True)
        price = f" {s.dice.integer(1, 99)}.{s.dice.integer(0, 99):02d}"
        priced = s._made(text.text + price, text._face, height)
        texts.append(priced if priced.size[0] <= side * 0.94 and all(draws(text._face, c) for c in price) else text)
    for text, y in zip(texts, s.places(texts, side * 0.03, side * 0.97), strict=True):
        slip.write(text, side * 0.03, y, (gray, gray, gray + 5))
    slip.grain(s.dice, 1.5)
    slip.light(s.dice, 0.8)
    sheet.mount(slip, s.corners((side, side), 0.022))
    return sheet


def package(s: Setter) -> Sheet:
    """A label in colours, its text outlined."""
    sheet = s.wall()
    side = round(s.side * 0.96)
    start, end = s.color(0, 255), s.color(0, 255)
    ramp = np.arange(side, dtype=np.int64)[:, None]
    rows = (np.array(start) * (side - ramp) + np.array(end) * ramp) // side
    label = Sheet(Image.fromarray(np.repeat(rows[:, None].astype(np.uint8), side, axis=1)))
    texts = [s.text("loud", height, side * 0.88, names=s.dice.chance(0.7)) for height in s.heights]
    for text, y in zip(texts, s.places(texts, side * 0.04, side * 0.96), strict=True):
        ink, rim = (s.color(215, 255), s.color(0, 70)) if s.dice.chance(0.6) else (s.color(0, 70), s.color(215, 255))
        x = (side - text.size[0]) / 2
        label.write(text, x, y, ink, rim, max(1, round(text.height * s.dice.between(0.05, 0.11))))
    label.light(s.dice, 0.8)
    sheet.mount(label, s.corners((side, side), 0.015))
    return sheet


def vertical(s: Setter) -> Sheet:
    """Lines from top to bottom: stacked characters in East Asian scripts, else lines that were turned."""
    ground, ink = s.pair()
    sheet = Sheet.plain((s.side, s.side), ground)
    style = "loud" if s.dice.chance(0.5) else "book"
    if s.script not in _UPRIGHT:
        texts = [s.text(style, height, s.side * 0.9) for height in s.heights]
        for text, y in zip(texts, s.places(texts, s.side * 0.03, s.side * 0.97), strict=True):
            sheet.write(text, s.side * 0.05, y, ink)
        sheet = sheet.turned()
    else:
        _columns(s, sheet, style, ink)
    sheet.grain(s.dice, s.dice.between(0.5, 4))
    sheet.light(s.dice, 0.8)
    return sheet


def _columns(s: Setter, sheet: Sheet, style: str, ink: Color) -> None:
    x = s.side * 0.97
    widths = sum(s.heights) * 1.1
    gap = (s.side * 0.94 - widths) / (len(s.heights) + 1)
    for height in s.heights:
        step = height * s.dice.between(1.12, 1.3)
        most = int(s.side * 0.92 / step)
        line = s.text(style, height, height * min(most, 14) * 0.98, names=s.dice.chance(0.4))
        chars = line.text.replace(" ", "")[:most]
        x -= gap + height * 1.1
        top = s.dice.between(0.03, 1.0) * (s.side * 0.96 - step * len(chars))
        top = max(s.side * 0.03, top)
        whole = Sheet(sheet.image)
        for i, char in enumerate(chars):
            glyph = s._made(char, line._face, height)
            y = top + i * step + (step - glyph.size[1]) / 2
            whole.write(glyph, x + (height - glyph.size[0]) / 2, y, ink)
        quads = [point for one in whole.lines for point in one.quad]
        xs, ys = zip(*quads, strict=True)
        box = corners_of(min(xs), min(ys), max(xs), max(ys))
        sheet.lines.append(Line(chars, box, height, s.script))


def curved(s: Setter) -> Sheet:
    """Lines along arcs, on a plain or a photographed ground."""
    sheet = s.wall() if s.dice.chance(0.7) else s.photograph()
    ground, ink = s.pair()
    panel = Sheet.plain((s.side, s.side), ground)
    sheet.image = Image.blend(sheet.image, panel.image, 0.75)
    texts = [s.text("loud", height, s.side * 0.9) for height in s.heights]
    for text, y in zip(texts, s.places(texts, s.side * 0.05, s.side * 0.93), strict=True):
        _bend(sheet, text, (s.side - text.size[0]) / 2, y, ink, s.dice.between(-0.45, 0.45) * text.height)
    return sheet


def _bend(sheet: Sheet, text: Text, x: float, y: float, ink: Color, depth: float) -> None:
    """Draw a text on a parabola that is `depth` pixels lower (higher, below 0) at its ends than in its middle."""
    flat = np.asarray(text.cover(0, 2).resize((text.size[0] * 2, text.size[1] * 2), Image.Resampling.BILINEAR))
    height, width = flat.shape
    middle = (width - 1) / 2
    drops = [int(2 * abs(depth) * ((i - middle) / middle) ** 2) for i in range(width)]
    if depth < 0:
        drops = [max(drops) - drop for drop in drops]
    bent = np.zeros((height + max(drops) + 2, width), np.uint8)
    for i, drop in enumerate(drops):
        bent[drop : drop + height, i] = flat[:, i]
    cover = Image.fromarray(bent).reduce(2)
    box = cover.getbbox() or (0, 0, *cover.size)
    left, top = round(x), max(0, round(y - abs(depth) / 2))
    sheet.image.paste(ink, (left, top), cover)
    pad = 0.12 * text.height
    quad = corners_of(left + box[0] - pad, top + box[1] - pad, left + box[2] + pad, top + box[3] + pad)
    sheet.lines.append(Line(text.text, quad, text.height, text.script))


def photo(s: Setter) -> Sheet:
    """Text over a photograph, as in a poster or a film: outlined, shadowed or plain."""
    sheet = s.photograph()
    texts = [s.text("loud" if s.dice.chance(0.5) else "plain", height, s.side * 0.9) for height in s.heights]
    for text, y in zip(texts, s.places(texts, s.side * 0.04, s.side * 0.96), strict=True):
        x = (s.side - text.size[0]) * s.dice.between(0.05, 0.95)
        light = s.dice.chance(0.75)
        ink, rim = (s.color(225, 255), s.color(0, 50)) if light else (s.color(0, 40), s.color(225, 255))
        sheet.write(text, x, y, ink, rim, max(1, round(text.height * s.dice.between(0.04, 0.1))))
    return sheet


KINDS: dict[str, Callable[[Setter], Sheet]] = {
    one.__name__: one for one in (page, book, sign, screen, receipt, package, vertical, curved, photo)
}
