"""TextDiff at toy size, seeded, as if trained: what starts at zero does not stay so."""

import torch

from helpers.tiny import shake
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.network import textdiff_scheduler
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline


def recognizer(**config) -> CRNN:
    return CRNN(**{"channels": [8] * 7, "hidden": 8, **config}).eval()


def enhancement(**config) -> TextEnhancementModule:
    config = {"channels": 8, "blocks": 1, "prior_channels": 8, "heads": 2, "mask_channels": 4, **config}
    model = TextEnhancementModule(**config).eval()
    shake(model, "to_image.2", std=0.05)
    return model


def residual_unet(**config) -> ResidualUNet:
    config = {"block_out_channels": [8, 8], "attention_from": 1, "dilations": [1, 2], "norm_groups": 4, **config}
    model = ResidualUNet(**config).eval()
    shake(model, "conv_out.2", std=0.1)
    return model


def textdiff(mask: bool = True, diffusion: bool = True, **schedule) -> TextDiffPipeline:
    """`mask` False: without mask branch and for a U-Net that reads no mask."""
    torch.manual_seed(5)
    return TextDiffPipeline(
        enhancement=enhancement(mask_branch=mask),
        prior=recognizer(),
        residual=residual_unet(mask=mask),
        scheduler=textdiff_scheduler(**schedule),
        diffusion=diffusion,
    )
