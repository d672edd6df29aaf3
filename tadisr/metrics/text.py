"""OCR-A (paper 4.2) and related metrics: how much of a text is still read in an output. Pure functions of strings."""

import unicodedata

from rapidfuzz.distance import Indel, Levenshtein

NORMALIZATIONS = {
    "none": "strings as they are: case, width, spaces and punctuation count",
    "alnum": "NFKC, case folded, only letters and digits kept (of all scripts)",
}
SCRIPTS = ("latin", "chinese", "japanese", "korean", "cyrillic", "greek", "digits", "mixed", "other")
_LETTERS = {
    "LATIN": "latin", "CJK": "chinese", "HIRAGANA": "japanese", "KATAKANA": "japanese", "HANGUL": "korean",
    "CYRILLIC": "cyrillic", "GREEK": "greek",
}  # fmt: skip
"""The script by a word in a letter's name."""


def normalize_text(text: str, rule: str = "none") -> str:
    """The text as it is compared, by one of `NORMALIZATIONS`; ValueError for an unknown rule.

    >>> normalize_text("Exit-１２ B", "alnum")
    'exit12b'
    """
    if rule not in NORMALIZATIONS:
        raise ValueError(f"No text normalisation {rule!r}: choose one of {', '.join(NORMALIZATIONS)}.")
    if rule == "none":
        return text
    # Marks belong to letters: without marks Hindi and Thai would lose their vowels.
    return "".join(char for char in fold_text(text) if unicodedata.category(char)[0] in "LNM")


def fold_text(text: str) -> str:
    """The text without differences that change no stroke: NFKC (full-width forms become ASCII), no spaces, no case.

    >>> fold_text("Ｅxit １2")
    'exit12'
    """
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def ocr_accuracy(predicted: str, reference: str) -> float:
    """Levenshtein ratio `(len(a) + len(b) - dist(a, b)) / (len(a) + len(b))`, in [0, 1]; 1 for two empty strings.

    `dist` counts insertions and deletions, as python-Levenshtein's `ratio` does: a substitution is one of each. The
    strings are not normalised.

    >>> ocr_accuracy("Exit 12", "Exit 12")
    1.0
    >>> round(ocr_accuracy("Exlt 12", "Exit 12"), 3)
    0.857
    """
    return Indel.normalized_similarity(predicted, reference)


def agreement(one: str, other: str) -> float:
    """`ocr_accuracy` of two readings of one line, compared as `fold_text` gives them: in [0, 1], symmetric.

    >>> agreement("Ｅxit １2", "EXIT12")
    1.0
    """
    return ocr_accuracy(fold_text(one), fold_text(other))


def ocr_accuracy_levenshtein(predicted: str, reference: str) -> float:
    """The same ratio with the Levenshtein distance proper, in which a substitution costs 1: never below `ocr_accuracy`.

    >>> round(ocr_accuracy_levenshtein("Exlt 12", "Exit 12"), 3)
    0.929
    """
    total = len(predicted) + len(reference)
    return 1 - Levenshtein.distance(predicted, reference) / total if total else 1.0


def edit_similarity(predicted: str, reference: str) -> float:
    """1 - Levenshtein distance / length of the longer string, in [0, 1]. Text recognition reports it as NED.

    >>> round(edit_similarity("Exlt 12", "Exit 12"), 3)
    0.857
    """
    return Levenshtein.normalized_similarity(predicted, reference)


def script_of(text: str) -> str:
    """One of `SCRIPTS`, by the letters: digits and punctuation decide only where there are no letters.

    Han among kana is Japanese. Any other two scripts make a text "mixed", letters of further scripts "other".

    >>> [script_of(text) for text in ("Exit 12", "二等座", "53.0", "07车12B号", "できれいな", "Выход", "नमस्ते")]
    ['latin', 'chinese', 'digits', 'mixed', 'japanese', 'cyrillic', 'other']
    """
    names = {unicodedata.name(char, "") for char in text if char.isalpha()}
    found = {next((script for word, script in _LETTERS.items() if word in name), "other") for name in names}
    if not found:
        return "digits" if any(char.isdigit() for char in text) else "other"
    if "other" in found:
        return "other"
    if "japanese" in found:
        found.discard("chinese")
    return found.pop() if len(found) == 1 else "mixed"
