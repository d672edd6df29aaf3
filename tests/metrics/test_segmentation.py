"""F of outlines, by hand and against distance transforms."""

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from tadisr.metrics.segmentation import boundary_f


def test_boundary_f_by_hand():
    truth = np.zeros((40, 60), bool)
    truth[10:30, 20:40] = True
    assert boundary_f(truth, truth) == 1 and boundary_f(truth & False, truth & False) == 1
    assert boundary_f(truth & False, truth) == boundary_f(truth, truth & False) == 0
    assert boundary_f(np.roll(truth, 2, 1), truth) == 1  # within the tolerance
    # moved by 4: the upright edges are lost, and of the others what is over 2 pixels beyond the other's corner
    moved = np.roll(truth, 4, 1)
    matched = sum(distance_to(truth)[boundary_of(moved)] <= 2)
    assert boundary_f(moved, truth) == pytest.approx(matched / boundary_of(moved).sum())
    assert 0.3 < boundary_f(moved, truth) < 0.6
    assert boundary_f(np.ones((9, 9), bool), np.ones((9, 9), bool)) == 1  # no outline: the border is none


def boundary_of(mask):
    return mask & (distance_transform_edt(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1] == 1)


def distance_to(mask):
    return distance_transform_edt(~boundary_of(mask))


def test_boundary_f_refuses_what_does_not_fit():
    mask = np.zeros((4, 5), bool)
    with pytest.raises(ValueError, match="boolean masks of one size"):
        boundary_f(mask, mask[:3])
    with pytest.raises(ValueError, match="boolean masks of one size"):
        boundary_f(mask.astype(np.uint8), mask)
