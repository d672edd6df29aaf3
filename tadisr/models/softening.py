"""Less correction on text: what a restoration adds to its input may be held back where the mask says text.

It comes after the paper's decoder, and `at_fidelity` is its one dial.

Shapes: B batch, H, W pixels. The margins and thresholds were measured with `tadisr-tiny`, see docs/log/tadisr-tiny.md.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import avg_pool2d, interpolate, pad

_TEXT_MARGIN = 5  # pixels around the mask that count as text, too
_DOUBT_MARGIN = 16  # pixels to each side over which doubt is averaged: about a letter
_COARSE = 2  # pixels to each side over which a correction is blurred to find its low frequencies
_CLEAR_BELOW, _DOUBTFUL_ABOVE = 0.15, 0.35  # of the averaged doubt


@dataclass(frozen=True)
class Softening:
    """Damps a correction near text; far from text all of it is kept."""

    text: float = 1.0
    """Share of the correction that is kept on text. Readers forgive soft strokes, but not wrong ones."""
    clear: float | None = None
    """Share that is kept where the mask is sure of its strokes, see `text_doubt`. None: `text`."""
    coarse: float | None = None
    """Share of its low frequencies that is kept on doubtful text; OCR is insensitive to them. None: `text`."""

    @property
    def is_identity(self) -> bool:
        """Whether every correction stays as it is."""
        return all(share in (None, 1) for share in (self.text, self.clear, self.coarse))

    def __call__(self, correction: torch.Tensor, mask_logits: torch.Tensor) -> torch.Tensor:
        """A correction (B, 3, H, W), by mask logits (B, 1, H, W), to the damped one, of the same shape.

        The mask is `min(1, 4 p)`, dilated by 5 pixels and then blurred by 5 pixels twice: the kept share falls smoothly
        from 1 to `text` across about 20 pixels around text, so that no seam shows. A line's outermost strokes keep up
        to a quarter of the difference.
        """
        mask = mask_logits.sigmoid()
        near = pad((4 * mask).clamp(max=1), [_TEXT_MARGIN] * 4)  # zeros change no maximum
        near = _blur(sliding_reduce(near, _TEXT_MARGIN, torch.maximum), _TEXT_MARGIN)
        doubtful = near if self.clear is None else near * text_doubt(mask)
        clear = self.text if self.clear is None else self.clear
        damped = correction * (1 - (1 - clear) * near - (clear - self.text) * doubtful)
        if self.coarse is None:
            return damped
        return damped + (self.coarse - self.text) * doubtful * _blur(correction, _COARSE)


MIDDLE = Softening(0.111, 1.0, 0.667)
"""At a fidelity of 0.5: sure strokes keep all, doubtful text keeps a ninth, and two thirds of what is coarse there."""


def at_fidelity(fidelity: float | torch.Tensor, middle: Softening = MIDDLE) -> Softening:
    """The softening at a point of the dial; each share rises with it.

    Args:
        fidelity: from 0, where text keeps nothing of the correction, to 1, where it keeps all; a number, or a tensor of
            one, as in an exported graph.
        middle: the softening at 0.5. Between it and the ends shares go straight.
    """
    lower: Any
    upper: Any
    if isinstance(fidelity, torch.Tensor):
        lower, upper = (2 * fidelity).clamp(max=1), (2 * fidelity - 1).clamp(min=0)
    else:
        lower, upper = min(2 * fidelity, 1.0), max(2 * fidelity - 1, 0.0)
    shares = (middle.text if share is None else share for share in (middle.text, middle.clear, middle.coarse))
    return Softening(*(lower * share + upper * (1 - share) for share in shares))


def text_doubt(mask: torch.Tensor) -> torch.Tensor:
    """From 0 where a mask is sure of the strokes around a pixel, to 1 where it is not; probabilities (B, 1, H, W) both.

    The doubt is `sum m (1 - m) / sum m` over about a letter: thin and crowded strokes make a mask of halves. It tells
    whether text can be read: of bicubic text a reader reads 0.96 where this is below 0.3, and 0.15 where it is above
    0.7. The result rises from 0 to 1 while the doubt rises from 0.15 to 0.35.
    """
    sums = torch.cat([mask, mask * (1 - mask)], dim=1)
    margin, size = _DOUBT_MARGIN, 2 * _DOUBT_MARGIN + 1
    sums = avg_pool2d(sums, (size, 1), (4, 1), (margin, 0), count_include_pad=False)
    sums = avg_pool2d(sums, (1, size), (1, 4), (0, margin), count_include_pad=False)
    text, doubt = sums.split(1, dim=1)
    doubt = doubt / (text + 0.01)  # 0.01: a mask of almost nothing is no doubt
    doubt = ((doubt - _CLEAR_BELOW) / (_DOUBTFUL_ABOVE - _CLEAR_BELOW)).clamp(0, 1)
    return interpolate(doubt, mask.shape[-2:], mode="bilinear", align_corners=False)


def _blur(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Two means over squares of `2 margin + 1` pixels: nearly a Gaussian, of sigma 2 for a margin of 2."""
    sums = pad(x.float(), [2 * margin] * 4, mode="replicate")
    for _ in range(2):
        sums = sliding_reduce(sums, margin, torch.add)
    return (sums / (2 * margin + 1) ** 4).to(x.dtype)


def sliding_reduce(
    x: torch.Tensor, margin: int, combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """Every square of `2 margin + 1` pixels reduced to one, without padding: (B, C, H, W) shrinks by `2 margin`.

    Windows of 1, 2, 4, ... pixels are combined to the whole one. On CPUs this takes a tenth of the time of pooling for
    means, and a fortieth for maxima.
    """
    for axis in (-2, -1):
        size = x.shape[axis] - 2 * margin
        whole, part, width = x.narrow(axis, 0, size), x, 1
        start, rest = 1, margin  # a window is one pixel and twice the margin
        while rest:
            length = part.shape[axis] - width
            part = combine(part.narrow(axis, 0, length), part.narrow(axis, width, length))
            width *= 2
            if rest % 2:
                whole = combine(whole, part.narrow(axis, start, size))
                start += width
            rest //= 2
        x = whole
    return x
