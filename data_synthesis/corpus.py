"""What synthesised lines say: words, hanzi, numbers."""

from functools import lru_cache
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np


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
