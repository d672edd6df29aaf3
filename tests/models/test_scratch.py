"""Bases from scratch: what their own arguments change, and that it survives saving."""

import torch

from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel

VAE = {
    "in_channels": 12, "out_channels": 12, "latent_channels": 4, "down_block_types": ["DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D"], "block_out_channels": [8], "layers_per_block": 2, "norm_num_groups": 4,
    "mid_block_add_attention": False,
}  # fmt: skip
UNET = {
    "in_channels": 4, "out_channels": 4, "down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"],
    "block_out_channels": [8], "layers_per_block": 1, "norm_num_groups": 4, "mid_block_type": "UNetMidBlock2D",
    "cross_attention_dim": 8,
}  # fmt: skip


def test_an_encoder_may_have_fewer_resblocks_than_the_decoder(tmp_path):
    vae = LeanAutoencoderKL(**VAE, encoder_layers_per_block=0)
    vae.save_pretrained(tmp_path)
    again = LeanAutoencoderKL.from_pretrained(tmp_path)
    assert [len(again.encoder.down_blocks[0].resnets), len(again.decoder.up_blocks[0].resnets)] == [0, 3]
    assert vae.state_dict().keys() == again.state_dict().keys()
    usual = LeanAutoencoderKL(**VAE)
    assert len(usual.encoder.down_blocks[0].resnets) == 2
    assert "encoder_layers_per_block" not in usual.config  # configs of older weights stay as they are


def test_a_linear_output_passes_features_on_as_they_are(tmp_path):
    unet = LeanUNet2DConditionModel(**UNET, linear_output=True).eval()
    unet.save_pretrained(tmp_path)
    unet = LeanUNet2DConditionModel.from_pretrained(tmp_path).eval()
    seen = []
    unet.up_blocks[-1].register_forward_hook(lambda *given: seen.append(given[-1]))
    with torch.no_grad():
        found = unet(torch.randn(1, 4, 8, 8), 200, torch.randn(1, 2, 8)).sample
        torch.testing.assert_close(found, unet.conv_out(seen[0]))
    assert "linear_output" not in LeanUNet2DConditionModel(**UNET).config
