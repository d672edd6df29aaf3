"""Where synthesis takes its material from: installed fonts, words and hanzi, background photographs."""

import shutil
import subprocess
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from PIL import ImageFont, features

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
# Families whose glyphs are pictures, or one letter per many code points: they would draw what no mask can teach.
_SYMBOL_FAMILIES = ("emoji", "symbol", "dingbat", "ornament", "icons", "math", "music", "dseg", "barcode", "braille")


@dataclass(frozen=True)
class Font:
    """One face of an installed font. `starts`, `ends`: its sorted, inclusive code point ranges (empty: Latin only)."""

    path: str
    index: int = 0
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def covers(self, text: str) -> bool:
        """Whether every character of `text` has a glyph, so that no placeholder box is drawn."""
        if not self.starts:
            return text.isascii()
        for char in text:
            i = bisect_right(self.starts, ord(char)) - 1
            if char != " " and (i < 0 or ord(char) > self.ends[i]):
                return False
        return True

    def load(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at `size` pixels per em."""
        return _load_font(self.path, self.index, size)


@lru_cache(maxsize=2048)
def _load_font(path: str, index: int, size: int) -> ImageFont.FreeTypeFont:
    if not path:  # Pillow's built-in face
        return ImageFont.load_default(size)
    return ImageFont.truetype(path, size, index=index, layout_engine=ImageFont.Layout.BASIC)


def discover_fonts() -> list[Font]:
    """Every installed outline font that fontconfig knows and that holds the Latin alphabet or common hanzi.

    Without fontconfig: Pillow's built-in Latin face alone.
    """
    if not features.check("freetype2"):
        raise RuntimeError("This Pillow was built without FreeType and cannot draw text: install Pillow from PyPI.")
    fonts = []
    if shutil.which("fc-list"):
        listing = subprocess.run(
            ["fc-list", ":outline=true", "--format", "%{file}|%{index}|%{family[0]}|%{charset}\n"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        for line in sorted(set(listing.splitlines())):
            path, index, family, charset = line.split("|", 3)
            # fontconfig numbers the named instances of variable fonts in the high bits
            if int(index) > 0xFFFF or any(word in family.lower() for word in _SYMBOL_FAMILIES):
                continue
            ranges = [[int(end, 16) for end in span.split("-")] for span in charset.split()]
            font = Font(path, int(index), tuple(r[0] for r in ranges), tuple(r[-1] for r in ranges))
            if Path(path).suffix.lower() in {".ttf", ".otf", ".ttc", ".otc"} and (
                font.covers("Aaegz059") or font.covers("的一是不")
            ):
                fonts.append(font)
    return fonts or [Font("")]


@lru_cache(maxsize=1)
def english_words() -> tuple[str, ...]:
    """A few thousand English words, from a dictionary where one is installed, else from Python's own help texts."""
    for dictionary in (Path("/usr/share/dict/american-english"), Path("/usr/share/dict/words")):
        if dictionary.is_file():
            words = dictionary.read_text(encoding="utf-8").split()
            return tuple(word for word in words if word.isascii() and word.isalpha() and len(word) > 1)
    words = {word.strip(".,:;()'\"`*") for text in topics.values() for word in text.split()}
    return tuple(sorted(word for word in words if word.isascii() and word.isalpha() and len(word) > 1))


@lru_cache(maxsize=1)
def common_hanzi() -> str:
    """The 3,755 characters of GB 2312 level 1: those in everyday use."""
    cells = ((row, cell) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return "".join(bytes(pair).decode("gb2312", errors="ignore") for pair in cells)


def random_text(rng: np.random.Generator, script: str) -> str:
    """A short line as it stands on signs, tickets, menus and pages; `script` is "latin", "chinese" or "kana"."""
    if script == "kana":
        return "".join(chr(rng.integers(0x30A2, 0x30F3)) for _ in range(rng.integers(2, 9)))
    if script == "chinese":
        chars = common_hanzi()
        text = "".join(chars[i] for i in rng.integers(0, len(chars), rng.integers(1, 11)))
        if rng.random() < 0.2:
            text += str(rng.choice([str(rng.integers(0, 2050)), ":", "!", "元", "年", "号", "A", "%"]))
        return text
    kind = rng.random()
    if kind < 0.30:  # numbers: prices, dates, times, telephones, codes
        n = lambda low, high: int(rng.integers(low, high))  # noqa: E731
        return str(
            rng.choice(
                [
                    f"{n(0, 1000)}.{n(0, 100):02d}", f"${n(1, 100)}.{n(0, 100):02d}", f"{n(1, 100)}%", f"¥{n(1, 1000)}",
                    f"{n(1, 13)}/{n(1, 32)}/{n(1990, 2030)}", f"{n(1990, 2030)}-{n(1, 13):02d}-{n(1, 32):02d}",
                    f"{n(0, 24)}:{n(0, 60):02d}", f"{n(100, 1000)}-{n(1000, 10000)}", str(n(0, 10 ** n(1, 8))),
                    f"{chr(n(65, 91))}{n(10, 1000)}", f"No. {n(1, 100)}",
                    f"[{n(10, 100)}-{n(10, 100):02d}]", f"#{n(1, 500)}",
                ]
            )
        )  # fmt: skip
    words = english_words()
    text = " ".join(words[i] for i in rng.integers(0, len(words), rng.integers(1, 5)))
    style = rng.random()
    if style < 0.35:
        text = text.upper()
    elif style < 0.65:
        text = text.title()
    if rng.random() < 0.15:
        text += str(rng.choice([".", ",", "!", "?", ":", " &", "'s", "..."]))
    return text


def find_images(folders: list[str] | list[Path]) -> list[Path]:
    """All images below `folders` (or the files themselves), sorted.

    Raises:
        FileNotFoundError: a folder that does not exist or holds no image.
    """
    found = []
    for folder in map(Path, folders):
        files = (
            [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        )
        if not files:
            raise FileNotFoundError(f"No images in {folder}: name a folder of .jpg, .png or .webp photographs.")
        found += files
    return found
