"""Lines of photographs as items to evaluate: cut alike out of LR and HR images, in their aspect, each once."""

import json

import torch
import torch.nn.functional as F

from helpers.evaluation_samples import write_folder
from tadisr.evaluation.line_data import PhotoLines, open_line_sets
from tadisr.evaluation.text_lines import bicubic


def test_lines_of_photographs_keep_their_aspect(tmp_path):
    folder = write_folder(tmp_path / "photos")
    (name, lines), *more = open_line_sets(folder).items()
    assert name == "photos" and not more and isinstance(lines, PhotoLines) and lines.batch_size == 1
    assert [item["label"] for item in (lines[i] for i in range(len(lines)))] == [
        "Exit 2047",
        "North gate",
        "PLATFORM 9",
    ]
    for i in range(len(lines)):
        height, width = lines[i]["lr"].shape[1:]
        assert height == 16 and width > 64 and lines[i]["hr"].shape == (3, 32, 2 * width)
        difference = bicubic(lines[i]["lr"][None], (32, 2 * width))[0] - lines[i]["hr"]
        assert difference.abs().mean() < 0.12  # the same place of both


def test_lines_of_lr_and_hr_are_turned_alike(tmp_path):
    """29 x 43 pixels are no vertical line, but 7 x 11 would be."""
    folder = write_folder(tmp_path / "photos")
    truth = json.loads((folder / "truth.json").read_text())
    truth[0]["text"] = [{"box": [[16, 12], [45, 12], [45, 55], [16, 55]], "text": "E"}]
    (folder / "truth.json").write_text(json.dumps(truth[:1]))
    [item] = open_line_sets(folder)["photos"].items
    large = item["hr"].mean(0)
    small = F.interpolate(item["lr"].mean(0)[None, None], large.shape, mode="bicubic")[0, 0]
    alike = torch.corrcoef(torch.stack([large.flatten(), small.flatten()]))[0, 1]
    assert alike > 0.8


def test_a_line_that_was_annotated_and_read_counts_once(tmp_path):
    folder = write_folder(tmp_path / "photos")
    truth = json.loads((folder / "truth.json").read_text())
    truth[0]["text"] += [line | {"annotated": True} for line in truth[0]["text"]]
    (folder / "truth.json").write_text(json.dumps(truth))
    labels = [item["label"] for item in open_line_sets(folder)["photos"].items]
    assert labels == ["Exit 2047", "North gate", "PLATFORM 9"]


def test_lines_of_other_scripts_are_left_out(tmp_path):
    folder = write_folder(tmp_path / "photos")
    truth = folder / "truth.json"
    truth.write_text(truth.read_text(encoding="utf-8").replace("PLATFORM 9", "站台 9"), encoding="utf-8")
    assert len(open_line_sets(folder)["photos"]) == 2
