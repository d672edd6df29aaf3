"""What pages look like; choosing words, faces and sizes, and setting them on a canvas."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from typing import TypeVar

import numpy as np

from tadisr.data_synthesis.backgrounds.scenes import SCENES, out_of_focus
from tadisr.data_synthesis.layouts.canvas import Canvas, Color
from tadisr.data_synthesis.layouts.palette import LUMA32, Palette, draw_palette, luma, readable
from tadisr.data_synthesis.text.corpus import Corpus
from tadisr.data_synthesis.text.effects import Effects, Ink, Shadow
from tadisr.data_synthesis.text.fonts import Font, Fonts
from tadisr.data_synthesis.text.render import Glyphs, draw_block
from tadisr.data_synthesis.text.shapes import Shape

T = TypeVar("T")
_TRIES = 8
_BUSY = 0.14  # deviation of the luma beneath text from which flat ink is hard to read
_DULL = 0.08  # deviation of the values of a background that makes no picture
_PROBE = 64  # pixels per em at which text is measured


@dataclass
class PageStyle:
    """Relative weights of the layouts, sizes in HR pixels, probabilities in [0, 1]."""

    scene: float = 0.22
    """Signs, plates, shop fronts, stickers and banners that stand in the background, and words painted on it."""
    sign: float = 0.12
    """One sign, seen from near by."""
    poster: float = 0.14
    """Posters and advertisements: title, prices, footers, blocks of colour, pictures."""
    caption: float = 0.1
    """A photograph with words over it: subtitles, quotations, dates, labels in boxes."""
    document: float = 0.13
    """Printed pages: headings, paragraphs, columns."""
    form: float = 0.15
    """Tables, forms, receipts, menus, tickets."""
    screen: float = 0.06
    """Windows, telephones, terminals."""
    product: float = 0.08
    """Packages, bottles, price tags on shelves, book covers and rows of spines."""
    interface: float = 0.0
    """Screenshots: rows, tables, articles, slides, forms; flat, at times with sub-pixel rendering."""
    dense: float = 0.0
    """Sheets full of small text: book pages new and old, labels of things."""
    font_size: tuple[int, int] = (20, 120)
    """Pixels per em of the smallest and the largest text, in Latin letters; hanzi are a quarter larger. After a 4x
    reduction 20 pixels are at the edge of what can be read (see `render.SMALLEST`)."""
    effects: float = 0.4
    """Share of headlines, signs and captions that are more than flat ink."""
    inks: Effects = field(default_factory=lambda: Effects(soft=0.0))
    """The effects. Their softness is 0, since `finish` adds the camera's softness at the end."""
    vertical: float = 0.12
    """Share of single lines that run downwards, where a layout allows it."""
    min_contrast: float = 0.3
    """Least luma difference, of 1, between text and what is beneath it; small text gets half as much again."""
    max_lines: int = 40
    """Lines at most that a layout writes on a page."""
    finish: float = 1.0
    """Strength of the camera's part: softness, uneven light, tone. 0 leaves pages as they were drawn."""
    phone: float = 0.0
    """Share of the photographed pages that a phone took: dim or hazy, a little out of focus, noisy, denoised, saved as
    a JPEG."""

    def __post_init__(self):
        for name in LAYOUT_NAMES:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a layout's weight and must be 0 or more, not {getattr(self, name)}.")
        if sum(getattr(self, name) for name in LAYOUT_NAMES) <= 0:
            raise ValueError(f"At least one layout needs a weight above 0: {', '.join(LAYOUT_NAMES)}.")
        for name, most in (("effects", 1), ("vertical", 1), ("min_contrast", 0.4), ("finish", 1), ("phone", 1)):
            if not 0 <= getattr(self, name) <= most:  # more contrast than 0.4 no ink has on a middle gray
                raise ValueError(f"{name} must lie between 0 and {most}, not {getattr(self, name)}.")
        if len(self.font_size) != 2 or not 4 <= self.font_size[0] <= self.font_size[1]:
            raise ValueError(f"font_size must be two sizes, 4 <= smallest <= largest, not {self.font_size}.")
        if self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}.")


LAYOUT_NAMES = tuple(f.name for f in fields(PageStyle))[:10]
ADDED = ("interface", "dense", "phone")
"""Fields of `PageStyle` that came later. A job's description leaves them out where they are 0, so that a folder begun
before them can be gone on with."""


@dataclass
class Voice:
    """A corpus and a face that draws it."""

    corpus: Corpus
    font: Font
    sample: str

    def extent(self, text: str, size: float) -> tuple[float, float, float, float]:
        """Left, top and right of the ink relative to the start of the baseline, and the advance; pixels."""
        face = self.font.load(_PROBE)
        left, top, right, _ = face.getbbox(text, anchor="ls")
        scale = size / _PROBE
        return left * scale, top * scale, right * scale, face.getlength(text) * scale

    @cached_property
    def advance(self) -> float:
        """Width of an average character, em."""
        return max(0.2, self.font.load(_PROBE).getlength(self.sample) / _PROBE / len(self.sample))

    @property
    def wide(self) -> bool:
        """Whether it writes hanzi or kana: these need more pixels than letters do."""
        return self.advance > 0.8

    def draws(self, text: str) -> bool:
        return self.font.covers(text) and self.font.draws(text)

    def text(self, rng: np.random.Generator, max_chars: int) -> str:
        """Something to say of at most `max_chars` characters: the longer of two tries."""
        max_chars = max(1, max_chars)
        texts = (self.corpus.text(rng, max_chars).strip() for _ in range(_TRIES))
        found = list(islice((text for text in texts if text and self.draws(text)), 2))
        return max(found, key=len) if found else self.sample[:max_chars].strip() or self.sample[0]


class Setter:
    """Sets text for one page. All choices come from `rng`.

    scenery: the page's background before anything is on it, for pictures.
    """

    def __init__(
        self, style: PageStyle, fonts: Sequence[Font], corpora: Sequence[Corpus], rng: np.random.Generator,
        scenery: np.ndarray,
    ):  # fmt: skip
        self.style, self.corpora, self.rng, self.scenery = style, corpora, rng, scenery
        self.finish = style.finish
        """Strength of the camera's part; a layout that is no photograph lowers it."""
        self.fonts = fonts if isinstance(fonts, Fonts) else Fonts(fonts)
        self.corpus = self.one_of(corpora)
        self.body = self.voice()
        self.head = self.voice() if rng.random() < 0.6 else self.body

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def em(self, lowest: float = 0.0, highest: float = math.inf) -> float:
        """A size in pixels: most often medium, always within the style's limits."""
        low, high = self.style.font_size
        size = low * (high / low) ** (self.rng.random() ** 1.25)
        return min(max(size, lowest, low), max(low, min(highest, high)))

    def colors(self, palettes: list[tuple[str, str, str]]) -> Palette:
        """A palette whose ink and accent can be read on its ground."""
        ground, ink, accent = draw_palette(palettes, self.rng)
        return Palette(ground, self.ink_on(ink, ground, 30), self.ink_on(accent, ground, 30))

    def blank(self, h: float, w: float, palettes: list[tuple[str, str, str]]) -> tuple[Canvas, Palette, int, int]:
        """A panel of one colour, the colours of which it is one, its height and width in whole pixels."""
        colors = self.colors(palettes)
        panel = Canvas.of(h, w, colors.ground)
        return panel, colors, *panel.size

    def one_of(self, choices: Sequence[T]) -> T:
        """Any of them."""
        return choices[int(self.rng.integers(len(choices)))]

    def voice(self, other_corpus: bool = False) -> Voice:
        """The page's corpus, or perhaps another, in a face that has its characters; ValueError where no font has."""
        corpus = self.one_of(self.corpora) if other_corpus else self.corpus
        sample = corpus.text(self.rng, 16).strip() or corpus.sample
        if not self.fonts.covering(sample):
            sample = corpus.sample
        return Voice(corpus, self.fonts.pick(sample, self.rng), sample)

    def picture(self, height: float, width: float) -> np.ndarray:
        """Something to print as a picture, (H, W, 3): part of the page's own background, or a scene."""
        h, w = max(8, round(height)), max(8, round(width))
        if self.chance(0.35) or self.scenery[::8, ::8].std() < _DULL:
            picture = SCENES[self.one_of(list(SCENES))]((h, w), self.rng)
            return (out_of_focus(picture, self.rng) if self.chance(0.6) else picture).clip(0, 1)
        full_h, full_w = self.scenery.shape[:2]
        scale = self.between(0.5, 1.0) * min(full_h / h, full_w / w)
        ch, cw = max(1, int(h * scale)), max(1, int(w * scale))
        y, x = self.rng.integers(0, full_h - ch + 1), self.rng.integers(0, full_w - cw + 1)
        return self.scenery[y : y + ch, x : x + cw]

    def smallest(self, voice: Voice) -> float:
        """The least size for it that can be read."""
        return self.style.font_size[0] * (1.25 if voice.wide else 1.0)

    def line(
        self, canvas: Canvas, voice: Voice, x0: float, x1: float, baseline: float, size: float, color: Color,
        align: float = 0.0, text: str | None = None, effect: Ink | None = None, fill: float = 1.25,
    ) -> float | None:  # fmt: skip
        """One line between x0 and x1. align: 0 flush left, 0.5 centred, 1 flush right.

        text: what to write; None: something from the corpus of as many characters as take up `fill` of the room. What
        is too wide is set smaller, down to the smallest size that can be read. effect: None for flat ink.

        Returns the right end of the line, or None when nothing was written: no room, no glyphs, other text in the way,
        or the page is full.
        """
        lowest, room = self.smallest(voice), x1 - x0
        size = max(size, lowest)
        if room < size * 0.6 or len(canvas.lines) >= self.style.max_lines:
            return None
        if text is None:
            text = voice.text(self.rng, max(1, int(fill * room / (voice.advance * size))))
        elif not voice.draws(text):
            return None
        width = voice.extent(text, size)[3]
        if width > room:
            size *= room / width
            if size < lowest:
                return None
        glyphs = self.glyphs(text, voice.font, size)
        if glyphs is None:
            return None
        left, top, right, width = voice.extent(text, size)
        x = x0 + align * (room - width)
        corner = glyphs.lines[0][1][0]  # of the ink
        done = self.put(canvas, glyphs, x + left - corner[0], baseline + top - corner[1], color, voice.font, effect)
        return x + right if done else None

    def label(
        self, canvas: Canvas, voice: Voice, box: tuple[float, float, float, float], color: Color, share: float = 0.55,
        align: float = 0.5, text: str | None = None, effect: Ink | None = None,
    ) -> float | None:  # fmt: skip
        """One line in a box x0, y0, x1, y1, halfway up; its size is `share` of the box's height. See `line`."""
        x0, y0, x1, y1 = box
        size = max(min(share * (y1 - y0), self.style.font_size[1]), self.smallest(voice))
        baseline, fits = (y0 + y1) / 2 + 0.36 * size, size <= 1.1 * (y1 - y0)
        return self.line(canvas, voice, x0, x1, baseline, size, color, align, text, effect) if fits else None

    def put(
        self, canvas: Canvas, glyphs: Glyphs, x: float, y: float, color: Color, font: Font, effect: Ink | None
    ) -> bool:
        """`Canvas.put` in a colour that can be read where it falls; on a busy ground with a border or a shadow."""
        x, y = round(x), round(y)
        height, width = glyphs.fill.shape
        beneath = canvas.image[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
        if beneath.size == 0:
            return False
        color = self.ink_on(color, beneath.mean(axis=(0, 1)), glyphs.em)
        if effect is None and float((beneath[::2, ::2] @ LUMA32).std()) > _BUSY:
            shadow = Shadow(0.0, 0.0, 0.12, 0.8) if luma(color) > 0.6 and self.chance(0.5) else None
            effect = Ink(shadow=shadow, outline=0.0 if shadow else self.between(0.03, 0.08))
        return canvas.put(glyphs, x, y, color, font, effect, self.rng)

    def glyphs(self, text: str, font: Font, size: float, shape: Shape | None = None) -> Glyphs | None:
        """Drawn text; None where the face cannot draw it. Sizes are rounded, so that faces are loaded less often."""
        try:
            return draw_block([text], font, max(4, round(size) if size < 48 else 2 * round(size / 2)), shape)
        except (OSError, ValueError):
            return None

    def down(
        self, canvas: Canvas, voice: Voice, x: float, y0: float, y1: float, size: float, color: Color,
        text: str | None = None, effect: Ink | None = None,
    ) -> float | None:  # fmt: skip
        """One line of upright characters from y0 downwards, centred on x. Returns its lower end or None."""
        size = max(self.smallest(voice), size)
        count = int((y1 - y0) / (size * 1.1))
        if count < 1 or len(canvas.lines) >= self.style.max_lines:
            return None
        text = (voice.text(self.rng, count) if text is None else text).replace(" ", "")[:count]
        glyphs = self.glyphs(text, voice.font, size, Shape(direction="stacked")) if text else None
        if glyphs is None:
            return None
        quad = glyphs.lines[0][1]
        tall = float(np.ptp(quad[:, 1]))
        if y0 + tall > y1 + size * 0.2:
            return None
        done = self.put(canvas, glyphs, x - quad[:, 0].mean(), y0 - quad[:, 1].min(), color, voice.font, effect)
        return y0 + tall if done else None

    def block(
        self, canvas: Canvas, voice: Voice, x0: float, x1: float, y0: float, y1: float, size: float, color: Color,
        align: float = 0.0, leading: float = 1.4, most: int = 99,
    ) -> float:  # fmt: skip
        """A paragraph from y0 on that ends above y1. Returns where the next thing may begin."""
        size = max(size, self.smallest(voice))
        step = size * leading
        count = min(int((y1 - y0) / step), most)
        max_chars = int((x1 - x0) / (voice.advance * size))
        if count < 1 or max_chars < 2:
            return y0
        lines = voice.corpus.paragraph(self.rng, count, max_chars)
        for i, text in enumerate(lines):
            self.line(canvas, voice, x0, x1, y0 + (i + 0.8) * step, size, color, align, text.strip())
        return y0 + len(lines) * step

    def effect(self, eager: float = 1.0, **chances: float) -> Ink | None:
        """How a headline is made, as often as the style says times `eager`; None is flat ink.

        chances: fields of `Effects` to use instead of the style's.
        """
        if not self.chance(self.style.effects * eager):
            return None
        ink = replace(self.style.inks, **chances).draw(self.rng)
        return replace(ink, min_contrast=max(ink.min_contrast, self.style.min_contrast))

    def ink_on(self, color: Color, ground: Color, size: float = 100.0) -> Color:
        """`color`, if need be darkened or lightened until it can be read on `ground`, the more so the smaller it is."""
        contrast = self.style.min_contrast
        return readable(color, ground, min(1.5 * contrast, 0.6) if size < 36 else contrast)
