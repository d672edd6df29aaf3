"""8-bit AdamW: it learns as AdamW does, its state is small, and a resumed run equals an unbroken one."""

import shutil
import sys

import pytest
import torch

from helpers import pages, published
from helpers import training_runs as runs
from tadisr.training import train_lora
from tadisr.training.engine.loop_config import LoopConfig
from tadisr.training.engine.train_state import build_optimizer, trainable
from tadisr.training.restoration.plan import count
from tadisr.training.restoration.terms import loss_terms
from tadisr.training.restoration.train_config import TrainConfig


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return published.write("sd", tmp_path_factory.mktemp("sd") / "base")


SETTINGS = {
    "lpips": 0.0, "mixed_precision": "no", "resolution": 32, "learning_rate": 1e-3, "gradient_checkpointing": False,
    "rank_unet": 256, "rank_vae": 256,  # of a base this narrow only they have tensors of 4,096 values
}  # fmt: skip


def trained(base, out, optimizer, steps=20):
    """The losses of steps on one batch, the optimiser after them, and the settings."""
    config = TrainConfig(
        pretrained_model_name_or_path=str(base), train_data_dir=["d"], output_dir=str(out), optimizer=optimizer,
        **SETTINGS,
    )  # fmt: skip
    network, batch, losses = runs.toy_network(config).train(), runs.crop_batch(batch=1), []
    made = build_optimizer(config, trainable(network))
    with network.recording():
        for _ in range(steps):
            loss = sum(loss_terms(network, config, batch).values())
            made.zero_grad()
            loss.backward()
            made.step()
            losses.append(loss.item())
    return losses, made, config


def held(optimizer) -> int:
    """Bytes of all tensors in the state, each storage once."""
    tensors = [x for state in optimizer.state.values() for x in state.values() if torch.is_tensor(x)]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def test_it_learns_as_adamw_does_with_a_smaller_state(base, tmp_path):
    losses, optimizer, _ = trained(base, tmp_path, "adamw")
    losses_8bit, optimizer_8bit, config = trained(base, tmp_path, "adamw8bit")
    fallen = losses[0] - losses[-1]
    assert fallen > 0.1 * losses[0]
    assert losses_8bit == pytest.approx(losses, abs=0.05 * fallen) and losses_8bit != losses
    large = [p for p in optimizer_8bit.state if p.numel() >= 4096]
    in_8_bit = sum(optimizer_8bit.state[p][name].nbytes for p in large for name in ("state1", "state2"))
    in_float = sum(optimizer.state[p][name].nbytes for p in optimizer.state for name in ("exp_avg", "exp_avg_sq"))
    assert {optimizer_8bit.state[p]["state1"].dtype for p in large} == {torch.uint8}
    assert in_8_bit == 2 * sum(p.numel() for p in large)
    small = in_float - 4 * in_8_bit
    assert held(optimizer_8bit) == pytest.approx(small + in_8_bit, rel=0.03)  # and a scale for 256 values
    assert held(optimizer_8bit) < 0.5 * in_float
    plan = count(config, cuda=False)
    assert plan.optimizer == pytest.approx(held(optimizer_8bit), rel=0.005)


def test_a_resumed_run_equals_an_unbroken_one(base, tmp_path):
    data = pages.data_set(tmp_path / "set", 2, 64, font_size=(18, 32))

    def train(out, *more):
        runs.fresh()
        settings = {
            **SETTINGS, "pretrained_model_name_or_path": base, "train_data_dir": data, "output_dir": out,
            "optimizer": "adamw8bit", "ema_decay": 0.9, "max_train_steps": 4, "checkpointing_steps": 2,
            "degradation": "mild", "dataloader_num_workers": 0, "logging_steps": 1, "text_share": 0.0,
        }  # fmt: skip
        train_lora.main([*(part for name, value in settings.items() for part in (f"--{name}", str(value))), *more])

    train(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", resumed := tmp_path / "resumed")
    for name in ("checkpoint-4", "weights"):
        shutil.rmtree(resumed / name)
    train(resumed, "--resume_from_checkpoint", "latest")
    runs.assert_same(tmp_path / "whole", resumed)


def test_without_its_package_it_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(ImportError, match=r"adamw8bit needs bitsandbytes: pip install 'tadisr\[8bit\]'\.$"):
        build_optimizer(LoopConfig(optimizer="adamw8bit"), [torch.nn.Parameter(torch.ones(2, 2))])
