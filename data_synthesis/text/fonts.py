"""Installed fonts or a folder of them, which characters each can draw, and how often each should be drawn."""

import shutil
import subprocess
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, overload

import numpy as np
from PIL import ImageFont, features

_SUFFIXES = {".ttf", ".otf", ".ttc", ".otc"}
# Families whose glyphs are pictures, key caps or segments behind the code points of letters: they would draw what no
# mask can teach.
_PICTURES = (
    "emoji", "symbol", "dingbat", "d050000l", "ornament", "icons", "math", "music", "dseg", "barcode", "braille",
    "keyboard", "wargames", "awesome", "wingdings", "webdings", "signwriting", "lastresort", "last resort",
)  # fmt: skip
# Words in the names of families that signs use and texts do not.
_DECORATIVE = (
    "initials", "script", "hand", "dancing", "lobster", "kaushan", "leckerli", "chorus", "chancery", "z003", "rampart",
    "stick", "reggae", "domestic manners", "abogado", "because we", "it wasn't me", "junkyard", "penguin", "winks",
    "marked fool", "balker", "progenisis", "flatline", "swift", "title", "essays", "comic", "pacifico", "brush",
)  # fmt: skip
_RARE = 0.2  # how often a decorative or hairline face is drawn, beside a text face's 1
_HAIRLINE = 45  # on fontconfig's scale: light is 50, extra light 40, thin 0
# By the first word of a character's name: what to call its script, and a Debian package with a font for it.
_SCRIPTS = {
    "CJK": ("Chinese", "fonts-noto-cjk"), "HANGUL": ("Korean", "fonts-noto-cjk"),
    "HIRAGANA": ("Japanese", "fonts-noto-cjk"), "KATAKANA": ("Japanese", "fonts-noto-cjk"),
}  # fmt: skip
_PROBE = 24  # pixels per em at which glyphs are looked at


@dataclass(frozen=True)
class Font:
    """One face of a font file.

    `path`: its file ("": Pillow's built-in face); `index`: its place in a collection; `starts`, `ends`: its sorted,
    inclusive code point ranges (empty: ASCII only); `version` as the file states it; `rare`: decorative or hairline.
    """

    path: str
    index: int = 0
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()
    family: str = "Pillow's built-in face"
    style: str = ""
    version: str = ""
    rare: bool = False

    @property
    def root(self) -> str:
        """The beginning of the family's name, which one maker's designs share: "Noto", "Roboto", "AR PL"."""
        words = self.family.split()
        return " ".join(words[: 2 if len(words[0]) < 3 else 1]) if words else ""

    def describe(self) -> dict[str, str]:
        """For a manifest: family, style, file name and version, which together say which licence holds."""
        return {"family": self.family, "style": self.style, "file": Path(self.path).name, "version": self.version}

    def covers(self, text: str) -> bool:
        """Whether the font claims a glyph for every character of `text`; a space needs none."""
        if not self.starts:
            return text.isascii() and text.isprintable()
        for char in text:
            i = bisect_right(self.starts, ord(char)) - 1
            if char != " " and (i < 0 or ord(char) > self.ends[i]):
                return False
        return True

    def draws(self, text: str) -> bool:
        """Whether it really draws every character: a file that opens, no empty glyph, no placeholder box."""
        return all(char.isspace() or _draws(self.path, self.index, char) for char in dict.fromkeys(text))

    def load(self, size: float) -> ImageFont.FreeTypeFont:
        """The face at `size` pixels per em; OSError where the file is not there or broken."""
        return _load_font(self.path, self.index, size)


@lru_cache(maxsize=512)
def _load_font(path: str, index: int, size: float) -> ImageFont.FreeTypeFont:
    if not features.check("freetype2"):
        raise ImportError("This Pillow was built without FreeType and cannot draw text: install Pillow from PyPI.")
    if not path:
        built_in = ImageFont.load_default(size)
        assert isinstance(built_in, ImageFont.FreeTypeFont)
        return built_in
    return ImageFont.truetype(path, size, index=index)


@lru_cache(maxsize=4096)
def _placeholder(path: str, index: int) -> tuple[tuple[int, int], bytes]:
    """What the face draws for a character it has not got: no font has a glyph for a noncharacter."""
    mask: Any = _load_font(path, index, _PROBE).getmask("\U0010ffff")
    return mask.size, bytes(mask)


@lru_cache(maxsize=1 << 18)
def _draws(path: str, index: int, char: str) -> bool:
    if unicodedata.category(char) == "Cf":  # joiners and direction marks draw nothing and are not meant to
        return bool(features.check("raqm"))
    try:
        mask: Any = _load_font(path, index, _PROBE).getmask(char)
        return mask.getbbox() is not None and (mask.size, bytes(mask)) != _placeholder(path, index)
    except (OSError, ValueError):
        return False


class Fonts(Sequence[Font]):
    """Fonts in a fixed order, and a fast answer to which of them can draw a text.

    `where` completes the sentence "no ... font draws": "installed", or the folder's name.
    """

    def __init__(self, fonts: Iterable[Font], where: str = "installed"):
        self._fonts = sorted(set(fonts), key=lambda font: (font.family, font.style, font.path, font.index))
        self.where = where
        # many faces share one set of characters: each set is looked through once
        charsets = [(font.starts or (0x20,), font.ends or (0x7E,)) for font in self._fonts]
        numbers = {charset: i for i, charset in enumerate(dict.fromkeys(charsets))}
        self._sets = np.array([numbers[charset] for charset in charsets], int)
        self._owners = np.repeat(np.arange(len(numbers)), [len(starts) for starts, _ in numbers])
        self._starts, self._ends = (np.array([code for c in numbers for code in c[side]], np.int32) for side in (0, 1))
        self._by_char: dict[str, np.ndarray] = {}
        self._shares: dict[bytes, np.ndarray] = {}

    @overload
    def __getitem__(self, index: int) -> Font: ...

    @overload
    def __getitem__(self, index: slice) -> "Fonts": ...

    def __getitem__(self, index: int | slice) -> "Font | Fonts":
        return Fonts(self._fonts[index], self.where) if isinstance(index, slice) else self._fonts[index]

    def __len__(self) -> int:
        return len(self._fonts)

    def _which(self, text: str) -> np.ndarray:
        """(number of fonts,) bool: which claim every character of `text`."""
        found = np.ones(len(self._fonts), bool)
        for char in set(text) - {" "}:
            if char not in self._by_char:
                code = ord(char)
                hits = self._owners[(self._starts <= code) & (code <= self._ends)]
                self._by_char[char] = (np.bincount(hits, minlength=len(self._fonts)) > 0)[self._sets]
            found &= self._by_char[char]
        return found

    def covering(self, text: str) -> list[Font]:
        """The fonts that claim every character of `text`, in order."""
        return [self._fonts[i] for i in np.flatnonzero(self._which(text))]

    def require(self, text: str) -> None:
        """ValueError where no font draws all of `text`: which script is missing and what to do."""
        if any(font.draws(text) for font in self.covering(text)):
            return
        missing = [char for char in text if not any(font.draws(char) for font in self.covering(char))]
        name = unicodedata.name((missing or text)[0], "")
        word = name.split()[0] if "LETTER" in name or name.startswith(tuple(_SCRIPTS)) else "these characters"
        script, package = _SCRIPTS.get(word, (word.title() if word.isupper() else word, "fonts-noto-core"))
        shown = "".join(dict.fromkeys(missing or text))[:10]
        if not missing:
            raise ValueError(f"No one font draws all of {shown!r}: it mixes scripts; put each on a line of its own.")
        where, remedy = f"font in {self.where}", f"add one, e.g. from Debian's {package}"
        if self.where == "installed":
            where, remedy = "installed font", f"install e.g. {package}, or name a folder of fonts with --fonts"
        raise ValueError(f"No {where} draws {script} ({shown!r}): {remedy}.")

    def pick(self, text: str, rng: np.random.Generator) -> Font:
        """A random font that draws every character of `text`; ValueError where none does (see `require`).

        What fonts with one root share grows with the logarithm of the number of families, whatever the number of faces:
        Noto's hundred families must not crowd out the others. Decorative and hairline faces are rare.
        """
        which = self._which(text)
        key = which.tobytes()
        if key not in self._shares:
            fonts = [self._fonts[i] for i in np.flatnonzero(which)]
            faces = Counter((font.family, font.rare) for font in fonts)
            families = Counter(font.root for font in {(f.root, f.family): f for f in fonts}.values())
            self._shares[key] = np.zeros(len(self._fonts))  # how often each is drawn; not normalised
            for i, font in zip(np.flatnonzero(which), fonts, strict=True):
                family = (1 + np.log2(families[font.root])) / families[font.root]
                self._shares[key][i] = family * (_RARE if font.rare else 1) / faces[font.family, font.rare]
        shares = self._shares[key].copy()
        while shares.any():
            index = int(rng.choice(len(shares), p=shares / shares.sum()))
            if self._fonts[index].draws(text):
                return self._fonts[index]
            shares[index] = 0
        self.require(text)
        raise AssertionError(f"a font that draws {text!r} has no share")


def discover_fonts(folders: Sequence[str | Path] = ()) -> Fonts:
    """Every outline font below `folders`, or, where none is named, every one that fontconfig finds installed.

    Fonts of pictures are left out, and files that cannot be read. Without fontconfig: Pillow's built-in face alone.

    Raises:
        FileNotFoundError: a folder that does not exist.
        ValueError: folders without a single usable font.
    """
    if folders:
        return _read_folders([Path(folder) for folder in folders])
    fonts = _ask_fontconfig() if shutil.which("fc-list") else []
    return Fonts(fonts or [Font("")])


def _is_rare(family: str, style: str, weight: float) -> bool:
    return weight < _HAIRLINE or any(word in f"{family} {style}".lower() for word in _DECORATIVE)


def _is_picture(family: str) -> bool:
    return any(word in family.lower() for word in _PICTURES)


def _ask_fontconfig() -> list[Font]:
    form = "%{file}|%{index}|%{family[0]}|%{style[0]}|%{weight}|%{fontversion}|%{charset}\n"
    command = ["fc-list", ":outline=true", "--format", form]
    fonts = []
    for line in subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines():
        path, index, family, style, weight, version, charset = line.split("|", 6)
        # fontconfig numbers the named instances of variable fonts in the high bits; Pillow opens the default one only
        if int(index) > 0xFFFF or Path(path).suffix.lower() not in _SUFFIXES or not charset or _is_picture(family):
            continue
        family = family.replace("\\", "")
        weight = 80 if weight.startswith("[") else float(weight)  # a variable font's default is nearly always regular
        ranges = [[int(end, 16) for end in span.split("-")] for span in charset.split()]
        starts, ends = tuple(r[0] for r in ranges), tuple(r[-1] for r in ranges)
        rare = _is_rare(family, style, weight)
        fonts.append(Font(path, int(index), starts, ends, family, style, f"{int(version) / 65536:.3f}", rare))
    return fonts


def _read_folders(folders: list[Path]) -> Fonts:
    try:
        import fontTools  # noqa: F401
    except ImportError:
        raise ImportError("Reading a folder of fonts needs fontTools: pip install 'tadisr[synth]'.") from None
    fonts, broken = [], 0
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"No folder {folder}: name one with .ttf, .otf or .ttc files in it.")
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES):
            try:
                fonts += _read_file(path)
            except Exception:  # a damaged table makes fontTools raise nearly anything
                broken += 1
    where = ", ".join(map(str, folders))
    if not fonts:
        cause = (
            f"its {broken} font files cannot be read" if broken else "it has no .ttf, .otf or .ttc files with letters"
        )
        raise ValueError(f"No usable fonts in {where}: {cause}.")
    return Fonts(fonts, where)


def _read_file(path: Path) -> list[Font]:
    """Every face in a font file that holds letters."""
    from fontTools.ttLib import TTCollection, TTFont

    fonts = []
    with path.open("rb") as file:
        many = file.read(4) == b"ttcf"
        file.seek(0)
        faces: list[Any] = TTCollection(file, lazy=True).fonts if many else [TTFont(file, lazy=True)]
        for index, face in enumerate(faces):
            family = face["name"].getBestFamilyName() or path.stem
            style = face["name"].getBestSubFamilyName() or ""
            codes = sorted(code for code in face.getBestCmap() or () if code > 0x20)
            if not codes or _is_picture(family):
                continue
            breaks = [i for i in range(1, len(codes)) if codes[i] != codes[i - 1] + 1]
            starts = tuple(codes[i] for i in [0, *breaks])
            ends = tuple(codes[i - 1] for i in [*breaks, len(codes)])
            # OpenType's 300 is light, as fontconfig's 50 is
            rare = _is_rare(family, style, 0 if "OS/2" in face and face["OS/2"].usWeightClass < 300 else 80)
            version = f"{face['head'].fontRevision:.3f}"
            fonts.append(Font(str(path), index, starts, ends, family, style, version, rare))
    return fonts
