"""What the pipelines return."""

from dataclasses import dataclass

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image

from tadisr.trust.check import TrustReport

Images = list[Image.Image] | list[np.ndarray] | np.ndarray | list[torch.Tensor] | torch.Tensor


@dataclass
class TADiSRPipelineOutput(BaseOutput):
    """Restored images and where their text is, one of each per input image, in the requested `output_type`.

    images: "pil": a list, RGB; "uint8": a list of arrays (H, W, 3); "np": an array (B, H, W, 3), "pt": a CPU tensor
        (B, 3, H, W), both float32 in [0, 1]. Of an image with alpha: RGBA, and four channels. Where images differ in
        size or in alpha, "np" and "pt" are lists as well, of arrays (H, W, 3 or 4) or tensors (3 or 4, H, W).
    text_masks: the probability that a pixel is text: "pil": "L", 255 is 1; "uint8": (H, W), 255 is 1; "np": (B, H, W);
        "pt": (B, 1, H, W). Lists where the images differ in size.
    reports: which lines of text to check; None if that was not asked for.
    """

    images: Images
    text_masks: Images
    reports: list[TrustReport] | None = None


@dataclass
class TextDiffPipelineOutput(BaseOutput):
    """Restored crops, where their text is, and TEM's coarse images, one of each per crop, in the `output_type`.

    images: as in `TADiSRPipelineOutput`, without alpha.
    text_masks: as in `TADiSRPipelineOutput`; None if the model has no mask.
    coarse_images: as `images`; None from `refine`, which starts from another method's images.
    """

    images: Images
    text_masks: Images | None
    coarse_images: Images | None = None
