"""Lines in pieces: they add up to the line, overlap by a letter, and run at sizes that keep what they hold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tadisr.models.textdiff.pieces import run_pieces, work_size


def ramp(height, width):
    """(1, 2, height, width): smooth, so that resizing changes little."""
    rows, columns = torch.linspace(0.2, 0.8, height), torch.linspace(0.1, 0.9, width)
    return torch.stack([rows[:, None].expand(height, width), columns.expand(height, width)])[None]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 300), st.integers(1, 3), st.integers(1, 5))
def test_pieces_add_up_to_their_line(height, width, scale, batch_size):
    line = ramp(height, width)
    seen = []

    def enlarge(pieces, numbers):
        seen.append((tuple(pieces.shape[2:]), len(numbers)))
        return torch.nn.functional.interpolate(pieces, scale_factor=scale, mode="bilinear", align_corners=False)

    (result,) = run_pieces(enlarge, [line], (16, 64), scale, batch_size)
    assert result.shape == (1, 2, height * scale, width * scale)
    for (rows, columns), count in seen:
        assert 16 <= rows <= 64 and rows % 8 == columns % 8 == 0 and columns <= 4 * rows and count <= batch_size
    expected = torch.nn.functional.interpolate(line, scale_factor=scale, mode="bilinear", align_corners=False)
    # at the borders of very small lines resizing is anything but exact
    assert (result - expected).abs().mean() < (0.01 if min(height, width) > 8 else 0.1)


def test_pieces_overlap_by_a_letter_and_blend():
    """Each piece of a long line returns its own number: the result goes from one to the next without a jump."""
    count = iter(range(100))

    def number(pieces, numbers):
        return torch.stack([torch.full((1, *pieces.shape[2:]), float(next(count))) for _ in numbers])

    (result,) = run_pieces(number, [torch.rand(1, 3, 20, 290)], (16, 64), 1, 8)
    row = result[0, 0, 10]
    assert next(count) == 5, "80 wide, 60 apart, the last shifted inward"
    assert row[0] == 0 and row[-1].isclose(torch.tensor(4.0))
    steps = row[1:] - row[:-1]
    assert steps.min() >= -1e-5 and steps.max() < 0.1 and torch.allclose(result[0, 0], row.expand(20, 290), atol=1e-5)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((16, 64), (16, 64)),  # what the model was trained on runs as it is
        ((8, 32), (16, 64)),  # small pieces are enlarged to the trained height
        ((8, 9), (16, 24)),  # in their own aspect, rounded up
        ((1, 16), (16, 64)),
        ((1, 1), (16, 8)),
        ((17, 40), (24, 56)),  # larger ones are never reduced
        ((40, 160), (40, 160)),
        ((64, 256), (64, 256)),
        ((100, 400), (64, 256)),  # but for very large ones
    ],
)
def test_the_size_that_a_piece_runs_at(size, expected):
    assert work_size(*size, (16, 64)) == expected
