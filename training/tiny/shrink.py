"""Begin a small network with what a trained one knows: tadisr-nano with tadisr-tiny's weights.

    python training/tiny/shrink.py tadisr-tiny --config training/tiny/tiny_nano.yaml -o DIR

Weights are taken where both networks have one of that name and shape. The ResBlocks of the decoder are taken from as
many places, at even distances, as the small one has. All else starts as in a training from nothing.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tadisr.io.messages import quiet
from tadisr.models.network import TADiSRNetwork
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.train_config import TrainConfig

BLOCKS = "decoder.up_blocks.0.resnets"


def shrink(old: TADiSRPipeline, new: TADiSRNetwork) -> list[int]:
    """Give `new` what fits of `old`, in place; returns which of the decoder's ResBlocks were taken.

    Raises ValueError for decoders whose ResBlocks are of different shapes.
    """
    parts: list[tuple[nn.Module, nn.Module]] = [
        (old.vae, new.vae), (old.backbone, new.backbone), (old.joint_decoder, new.joint_decoder)
    ]  # fmt: skip
    for source, target in parts:
        given, own = source.state_dict(), target.state_dict()
        fitting = {key: value for key, value in given.items() if key in own and own[key].shape == value.shape}
        target.load_state_dict(own | {key: value for key, value in fitting.items() if not key.startswith(BLOCKS)})
    many: Any = old.vae.get_submodule(BLOCKS)
    few: Any = new.vae.get_submodule(BLOCKS)
    step = (len(many) - 1) / max(1, len(few) - 1)
    taken = [round(i * step) for i in range(len(few))]
    try:
        for target, index in zip(few, taken, strict=True):
            target.load_state_dict(many[index].state_dict())
    except RuntimeError:
        raise ValueError("The decoders have ResBlocks of different shapes: give both the same width.") from None
    return taken


@quiet()
def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Begin a small network with a trained one's weights.")
    parser.add_argument("old", help="a pipeline: bundled name or folder")
    parser.add_argument("--config", required=True, help="of the training to begin")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args(argv)
    config = replace(parse(["--config", args.config], TrainConfig), init_from=None)
    old = TADiSRPipeline.from_pretrained(args.old)
    torch.manual_seed(config.seed)
    new = build_network(config).eval()
    taken = shrink(old, new)
    parts = new.vae, new.scheduler, new.prompt, new.joint_decoder
    TADiSRPipeline(*parts, unet=new.backbone, native_scale=4).save_pretrained(args.output)
    print(f"{args.output}: of the decoder's ResBlocks numbers {', '.join(map(str, taken))}")  # noqa: T201


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
