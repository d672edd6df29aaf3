"""Installed fonts, and which characters each of them can draw."""

import shutil
import subprocess
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

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
