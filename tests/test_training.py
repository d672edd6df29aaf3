"""The whole chain at toy size: synthesise, train, resume, load, restore."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pages
import pytest
import tiny
import torch
import yaml
from tadisr.training.config import TrainConfig, parse_config
from tadisr.training.data import FTSRCrops, FTSRLines

from tadisr import TADiSRPipeline

ROOT = Path(__file__).parents[1]
BASE = {
    "vae": {
        "in_channels": 48, "out_channels": 48, "latent_channels": 4, "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"], "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4,
        "mid_block_add_attention": False, "use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.0,
    },
    "unet": {
        "in_channels": 4, "out_channels": 4, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "block_out_channels": [8, 8], "layers_per_block": 1,
        "norm_num_groups": 4, "attention_head_dim": 2, "cross_attention_dim": 8, "only_cross_attention": True,
        "mid_block_type": "UNetMidBlock2D",
    },
    "scheduler": {"beta_schedule": "scaled_linear"},
    "prompt": {"num_tokens": 4, "embed_dim": 8, "text_positions": [3]},
}  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


def train(data, out, *flags):
    config = out.parent / "config.yaml"
    (out.parent / "base.json").write_text(json.dumps(BASE))
    settings = {
        "base_config": str(out.parent / "base.json"), "train_data_dir": [str(data)], "validation_data_dir": str(data),
        "encoder_skips": True, "image_residual": True, "resolution": 32, "train_batch_size": 2, "lpips": 0.0,
        "learning_rate": 1e-3, "lr_scheduler": "cosine", "lr_warmup_steps": 2, "ema_decay": 0.9, "text_l1": 10.0,
        "max_train_steps": 6, "checkpointing_steps": 2, "validation_steps": 100, "dataloader_num_workers": 0,
    }  # fmt: skip
    config.write_text(yaml.safe_dump(settings))
    script = str(ROOT / "training" / "train_lora.py")
    command = [sys.executable, script, "--config", str(config), "--output_dir", str(out), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_train_resume_load_restore(data, tmp_path):
    whole = train(data, tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    # as if interrupted after four of six steps
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / "checkpoint-6")
    shutil.rmtree(tmp_path / "resumed" / "weights")
    resumed = train(data, tmp_path / "resumed", "--resume_from_checkpoint", "latest")
    assert resumed.returncode == 0, resumed.stderr
    assert "steps 4 to 6" in resumed.stdout

    pipes = [TADiSRPipeline.from_pretrained(tmp_path / run / "weights") for run in ("whole", "resumed")]
    lr = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    results = [pipe(lr, output_type="pt") for pipe in pipes]
    assert results[0].images[0].shape == (3, 48, 80)
    assert torch.equal(results[0].images[0], results[1].images[0])
    assert torch.equal(results[0].text_masks[0], results[1].text_masks[0])

    records = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"psnr", "psnr_bicubic", "mask_iou"} <= records[-1].keys()
    saved = yaml.safe_load((tmp_path / "whole" / "checkpoint-6" / "config.yaml").read_text())
    assert saved["learning_rate"] == 1e-3 and saved["lpips"] == 0


def test_lora_on_a_pretrained_base(data, tmp_path):
    """The paper's mode: only adapters and the new decoder are trained and saved, and they load on their base."""
    (tmp_path / "tokenizer").mkdir()
    tiny.sd(tmp_path / "tokenizer").save_pretrained(tmp_path / "base")
    command = [
        sys.executable, str(ROOT / "training" / "train_lora.py"), "--train_data_dir", str(data), "--resolution", "64",
        "--pretrained_model_name_or_path", str(tmp_path / "base"), "--lpips", "0", "--max_train_steps", "2",
        "--gradient_checkpointing", "--validation_steps", "2", "--output_dir", str(tmp_path / "run"),
        "--dataloader_num_workers", "0", "--learning_rate", "1e-2",
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    weights = tmp_path / "run" / "weights"
    assert {path.name for path in weights.iterdir()} == {
        "tadisr_adapter.json", "unet_lora", "vae_lora", "prompt", "joint_decoder",
    }  # fmt: skip
    pipe = TADiSRPipeline.from_pretrained(weights)
    assert any(parameter.abs().sum() > 0 for name, parameter in pipe.unet.named_parameters() if "lora_B" in name)
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)


def test_learning_rate_follows_the_schedule(data, tmp_path):
    run = train(data, tmp_path / "run", "--lr_scheduler", "constant_with_warmup", "--max_train_steps", "4")
    assert run.returncode == 0, run.stderr
    state = torch.load(tmp_path / "run" / "checkpoint-4" / "scheduler.bin", weights_only=False)
    assert state["_last_lr"] == [1e-3]  # two steps of warm-up are over


def test_mistakes_are_one_line(data, tmp_path):
    for flags, message in (
        (["--learning_rte", "1"], "learning_rte"),
        (["--lpips", "5", "--lpips_weights", "nowhere.pth"], "nowhere.pth"),
        (["--resume_from_checkpoint", "latest"], "No complete checkpoint"),
    ):
        run = train(data, tmp_path / "run", *flags)
        assert run.returncode != 0
        assert message in run.stderr.strip().splitlines()[-1]


def test_config_defaults_are_the_papers_and_unknown_keys_fail(tmp_path):
    config = TrainConfig(pretrained_model_name_or_path="base", train_data_dir=["ftsr"])
    assert (config.learning_rate, config.lr_scheduler, config.train_batch_size) == (5e-5, "constant", 1)
    assert (config.max_train_steps, config.lpips, config.modified_focal) == (200_000, 5, 10)
    file = tmp_path / "c.yaml"
    file.write_text("train_data_dir: [a]\nbase_config: b\nlearning_rte: 1\n")
    with pytest.raises(SystemExit, match="learning_rte"):
        parse_config(["--config", str(file)])
    file.write_text("train_data_dir: [a, b]\nbase_config: c\nlearning_rate: 1.0e-3\nema_decay: null\n")
    config = parse_config(["--config", str(file), "--learning_rate", "2e-3"])
    assert (config.learning_rate, config.train_data_dir, config.ema_decay) == (2e-3, ["a", "b"], None)


def test_crops_are_aligned_and_repeatable(data):
    crops = FTSRCrops([data], 64, 10, seed=1)
    first, again = crops[3], crops[3]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["hr"].shape == (3, 64, 64) and first["lr"].shape == (3, 16, 16) and first["mask"].shape == (1, 64, 64)
    errors = []
    for i in range(10):
        item = crops[i]
        small = torch.nn.functional.interpolate(item["hr"][None], size=(16, 16), mode="area")[0]
        errors.append([(torch.roll(item["lr"], s, dims=-1) - small).abs().mean() for s in (-2, 0, 2)])
    left, still, right = torch.tensor(errors).mean(0)
    assert still < left and still < right
    with pytest.raises(FileNotFoundError, match="synthesize"):
        FTSRCrops([data / "lr"], 64, 1)


def test_line_strips_hold_their_line(data):
    strips = FTSRLines([data], 8, seed=1)
    for i in range(8):
        item = strips[i]
        top, bottom, left, right = item["box"].tolist()
        assert item["hr"].shape == (3, 64, 256) and item["lr"].shape == (3, 16, 64)
        inside = item["mask"][:, top:bottom, left:right]
        assert inside.amax() > 0.4  # hairline faces never reach 1
