"""Pages whose masks are what a person would type."""

import numpy as np
import pytest

from helpers import pages
from tadisr.datasets.ftsr import open_pages
from tadisr.training.tiny import typed_masks


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 5, 256, font_size=(24, 32))


def test_lines_are_drawn_anew(source, tmp_path):
    given = open_pages(source)
    typed_masks.main([str(source), "-o", str(tmp_path / "typed"), "--num", "3"])
    made = open_pages(tmp_path / "typed")
    assert len(made) == 3
    for i in range(3):
        assert np.array_equal(made.hr(i), given.hr(i))
        old, new = given.mask(i) / 255, made.mask(i) / 255
        assert new.shape == old.shape and (new != old).any()
    likeness = [np.corrcoef(made.mask(i).ravel(), given.mask(i).ravel())[0, 1] for i in range(3)]
    assert max(likeness) > 0.5
    with pytest.raises(ValueError, match="typed is there already: remove it first"):
        typed_masks.main([str(source), "-o", str(tmp_path / "typed")])


def test_a_line_that_no_face_draws_keeps_its_mask():
    mask = np.zeros((64, 128), np.uint8)
    mask[20:30, 20:100] = 255
    lr = np.full((16, 32, 3), 200, np.uint8)
    quad = [[10, 10], [110, 10], [110, 40], [10, 40]]
    for text, stays in (("\U000104a0", True), ("Inn", False)):
        made = typed_masks.typed(mask, mask, lr, [{"text": text, "quad": quad}])
        assert np.array_equal(made, mask) == stays
