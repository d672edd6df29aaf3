"""The lines of a run: epochs of stored lines, rendered lines, batches."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from helpers import textdiff_runs
from helpers import training_runs as runs
from helpers.tiny_fonts import write_font
from tadisr.datasets.line_items import to_tensors
from tadisr.datasets.textzoom import TextZoom
from tadisr.training.textdiff.line_config import CRNNConfig
from tadisr.training.textdiff.line_loader import NewLines, StoredLines, collate, training_lines, validation_lines


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return textdiff_runs.databases(tmp_path_factory.mktemp("lines"))


def config(data, **settings):
    return CRNNConfig(train_data_dir=[str(data / "train"), str(data / "validation")], **settings)


def test_epochs(data):
    lines = StoredLines(config(data), 24)
    epochs = [[lines[8 * epoch + i][1].label for i in range(8)] for epoch in range(3)]
    assert all(sorted(epoch) == sorted(epochs[0]) and len(set(epoch)) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1] and [lines[i][1].label for i in range(8)] == epochs[0]


def test_degradation_and_cache(data):
    def same(one, other):
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))

    stored, fresh = (StoredLines(config(data, degradation=how), 800) for how in ("stored", "fresh"))
    cached = StoredLines(config(data, degradation="fresh", cache_lines=True, mask_rule="exact"), 800)
    exact = StoredLines(config(data, degradation="fresh", mask_rule="exact"), 800)
    assert all(same(cached[i][1], exact[i][1]) for i in (0, 9, 799))
    assert same(stored[3][1], stored[3][1]) and same(fresh[3][1], fresh[3][1])
    assert not np.array_equal(stored[3][1].lr, fresh[3][1].lr)
    assert not np.array_equal(fresh[3][1].mask, exact[3][1].mask)  # mean takes dark for text, and here it is light
    again = next(i for i in range(8, 16) if fresh[i][1].label == fresh[3][1].label)
    assert np.array_equal(fresh[again][1].hr, fresh[3][1].hr)
    assert not np.array_equal(fresh[again][1].lr, fresh[3][1].lr)


def test_batches_are_what_single_lines_are(data):
    stored = [to_tensors(line) for line in TextZoom(data / "train")]
    runs.fresh()
    config = CRNNConfig(train_data_dir=[str(data / "train")], mask_rule="exact", train_batch_size=5, max_train_steps=1)
    (batch,) = training_lines(config, Accelerator(cpu=True), 0)
    assert batch["label"] == batch["name"] and batch["index"].tolist() == [0, 1, 2, 3, 4]
    by_label = {item["label"]: item for item in stored}
    for i, label in enumerate(batch["label"]):
        assert all(torch.equal(batch[part][i], by_label[label][part]) for part in ("lr", "hr", "mask"))


def test_rendered_lines(tmp_path):
    characters = "".join(map(chr, range(33, 127)))
    for i in range(12):
        write_font(tmp_path / f"{i}.ttf", characters, family=f"Tiny {i}")
    config = CRNNConfig(fonts=[str(tmp_path)], photos=False, mask_rule="exact", num_validation_lines=3)
    lines = NewLines(config, 4)
    batch = collate([lines[i] for i in range(4)])
    assert batch["lr"].shape == (4, 3, 16, 64) and batch["mask"].shape == (4, 1, 32, 128)
    assert len(batch["label"]) == 4 and len(lines) == 4
    (judged,) = validation_lines(config).values()
    assert len(judged) == 3 and not {judged[i]["label"] for i in range(3)} & set(batch["label"])
    test = CRNNConfig(fonts=[str(tmp_path)], photos=False, validation_split="test", num_validation_lines=1)
    assert validation_lines(test)["rendered"][0]["label"] != judged[0]["label"]
