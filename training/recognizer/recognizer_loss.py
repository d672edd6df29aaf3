"""Frozen text recognisers as a loss: the SR line must read as the HR line does."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from tadisr.training.recognizer.onnx_graph import load_onnx

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input
STRIDE = 8  # width of a reading step, pixels
EXPONENT = 0.5
MAX_NOISE = 0.1  # sigma, of values in [-1, 1]
MAX_SHIFT = 2  # pixels, of each side of a line's box
MAX_STRETCH = 1.2  # of a line's width, or by its inverse


class RecognizerLoss(nn.Module):
    """The disagreement of PP-OCR's readings of SR lines with its readings of HR lines, reading step by reading step.

    Each call draws one of several recognisers, by PyTorch's own random numbers. A pattern that only one of them likes
    then wins nothing with the others, and a step costs no more than with one recogniser.

    The loss is the generalised cross-entropy `(1 - q^g) / g`, g = 0.5, where q is the probability of HR's reading in
    the SR line. It lies between cross-entropy (g to 0), whose gradient is spent on strokes that no network can make
    legible again, and plain accuracy (g = 1), which has almost no gradient where most can be won. Steps where the HR
    line shows a character weigh 1, blanks 0.1. Lines that the recogniser is unsure of in HR (mean confidence of its
    characters below 0.6) are left out.

    Judge networks that are trained with this loss by *another* recogniser.

    Args:
        onnx_files: the recognisers, see `load_onnx`.
        perturb: cut the lines a little wider or narrower and stretch them, SR and HR alike, and add noise to the SR
            lines, anew in each call. Strokes survive that; patterns that only these recognisers like do not. Lines are
            not blurred: doubtful strokes are illegible because they are sharp, and blur would hide that.
    """

    def __init__(self, onnx_files: Sequence[str | Path], perturb: bool = True):
        super().__init__()
        self.models, self.perturb = nn.ModuleList(load_onnx(file) for file in onnx_files), perturb

    def forward(self, image: torch.Tensor, target: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """A scalar.

        Args:
            image, target: SR and HR lines (N, 3, H, W) in [-1, 1].
            boxes: (N, 4): top, bottom, left, right of each line, pixels.
        """
        model = self.models[int(torch.randint(len(self.models), ()))]
        stretch = 1.0
        if self.perturb:
            boxes = shifted(boxes, image.shape[-2:])
            stretch = MAX_STRETCH ** float(torch.rand(()) * 2 - 1)
        label, weight = reading(model, cut_lines(target, boxes, stretch))
        lines = cut_lines(image.clamp(-1, 1), boxes, stretch)
        read = model(perturbed(lines) if self.perturb else lines)
        agreement = read.gather(-1, label[..., None]).squeeze(-1).clamp_min(1e-6)  # q
        loss = (1 - agreement**EXPONENT) / EXPONENT
        return (loss * weight).sum() / weight.sum().clamp_min(1)


def cut_lines(images: torch.Tensor, boxes: torch.Tensor, stretch: float = 1.0) -> torch.Tensor:
    """Cut and scale lines: images (N, 3, H, W) RGB in [-1, 1], boxes (N, 4) to (N, 3, 48, W <= 320) BGR."""
    crops = []
    for image, (top, bottom, left, right) in zip(images, boxes.tolist(), strict=True):
        scale = HEIGHT / (bottom - top) * stretch
        right = min(right, left + math.ceil(WIDTH / scale))  # longer lines are cut, not squeezed
        crop = image[None, [2, 1, 0], top:bottom, left:right]
        width = min(WIDTH, max(1, round(scale * (right - left))))
        crop = F.interpolate(crop, size=(HEIGHT, width), mode="bilinear", align_corners=False, antialias=True)
        crops.append(crop[0])
    widest = math.ceil(max(crop.shape[-1] for crop in crops) / STRIDE) * STRIDE
    return torch.stack([F.pad(crop, (0, widest - crop.shape[-1])) for crop in crops])


@torch.no_grad()
def reading(model: nn.Module, lines: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A recogniser's reading of lines (N, 3, 48, W), step by step: classes (N, T) and weights (N, T).

    A character weighs 1 and a blank (class 0) 0.1. In lines whose characters' mean confidence is 0.6 or less, all steps
    weigh 0.
    """
    confidence, label = model(lines).max(-1)  # of (N, T, classes), probabilities
    is_char = label > 0
    sure = (confidence * is_char).sum(1) / is_char.sum(1).clamp_min(1) > 0.6
    return label, torch.where(is_char, 1.0, 0.1) * sure[:, None]


def shifted(boxes: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Boxes (N, 4), each side moved by up to `MAX_SHIFT` pixels, by PyTorch's own random numbers, within (H, W).

    Boxes too small to be moved stay.
    """
    moved = boxes + torch.randint(-MAX_SHIFT, MAX_SHIFT + 1, boxes.shape, device=boxes.device)
    moved = moved.clamp_min(0).minimum(boxes.new_tensor(size).repeat_interleave(2))
    keep = (boxes[:, 1::2] - boxes[:, ::2]).amin(1, keepdim=True) > 4 * MAX_SHIFT
    return torch.where(keep, moved, boxes)


def perturbed(lines: torch.Tensor) -> torch.Tensor:
    """Lines (N, 3, H, W) in [-1, 1] with the noise of another camera, by PyTorch's own random numbers."""
    return lines + torch.rand(()) * MAX_NOISE * torch.randn_like(lines)
