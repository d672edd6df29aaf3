"""Metrics of texts against known answers and the textbook."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.metrics.text import (
    NORMALIZATIONS,
    agreement,
    edit_similarity,
    fold_text,
    normalize_text,
    ocr_accuracy,
    ocr_accuracy_levenshtein,
    script_of,
)

# By hand: (read, truth, OCR-A with indel distance, with unit substitutions, edit similarity).
TABLE = [
    ("", "", 1, 1, 1),
    ("a", "", 0, 0, 0),
    ("abc", "abc", 1, 1, 1),
    ("abc", "xyz", 0, 1 / 2, 0),
    ("abcd", "abxd", 6 / 8, 7 / 8, 3 / 4),
    ("ab", "ba", 2 / 4, 2 / 4, 0),
    ("kitten", "sitting", 8 / 13, 10 / 13, 4 / 7),
    ("二等庄", "二等座", 4 / 6, 5 / 6, 2 / 3),
    ("Exit", "exit", 6 / 8, 7 / 8, 3 / 4),
]


def distance(one, other, substitution):
    """Edit distance as textbooks write it."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b) * substitution)
    return row[-1]


@pytest.mark.parametrize(("read", "truth", "indel", "unit", "similarity"), TABLE)
def test_text_metrics_by_hand(read, truth, indel, unit, similarity):
    for one, other in ((read, truth), (truth, read)):
        assert ocr_accuracy(one, other) == pytest.approx(indel)
        assert ocr_accuracy_levenshtein(one, other) == pytest.approx(unit)
        assert edit_similarity(one, other) == pytest.approx(similarity)


@given(st.text("ab二 ", max_size=9), st.text("ab二 ", max_size=9))
@settings(deadline=None, max_examples=60)
def test_text_metrics_against_the_textbook(one, other):
    total, longer = len(one) + len(other), max(len(one), len(other))
    assert ocr_accuracy(one, other) == pytest.approx(1 - distance(one, other, 2) / total if total else 1)
    assert ocr_accuracy_levenshtein(one, other) == pytest.approx(1 - distance(one, other, 1) / total if total else 1)
    assert edit_similarity(one, other) == pytest.approx(1 - distance(one, other, 1) / longer if longer else 1)
    assert ocr_accuracy_levenshtein(one, other) >= ocr_accuracy(one, other) - 1e-12


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Exit-１２ B", "exit12b"), ("STRASSE", "strasse"), ("Straße", "strasse"), ("二等 座。", "二等座"), ("—!", ""),
     ("हिन्दी", "हिन्दी"), ("ﬁn", "fin")],
)  # fmt: skip
def test_normalization(text, expected):
    assert normalize_text(text, "alnum") == expected
    assert normalize_text(text) == normalize_text(text, "none") == text
    assert set(NORMALIZATIONS) == {"none", "alnum"}


def test_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="No text normalisation 'lower': choose one of none, alnum"):
        normalize_text("a", "lower")


@given(st.text(), st.text())
@settings(deadline=None, max_examples=60)
def test_agreement_ignores_case_width_and_spaces(one, other):
    assert agreement(one, other) == agreement(other, one)
    assert 0 <= agreement(one, other) <= 1
    assert agreement(one, f" {one}　") == 1
    assert not any(c.isspace() for c in fold_text(one))


def test_folded_text():
    assert fold_text("Ｅxit　１2 ：") == "exit12:"
    assert agreement("ＥＸＩＴ １２", "exit12") == 1
    assert agreement("二等座", "二等庄") == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("text", "script"),
    [("Exit 12", "latin"), ("Übergröße", "latin"), ("二等座", "chinese"), ("07车", "chinese"), ("¥53.0", "digits"),
     ("07车12B号", "mixed"), ("清潔できれいな", "japanese"), ("ビール", "japanese"),
     ("출구", "korean"), ("выход", "cyrillic"), ("έξοδος", "greek"), ("ABCあ", "mixed"), ("नमस्ते", "other"),
     ("", "other"), ("→", "other")],
)  # fmt: skip
def test_scripts(text, script):
    assert script_of(text) == script
