"""Let the interaction block do what the decoder's first ResBlocks did, so that the mask's gates get a say in the image.

    python training/tiny/hand_over.py MODEL --pages data/words -o DIR

Where a trained image stream is complete in itself, an interaction block that starts from nothing stays at nothing: no
gradient asks for it. Here its update of the image is fitted to what the first `RESBLOCKS` ResBlocks change, with the
mask's gates half open everywhere, and these start anew. What training then learns of the gates, the image uses.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tadisr.io.messages import quiet
from tadisr.models.interaction import CrossDecoderInteractionBlock
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.engine.command_line import mistakes_in_one_line
from tadisr.training.tiny.regroup import inputs_of, lr_crops

RESBLOCKS = 4
BATCH = 24


def hand_over(pipe: TADiSRPipeline, lr: torch.Tensor, steps: int = 500, say: Callable[[str], None] = print) -> None:
    """Change a pipeline's decoders as told above, by LR crops (B, 3, h, w) in [0, 1]."""
    block = cast(CrossDecoderInteractionBlock, pipe.joint_decoder.interactions[0])
    resnets: list[Any] = list(cast(Any, pipe.vae.decoder).up_blocks[0].resnets)
    with torch.no_grad(), inputs_of(block) as entering, inputs_of(resnets[RESBLOCKS]) as leaving:
        for crops in lr.split(BATCH):
            pipe.restore_tile(crops)
    x = torch.cat(entering)
    change = torch.cat(leaving) - x
    loss = fit_update(block, resnets[RESBLOCKS - 1], x, change, steps)
    say(f"of the change by the first {RESBLOCKS} ResBlocks, {loss:.4f} of the variance is lost")
    for resnet in resnets[:RESBLOCKS]:
        for parameter in resnet.conv2.parameters():
            nn.init.zeros_(parameter)


def fit_update(
    block: CrossDecoderInteractionBlock, resnet: nn.Module, x: torch.Tensor, change: torch.Tensor, steps: int
) -> float:
    """Fit the block's update of the image features x to a change of them, both (B, C, h, w); gives what is lost."""
    image, gates = cast(Any, block.image), cast(Any, block.mask).split
    width = x.shape[1]
    image.resnet.load_state_dict({name: resnet.state_dict()[name] for name in image.resnet.state_dict()})
    with torch.no_grad():
        for parameter in (gates.weight, gates.bias):
            parameter[-width:].zero_()
        image.scale.fill_(1)
        nn.init.eye_(image.split.weight[:width, :, 0, 0])
        image.split.weight[:width] += 0.05 * torch.randn_like(image.split.weight[:width])
        nn.init.zeros_(image.split.bias[:width])
        nn.init.normal_(image.out[2].weight, std=0.05)
        nn.init.zeros_(image.out[2].bias)
    optimizer = torch.optim.Adam(image.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    variance, loss = change.var((0, 2, 3)).mean(), torch.zeros(())
    for batch in torch.randint(len(x), (steps, BATCH), generator=torch.Generator().manual_seed(0)):
        with torch.autocast("cpu", torch.bfloat16):
            value, _ = image.value_and_gate(x[batch])
            update = image.scale * image.update(value / 2)  # a gate of 0 lets half of it through
        loss = (update.float() - change[batch]).square().mean() / variance
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return float(loss.detach())


@quiet()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Let the interaction block do what the first ResBlocks did.")
    parser.add_argument("model", help="a pipeline of tiny_unet_base.json")
    parser.add_argument("--pages", type=Path, required=True, help="an FTSR data set to fit on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=240)
    args = parser.parse_args(argv)
    pipe = TADiSRPipeline.from_pretrained(args.model)
    torch.manual_seed(0)
    hand_over(pipe, lr_crops(args.pages, args.crops))
    pipe.save_pretrained(args.output)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
