"""The least confidence at which few lines are wrong."""

import numpy as np
import pytest

from tadisr.trust.conformal import least_score


def test_by_hand():
    scores = np.linspace(0.99, 0.5, 50)
    wrong = np.zeros(50, bool)
    assert least_score(scores, wrong) == pytest.approx(0.5)  # 1 / 51
    wrong[30:] = True
    assert least_score(scores, wrong) == pytest.approx(scores[29])  # 1 / 31; with one more 2 / 32 are too many
    assert least_score(scores, wrong, share=0.1) == pytest.approx(scores[31])  # 3 / 33
    assert least_score(scores[:18], wrong[:18]) is None and least_score([], []) is None  # too few to tell
    assert least_score(scores, ~wrong) is None


def test_lines_of_one_score_stay_together():
    scores, wrong = [0.9] * 25 + [0.8] * 5, [False] * 25 + [False] * 3 + [True] * 2
    assert least_score(scores, wrong) == 0.9
    assert least_score(scores[::-1], wrong[::-1]) == 0.9


def test_new_lines_are_wrong_in_at_most_that_share():
    """Lines whose errors fall with their score: over many draws, the mean share of wrong ones called fine."""
    rng, shares = np.random.default_rng(0), []
    for _ in range(200):
        scores = rng.uniform(0, 1, 400)
        wrong = rng.random(400) < 0.4 * (1 - scores)
        least = least_score(scores[:200], wrong[:200])
        if least is not None:
            fine = scores[200:] >= least
            shares.append(wrong[200:][fine].mean() if fine.any() else 0.0)
    assert len(shares) > 150 and 0.02 < np.mean(shares) < 0.055
