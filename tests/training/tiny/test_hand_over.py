"""The interaction block takes over what the decoder's first ResBlocks did."""

from pathlib import Path

import torch

from tadisr import TADiSRPipeline
from tadisr.runtime.export import calibration_images
from tadisr.training.tiny.hand_over import RESBLOCKS, hand_over

(WEIGHTS,) = (Path(__file__).parents[3] / "intermediate").glob("tiny_unet_*")


def test_the_image_stays_and_the_gates_count():
    torch.manual_seed(0)
    pipe = TADiSRPipeline.from_pretrained(WEIGHTS)
    crops = torch.stack([torch.from_numpy(image[20:52, 20:52].copy()) for image in calibration_images()])
    lr = crops.permute(0, 3, 1, 2).float() / 255
    gates = pipe.joint_decoder.interactions[0].mask.split

    def restored(closed=False):
        with torch.inference_mode():
            before = gates.bias.clone()
            gates.bias[-64:] -= 20 * closed
            image = pipe.restore_tile(lr[10:], 4, 1.0)[0]
            gates.bias.copy_(before)
        return image

    whole = restored()
    said = []
    hand_over(pipe, lr[:10], steps=60, say=said.append)
    assert float(said[0].split(", ")[1].split()[0]) < 0.6
    resnets = pipe.vae.decoder.up_blocks[0].resnets[:RESBLOCKS]
    assert not any(resnet.conv2.weight.any() for resnet in resnets)
    assert (restored() - whole).square().mean().sqrt() < 8e-3
    assert (restored(closed=True) - restored()).square().mean().sqrt() > 3e-3
