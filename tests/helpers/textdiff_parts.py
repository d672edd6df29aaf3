"""TextDiff's networks at toy size, untrained, and some input."""

import torch
from torch import nn

from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.network import TextDiffNetwork, textdiff_scheduler
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tiny_crnn(**options):
    torch.manual_seed(0)
    return CRNN(**{"channels": (4, 4, 8, 8, 8, 8, 8), "hidden": 8} | options)


def tiny_tem(**options):
    torch.manual_seed(1)
    return TextEnhancementModule(
        **{"channels": 8, "blocks": 2, "prior_channels": 8, "heads": 2, "mask_channels": 4} | options
    )


def tiny_unet(**options):
    torch.manual_seed(2)
    return ResidualUNet(**{"block_out_channels": (8, 8, 16), "norm_groups": 4, "dilations": (2, 4)} | options)


def wake(model):
    """Give layers that start at zero weights as training would: an untrained model hides what depends on what."""
    generator = torch.Generator().manual_seed(9)
    for parameter in model.parameters():
        if not parameter.abs().sum() > 0:
            nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


def tiny_network(mask=True, prediction_type="sample", trained=False, **options):
    parts = tiny_tem(mask_branch=mask), tiny_crnn(), tiny_unet(mask=mask)
    if trained:
        parts = [wake(part) for part in parts]
    return TextDiffNetwork(*parts, textdiff_scheduler(prediction_type=prediction_type), **options).eval()


def prior(batch):
    return noise(batch, 26, 37, seed=7).softmax(-1)
