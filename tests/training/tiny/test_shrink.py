"""A small network that begins with a large one's weights."""

from pathlib import Path

import pytest
import torch

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.training.tiny import shrink as shrinking

HERE = Path(shrinking.__file__).parent


def test_what_fits_is_taken(tmp_path):
    for name in ("tiny_base.json", "tiny_nano_base.json"):
        (tmp_path / name).write_bytes((HERE / name).read_bytes())
    lines = ("base_config: tiny_nano_base.json", "image_residual: true", "encoder_skips: true", "mask_prompt: true")
    (tmp_path / "config.yaml").write_text("\n".join([*lines, "train_data_dir: [nowhere]", "init_from: nothing"]))
    shrinking.main(["tadisr-tiny", "--config", str(tmp_path / "config.yaml"), "-o", str(tmp_path / "nano")])
    old, new = TADiSRPipeline.from_pretrained("tadisr-tiny"), TADiSRPipeline.from_pretrained(tmp_path / "nano")
    large, small = (pipe.vae.decoder.up_blocks[0].resnets for pipe in (old, new))
    assert len(small) == 10 and len(large) == 29
    for index, place in ((0, 0), (1, 3), (9, 28)):
        assert torch.equal(small[index].conv1.weight, large[place].conv1.weight)
    assert torch.equal(new.vae.encoder.conv_in.weight, old.vae.encoder.conv_in.weight)
    assert torch.equal(new.vae.decoder.conv_out.weight, old.vae.decoder.conv_out.weight)
    assert sum(p.numel() for part in new.convolutional() for p in part.parameters()) < 1.5e6


def test_decoders_that_do_not_fit():
    with pytest.raises(ValueError, match="ResBlocks of different shapes: give both the same width"):
        shrinking.shrink(TADiSRPipeline.from_pretrained("tadisr-tiny"), tiny.lean())
