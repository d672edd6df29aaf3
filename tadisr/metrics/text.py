"""OCR-A (paper 4.2): how much of the text that a recogniser reads in the ground truth it still reads in an output."""

from collections.abc import Sequence

from rapidfuzz.distance import Indel


def ocr_accuracy(predicted: str, reference: str) -> float:
    """Levenshtein ratio `(len(a) + len(b) - dist(a, b)) / (len(a) + len(b))`, in [0, 1].

    `dist` counts insertions and deletions (a substitution is one of each), as python-Levenshtein's `ratio` does. Two
    empty strings agree. The strings are compared as they are: case, width and punctuation count.

    >>> ocr_accuracy("Exit 12", "Exit 12")
    1.0
    >>> round(ocr_accuracy("Exlt 12", "Exit 12"), 3)
    0.857
    """
    return Indel.normalized_similarity(predicted, reference)


def summarize_lines(predicted: Sequence[str], reference: Sequence[str]) -> dict[str, float]:
    """Mean OCR-A and the share of lines read exactly.

    Raises:
        ValueError: no lines, or unequal numbers of them.
    """
    if not reference or len(predicted) != len(reference):
        raise ValueError(
            f"Expected as many predicted as reference lines, at least 1; got {len(predicted)}, {len(reference)}."
        )
    pairs = list(zip(predicted, reference, strict=True))
    return {
        "ocr_a": sum(ocr_accuracy(*pair) for pair in pairs) / len(pairs),
        "exact": sum(a == b for a, b in pairs) / len(pairs),
    }
