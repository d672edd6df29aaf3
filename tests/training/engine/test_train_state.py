"""Optimisers, and the source of a step's noise."""

import pytest
import torch

from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.train_state import build_optimizer, step_generator


def test_optimizers_are_timms_with_the_configured_values():
    weights = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))]
    values = {"learning_rate": 0.5, "adam_beta2": 0.9}
    for name in ("adamw", "nadamw", "muon"):
        optimizer = build_optimizer(LoopConfig(**values, optimizer=name), weights)
        assert name in type(optimizer).__name__.lower()
        assert {(group["lr"], group["betas"][1]) for group in optimizer.param_groups} == {(0.5, 0.9)}
    with pytest.raises(ValueError, match="No optimizer is called muom: take adamw, muon"):
        build_optimizer(LoopConfig(**values, optimizer="muom"), weights)
    with pytest.raises(ValueError, match="adan does not work with these settings .*: take adamw or muon"):
        build_optimizer(LoopConfig(**values, optimizer="adan"), weights)


def test_noise_depends_on_seed_step_and_process():
    def draw(*key):
        return float(torch.rand((), generator=step_generator(*key))), float(torch.rand(()))

    assert draw(1, 2, 0) == draw(1, 2, 0)
    assert len({draw(*key) for key in ((1, 2, 0), (2, 2, 0), (1, 3, 0), (1, 2, 1))}) == 4
