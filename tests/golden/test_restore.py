"""A section of the golden test: restored images and masks."""

from golden.record import assert_as_recorded


def test_what_comes_out_is_what_came_out():
    assert_as_recorded("restore")
