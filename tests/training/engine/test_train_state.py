"""Optimisers, the source of a step's noise, and losses that are not finite."""

import pytest
import torch

from helpers import pages
from helpers import training_runs as runs
from tadisr.training.data.page_crops import FTSRCrops
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.train_state import build_optimizer, parameter_groups, step_generator


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


def test_optimizers_are_timms_with_the_configured_values():
    weights = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))]
    values = {"learning_rate": 0.5, "adam_beta2": 0.9}
    for name in ("adamw", "nadamw", "muon"):
        optimizer = build_optimizer(LoopConfig(**values, optimizer=name), weights)
        assert name in type(optimizer).__name__.lower()
        assert {(group["lr"], group["betas"][1]) for group in optimizer.param_groups} == {(0.5, 0.9)}
    with pytest.raises(ValueError, match="No optimizer is called muom: take adamw, adamw8bit, muon"):
        build_optimizer(LoopConfig(**values, optimizer="muom"), weights)
    with pytest.raises(ValueError, match="adan does not work with these settings .*: take adamw or muon"):
        build_optimizer(LoopConfig(**values, optimizer="adan"), weights)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_faster_parts_have_a_rate_of_their_own(name):
    network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    config = LoopConfig(optimizer=name, learning_rate=0.5, faster_parts=["1.w"], faster_rate=3.0)
    rates = {
        parameter: group["lr"]
        for group in build_optimizer(config, parameter_groups(config, network)).param_groups
        for parameter in group["params"]
    }
    assert [rates[p] for p in network.parameters()] == [0.5, 0.5, 1.5, 0.5]
    with pytest.raises(ValueError, match="faster_parts: no trained parameter's name begins with 2."):
        parameter_groups(LoopConfig(faster_parts=["2."]), network)


def test_noise_depends_on_seed_step_and_process():
    def draw(*key):
        return float(torch.rand((), generator=step_generator(*key))), float(torch.rand(()))

    assert draw(1, 2, 0) == draw(1, 2, 0)
    assert len({draw(*key) for key in ((1, 2, 0), (2, 2, 0), (1, 3, 0), (1, 2, 1))}) == 4


def test_a_step_that_is_not_finite_is_skipped(data, tmp_path, monkeypatch):
    """One spoilt crop, in the first half of a step of two batches: the step leaves the weights as they were."""
    settings = {"max_train_steps": 3, "train_batch_size": 1, "gradient_accumulation_steps": 2, "on_nan": "skip"}
    original = FTSRCrops.__getitem__

    def spoilt(self, index):
        item = original(self, index)
        return {**item, "hr": item["hr"] * float("nan")} if index == 2 else item

    monkeypatch.setattr(FTSRCrops, "__getitem__", spoilt)
    out = runs.train(data, tmp_path / "run", checkpointing_steps=1, checkpoints_total_limit=9, **settings)
    state = [runs.load_file(out / f"checkpoint-{step}" / "model.safetensors") for step in (1, 2, 3)]
    assert all(torch.equal(state[0][name], state[1][name]) for name in state[0])
    assert any(not torch.equal(state[1][name], state[2][name]) for name in state[0])
    assert len((out / "nan_batch.json").read_text().splitlines()) == 1
    assert all(torch.isfinite(x).all() for x in state[2].values())
