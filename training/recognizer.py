"""A frozen text recogniser as a loss: what is read in the SR line must be what is read in the HR line."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from tadisr.training.recognizer_graph import load_onnx
from torch import nn

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input
EXPONENT = 0.5


class RecognizerLoss(nn.Module):
    """Whether a PP-OCR recogniser reads in SR lines, step by step, what it reads in HR lines.

    The generalised cross-entropy `(1 - q^g) / g`, g = 0.5, of the probability q that SR gives to HR's reading: between
    cross-entropy (g to 0), whose gradient is spent on what no network can make legible again, and plain accuracy
    (g = 1), which has nearly none where there is still much to win. Steps where the HR line shows a character weigh 1,
    blanks 0.1; lines that the recogniser is unsure of in HR (mean confidence of its characters below 0.6) are left out.
    Judge what is trained with this by *another* recogniser.
    """

    def __init__(self, onnx_file: str | Path):
        super().__init__()
        self.model = load_onnx(onnx_file)

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
        with torch.no_grad():
            wanted = self.model(self.lines(target, boxes))  # (N, T, classes), probabilities, class 0 is blank
            confidence, label = wanted.max(-1)
            is_char = label > 0
            sure = (confidence * is_char).sum(1) / is_char.sum(1).clamp_min(1) > 0.6
            weight = torch.where(is_char, 1.0, 0.1) * sure[:, None]
        read = self.model(self.lines(image.clamp(-1, 1), boxes))
        agreement = read.gather(-1, label[..., None]).squeeze(-1).clamp_min(1e-6)  # q
        loss = (1 - agreement**EXPONENT) / EXPONENT
        return (loss * weight).sum() / weight.sum().clamp_min(1)
