"""Where lines of text may be broken and cut, in scripts with and without spaces."""

import unicodedata

import numpy as np

NO_LINE_START = "，。、；：！？）》」』】”’…·ー～,.;:!?)]}%"


def is_wide(char: str) -> bool:
    """Whether a character is a full em wide, as hanzi and kana are. They may be parted anywhere."""
    return unicodedata.east_asian_width(char) in "WF"


def clusters(text: str) -> list[str]:
    """Letters together with the marks that stand on them."""
    found: list[str] = []
    for char in text:
        mark = unicodedata.category(char) in {"Mn", "Mc", "Me", "Cf"}
        if found and (mark or found[-1].endswith("\u200d")):
            found[-1] += char
        else:
            found.append(char)
    return found


def wrap(text: str, max_chars: int) -> list[str]:
    """Break running text into lines of at most `max_chars` characters, between words and between wide characters.

    No line begins with a comma, a full stop or a closing bracket. Only a word longer than a line is parted.
    ValueError where `max_chars` is below 1.
    """
    if max_chars < 1:
        raise ValueError(f"A line needs room for at least 1 character, not {max_chars}.")
    lines = [""]
    for unit in _units(text):
        if lines[-1] and len(lines[-1]) + len(unit.rstrip()) > max_chars:
            lines.append("")
        if len(unit.rstrip()) <= max_chars:
            lines[-1] += unit
            continue
        for letter in clusters(unit):
            if lines[-1] and len(lines[-1]) + len(letter) > max_chars:
                lines.append("")
            lines[-1] += letter[:max_chars]
    return [line.strip() for line in lines if line.strip()]


def _units(text: str) -> list[str]:
    """What a line break may not part: words, wide characters, each with the punctuation and the space after it."""
    units: list[str] = []
    for letter in clusters(" ".join(text.split())):
        last = units[-1][-1] if units else " "
        parted = is_wide(letter[0]) or is_wide(last)
        if last == " " or (parted and letter != " " and letter[0] not in NO_LINE_START):
            units.append(letter)
        else:
            units[-1] += letter
    return units


def cut(text: str, max_chars: int, rng: np.random.Generator) -> str:
    """`text`, or a random stretch of it, at most `max_chars` characters long; borders and errors as of `wrap`."""
    if len(text) <= max_chars:
        return text
    lines = wrap(text, max_chars)
    first = int(rng.integers(len(lines)))
    # the last line may be short: begin before it
    return lines[max(0, first - 1)] if first == len(lines) - 1 else lines[first]
