"""Intervals and p-values against formulas and full enumerations."""

import numpy as np
import pytest

from tadisr.evaluation.statistics import Resampler


def test_bootstrap_against_the_normal_approximation():
    rng = np.random.default_rng(0)
    values = rng.normal(5, 2, 400)
    low, high = Resampler(400, 0).interval(values, np.ones(400))
    error = 1.96 * values.std(ddof=1) / 20
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=0.1 * error)
    assert [low, high] == Resampler(400, 0).interval(values, np.ones(400))
    assert [low, high] != Resampler(400, 1).interval(values, np.ones(400))


def test_bootstrap_keeps_the_lines_of_an_image_together():
    """Ten equal lines in each image say no more than one."""
    values = np.random.default_rng(0).normal(size=50)
    once = Resampler(50, 0).interval(values, np.ones(50))
    assert Resampler(50, 0).interval(10 * values, np.full(50, 10.0)) == pytest.approx(once)
    weighted = Resampler(2, 0).interval(np.array([9.0, 0.0]), np.array([9.0, 1.0]))
    assert weighted == pytest.approx([0, 1])


def test_sign_flips_against_all_of_them():
    differences = np.array([1.0, 2.0, -0.5, 3.0, 0.25, 1.5, -1.0, 0.75])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1)
    exact = np.mean(np.abs(signs.T @ differences) >= differences.sum() - 1e-9)
    assert Resampler(8, 0).p_value(differences, np.ones(8)) == pytest.approx(exact, abs=0.01)
    assert Resampler(8, 0).p_value(np.zeros(8), np.ones(8)) == 1
    assert Resampler(8, 0).p_value(differences, np.eye(8)[0]) is None
    assert Resampler(8, 0).p_value(np.full(8, np.inf), np.ones(8)) is None


def test_sign_flips_are_fair():
    """Where nothing differs but chance, a p below 0.1 comes in a tenth of the cases."""
    rng = np.random.default_rng(0)
    resampler = Resampler(20, 0)
    values = [resampler.p_value(rng.normal(size=20), np.ones(20)) for _ in range(200)]
    assert 0.05 < np.mean(np.array(values) < 0.1) < 0.16
