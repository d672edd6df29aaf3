"""Real-CE: what is written in its annotations, and what is wrong with them."""

import numpy as np
import pytest

from helpers.source_samples import CHINESE, WORDS, scene, write_realce
from tadisr.datasets.realce import RealCE, read_annotation


def test_pairs_and_their_text(tmp_path):
    """GBK in val, UTF-8 in train; commas belong to the text."""
    root = write_realce(tmp_path)
    val, train = RealCE(root, "val"), RealCE(root, "train", "26mm")
    assert list(val.files) == ["a_1", "a_2", "b_1"]
    assert train.files["t_1"] == (root / "train/26mm/t_1.png", root / "train/52mm/t_1.png")
    for data, name, i in ((val, "a_1", 0), (val, "a_2", 1), (train, "t_2", 1)):
        found = data.lines(name)
        assert [line["text"] for line in found] == [f"{CHINESE[i]}, {word}" for word in WORDS[i : i + 2]]
        for line, (_, corners) in zip(found, scene(WORDS[i : i + 2], 20 + i)[2], strict=True):
            np.testing.assert_array_equal(line["quad"], np.reshape(corners, (4, 2)))


def test_two_images_of_one_name(tmp_path):
    root = write_realce(tmp_path)
    (root / "val/52mm/a_1.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a_1.png and a_1.jpg have one name"):
        RealCE(root, "val")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_text("0,0,9,0,9,9,0,9,fine\n\n0,0,9,0,9,text\n"), "a_1.txt, line 3: expected eight"),
        (lambda path: path.write_bytes(b"1,1,2,1,2,2,1,2,\xff\n"), "a_1.txt is not encoded in gb18030"),
        (lambda path: path.unlink(), "a_1.txt cannot be read: No such file"),
    ],
)
def test_damaged_annotations(tmp_path, damage, message):
    root = write_realce(tmp_path)
    damage(root / "val" / "annos" / "a_1.txt")
    data = RealCE(root, "val")
    assert data.lines("a_2")
    with pytest.raises(ValueError, match=message):
        data.lines("a_1")


def test_annotations_may_be_empty_or_missing(tmp_path):
    (tmp_path / "none.txt").write_text("")
    assert read_annotation(tmp_path / "none.txt", "gbk") == []
    assert RealCE(tmp_path, "val").lines("a_1") == []
