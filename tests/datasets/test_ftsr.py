"""Both layouts of a data set read the same, and what is not there is told."""

import numpy as np
import pytest
from datasets import Dataset

from helpers import pages
from tadisr.datasets.ftsr import open_pages


def test_mistakes(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"empty has no train pages: make some with `tadisr synthesize -o .*empty`"
    ):
        (tmp_path / "empty").mkdir()
        open_pages(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="/nowhere/at/all has no test pages"):
        open_pages("/nowhere/at/all", "test")
    (tmp_path / "bare" / "hr").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"No hr/\*.png in .*bare"):
        open_pages(tmp_path / "bare")


def test_a_data_set_of_another_kind(tmp_path):
    (tmp_path / "other/data").mkdir(parents=True)
    Dataset.from_dict({"hr": [1], "text": ["a"]}).to_parquet(tmp_path / "other/data/train-00000-of-00001.parquet")
    with pytest.raises(ValueError, match="which has lr, hr, mask, text, boxes: there is no column lr"):
        open_pages(tmp_path / "other")


def test_a_page_without_its_mask(tmp_path):
    data = pages.data_set(tmp_path / "set", 2, 64, "folders")
    (data / "train/mask/0000001.png").unlink()
    part = open_pages(data)
    assert part.hr(1).shape == (64, 64, 3) and part.mask(0).shape == (64, 64)
    with pytest.raises(FileNotFoundError, match="0000001.png is missing or not an image"):
        part.mask(1)


def test_folders_without_metadata_have_no_lines(tmp_path):
    data = pages.data_set(tmp_path / "set", 2, 64, "folders")
    assert np.shape(open_pages(data).lines(0)[0]["quad"]) == (4, 2)
    (data / "train/metadata.jsonl").unlink()
    assert open_pages(data).lines(0) == []
