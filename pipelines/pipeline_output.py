"""What the pipelines return."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from tadisr.trust.check import TrustReport


@dataclass
class TADiSRPipelineOutput(BaseOutput):
    """Restored images and where their text is, one of each per input image, in the requested `output_type`.

    images: "pil": RGB; "uint8": arrays (H, W, 3); "np": arrays (H, W, 3) float32 in [0, 1]; "pt": CPU tensors
        (3, H, W) float32 in [0, 1]. Of an image with alpha: RGBA, and four channels.
    text_masks: the probability that a pixel is text: "pil": "L", 255 is 1; "uint8": (H, W), 255 is 1; "np": (H, W)
        float32; "pt": (1, H, W) float32.
    reports: which lines of text to check; None if that was not asked for.
    """

    images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor]
    text_masks: list[Image.Image] | list[np.ndarray] | list[torch.Tensor]
    reports: list[TrustReport] | None = None


@dataclass
class TextDiffPipelineOutput(BaseOutput):
    """Restored crops, where their text is, and TEM's coarse images, one of each per crop, in the `output_type`.

    images: as in `TADiSRPipelineOutput`, without alpha.
    text_masks: as in `TADiSRPipelineOutput`; None if the model has no mask.
    coarse_images: as `images`; None from `refine`, which starts from another method's images.
    """

    images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor]
    text_masks: list[Image.Image] | list[np.ndarray] | list[torch.Tensor] | None
    coarse_images: list[Image.Image] | list[np.ndarray] | list[torch.Tensor] | None = None
