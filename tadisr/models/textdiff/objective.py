"""TextDiff's training objective (Liu et al., 2023, Eq. 1-3 and 11-16): pure functions, named weighted terms.

Images (N, 3, H, W) in [0, 1], residuals (N, 3, H, W) in [-1, 1], masks (N, 1, H, W), text priors (N, T, classes). Every
term is a mean, so it does not depend on batch or image size, and runs in float32, also inside autocast.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from tadisr.models.textdiff.network import TextDiffPrediction
    from tadisr.models.textdiff.recognizer import CRNN


@dataclass
class TextDiffLossWeights:
    """The balancing coefficients of Eq. 13-16, with the paper's values; 0 leaves a term out."""

    gradient: float = 0.5
    """lambda_1, gradient profile loss (Eq. 1)."""
    mask: float = 3.0
    """lambda_2, dice loss of the mask (Eq. 2 and 3)."""
    text_prior: float = 100.0
    """Text prior loss: weight 1 in Eq. 13, times the 100 of TATT's code."""
    diffusion: float = 1.0
    """Error of what the U-Net predicts (Eq. 11)."""
    edge: float = 1.0
    """Error of the predicted residual's Laplacian (Eq. 12)."""
    joint: float = 5.0
    """lambda, recogniser features of the final image (Eq. 15)."""
    pixel: float = 0.0
    """Ours: squared error of the coarse image, whose colours Eq. 1 leaves free."""


def gradient_magnitude(image: torch.Tensor) -> torch.Tensor:
    """Length of the central-difference gradient of each channel, (N, C, H, W) to the same, as in TSRN's code.

    The image is padded with black. 1e-6 under the root keeps it differentiable where the image is flat.
    """
    across = F.pad(image, (1, 1, 0, 0))
    down = F.pad(image, (0, 0, 1, 1))
    horizontal = (across[..., 2:] - across[..., :-2]) / 2
    vertical = (down[..., 2:, :] - down[..., :-2, :]) / 2
    return (horizontal.square() + vertical.square() + 1e-6).sqrt()


def gradient_profile_loss(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of gradient magnitudes (Eq. 1)."""
    return F.l1_loss(gradient_magnitude(sr), gradient_magnitude(hr))


def mask_dice_loss(mask: torch.Tensor, target: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """`1 - 2 sum(P G) / (sum(P^2) + sum(G^2))`, mean over images (Eq. 2 and 3); `eps` makes two empty masks agree."""
    mask, target = mask.flatten(1), target.flatten(1)
    overlap = 2 * (mask * target).sum(1) + eps
    return (1 - overlap / (mask.square().sum(1) + target.square().sum(1) + eps)).mean()


def text_prior_loss(prior: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """TATT's distance of text priors, probabilities (N, T, classes): mean |p - q| plus mean q log(q / p)."""
    divergence = torch.xlogy(target, target) - target * prior.clamp_min(1e-20).log()
    return F.l1_loss(prior, target) + divergence.mean()


def laplacian(image: torch.Tensor) -> torch.Tensor:
    """f_Edge of Eq. 12: 8 times each pixel minus its eight neighbours, channel by channel; borders are replicated."""
    kernel = -torch.ones(3, 3, dtype=image.dtype, device=image.device)
    kernel[1, 1] = 8
    weight = kernel.expand(image.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), weight, groups=image.shape[1])


def edge_loss(residual: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared difference of Laplacians (Eq. 12)."""
    return F.mse_loss(laplacian(residual), laplacian(target))


def joint_loss(features: Sequence[torch.Tensor], target: Sequence[torch.Tensor]) -> torch.Tensor:
    """Sum over layers of the mean absolute difference of recogniser features (Eq. 15)."""
    return torch.stack([F.l1_loss(x, y) for x, y in zip(features, target, strict=True)]).sum()


def textdiff_loss(
    output: "TextDiffPrediction",
    hr: torch.Tensor,
    mask: torch.Tensor,
    weights: TextDiffLossWeights,
    recognizer: "CRNN | None" = None,
) -> dict[str, torch.Tensor]:
    """Eq. 16 as named terms, weights applied; their sum is the total loss.

    Args:
        hr: ground truth (N, 3, H, W) in [0, 1].
        mask: ground-truth text mask (N, 1, H, W), 1 on text; not used without a mask branch.
        recognizer: frozen, in eval mode, not the network's own copy. It reads `hr` for the text prior loss and gives
            the joint loss its features; needed if either has a weight.
    """
    if weights.joint or weights.text_prior:
        if recognizer is None:
            raise ValueError("The joint and text prior losses need a recogniser: pass one, or set both weights to 0.")
        if recognizer.training or any(parameter.requires_grad for parameter in recognizer.parameters()):
            raise ValueError(
                "The losses' recogniser must be frozen: call .eval() and .requires_grad_(False) on a copy."
            )
    with torch.autocast(hr.device.type, enabled=False):
        hr, sr, estimate = hr.float(), output.sr.float(), output.predicted_residual.float()
        terms = {}
        if weights.pixel:
            terms["pixel"] = weights.pixel * F.mse_loss(sr, hr)
        if weights.gradient:
            terms["gradient"] = weights.gradient * gradient_profile_loss(sr, hr)
        if weights.mask and output.mask_logits is not None:
            terms["mask"] = weights.mask * mask_dice_loss(output.mask_logits.float().sigmoid(), mask.float())
        if weights.diffusion:
            terms["diffusion"] = weights.diffusion * F.mse_loss(output.prediction.float(), output.target.float())
        if weights.edge:
            terms["edge"] = weights.edge * edge_loss(estimate, output.residual.float())
        if recognizer is not None:
            with torch.no_grad():
                hr_features = recognizer.features(recognizer.prepare(hr))
            if weights.text_prior:
                with torch.no_grad():
                    hr_prior = recognizer.classify(hr_features[-1]).softmax(-1)
                terms["text_prior"] = weights.text_prior * text_prior_loss(output.prior.float(), hr_prior)
            if weights.joint:
                features = recognizer.features(recognizer.prepare(output.sharpened.float() + estimate))
                terms["joint"] = weights.joint * joint_loss(features, hr_features)
    return terms
