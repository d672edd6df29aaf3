"""Trained ResBlocks that move from the VAE's decoder into the U-Net keep what they can."""

import sys
from pathlib import Path

import torch

from tadisr import TADiSRPipeline
from tadisr.runtime.export import calibration_images
from tadisr.training.engine.command_line import parse
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.tiny.regroup import regroup


def test_the_moved_network_restores_as_the_old_one(tmp_path, monkeypatch):
    config = "base_config: tiny_unet_base.json\nimage_residual: true\ntrain_data_dir: [nowhere]\n"
    folder = Path(sys.modules[regroup.__module__].__file__).parent
    (tmp_path / "tiny_unet_base.json").write_bytes((folder / "tiny_unet_base.json").read_bytes())
    (tmp_path / "config.yaml").write_text(config)
    old = TADiSRPipeline.from_pretrained("tadisr-tiny")
    torch.manual_seed(0)
    new = build_network(parse(["--config", str(tmp_path / "config.yaml")], TrainConfig)).eval()
    crops = torch.stack([torch.from_numpy(image[20:52, 20:52].copy()) for image in calibration_images()])
    lr = crops.permute(0, 3, 1, 2).float() / 255
    said = []
    regroup(old, new, lr[:10], steps=12, say=said.append)
    pipe = TADiSRPipeline(new.vae, new.scheduler, new.prompt, new.joint_decoder, unet=new.backbone)
    with torch.inference_mode():
        wanted, found = (each.restore_tile(lr[10:], 4, 1.0)[0] for each in (old, pipe))
        enlarged = old.prepare_image(lr[10:]) / 2 + 0.5
    assert (found - wanted).square().mean() < 0.5 * (enlarged - wanted).square().mean()
    shares = [float(line.split(", ")[1].split()[0]) for line in said]
    assert len(shares) == 2 and max(shares) < 0.5
