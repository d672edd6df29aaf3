"""What a training takes, counted without values, against what PyTorch's allocator hands out in a real step."""

import json

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from helpers import published
from tadisr.cli import main
from tadisr.training.restoration.build import DTYPES, build_network
from tadisr.training.restoration.plan import MemoryCounter, count, shape_of
from tadisr.training.restoration.terms import loss_terms
from tadisr.training.restoration.train_config import TrainConfig

SIDE = 64


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return published.write("sd", tmp_path_factory.mktemp("sd") / "base")


def allocated(config) -> int:
    """The most bytes that a step's tensors hold at once, beside the network's, by the profiler."""
    network = build_network(config).train()
    batch = {
        "hr": torch.rand(1, 3, SIDE, SIDE), "lr": torch.rand(1, 3, SIDE // 4, SIDE // 4),
        "mask": torch.rand(1, 1, SIDE, SIDE),
    }  # fmt: skip

    def step() -> None:
        dtype = DTYPES[config.mixed_precision]
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            terms = loss_terms(network, config, batch)
        torch.stack(list(terms.values())).sum().backward()

    with network.recording():
        step()
        network.zero_grad()
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
    live = most = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


@pytest.mark.parametrize("checkpointing, precision", [(True, "bf16"), (False, "no"), (True, "fp16")])
def test_a_plan_is_what_a_step_allocates(base, tmp_path, checkpointing, precision):
    config = TrainConfig(
        pretrained_model_name_or_path=str(base), train_data_dir=["d"], output_dir=str(tmp_path), resolution=SIDE,
        lpips=0.0, gradient_checkpointing=checkpointing, mixed_precision=precision,
    )  # fmt: skip
    plan = count(config, cuda=False)
    counted = plan.peak - plan.frozen - plan.trained - plan.optimizer
    assert counted == pytest.approx(allocated(config), rel=0.1)
    assert plan.optimizer == pytest.approx(2 * plan.trained, rel=0.01) and plan.gradients == plan.trained
    assert plan.parameters * 4 == plan.trained and plan.flops > 0 and plan.validation < plan.peak


def test_storages_are_counted_while_they_live():
    with MemoryCounter() as counter:
        x = torch.zeros(1000)
        y = x.view(10, 100)  # the same storage
        assert counter.live == 4000
        z = x + 1
        del x, z
        assert (counter.live, counter.peak) == (4000, 8000)
        del y
        assert counter.live == 0


def test_the_docs_bases_are_known_without_a_network():
    for name in published.HUB_IDS.values():
        shape = shape_of(name)
        assert shape.backbone["in_channels"] == shape.vae["latent_channels"] and shape.tokens >= 16, shape.family


def test_the_command(base, tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text(f"pretrained_model_name_or_path: {base}\ntrain_data_dir: [d]\nlpips: 0\n")
    command = ["plan", str(config), "--set", "resolution=64", "interaction_resblocks=2"]
    assert main([*command, "--memory", "0.001", "--tflops", "1", "--json"]) == 1
    plan = json.loads(capsys.readouterr().out)
    assert not plan["fits"] and plan["peak"] < plan["with_room"]
    assert plan["seconds"] == pytest.approx(plan["flops"] / 0.35e12)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(config.read_text() + "resolution: 64\ngradient_accumulation_steps: 2\n")
    (run / "log.jsonl").write_text('{"step": 1, "s/step": 9.0, "mse": 1.0}\n{"step": 2, "s/step": 3.0}\n{"psnr": 20}\n')
    command = ["plan", str(config), "--set", "resolution=64", "--json"]
    assert main([*command, "--measured", str(run)]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["seconds"] == pytest.approx(1.5)  # one batch instead of two
    (run / "log.jsonl").write_text("")
    assert main([*command, "--measured", str(run)]) == 2
    assert "says no seconds a step" in capsys.readouterr().err
    assert main(["plan", str(config), "--set", "resolutoin=64"]) == 2
    assert main(["plan", "tiny.yaml"]) == 2
