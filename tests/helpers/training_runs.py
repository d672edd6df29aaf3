"""Training runs at toy size, in this process or as users launch them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from accelerate.state import AcceleratorState, GradientState
from safetensors.torch import load_file

from tadisr.training import train_lora
from tadisr.training.restoration.build import build_network

ROOT = Path(__file__).parents[2]
SCRIPT = str(ROOT / "training" / "train_lora.py")
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
SETTINGS = {
    "encoder_skips": True, "image_residual": True, "resolution": 32, "train_batch_size": 2, "lpips": 0.0,
    "learning_rate": 1e-3, "lr_scheduler": "cosine", "lr_warmup_steps": 2, "text_l1": 10.0, "degradation": "mild",
    "max_train_steps": 6, "checkpointing_steps": 2, "validation_steps": 100, "dataloader_num_workers": 0,
    "logging_steps": 1, "gradient_checkpointing": False,
}  # fmt: skip


def flags(data, out, **changes) -> list[str]:
    """The command line of a toy run: a config file beside `out`, and the changes as flags."""
    out.parent.mkdir(parents=True, exist_ok=True)
    base = out.parent / "base.json"
    base.write_text(json.dumps(BASE))
    config = out.parent / "config.yaml"
    config.write_text(yaml.safe_dump({"base_config": str(base), "train_data_dir": [str(data)], **SETTINGS}))
    given = [part for name, value in changes.items() for part in (f"--{name}", str(value))]
    return ["--config", str(config), "--output_dir", str(out), *given]


def fresh() -> None:
    """Forget the processes and precision of an earlier run in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def train(data, out, **changes) -> Path:
    """Train in this process; errors are raised. Returns `out`."""
    fresh()
    train_lora.main(flags(data, out, **changes))
    return out


def settings(out) -> dict:
    """The settings that a run was made with."""
    return yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))


def command(arguments, launch: list[str] | None = None) -> list[str]:
    start = [sys.executable] if launch is None else [sys.executable, "-m", "accelerate.commands.launch", *launch]
    return [*start, SCRIPT, *arguments]


def environment() -> dict[str, str]:
    """One thread each: the processes of a test share a machine."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def launch(arguments, launch=None, **options) -> subprocess.CompletedProcess:
    """Train as users do, in a process of its own, or in as many as `launch` (accelerate's flags) says."""
    options = {"capture_output": True, "text": True, "timeout": 600, "env": environment(), **options}
    return subprocess.run(command(arguments, launch), **options)


def records(out) -> list[dict]:
    """log.jsonl without times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "s/step"} for line in lines]


def weights(out, folder: str = "weights") -> dict[str, torch.Tensor]:
    """All tensors of the saved pipeline or adapter."""
    files = sorted((out / folder).rglob("*.safetensors"))
    assert files
    return {f"{file.parent.name}/{k}": v for file in files for k, v in load_file(file).items()}


def same_items(one, other) -> bool:
    """Whether two items of a data set are equal to the bit."""
    assert one.keys() == other.keys()
    return all(torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k] for k in one)


def assert_same(one, other) -> None:
    """Two runs ended with the same weights and wrote the same log, to the bit."""
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
    assert records(one) == records(other)


def toy_network(config):
    torch.manual_seed(0)
    return build_network(config)


def crop_batch(seed: int = 0, side: int = 32, batch: int = 2) -> dict[str, torch.Tensor]:
    """Random crops in the form that data loaders give."""
    rng = np.random.default_rng(seed)

    def image(channels, side):
        return torch.from_numpy(rng.random((batch, channels, side, side), np.float32))

    mask = (image(1, side) > 0.7).float()
    return {"hr": image(3, side), "lr": image(3, side // 4), "mask": mask, "has_mask": torch.ones(batch)}
