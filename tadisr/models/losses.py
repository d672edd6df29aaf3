"""The training objective (paper 3.4, Eq. 7-9): pure functions that return named, weighted terms.

Images (B, 3, H, W) in [-1, 1]; masks (B, 1, H, W); every term is a mean, so it does not depend on batch or image size.
All run in float32, also inside autocast.

The paper does not say in which range it measures. The authors' code does in [0, 1], which `unit_range` gives.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from tadisr.io.images import LUMA


@dataclass
class LossWeights:
    """Eq. 7-9's balancing coefficients, with the paper's values, and what it leaves to Hi-SAM's losses."""

    unit_range: bool = False
    """Measure squared errors, of images and of edges, in [0, 1], as the authors' code does, instead of in [-1, 1]: they
    then weigh a quarter as much beside LPIPS and the terms of masks. The paper does not say."""
    lpips: float = 5.0
    """lambda_1."""
    modified_focal: float = 10.0
    """lambda_2."""
    focal: float = 10.0
    """lambda_3."""
    dice: float = 1.0
    """lambda_4."""
    gamma: float = 2.0
    """Focusing exponent of both focal terms; the paper gives none for Eq. 8."""
    focal_alpha: float = 0.25
    """Weight of text in the focal loss; everything else weighs `1 - focal_alpha`. Hi-SAM has 0.25."""
    dice_squares: bool = False
    """Dice over sums of squares, instead of Hi-SAM's plain sums. It hardly punishes soft masks."""
    text_l1: float = 0.0
    """Ours, for bases trained from scratch: L1 with text and its surroundings weighted `1 + text_weight`."""
    text_mse: float = 0.0
    """The same with squared errors. Its best answer to a doubtful stroke is a faint one; L1's is none at all."""
    text_weight: float = 3.0
    ssim: float = 0.0
    """Ours: 1 - SSIM of the lumas."""


def sobel(image: torch.Tensor) -> torch.Tensor:
    """Horizontal and vertical Sobel derivatives, not normalised, (B, C, H, W) to (B, 2C, H, W); borders repeated."""
    kernel = image.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    weight = torch.stack([kernel, kernel.T]).unsqueeze(1).repeat(image.shape[1], 1, 1, 1)  # (2C, 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), weight, groups=image.shape[1])


def luma_ssim(image: torch.Tensor, target: torch.Tensor, window: int = 7) -> torch.Tensor:
    """Mean SSIM of the lumas of images (B, 3, H, W) in [-1, 1], as `tadisr.metrics.image.ssim` measures it."""
    if min(image.shape[-2:]) < window:
        raise ValueError(f"SSIM needs at least {window} x {window} pixels, got {tuple(image.shape)}.")
    luma = image.new_tensor(LUMA)
    x, y = (torch.einsum("bchw,c->bhw", side / 2 + 0.5, luma) for side in (image, target))
    means = F.avg_pool2d(torch.stack([x, y, x * x, y * y, x * y], 1), window, 1)  # (B, 5, h, w)
    x, y, xx, yy, xy = means.unbind(1)
    unbiased = window**2 / (window**2 - 1)
    variances, covariance = (xx - x * x + yy - y * y) * unbiased, (xy - x * y) * unbiased
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * x * y + c1) * (2 * covariance + c2) / ((x * x + y * y + c1) * (variances + c2))
    return similarity.mean()


def modified_focal_loss(
    image: torch.Tensor,
    target: torch.Tensor,
    mask: torch.Tensor,
    target_mask: torch.Tensor,
    gamma: float = 2.0,
    has_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""`|| [1 - s^ s - (1 - s^)(1 - s)]^gamma (grad x^ - grad x)^2 ||_1` (Eq. 8), averaged over pixels.

    `mask` and `target_mask` are probabilities. Edges where the segmentation is wrong weigh most.
    """
    wrong = 1 - mask * target_mask - (1 - mask) * (1 - target_mask)  # (B, 1, H, W)
    return _mean(wrong.clamp_min(0) ** gamma * (sobel(image) - sobel(target)) ** 2, has_mask)


def focal_loss(
    mask_logits: torch.Tensor,
    target_mask: torch.Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
    has_mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean of cross-entropy times (1 - p_correct)^gamma for soft targets; text weighs `alpha`, the rest 1 - `alpha`."""
    cross_entropy = F.binary_cross_entropy_with_logits(mask_logits, target_mask, reduction="none")
    mask = mask_logits.sigmoid()
    correct = mask * target_mask + (1 - mask) * (1 - target_mask)
    balance = alpha * target_mask + (1 - alpha) * (1 - target_mask)
    return _mean(balance * (1 - correct).clamp_min(0) ** gamma * cross_entropy, has_mask)


def dice_loss(
    mask: torch.Tensor, target_mask: torch.Tensor, squares: bool = False, has_mask: torch.Tensor | None = None
) -> torch.Tensor:
    """`1 - (2 sum(s^ s) + 1) / (sum(s^) + sum(s) + 1)` per image, averaged; `squares` of both in the denominator."""
    mask, target_mask = mask.flatten(1), target_mask.flatten(1)
    overlap = 2 * (mask * target_mask).sum(1) + 1  # 1 on both sides: two empty masks agree
    if squares:
        mask, target_mask = mask.square(), target_mask.square()
    return _mean(1 - overlap / (mask.sum(1) + target_mask.sum(1) + 1), has_mask)


def _mean(values: torch.Tensor, has_mask: torch.Tensor | None) -> torch.Tensor:
    """The mean of (B, ...), images whose `has_mask` (B,) is 0 counting as 0.

    They stay in the graph, so that in every process every parameter has a gradient, and in the divisor, so that the
    mean over a batch is the mean over its images however they are split up.
    """
    if has_mask is not None:
        values = values * has_mask.view(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return values.mean()


def tadisr_loss(
    image: torch.Tensor,
    target: torch.Tensor,
    mask_logits: torch.Tensor | None,
    target_mask: torch.Tensor,
    weights: LossWeights,
    lpips: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None,
    has_mask: torch.Tensor | None = None,
) -> dict[str, torch.Tensor]:
    """Eq. 7 plus Eq. 9 as named terms, weights applied; their sum is the total loss.

    Args:
        image, target: (B, 3, H, W) in [-1, 1].
        mask_logits: (B, 1, H, W). None: there is no mask stream, and no term that needs one.
        target_mask: (B, 1, H, W), probabilities; all zeros where it is not known.
        lpips: compares two images in [-1, 1]; None only where its weight is 0.
        has_mask: (B,), 0 for images whose `target_mask` is not known. They are left out of the terms of masks. None:
            all are known.
    """
    with torch.autocast(image.device.type, enabled=False):
        image, target, target_mask = (x.float() for x in (image, target, target_mask))
        squared = 0.25 if weights.unit_range else 1.0  # half the difference, squared
        terms = {"mse": squared * F.mse_loss(image, target)}
        if weights.lpips:
            if lpips is None:
                raise ValueError("LPIPS has a weight but no network: pass one, or set the weight to 0.")
            terms["lpips"] = weights.lpips * lpips(image, target).mean()
        if weights.text_l1 or weights.text_mse:
            # Within 4 pixels of text. A pixel loss alone smooths strokes: they are few.
            near_text = 1 + weights.text_weight * F.max_pool2d(target_mask, 9, stride=1, padding=4)
            error = image - target
            if weights.text_l1:
                terms["text_l1"] = weights.text_l1 * (near_text * error.abs()).mean()
            if weights.text_mse:
                terms["text_mse"] = weights.text_mse * (near_text * error.square()).mean()
        if weights.ssim:
            terms["ssim"] = weights.ssim * (1 - luma_ssim(image, target))
        if mask_logits is None:
            return terms
        mask_logits = mask_logits.float()
        mask, gamma = mask_logits.sigmoid(), weights.gamma
        if weights.modified_focal:
            focal_edges = modified_focal_loss(image, target, mask, target_mask, gamma, has_mask)
            terms["modified_focal"] = squared * weights.modified_focal * focal_edges
        terms["mask_mse"] = _mean((mask - target_mask) ** 2, has_mask)
        terms["focal"] = weights.focal * focal_loss(mask_logits, target_mask, gamma, weights.focal_alpha, has_mask)
        terms["dice"] = weights.dice * dice_loss(mask, target_mask, weights.dice_squares, has_mask)
    return terms
