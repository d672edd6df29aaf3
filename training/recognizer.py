"""Frozen text recognisers as a loss: what is read in the SR line must be what is read in the HR line."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from tadisr.training.recognizer_graph import load_onnx
from torch import nn

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input
EXPONENT = 0.5
MAX_BLUR = 1.2  # sigma in pixels of a line 48 pixels high
MAX_NOISE = 0.15  # sigma, of values in [-1, 1]


class RecognizerLoss(nn.Module):
    """Whether a PP-OCR recogniser reads in SR lines, step by step, what it reads in HR lines.

    Of several recognisers each call draws one, by PyTorch's own random numbers: what only one of them likes to see wins
    nothing with the others, and a step costs no more.

    The generalised cross-entropy `(1 - q^g) / g`, g = 0.5, of the probability q that SR gives to HR's reading: between
    cross-entropy (g to 0), whose gradient is spent on what no network can make legible again, and plain accuracy
    (g = 1), which has nearly none where there is still much to win. Steps where the HR line shows a character weigh 1,
    blanks 0.1; lines that the recogniser is unsure of in HR (mean confidence of its characters below 0.6) are left out.
    The SR lines are blurred a little and given noise first, anew each time (unless `perturb` is False): strokes survive
    that, patterns that only this recogniser likes do not. Judge what is trained with this by *another* recogniser.
    """

    def __init__(self, onnx_files: Sequence[str | Path], perturb: bool = True):
        super().__init__()
        self.models, self.perturb = nn.ModuleList(load_onnx(file) for file in onnx_files), perturb

    def lines(self, images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Cut and scale lines: images (N, 3, H, W) RGB in [-1, 1], boxes (N, 4) to (N, 3, 48, 320) BGR."""
        out = images.new_zeros(len(images), 3, HEIGHT, WIDTH)
        for i, (top, bottom, left, right) in enumerate(boxes.tolist()):
            right = min(right, left + math.ceil((bottom - top) * WIDTH / HEIGHT))  # longer lines are cut, not squeezed
            crop = images[i : i + 1, [2, 1, 0], top:bottom, left:right]
            width = min(WIDTH, max(1, round(HEIGHT * (right - left) / (bottom - top))))
            crop = F.interpolate(crop, size=(HEIGHT, width), mode="bilinear", align_corners=False, antialias=True)
            out[i, :, :, :width] = crop[0]
        return out

    def forward(self, image: torch.Tensor, target: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        """Both images (N, 3, H, W) in [-1, 1]; a scalar."""
        model = self.models[int(torch.randint(len(self.models), ()))]
        with torch.no_grad():
            wanted = model(self.lines(target, boxes))  # (N, T, classes), probabilities, class 0 is blank
            confidence, label = wanted.max(-1)
            is_char = label > 0
            sure = (confidence * is_char).sum(1) / is_char.sum(1).clamp_min(1) > 0.6
            weight = torch.where(is_char, 1.0, 0.1) * sure[:, None]
        lines = self.lines(image.clamp(-1, 1), boxes)
        read = model(perturbed(lines) if self.perturb else lines)
        agreement = read.gather(-1, label[..., None]).squeeze(-1).clamp_min(1e-6)  # q
        loss = (1 - agreement**EXPONENT) / EXPONENT
        return (loss * weight).sum() / weight.sum().clamp_min(1)


def perturbed(lines: torch.Tensor) -> torch.Tensor:
    """Lines (N, 3, H, W) in [-1, 1] as another camera might have seen them, by PyTorch's own random numbers."""
    sigma = (torch.rand(()) * MAX_BLUR).clamp_min(0.1)
    taps = torch.exp(-((torch.arange(-3.0, 4.0) / sigma) ** 2) / 2).to(lines)
    taps = (taps / taps.sum()).expand(3, 1, 1, 7)
    blurred = F.conv2d(F.pad(lines, (3, 3, 3, 3), mode="replicate"), taps, groups=3)
    blurred = F.conv2d(blurred, taps.mT, groups=3)
    return blurred + torch.rand(()) * MAX_NOISE * torch.randn_like(lines)
