"""What rendered text says: words, signs, prices, sentences in Latin, Chinese and kana, or lines of any text file."""

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tadisr.data_synthesis.text.wrapping import clusters, cut, is_wide, wrap

if TYPE_CHECKING:
    from tadisr.data_synthesis.text.fonts import Fonts

T = TypeVar("T")


class Corpus(ABC):
    """A source of text. What it gives depends on the generator that is handed in alone."""

    name: str
    """Built-in name, or the file's."""
    sample: str
    """Characters that a font must draw to be of any use for it."""
    separator: str = " "
    """Stands between the sentences of a paragraph."""

    @abstractmethod
    def _item(self, rng: np.random.Generator) -> str:
        """One line as it stands on a sign, a ticket, a menu, of any length."""

    @abstractmethod
    def _sentence(self, rng: np.random.Generator) -> str:
        """One sentence with its full stop."""

    def text(self, rng: np.random.Generator, max_chars: int) -> str:
        """One line of 1 to `max_chars` characters. ValueError where that is below 1."""
        item = ""
        for _ in range(6):  # another item is better than a part of one
            if len(item := self._item(rng)) <= max_chars:
                return item
        return cut(item, max_chars, rng)

    def paragraph(self, rng: np.random.Generator, lines: int, max_chars: int) -> list[str]:
        """`lines` lines of running text, each of 1 to `max_chars` characters. ValueError where one is below 1."""
        if lines < 1:
            raise ValueError(f"A paragraph needs at least 1 line, not {lines}.")
        text = self._sentence(rng)
        while len(wrapped := wrap(text, max_chars)) < lines:
            text += self.separator + self._sentence(rng)
        return wrapped[:lines]


@lru_cache(maxsize=4)
def _sections(name: str) -> dict[str, tuple[str, ...]]:
    """The sections of corpus_NAME.txt."""
    text = (Path(__file__).parent / f"corpus_{name}.txt").read_text(encoding="utf-8")
    parts = re.split(r"^\[(.+)\]$", re.sub(r"^#.*$", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    return {
        title: tuple(item for item in re.split(r"[|\n]", body) if item)
        for title, body in zip(parts[1::2], parts[2::2], strict=True)
    }


@lru_cache(maxsize=1)
def common_hanzi() -> str:
    """The 3,755 characters of GB 2312 level 1: the characters in everyday use."""
    cells = ((row, cell) for row in range(0xB0, 0xD8) for cell in range(0xA1, 0xFF))
    return "".join(bytes(pair).decode("gb2312", errors="ignore") for pair in cells)


@lru_cache(maxsize=1)
def _hanzi_by_frequency() -> tuple[str, np.ndarray]:
    """Common hanzi, the most frequent first, and their cumulative shares.

    The nth character's share falls as 1 / (n + 60), which is flatter than in real text, where the first hundred
    make up 40 %: every character of the tail must be seen often enough to be learnt.
    """
    chars = "".join(dict.fromkeys("".join(_sections("chinese")["frequent"]) + common_hanzi()))
    shares = 1 / (np.arange(len(chars)) + 60)
    return chars, np.cumsum(shares / shares.sum())


def _hanzi(rng: np.random.Generator, count: int) -> str:
    chars, cumulative = _hanzi_by_frequency()
    places = np.searchsorted(cumulative, rng.random(count)).clip(max=len(chars) - 1)
    return "".join(chars[i] for i in places)


def _one_of(rng: np.random.Generator, choices: Sequence[T] | dict[T, float]) -> T:
    """Any of the choices, or, of a dict, as often as the weights say."""
    if isinstance(choices, dict):
        weights = np.fromiter(choices.values(), float)
        return list(choices)[int(rng.choice(len(choices), p=weights / weights.sum()))]
    return choices[int(rng.integers(len(choices)))]


def _picker(rng: np.random.Generator, corpus: str) -> Callable[[str], str]:
    """A function that draws an item of a section of corpus_CORPUS.txt."""
    return lambda section: _one_of(rng, _sections(corpus)[section])


def number(rng: np.random.Generator) -> str:
    """A price, a date, a time, a telephone number, a code, as it is printed everywhere."""
    n = rng.integers

    def letters(count: int) -> str:
        return "".join(chr(n(65, 91)) for _ in range(count))

    units = ("kg", "g", "ml", "cm", "mm", "km", "kW", "V", "m²", "°C", "MB", "km/h")
    makers = (
        lambda: f"{n(0, 1000)}.{n(0, 100):02d}",
        lambda: f"{_one_of(rng, '$€£¥')}{n(1, 100)}.{n(0, 100):02d}",
        lambda: f"¥{n(1, 1000)}", lambda: f"{n(1, 100)}%", lambda: f"{n(1, 100)},{n(0, 1000):03d}",
        lambda: f"{n(1, 13)}/{n(1, 32)}/{n(1990, 2030)}",
        lambda: f"{n(1990, 2030)}-{n(1, 13):02d}-{n(1, 32):02d}",
        lambda: f"{n(1, 29)}.{n(1, 13)}.{n(1990, 2030)}",
        lambda: f"{n(0, 24)}:{n(0, 60):02d}",
        lambda: f"{n(7, 12)}:00-{n(13, 24)}:{n(0, 2) * 3}0",
        lambda: f"{n(100, 1000)}-{n(1000, 10000)}",
        lambda: f"+{n(1, 99)} {n(10, 100)} {n(1000, 10000)} {n(1000, 10000)}",
        lambda: f"1{n(30, 100)}{n(0, 10**8):08d}",
        lambda: str(n(0, 10 ** n(1, 9))), lambda: f"{letters(1)}{n(1, 1000)}",
        lambda: f"{letters(2)}-{n(0, 10000):04d}", lambda: f"{letters(2)}{n(10, 100)} {n(0, 1000):03d}",
        lambda: f"{n(1, 1000)} {_one_of(rng, units)}",
        lambda: f"No. {n(1, 100)}", lambda: f"({n(1, 100)})", lambda: f"#{n(1, 500)}",
        lambda: f"{n(2, 10)}x{n(2, 100)}", lambda: f"{n(1, 10)}/{n(2, 20)}",
    )  # fmt: skip
    return _one_of(rng, makers)()


class LatinCorpus(Corpus):
    """English, with signs and names from other European languages."""

    name, sample = "latin", "AGae059"

    def _item(self, rng: np.random.Generator) -> str:
        pick = _picker(rng, "latin")
        kinds = {"sign": 3, "label": 1, "words": 2.2, "number": 2, "name": 1.6, "coined": 0.6, "clause": 1.6}
        kind = _one_of(rng, kinds)
        if kind == "number":
            return number(rng)
        if kind == "clause":
            text = self._sentence(rng)
            return text if rng.random() < 0.5 else text.rstrip(".!?")
        if kind == "name":
            return self._name(rng)
        if kind == "sign":
            text = pick("signs")
        elif kind == "label":
            text = pick("labels") + _one_of(rng, ["", "", ":", f": {number(rng)}"])
        elif kind == "coined":  # brands and codes: letters in an order that no language model foresees
            syllables = range(rng.integers(2, 5))
            text = "".join(_one_of(rng, "bcdfghjklmnprstvwz") + _one_of(rng, "aeiouy") for _ in syllables)
        else:
            sections = _one_of(rng, {"nouns": 3, "adjectives nouns": 4, "nouns nouns": 2, "adjectives nouns nouns": 1})
            text = " ".join(pick(section) for section in sections.split())
        case = _one_of(rng, {"upper": 4, "title": 2, "lower": 1, "as it is": 3})
        if case == "title":
            return " ".join(word[:1].upper() + word[1:] for word in text.split())
        return text.upper() if case == "upper" else text.lower() if case == "lower" else text

    def _name(self, rng: np.random.Generator) -> str:
        pick = _picker(rng, "latin")
        domain = f"{pick('adjectives')}{pick('nouns')}.{_one_of(rng, ['com', 'org', 'net', 'eu', 'de', 'io', 'co.uk'])}"
        makers = (
            lambda: f"{pick('first names')} {pick('surnames')}",
            lambda: f"{rng.integers(1, 300)} {pick('nouns').title()} {pick('streets')}",
            lambda: f"{pick('surnames')} {pick('company')}",
            lambda: f"{pick('adjectives').title()} {pick('nouns').title()} {pick('company')}",
            lambda: pick("places"),
            lambda: f"{pick('places')} - {pick('places')}",
            lambda: _one_of(rng, ["www.", "", "https://www."]) + domain,
            lambda: f"{pick('nouns')}@{domain}",
            lambda: f"{pick('first names')[0]}. {pick('surnames')}",
        )
        return _one_of(rng, makers)()

    def _sentence(self, rng: np.random.Generator) -> str:
        pick = _picker(rng, "latin")

        def thing() -> str:
            chance = rng.random()
            if chance < 0.08:
                return f"{pick('first names')} {pick('surnames')}"
            if chance < 0.14:
                return pick("places")
            adjective = f"{pick('adjectives')} " if rng.random() < 0.4 else ""
            return f"{pick('determiners')} {adjective}{pick('nouns')}"

        def clause() -> str:
            text = f"{thing()} {_one_of(rng, ['will ', 'can ', 'may ', 'must ', 'could '])}"
            text += f"{pick('adverbs')} " if rng.random() < 0.25 else ""
            text += f"{pick('verbs')} {thing()}"
            return text + (f" {pick('prepositions')} {thing()}" if rng.random() < 0.6 else "")

        text = clause()
        if rng.random() < 0.2:
            text = f"{_one_of(rng, ['In', 'Since', 'By', 'After'])} {rng.integers(1900, 2030)}, {text}"
        if rng.random() < 0.4:
            text += f", {pick('conjunctions')} {clause()}"
        return text[0].upper() + text[1:] + _one_of(rng, {".": 16, "!": 2, "?": 2})


class ChineseCorpus(Corpus):
    """Simplified Chinese: what signs, menus and forms say, running text, and hanzi by themselves."""

    name, sample, separator = "chinese", "的一是不了有", ""

    def _item(self, rng: np.random.Generator) -> str:
        pick, english = _picker(rng, "chinese"), _picker(rng, "latin")

        def prices() -> tuple[str, ...]:
            price = int(rng.integers(1, 200))
            return f" {price}元", f"  ¥{price}", f" {price}.{rng.integers(0, 10)}0"

        makers = {
            lambda: pick("signs"): 4,
            # random characters: no phrase foretells them, so a network must read every stroke
            lambda: _hanzi(rng, int(rng.integers(1, 11))): 7,
            lambda: pick("menu") + _one_of(rng, ("", "", *prices())): 2,
            lambda: pick("labels") + _one_of(rng, ("", "", "：", f"：{number(rng)}", f"：{pick('signs')}")): 2,
            lambda: pick("surnames") + pick("given names"): 0.7,
            lambda: pick("places") + _one_of(rng, ("", "站", "市", "东站", "路", "—" + pick("places"))): 1,
            lambda: pick("places") + _hanzi(rng, 2) + pick("trades") + pick("company"): 1,
            lambda: _hanzi(rng, 1) + pick("trades"): 0.5,
            lambda: pick("clauses"): 1.5,
            lambda: f"{pick('signs')} {english('signs')}": 0.8,  # signs in two languages
            lambda: f"{english('signs').upper()} {pick('signs')}": 0.4,
            lambda: self._counted(rng): 2,
            lambda: number(rng): 0.5,
        }
        return _one_of(rng, makers)()

    @staticmethod
    def _counted(rng: np.random.Generator) -> str:
        """A number with its unit: a date, a floor, a bus line, opening hours."""
        n = rng.integers
        texts = (
            f"{n(1990, 2030)}年{n(1, 13)}月{n(1, 32)}日", f"{n(1, 13)}月{n(1, 32)}日", f"{n(1, 300)}号",
            f"{n(1, 40)}号楼", f"{n(1, 25)}号线", f"{chr(n(65, 91))}座{n(1, 30)}层", f"第{n(1, 100)}届",
            f"{n(1, 60)}路", f"满{n(1, 10)}00减{n(1, 10)}0", f"{n(1, 10)}折", f"{n(2, 30)}公里", f"{n(1, 500)}米",
            f"电话：{n(100, 1000)}-{n(10**7, 10**8)}", f"WiFi密码：{n(10**7, 10**8)}", "24小时营业",
            f"营业时间 {n(6, 11)}:00-{n(17, 24)}:00", f"{n(1, 100)}周年", f"共{n(1, 100)}页",
        )  # fmt: skip
        return _one_of(rng, texts)

    def _sentence(self, rng: np.random.Generator) -> str:
        clauses = _sections("chinese")["clauses"]
        parts = [
            _one_of(rng, clauses) if rng.random() < 0.7 else _hanzi(rng, int(rng.integers(4, 12)))
            for _ in range(rng.integers(1, 4))
        ]
        return "，".join(parts) + _one_of(rng, {"。": 8, "！": 1, "？": 0.5, "；": 1})


# katakana and hiragana, without small kana: they cannot stand first
_KANA = [
    "".join(c for c in map(chr, range(first, last)) if "SMALL" not in unicodedata.name(c))
    for first, last in ((0x30A2, 0x30F4), (0x3042, 0x3094))
]


class KanaCorpus(Corpus):
    """Japanese in kana."""

    name, sample, separator = "kana", "アンカのです", ""

    def _item(self, rng: np.random.Generator) -> str:
        if rng.random() < 0.35:
            letters = _KANA[0] if rng.random() < 0.6 else _KANA[1]
            return "".join(_one_of(rng, letters) for _ in range(rng.integers(2, 9)))
        return _one_of(rng, _sections("kana")["words"])

    def _sentence(self, rng: np.random.Generator) -> str:
        pick = _picker(rng, "kana")
        body = "".join(pick("words") + pick("particles") for _ in range(rng.integers(1, 4)))
        return body + pick("words") + pick("endings") + "。"


class FileCorpus(Corpus):
    """The lines of a UTF-8 text file, in any script: one line, one item. Long lines are cut to the room there is.

    FileNotFoundError where there is no such file, ValueError where it is not UTF-8 or holds nothing.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No corpus {path}: built in are {', '.join(BUILT_IN)}, or name a text file.")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not UTF-8 (byte {error.start}): convert it, one line is one item.") from None
        printable = ("".join(c for c in line if unicodedata.category(c) != "Cc" or c == "\t") for line in lines)
        self.lines = [" ".join(line.split()) for line in printable if line.strip()]
        if not self.lines:
            raise ValueError(f"{path} is empty: a corpus has one item a line.")
        self.name = path.name
        self.sample = clusters(self.lines[0])[0]
        self.separator = "" if is_wide(self.lines[0][-1]) else " "

    def _item(self, rng: np.random.Generator) -> str:
        return _one_of(rng, self.lines)

    _sentence = _item


BUILT_IN = {corpus.name: corpus for corpus in (LatinCorpus, ChineseCorpus, KanaCorpus)}


def open_corpus(name: str | Path, fonts: "Fonts | None" = None) -> Corpus:
    """A built-in corpus ("latin", "chinese", "kana"), or a text file with one item a line.

    With `fonts`, a file's lines that none of them draws are left out. FileNotFoundError for neither a built-in name nor
    a file; ValueError for a file that is empty or not UTF-8, or a script that none of `fonts` draws.
    """
    corpus = BUILT_IN[str(name)]() if str(name) in BUILT_IN else FileCorpus(name)
    if fonts is not None:
        if isinstance(corpus, FileCorpus):
            corpus.lines = [line for line in corpus.lines if fonts.covering(line)] or corpus.lines
            corpus.sample = corpus.lines[0]
        fonts.require(corpus.sample)
    return corpus
