"""Frozen text recognisers as losses: the SR line must read as the HR line does, or as the string that was drawn."""

import math
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from tadisr.training.recognizer.onnx_graph import alphabet, load_onnx, with_features

HEIGHT, WIDTH = 48, 320  # PP-OCR's recognition input
WHOLE_WIDTH = 640  # the longest line that is read as a whole
STRIDE = 8  # width of a reading step, pixels
EXPONENT = 0.5
MAX_NOISE = 0.1  # sigma, of values in [-1, 1]
MAX_SHIFT = 2  # pixels, of each side of a line's box
MAX_STRETCH = 1.2  # of a line's width, or by its inverse
LEAST = 1e-8  # the least probability that has a logarithm


class RecognizerLoss(nn.Module):
    """What PP-OCR makes of SR lines: as the HR line is read, as the text that was drawn, as the HR line looks to it.

    Each call draws one of several recognisers, by PyTorch's own random numbers. A pattern that only one of them likes
    then wins nothing with the others, and a step costs no more than with one recogniser. The HR and the SR lines go
    through it once, whatever is asked for:

    - "recognizer": the disagreement of the readings of SR and HR, reading step by reading step. It is the generalised
      cross-entropy `(1 - q^g) / g`, g = 0.5, where q is the probability of HR's reading in the SR line. It lies between
      cross-entropy (g to 0), whose gradient is spent on strokes that no network can make legible again, and plain
      accuracy (g = 1), which has almost no gradient where most can be won. Steps where the HR line shows a character
      weigh 1, blanks 0.1. Lines that the recogniser is unsure of in HR (mean confidence of its characters below 0.6)
      are left out.
    - "recognizer_ctc": the same bounded loss, where q is the probability of the drawn text in the SR line by CTC, per
      character (the n-th root of that of n characters). A character weighs what q is in the HR line: a recogniser that
      does not know a face or a script has no say. Lines whose text is unknown, or not in its alphabet, are left out.
    - "recognizer_features": the squared difference of the recogniser's maps of strokes (see `with_features`) of SR and
      HR lines, by the square of HR's.

    Judge networks that are trained with this loss by *another* recogniser.

    Args:
        onnx_files: the recognisers, see `load_onnx`.
        perturb: cut the lines a little wider or narrower and stretch them, SR and HR alike, and add noise to the SR
            lines, anew in each call. Strokes survive that; patterns that only these recognisers like do not. Lines are
            not blurred: doubtful strokes are illegible because they are sharp, and blur would hide that.
        ctc: give "recognizer_ctc", too. The ONNX files must name their characters.
        features: give "recognizer_features", too.
    """

    def __init__(
        self, onnx_files: Sequence[str | Path], perturb: bool = True, ctc: bool = False, features: bool = False
    ):
        super().__init__()
        models = [load_onnx(file) for file in onnx_files]
        self.models = (
            nn.ModuleList(with_features(model, HEIGHT) for model in models) if features else nn.ModuleList(models)
        )
        self.alphabets = [alphabet(file) for file in onnx_files] if ctc else []
        self.perturb, self.features = perturb, features

    def forward(
        self, image: torch.Tensor, target: torch.Tensor, boxes: torch.Tensor, texts: Sequence[str] = ()
    ) -> dict[str, torch.Tensor]:
        """Scalars: "recognizer", in [0, 2], and where asked for "recognizer_ctc", likewise, and "recognizer_features".

        Args:
            image, target: SR and HR lines (N, 3, H, W) in [-1, 1].
            boxes: (N, 4): top, bottom, left, right of each line, pixels.
            texts: for CTC, what each line shows; empty where it is not known.
        """
        number = int(torch.randint(len(self.models), ()))
        model, longest = self.models[number], WHOLE_WIDTH if self.alphabets else WIDTH
        stretch = 1.0
        if self.perturb:
            boxes = shifted(boxes, image.shape[-2:])
            stretch = MAX_STRETCH ** float(torch.rand(()) * 2 - 1)
        clean = cut_lines(target, boxes, stretch, longest)
        with torch.no_grad():
            seen, wanted = self._read(model, clean)
            label, weight = reading(wanted)
        lines = cut_lines(image.clamp(-1, 1), boxes, stretch, longest)
        if self.perturb:
            lines = perturbed(lines)
            if self.alphabets or self.features:  # noise beside the lines would be most of what their maps differ by
                lines = lines * (clean.abs().amax((1, 2), keepdim=True) > 0)
        strokes, read = self._read(model, lines)
        terms = {"recognizer": _mean(bounded(read.gather(-1, label[..., None]).squeeze(-1)), weight)}
        if self.alphabets:
            codes = encoded(texts, self.alphabets[number], read.shape[1])
            likely, known = likelihood(read, codes), likelihood(wanted, codes)
            terms["recognizer_ctc"] = _mean(bounded(likely), known * known.new_tensor([len(code) for code in codes]))
        if strokes is not None and seen is not None:
            strokes, seen = strokes.float(), seen.float()
            terms["recognizer_features"] = (strokes - seen).square().sum() / seen.square().sum().clamp_min(LEAST)
        return terms

    def _read(self, model: nn.Module, lines: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        """The map of strokes, where asked for, and the probabilities (N, T, classes)."""
        return model(lines) if self.features else (None, model(lines))


def bounded(q: torch.Tensor) -> torch.Tensor:
    """`(1 - q^g) / g` of probabilities, g = 0.5: 0 for 1, 2 for 0."""
    return (1 - q.clamp_min(1e-6) ** EXPONENT) / EXPONENT


def _mean(loss: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return (loss * weight).sum() / weight.sum().clamp_min(1)


def encoded(texts: Sequence[str], alphabet: dict[str, int], steps: int) -> list[list[int]]:
    """The classes of each text's characters.

    None for a text with a character that is not in the alphabet, and for one that CTC cannot put into so many steps:
    between two equal characters it needs a blank.
    """
    codes = [[alphabet.get(char, 0) for char in text.strip()] for text in texts]
    needed = [len(code) + sum(a == b for a, b in pairwise(code)) for code in codes]
    return [code if all(code) and count <= steps else [] for code, count in zip(codes, needed, strict=True)]


def likelihood(probabilities: torch.Tensor, codes: Sequence[Sequence[int]]) -> torch.Tensor:
    """The probability per character (N,) of texts, by CTC, in readings (N, T, classes); 0 for empty ones."""
    lengths = torch.tensor([len(code) for code in codes])
    steps = torch.full_like(lengths, probabilities.shape[1])
    classes = torch.tensor(list(chain(*codes)), dtype=torch.long, device=probabilities.device)
    with torch.autocast(probabilities.device.type, enabled=False):
        scores = probabilities.float().clamp_min(LEAST).log().transpose(0, 1)
        loss = F.ctc_loss(scores, classes, steps, lengths, reduction="none")
    lengths = lengths.to(loss.device)
    return torch.where(lengths > 0, (-loss / lengths.clamp_min(1)).exp(), 0.0)


def cut_lines(images: torch.Tensor, boxes: torch.Tensor, stretch: float = 1.0, longest: int = WIDTH) -> torch.Tensor:
    """Cut and scale lines: images (N, 3, H, W) RGB in [-1, 1], boxes (N, 4) to (N, 3, 48, W <= longest) BGR."""
    crops = []
    for image, (top, bottom, left, right) in zip(images, boxes.tolist(), strict=True):
        scale = HEIGHT / (bottom - top) * stretch
        right = min(right, left + math.ceil(longest / scale))  # longer lines are cut, not squeezed
        crop = image[None, [2, 1, 0], top:bottom, left:right]
        width = min(longest, max(1, round(scale * (right - left))))
        crop = F.interpolate(crop, size=(HEIGHT, width), mode="bilinear", align_corners=False, antialias=True)
        crops.append(crop[0])
    widest = math.ceil(max(crop.shape[-1] for crop in crops) / STRIDE) * STRIDE
    return torch.stack([F.pad(crop, (0, widest - crop.shape[-1])) for crop in crops])


@torch.no_grad()
def reading(probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a recogniser's probabilities (N, T, classes) say, step by step: classes (N, T) and weights (N, T).

    A character weighs 1 and a blank (class 0) 0.1. In lines whose characters' mean confidence is 0.6 or less, all steps
    weigh 0.
    """
    confidence, label = probabilities.max(-1)
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
