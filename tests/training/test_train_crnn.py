"""Training the recogniser: lines, loss, augmentation, the whole script, resuming."""

import pytest
import torch
import yaml

from helpers import textdiff_runs
from helpers import training_runs as runs
from helpers.textdiff_runs import interrupted
from tadisr.models.textdiff.recognizer import ALPHABET, CRNN
from tadisr.training import train_crnn
from tadisr.training.engine.checkpoints import read_best


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return textdiff_runs.databases(tmp_path_factory.mktemp("lines"))


@pytest.fixture
def train(data):
    return lambda out, **changes: textdiff_runs.train(train_crnn, out, data, **changes)


def test_train_and_resume(train, tmp_path):
    whole = train(tmp_path / "whole", ema_decay=0.9)
    broken = interrupted(whole, tmp_path / "broken", 4)
    train(broken, ema_decay=0.9, resume_from_checkpoint="latest", dataloader_num_workers=1)
    runs.assert_same(whole, broken)
    assert read_best(whole) == read_best(broken)
    kept = {4, 6, read_best(whole)["step"]}
    assert {p.name for p in whole.glob("checkpoint-*")} == {f"checkpoint-{step}" for step in kept}
    assert [r["step"] for r in runs.records(whole)] == [1, 2, 3, 3, 4, 5, 6, 6]
    scores = runs.records(whole)[-1]
    assert scores.keys() == {"step", "accuracy", "validation/hr", "validation/bicubic"}
    assert read_best(whole)["metric"] == "accuracy"
    assert CRNN.from_pretrained(whole / "best").config.hidden == 8
    assert yaml.safe_load((whole / "config.yaml").read_text())["degradation"] == "fresh"
    other = train(tmp_path / "other", ema_decay=0.9, seed=1)
    assert not torch.equal(*(runs.weights(run)["weights/cnn.conv0.weight"] for run in (whole, other)))


def test_it_learns_to_read(train, tmp_path):
    out = train(
        tmp_path / "run", max_train_steps=90, train_batch_size=5, learning_rate=1e-2, channels=[16] * 7,
        hidden=32, validation_steps=80, checkpointing_steps=80, degradation="stored", augmentation=False,
        cache_lines=True, lr_scheduler="constant", logging_steps=10, max_grad_norm=1.0,
    )  # fmt: skip
    losses = [r["ctc"] for r in runs.records(out) if "ctc" in r]
    assert losses[-1] < 0.5 * losses[1]  # by the second, it has learnt to say nothing


def test_go_on_from_weights(train, tmp_path):
    reader = textdiff_runs.save_reader(tmp_path / "reader")
    out = train(tmp_path / "run", init_from=reader, max_train_steps=1, learning_rate=1e-9, ema_decay=None)
    before, after = CRNN.from_pretrained(reader), CRNN.from_pretrained(out / "weights")
    torch.testing.assert_close(after.cnn.conv0.weight, before.cnn.conv0.weight, atol=1e-6, rtol=0)


def test_targets_are_filtered():
    classes, lengths = train_crnn.encode(["Ab-1", "é!", "z"])
    assert classes.tolist() == [11, 12, 2, 36] and lengths.tolist() == [3, 0, 1]


def test_ctc_loss():
    logits = torch.zeros(2, 26, 37)
    logits[..., 0] = 40.0  # blanks
    for step, char in zip((2, 5, 6, 9), "e1ee", strict=True):
        logits[0, step, 0], logits[0, step, ALPHABET.index(char) + 1] = 0.0, 40.0
    assert train_crnn.ctc_loss(logits, ["E1e-e", "-"]) < 1e-4
    assert train_crnn.ctc_loss(logits, ["e1", ""]) > 1
    assert train_crnn.ctc_loss(logits[:1], ["a" * 16]) == 0  # 31 steps, were there so many
    assert train_crnn.ctc_loss(logits[:1].bfloat16(), ["e1ee"]).dtype == torch.float32


def test_mixture():
    hr, lr, generator = torch.zeros(400, 1, 2, 2), torch.ones(400, 1, 2, 2), torch.Generator().manual_seed(0)
    amount = train_crnn.mix(hr, lr, 0.5, 0.2, generator)
    assert (amount == amount[:, :1, :1, :1]).all()
    amount = amount[:, 0, 0, 0]
    assert (amount == 0).float().mean() == pytest.approx(0.5, abs=0.1)
    assert (amount == 1).float().mean() == pytest.approx(0.2, abs=0.1)
    between = amount[(amount > 0) & (amount < 1)]
    assert between.min() < 0.1 and between.max() > 0.9


def test_warp(monkeypatch):
    """A disc stays one when turned, whatever the image's aspect; without any warp nothing changes."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(100) - 49.5, indexing="ij")
    disc = ((10 - (x**2 + y**2).sqrt()).clamp(0, 2) / 2).expand(8, 1, 32, 100)
    bar = (x.abs() < 40).logical_and(y.abs() < 2).float().expand(8, 1, 32, 100)
    for name in ("SHEAR", "STRETCH"):
        monkeypatch.setattr(train_crnn, name, 0.0)
    monkeypatch.setattr(train_crnn, "SHIFT", (0.0, 0.0))
    turned = train_crnn.warp(disc, torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned, disc, atol=0.1, rtol=0)  # a wrong aspect makes 0.6
    assert (train_crnn.warp(bar, torch.Generator().manual_seed(0)) - bar).abs().mean() > 0.005
    monkeypatch.setattr(train_crnn, "TURN", 0.0)
    torch.testing.assert_close(train_crnn.warp(bar, torch.Generator()), bar, atol=1e-5, rtol=0)
    monkeypatch.setattr(train_crnn, "SHIFT", (0.04, 0.0))
    moved = train_crnn.warp(bar, torch.Generator().manual_seed(0)) - bar
    assert (moved.abs().amax((1, 2, 3)) > 0.1).any() and moved[:, :, 15, 45:55].abs().max() < 1e-5
