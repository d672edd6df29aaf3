"""Move tadisr-tiny's trained ResBlocks from the VAE's decoder into the U-Net: training need not begin at nothing.

    python training/tiny/regroup.py tadisr-tiny --config training/tiny/tiny_unet.yaml --pages data/words -o DIR

In the old network (tiny_wide_base.json) the 28 ResBlocks of the encoder do nothing: without any one of them the image
changes by 0.02 dB at most. The decoder's 29 do all the work. Here the encoder is left with the patches' 32 largest
principal components, the first ResBlocks of the decoder go to the U-Net's levels at LR size, and what lies between is
fitted on crops of pages: the features that enter the first ResBlock, by the U-Net's first layers, and those that pass
from the U-Net through the latents to the decoder. New ResBlocks start as the identity.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pixel_unshuffle, unfold

from tadisr.io.messages import quiet
from tadisr.models.network import TADiSRNetwork
from tadisr.models.one_step import one_step_coefficients
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.data.page_crops import ConcatPages, Cropping
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.train_config import TrainConfig

FRONT = 3  # ResBlocks of the U-Net that stand for what came before the decoder's first: encoder, CDIB and skip
KEPT = 32  # principal components of a patch in the latents; two of the encoder's 64 channels hold one
QUIET = 0.1  # share of an untrained part's usual start, where it joins trained features


def lr_crops(folder: Path, count: int, side: int = 160) -> torch.Tensor:
    """LR crops (count, 3, side / 4, side / 4) in [0, 1] of pages with text."""
    pages, cropping = ConcatPages([folder]), Cropping(side, augmentation=True)
    rngs = (np.random.default_rng([7, i]) for i in range(count))
    return torch.stack([cropping.draw(pages.triplet(int(rng.integers(len(pages)))), rng)["lr"] for rng in rngs])


@contextmanager
def inputs_of(module: nn.Module) -> Iterator[list[torch.Tensor]]:
    """What the module is given meanwhile."""
    seen: list[torch.Tensor] = []
    hook = module.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().float()))
    yield seen
    hook.remove()


@torch.no_grad()
def fit(conv: Any, inputs: torch.Tensor, outputs: torch.Tensor, channels: slice = slice(None)) -> float:
    """Set a 3x3 convolution, or its output `channels`, by least squares; returns the share left unexplained."""
    x = unfold(inputs, 3, padding=1).transpose(1, 2).flatten(0, 1).double()
    x = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    y = outputs.flatten(2).transpose(1, 2).flatten(0, 1).double()
    square = x.T @ x
    square += 1e-5 * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
    solution = torch.linalg.solve(square, x.T @ y)  # (9 c + 1, C)
    conv.weight[channels] = solution[:-1].T.reshape(-1, *conv.weight.shape[1:]).float()
    conv.bias[channels] = solution[-1].float()
    return float((y - x @ solution).square().mean() / y.var(0).mean())


def imitate(front: nn.Sequential, inputs: torch.Tensor, outputs: torch.Tensor, steps: int) -> float:
    """Train a few layers to give `outputs` for `inputs`, both (B, C, h, w); returns the share left unexplained."""
    optimizer = torch.optim.Adam(front.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    variance, loss = outputs.var((0, 2, 3)).mean(), torch.zeros(())
    for batch in torch.randint(len(inputs), (steps, 16), generator=torch.Generator().manual_seed(0)):
        with torch.autocast("cpu", torch.bfloat16):
            found = front(inputs[batch])
        loss = (found.float() - outputs[batch]).square().mean() / variance
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return float(loss.detach())


class _WithoutTime(nn.Module):
    """A U-Net's ResBlock as it is while its time embedding adds nothing."""

    def __init__(self, block: Any):
        super().__init__()
        self.conv1, self.conv2, self.act = block.conv1, block.conv2, block.nonlinearity

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(self.act(self.conv1(self.act(x))))


@torch.no_grad()
def components(x: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean (C,) and the `count` largest principal components (count, C) of (B, C, h, w)."""
    flat = x.transpose(0, 1).flatten(1).double()
    mean = flat.mean(1)
    _, vectors = torch.linalg.eigh(torch.cov(flat))
    return mean.float(), vectors.flip(1)[:, :count].T.float()


@torch.no_grad()
def move(old: Any, new: Any, first: int = 0) -> None:
    """Give `new` the function of `old`, which reads the input's channels from `first` on; the others do nothing yet."""
    width = old.conv1.in_channels
    own = slice(first, first + width)
    others = torch.ones(new.conv1.in_channels, dtype=torch.bool)
    others[own] = False
    new.conv1.weight[:, own] = old.conv1.weight
    new.conv1.weight[:, others] *= QUIET
    for source, target in ((old.conv1.bias, new.conv1.bias), (old.conv2.bias, new.conv2.bias)):
        target.copy_(source)
    new.conv2.weight.copy_(old.conv2.weight)
    if new.time_emb_proj is not None:
        nn.init.zeros_(new.time_emb_proj.weight)
        nn.init.zeros_(new.time_emb_proj.bias)
    if new.conv_shortcut is not None:
        nn.init.zeros_(new.conv_shortcut.weight)
        nn.init.zeros_(new.conv_shortcut.bias)
        new.conv_shortcut.weight[:, own, 0, 0] = torch.eye(width)


@torch.no_grad()
def regroup(
    old: TADiSRPipeline, new: TADiSRNetwork, lr: torch.Tensor, steps: int = 400, say: Callable[[str], None] = print
) -> None:
    """Set the weights of `new`, as `build_network` initialises it, by those of `old` and by LR crops (B, 3, h, w)."""
    unet, encoder, decoder = cast(Any, new.backbone), cast(Any, new.vae.encoder), cast(Any, new.vae.decoder)
    trained: Sequence[Any] = list(cast(Any, old.vae.decoder).up_blocks[0].resnets)
    down, up = list(unet.down_blocks[0].resnets), list(unet.up_blocks[-1].resnets)
    split = len(down) - FRONT + len(up)
    rest = list(decoder.up_blocks[0].resnets)

    image = old.prepare_image(lr)
    with inputs_of(trained[0]) as entering, inputs_of(trained[split]) as passing:
        old.restore_tile(lr)

    # The encoder: SiLU(x) - SiLU(-x) = x.
    patches = pixel_unshuffle(image, 4)
    mean, axes = components(patches, KEPT)
    for parameter in (*encoder.conv_in.parameters(), *encoder.conv_out.parameters()):
        nn.init.zeros_(parameter)
    for sign, start in ((1, 0), (-1, 1)):
        encoder.conv_in.weight[start::2, :, 1, 1] = sign * axes
        encoder.conv_in.bias[start::2] = -sign * axes @ mean
        encoder.conv_out.weight[range(KEPT), range(start, 2 * KEPT, 2), 1, 1] = sign
    latents = torch.einsum("kc,bchw->bkhw", axes, patches - mean.view(1, -1, 1, 1))
    latents = torch.cat(
        [latents, latents.new_zeros(len(latents), unet.config.in_channels - KEPT, *latents.shape[2:])], 1
    )

    # The U-Net.
    fit(unet.conv_in, latents, entering[0])
    for block in down[:FRONT]:
        for parameter in (*block.conv2.parameters(), *block.time_emb_proj.parameters()):
            nn.init.zeros_(parameter)
    with torch.enable_grad():
        front = nn.Sequential(unet.conv_in, *map(_WithoutTime, down[:FRONT]))
        lost = imitate(front, latents.clone(), entering[0].clone(), steps)
    say(f"entering the first ResBlock, {lost:.4f} of the variance is lost")
    for source, target in zip(trained, down[FRONT:], strict=False):
        move(source, target)
    for number, (source, target) in enumerate(zip(trained[len(down) - FRONT :], up, strict=False)):
        # The first reads the level below, then what the way down left; the others the trunk, then what it left.
        move(source, target, first=target.conv1.in_channels - 64 if number == 0 else 0)
    with new.recording(), inputs_of(unet.conv_out) as leaving:
        new.denoise(latents)
    # The patches stay as they are, without noise, for the decoder to learn from; the trunk goes beside them.
    for parameter in (*unet.conv_out.parameters(), decoder.conv_in.weight):
        nn.init.zeros_(parameter)
    mean, axes = components(passing[0], unet.config.out_channels - KEPT)
    wanted = torch.einsum("kc,bchw->bkhw", axes, passing[0] - mean.view(1, -1, 1, 1))
    alpha, beta = one_step_coefficients(new.scheduler)
    own = slice(KEPT, None)
    lost = fit(unet.conv_out, leaving[0], -alpha / beta * wanted, own)  # Eq. 1 the other way round
    say(f"predicting the noise, {lost:.4f} of its variance is lost")

    # The decoder.
    decoder.conv_in.weight[:, own, 1, 1] = axes.T
    decoder.conv_in.bias.copy_(mean)
    added = len(rest) - len(trained[split:])
    for target in rest[:added]:
        nn.init.zeros_(target.conv2.weight)
        nn.init.zeros_(target.conv2.bias)
    for source, target in zip(trained[split:], rest[added:], strict=True):
        move(source, target)
    decoder.conv_out.load_state_dict(old.vae.decoder.conv_out.state_dict())
    for name, parameter in new.joint_decoder.interactions.named_parameters():
        if name.endswith("image.scale"):
            parameter.mul_(QUIET)


@quiet()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Move trained ResBlocks into the U-Net.")
    parser.add_argument("old", help="a pipeline of tiny_wide_base.json")
    parser.add_argument("--config", required=True, help="of the training to begin")
    parser.add_argument("--pages", type=Path, required=True, help="an FTSR data set to fit on")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--crops", type=int, default=160)
    args = parser.parse_args(argv)
    config = replace(parse(["--config", args.config], TrainConfig), init_from=None)
    old = TADiSRPipeline.from_pretrained(args.old)
    torch.manual_seed(0)
    new = build_network(config).eval()
    lr = lr_crops(args.pages, args.crops)
    regroup(old, new, lr)
    pipe = TADiSRPipeline(new.vae, new.scheduler, new.prompt, new.joint_decoder, unet=new.backbone)
    pipe.save_pretrained(args.output)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
