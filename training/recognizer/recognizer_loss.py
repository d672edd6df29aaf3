"""Frozen text recognisers as a loss: what is read in the SR line must be what is read in the HR line."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from tadisr.training.recognizer.onnx_graph import load_onnx

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input
STRIDE = 8  # pixels a step of the reading is wide
EXPONENT = 0.5
MAX_NOISE = 0.1  # sigma, of values in [-1, 1]
MAX_SHIFT = 2  # pixels, of each side of a line's box
MAX_STRETCH = 1.2  # of a line's width, or by its inverse


class RecognizerLoss(nn.Module):
    """Whether a PP-OCR recogniser reads in SR lines, step by step, what it reads in HR lines.

    Of several recognisers each call draws one, by PyTorch's own random numbers: what only one of them likes to see wins
    nothing with the others, and a step costs no more.

    The generalised cross-entropy `(1 - q^g) / g`, g = 0.5, of the probability q that SR gives to HR's reading: between
    cross-entropy (g to 0), whose gradient is spent on what no network can make legible again, and plain accuracy
    (g = 1), which has nearly none where there is still much to win. Steps where the HR line shows a character weigh 1,
    blanks 0.1; lines that the recogniser is unsure of in HR (mean confidence of its characters below 0.6) are left out.
    Unless `perturb` is False, each call cuts its lines a little wider or narrower and stretches them, SR and HR alike,
    and gives the SR lines noise: strokes survive that, patterns that only these recognisers like, pixel by pixel, do
    not. They are not blurred: what makes doubtful strokes illegible is that they are sharp, and blur would hide it.
    Judge what is trained with this by *another* recogniser.
    """

    def __init__(self, onnx_files: Sequence[str | Path], perturb: bool = True):
        super().__init__()
        self.models, self.perturb = nn.ModuleList(load_onnx(file) for file in onnx_files), perturb

    def forward(self, image: torch.Tensor, target: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Both images (N, 3, H, W) in [-1, 1]; a scalar."""
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
    """What a recogniser reads in lines (N, 3, 48, W), step by step: classes (N, T), and what each step weighs.

    A character weighs 1, a blank (class 0) 0.1, everything 0 in lines whose characters' mean confidence is 0.6 or less.
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
