"""Several processes, launched as users launch them; here on the CPU, over gloo."""

import importlib.util
import math
import shutil
import socket

import diffusers
import pytest
import torch
import yaml

from helpers import pages, tiny
from helpers import training_runs as runs
from tadisr.models.families import FAMILIES

ACCELERATE = runs.ROOT / "training" / "accelerate"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


@pytest.fixture(scope="module")
def accumulated(data, tmp_path_factory):
    """One process that accumulates two batches per step."""
    return runs.train(data, tmp_path_factory.mktemp("one") / "run", **SETTINGS, gradient_accumulation_steps=2)


SETTINGS = {
    "train_batch_size": 1, "max_train_steps": 4, "checkpointing_steps": 2, "validation_steps": 2, "max_grad_norm": 1,
}  # fmt: skip


def several(name, arguments, processes=2):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launch = ["--config_file", str(ACCELERATE / f"{name}.yaml"), "--num_processes", str(processes)]
    return runs.launch(arguments, [*launch, "--main_process_port", str(port)])


def assert_close(one, other, tolerance):
    a, b = runs.weights(one), runs.weights(other)
    assert a.keys() == b.keys()
    assert max(float((a[name] - b[name]).abs().max()) for name in a) <= tolerance
    for left, right in zip(runs.records(one), runs.records(other), strict=True):
        assert left.keys() == right.keys()
        assert all(left[key] == pytest.approx(right[key], rel=1e-4) for key in left)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_equal_accumulation(data, accumulated, tmp_path, name):
    """And a run that stops and goes on equals one that does not."""
    out = tmp_path / "run"
    run = several(name, runs.flags(data, out, **SETTINGS))
    assert run.returncode == 0, run.stderr[-2000:]
    assert_close(accumulated, out, 1e-6)
    shutil.rmtree(out / "checkpoint-4")
    shutil.move(out / "weights", tmp_path / "weights")
    run = several(name, runs.flags(data, out, **SETTINGS, resume_from_checkpoint="latest"))
    assert run.returncode == 0, run.stderr[-2000:]
    assert "steps 2 to 4" in run.stdout
    shutil.move(tmp_path / "weights", tmp_path / "before" / "weights")
    before, after = runs.weights(tmp_path / "before"), runs.weights(out)
    assert all(torch.equal(before[key], after[key]) for key in after)


def test_going_on_with_fewer_processes(data, tmp_path):
    """The learning rate falls as if nothing had changed."""
    out, settings = tmp_path / "run", {**SETTINGS, "lr_scheduler": "cosine", "lr_warmup_steps": 0}
    run = several("ddp", runs.flags(data, out, **settings))
    assert run.returncode == 0, run.stderr[-2000:]
    shutil.copytree(out, tmp_path / "two", ignore=shutil.ignore_patterns("checkpoint-*"))
    shutil.rmtree(out / "checkpoint-4")
    runs.train(data, out, **settings, gradient_accumulation_steps=2, resume_from_checkpoint="latest")
    rates = [record["lr"] for record in runs.records(out) if "lr" in record]
    assert rates == pytest.approx([1e-3 * (1 + math.cos(math.pi * step / 4)) / 2 for step in (1, 2, 3, 4)], abs=1e-12)
    assert_close(tmp_path / "two", out, 1e-6)


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_adapters_on_a_base_with_fewer_pages_than_processes(tmp_path, name):
    (tmp_path / "tokenizer").mkdir()
    tiny.sd(tmp_path / "tokenizer").save_pretrained(tmp_path / "base")
    data = pages.data_set(tmp_path / "set", 1, 128, font_size=(18, 32))
    out = tmp_path / "run"
    run = several(name, [
        "--train_data_dir", str(data), "--resolution", "64", "--pretrained_model_name_or_path", str(tmp_path / "base"),
        "--lpips", "0", "--max_train_steps", "2", "--gradient_checkpointing", "--mixed_precision", "bf16",
        "--output_dir", str(out), "--dataloader_num_workers", "0", "--degradation", "mild",
        "--mask_prompt", "--mask_prompt_share", "0.8",
    ])  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]
    assert {x.dtype for x in runs.weights(out).values()} == {torch.float32}
    from tadisr import TADiSRPipeline

    pipe = TADiSRPipeline.from_pretrained(out / "weights")
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)
    assert all(parameter.any() for parameter in pipe.joint_decoder.prompt_encoder.parameters())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"ema_decay": 0.9}, "ema_decay averages whole weights"),
        ({"optimizer": "adamw8bit"}, "adamw8bit has whole states"),
    ],
)
def test_what_needs_whole_weights_is_refused_with_shards(data, tmp_path, setting, message):
    run = several("fsdp", runs.flags(data, tmp_path / "run", **setting))
    assert run.returncode != 0 and message in run.stderr


def test_shards_of_every_base(tmp_path):
    """FSDP wraps the blocks that this base has, of those that bases have."""
    tiny.cogview4(tmp_path).save_pretrained(tmp_path / "base")
    data = pages.data_set(tmp_path / "set", 1, 128, font_size=(18, 32))
    run = several("fsdp", [
        "--train_data_dir", str(data), "--resolution", "64", "--pretrained_model_name_or_path", str(tmp_path / "base"),
        "--lpips", "0", "--max_train_steps", "1", "--output_dir", str(tmp_path / "run"), "--degradation", "mild",
    ])  # fmt: skip
    assert run.returncode == 0, run.stderr[-2000:]


@pytest.mark.parametrize("name", dict.fromkeys(family.backbone_class for family in FAMILIES.values()))
def test_fsdp_knows_blocks_of_every_backbone(name):
    config = yaml.safe_load((ACCELERATE / "fsdp.yaml").read_text())["fsdp_config"]
    assert {*config["fsdp_transformer_layer_cls_to_wrap"].split(",")} & {*getattr(diffusers, name)._no_split_modules}


def test_settings_of_deepspeed_are_numbers():
    """accelerate passes them on to the script, which cannot read "auto"."""
    settings = yaml.safe_load((ACCELERATE / "deepspeed.yaml").read_text())["deepspeed_config"]
    assert "auto" not in settings.values()


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the package deepspeed")
@pytest.mark.gpu
def test_deepspeed(data, tmp_path):
    run = several("deepspeed", runs.flags(data, tmp_path / "run", **SETTINGS), processes=1)
    assert run.returncode == 0, run.stderr[-2000:]
    assert runs.weights(tmp_path / "run")
