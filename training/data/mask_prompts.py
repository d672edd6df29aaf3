"""Masks as a person would draw them: the true one, drawn badly and in parts, for the training of mask prompts.

What is random is drawn by the processor. The drawing itself is made where the mask lies.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch.nn.functional import grid_sample, interpolate, max_pool2d
from torchvision.transforms.functional import gaussian_blur

_EXACT = 0.5  # share of drawings that are the mask itself: what is never exact is not worth following
_SHIFT, _WOBBLE = 1.0, 1.0  # pixels: of the whole drawing, seldom twice as far; of its strokes against each other
_KNOTS = 12  # pixels between the points whose wobble is drawn
_LEAST_INK = 0.5  # of the strokes that a thinner drawing keeps

Rectangle = tuple[int, int, int, int]  # top, bottom, left, right


class Drawing(NamedTuple):
    """How a mask is drawn."""

    denied: list[Rectangle]
    """Where "no text" is said, whatever there is."""
    knots: np.ndarray
    """Where strokes are looked for, x and y in pixels from their place: (1, 2, h, w), to be enlarged to (H, W)."""
    side: int
    """Of a brush, pixels."""
    bold: bool
    coarse: tuple[int, int] | None
    """The size of the picture it is drawn on, where that is smaller."""
    smooth: bool
    """Enlarged from there smoothly."""
    threshold: float | None
    """With hard edges, at this value."""
    sigma: float | None
    """With soft edges: of a Gaussian, pixels."""
    places: list[Rectangle]
    given: bool
    """In the places, or everywhere but there."""


def plan_drawing(shape: tuple[int, int], rng: np.random.Generator) -> Drawing:
    """Draw how a mask of that shape (H, W) is drawn."""
    denied = _rectangles(shape, 1, rng) if rng.random() < 0.1 else []
    shift = rng.uniform(-_SHIFT, _SHIFT, 2) * rng.choice([0, 1, 2], p=[0.3, 0.6, 0.1])
    wobble = rng.uniform(-_WOBBLE, _WOBBLE, (2, *(side // _KNOTS + 2 for side in shape))) * (rng.random() < 0.4)
    side, bold = int(rng.choice([1, 3, 5], p=[0.4, 0.4, 0.2])), rng.random() < 0.5
    coarse = [max(1, round(length / rng.uniform(2, 4))) for length in shape] if rng.random() < 0.25 else None
    smooth, edge = rng.random() < 0.7, rng.random()
    threshold = rng.uniform(0.3, 0.6) if edge < 0.3 else None
    sigma = rng.uniform(0.4, 2.0) if edge > 0.7 else None
    kind = rng.choice(["all", "parts", "rest"], p=[0.4, 0.3, 0.3])
    places = [] if kind == "all" else _rectangles(shape, int(rng.integers(1, 4)), rng)
    knots = (wobble + shift[:, None, None])[None].astype(np.float32)
    if rng.random() < _EXACT:
        knots, side, coarse, threshold, sigma = np.zeros_like(knots), 1, None, None, None
    return Drawing(
        denied, knots, side, bold, (coarse[0], coarse[1]) if coarse else None, smooth, threshold, sigma, places,
        given=kind == "parts",
    )  # fmt: skip


def draw_prompt(mask: torch.Tensor, drawing: Drawing) -> tuple[torch.Tensor, torch.Tensor]:
    """A prompt (2, H, W) and the mask (1, H, W) that is wanted with it, of a crop's true mask (1, H, W) in [0, 1].

    The prompt is the mask where it is given, and where it is given: see `MaskPromptEncoder`. The drawing may be exact,
    or moved, uneven, bolder or thinner, hard or soft, coarse, and only of parts of the crop. What is wanted is the true
    mask: the image itself says where strokes are. In a tenth of the prompts "no text" is said of a place that may have
    some. The mask that is wanted follows, and the image stays: nobody wants text to be smeared that he forgot to draw.
    """
    mask = mask * ~_within(mask, drawing.denied)
    drawn = _weighted(_moved(mask[None], drawing.knots), drawing.side, drawing.bold)
    if drawing.coarse is not None:
        small = interpolate(drawn, drawing.coarse, mode="area")
        drawn = interpolate(small, mask.shape[-2:], mode="bilinear" if drawing.smooth else "nearest")
    if drawing.threshold is not None:
        drawn = (drawn > drawing.threshold).to(drawn)
    if drawing.sigma is not None:
        drawn = gaussian_blur(drawn, [2 * int(np.ceil(3 * drawing.sigma)) + 1] * 2, [drawing.sigma] * 2)
    given = (_within(mask, drawing.places) == drawing.given).to(drawn)
    return torch.cat([drawn[0].clamp(0, 1) * given, given]), mask


def _moved(mask: torch.Tensor, knots: np.ndarray) -> torch.Tensor:
    """(1, 1, H, W) shifted as a whole, and each stroke a little by itself: another hand, another face."""
    height, width = mask.shape[-2:]
    field = interpolate(torch.from_numpy(knots).to(mask), (height, width), mode="bicubic")[0]
    y, x = (torch.arange(side, device=mask.device, dtype=mask.dtype) for side in (height, width))
    place = [x + field[0], y[:, None] + field[1]]
    grid = torch.stack([2 * at / max(1, side - 1) - 1 for at, side in zip(place, (width, height), strict=True)], -1)
    return grid_sample(mask, grid[None], padding_mode="border", align_corners=True)


def _weighted(mask: torch.Tensor, side: int, bold: bool) -> torch.Tensor:
    """By up to two pixels bolder or thinner at each edge, with a round brush; strokes that would vanish stay."""
    if side == 1:
        return mask
    sign = 1 if bold else -1
    shapes = ((1, 3), (3, 1)) if side == 3 else ((3, 5), (5, 1))
    parts = [max_pool2d(sign * mask, shape, 1, [length // 2 for length in shape]) for shape in shapes]
    changed = sign * torch.maximum(*parts)
    return changed if bold else torch.where(changed.sum() >= _LEAST_INK * mask.sum(), changed, mask)


def _rectangles(shape: tuple[int, int], count: int, rng: np.random.Generator) -> list[Rectangle]:
    """Rectangles whose sides are an eighth to two thirds of the crop's."""
    places = []
    for _ in range(count):
        sides = [max(1, round(length * rng.uniform(1 / 8, 2 / 3))) for length in shape]
        y, x = (int(rng.integers(0, length - side + 1)) for length, side in zip(shape, sides, strict=True))
        places.append((y, y + sides[0], x, x + sides[1]))
    return places


def _within(mask: torch.Tensor, places: list[Rectangle]) -> torch.Tensor:
    """(1, H, W) bool, true within the rectangles."""
    inside = torch.zeros_like(mask, dtype=torch.bool)
    for top, bottom, left, right in places:
        inside[:, top:bottom, left:right] = True
    return inside
