"""A section of the golden test: TADiSR's training."""

from golden.record import assert_as_recorded


def test_what_comes_out_is_what_came_out():
    assert_as_recorded("train_tadisr")
