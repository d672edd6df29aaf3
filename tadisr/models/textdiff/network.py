"""TextDiff as a whole: prior generator, enhancement, residual diffusion; its training forward and its sampling.

Letters: N batch, h, w pixels of the LR image, s scale, H = sh, W = sw, T steps of the text prior.
"""

from copy import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from diffusers import DDIMScheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import nn

from tadisr.models.tensors import upsample
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet

TRAIN_TIMESTEPS = 200


def textdiff_scheduler(corrected: bool = False, prediction_type: str = "sample") -> DDIMScheduler:
    """The paper's noise schedule: T = 200, betas linear from 1e-6 to 1e-2, x0 predicted, sampling from T - 1 down.

    `corrected` scales the betas, which were made for 1000 steps, by 1000 / 200. As published, alpha-bar at T - 1 is
    0.37, so training never shows the U-Net the pure noise that sampling starts from; corrected it is 0.006.
    """
    factor = 1000 / TRAIN_TIMESTEPS if corrected else 1
    settings: dict[str, Any] = {
        "num_train_timesteps": TRAIN_TIMESTEPS,
        "beta_start": 1e-6 * factor,
        "beta_end": 1e-2 * factor,
        "beta_schedule": "linear",
        "prediction_type": prediction_type,
        "clip_sample": False,
        "set_alpha_to_one": True,
        "timestep_spacing": "trailing",
    }
    return DDIMScheduler(**settings)


def clean_residual(
    scheduler: DDIMScheduler, prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """x0 from the U-Net's prediction for `noisy` x_t at `timesteps` (N,): the prediction itself, or from Eq. 7."""
    kind = scheduler.config["prediction_type"]
    if kind == "sample":
        return prediction
    if kind != "epsilon":
        raise ValueError(f"TextDiff predicts 'sample' or 'epsilon', not {kind!r}.")
    alpha_bar = scheduler.alphas_cumprod.to(noisy.device)[timesteps].view(-1, 1, 1, 1)
    return (noisy - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()


@dataclass
class TextDiffPrediction:
    """The result of one training forward of `TextDiffNetwork`, for the losses."""

    sr: torch.Tensor
    """x_sr, the coarse image (N, 3, H, W), near [0, 1]."""
    mask_logits: torch.Tensor | None
    """(N, 1, H, W); None without a mask branch."""
    prior: torch.Tensor
    """The text prior (N, T, 37), probabilities; the prior generator gets its gradient from here only."""
    prediction: torch.Tensor
    """The U-Net's output (N, 3, H, W)."""
    target: torch.Tensor
    """The target of `prediction`: `residual`, or the noise for noise prediction."""
    residual: torch.Tensor
    """x0 = hr - sharpened (N, 3, H, W)."""
    predicted_residual: torch.Tensor
    """The estimate of x0 (N, 3, H, W); `sharpened + predicted_residual` is the final image."""
    first_estimate: torch.Tensor | None = None
    """The estimate of x0 for the first lines with which sampling without noise begins; it does not depend on `hr`."""
    base: torch.Tensor | None = None
    """The images (N, 3, H, W) that MRD sharpens; None: `sr`."""

    @property
    def sharpened(self) -> torch.Tensor:
        """The images to which `predicted_residual` is added."""
        return self.sr if self.base is None else self.base


class TextDiffNetwork(nn.Module):
    """TPG, TEM, MRD and their schedule, trained jointly: one module for DDP, and for inference.

    Args:
        recognizer: the trainable prior generator (TPG); the losses have a frozen copy of their own.
        diffusion: False: MRD is a plain U-Net, one pass at timestep 0 without noise (Table 3's ablation).
        detach_condition: x_sr and the mask condition the U-Net without a gradient into TEM, as in DocDiff. TEM still
            learns from the residual hr - sr and from the joint loss.
    """

    def __init__(
        self,
        enhancement: TextEnhancementModule,
        recognizer: CRNN,
        unet: ResidualUNet,
        scheduler: DDIMScheduler,
        diffusion: bool = True,
        detach_condition: bool = False,
    ):
        super().__init__()
        if unet.config.mask and not enhancement.config.mask_branch:
            raise ValueError("The U-Net reads a mask, but the enhancement module has no mask branch.")
        if enhancement.config.num_classes != recognizer.config.num_classes:
            raise ValueError(
                f"The recogniser has {recognizer.config.num_classes} classes, the enhancement module expects "
                f"{enhancement.config.num_classes}."
            )
        self.enhancement, self.recognizer, self.unet, self.scheduler = enhancement, recognizer, unet, scheduler
        self.diffusion, self.detach_condition = diffusion, detach_condition

    def text_prior(self, lr: torch.Tensor) -> torch.Tensor:
        """The recogniser's reading of crops (N, 3, h, w) in [0, 1]: probabilities (N, T, 37), float32."""
        return self.recognizer(self.recognizer.prepare(lr)).float().softmax(-1)

    @torch.no_grad()
    def enhance(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """`lr` (N, 3, h, w) in [0, 1] to x_sr (N, 3, H, W), mask probability (N, 1, H, W) or None, and text prior."""
        prior = self.text_prior(lr)
        sr, mask_logits = self.enhancement(lr, prior)
        return sr, None if mask_logits is None else mask_logits.sigmoid(), prior

    @torch.no_grad()
    def refine(
        self,
        images: torch.Tensor,
        mask: torch.Tensor | None,
        num_inference_steps: int = 5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float | None = None,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """The cascade: sharpen TEM's or any method's images by a residual that is sampled by Eq. 9.

        The steps are spread over T as the scheduler says, and each goes from its timestep to the next one. The
        scheduler's own `step` is not used: it goes T // num_inference_steps down, which is wrong where that number does
        not divide T, as with 110 steps. With `diffusion` off there is one pass at timestep 0, without noise. The result
        is float32 and not clamped.

        Args:
            images: (N, 3, H, W) in [0, 1].
            mask: text probability (N, 1, H, W); ignored if the U-Net reads none.
            num_inference_steps: 1 to 200.
            generator: source of the noise, or a list of one for each image.
            eta: 0: deterministic (Eq. 8 and 9); 1: the original stochastic sampling. None: 0 for x0 prediction, 1 for
                noise prediction.
            temperature: factor of all noise that is drawn. 1 is as published: a sample of what the line may be, with
                strokes that noise has chosen. 0 needs no `generator` and comes closer to the truth.
        """
        limit = self.scheduler.config["num_train_timesteps"]
        if not 1 <= num_inference_steps <= limit:
            raise ValueError(f"Expected 1 to {limit} sampling steps, got num_inference_steps={num_inference_steps}.")
        if not 0 <= temperature <= 1:
            raise ValueError(f"Expected a temperature from 0 to 1, got {temperature}.")
        images, dtype = images.float(), self.unet.dtype
        condition = (images.to(dtype), mask.to(dtype) if mask is not None and self.unet.config.mask else None)
        if not self.diffusion:
            return images + self.unet(torch.zeros_like(condition[0]), 0, *condition).float()
        if eta is None:
            eta = float(self.scheduler.config["prediction_type"] == "epsilon")
        schedule = copy(self.scheduler)  # which keeps its steps in itself, while other calls take theirs
        schedule.set_timesteps(num_inference_steps)
        timesteps = schedule.timesteps[:num_inference_steps]  # by rounding a few, such as 29, are one too long

        def noise_of_size(factor: float) -> torch.Tensor:
            if factor == 0:
                return torch.zeros_like(images)
            return factor * randn_tensor(images.shape, generator=generator, device=images.device, dtype=images.dtype)

        x = noise_of_size(temperature)
        alpha_bars = pairwise([*self.scheduler.alphas_cumprod[timesteps].tolist(), 1.0])
        for timestep, (alpha_bar, alpha_bar_previous) in zip(timesteps.tolist(), alpha_bars, strict=True):
            prediction = self.unet(x.to(dtype), timestep, *condition).float()
            x0 = clean_residual(self.scheduler, prediction, x, torch.tensor([timestep], device=x.device))
            noise = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
            variance = (1 - alpha_bar_previous) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_previous) * eta**2
            x = alpha_bar_previous**0.5 * x0 + max(0.0, 1 - alpha_bar_previous - variance) ** 0.5 * noise
            x = x + noise_of_size(temperature * max(0.0, variance) ** 0.5)
        return images + x

    def forward(
        self,
        lr: torch.Tensor,
        hr: torch.Tensor,
        generator: torch.Generator | None = None,
        first_lines: int = 0,
        foreign: float = 0.0,
    ) -> TextDiffPrediction:
        """One step of Algorithm 1 up to its losses, for images (N, 3, h, w) and (N, 3, H, W) in [0, 1].

        Args:
            generator: source of the timesteps, which are uniform, and of the noise, which is normal.
            first_lines: number of lines that get a `first_estimate`.
            foreign: share of lines, from 0 to 1, for which MRD sharpens a random mixture of TEM's image and the
                bicubic one: so it learns to sharpen the images of other methods.
        """
        prior = self.text_prior(lr)
        # The prior generator learns from the text prior loss only, as in TATT.
        sr, mask_logits = self.enhancement(lr, prior.detach())
        if hr.shape != sr.shape:
            raise ValueError(f"Expected HR images {tuple(sr.shape)}, got {tuple(hr.shape)}.")
        base, device = sr, lr.device if generator is None else generator.device
        if foreign:
            draw, weight = torch.rand(2, len(lr), 1, 1, 1, generator=generator, device=device).to(lr.device)
            bicubic = upsample(lr, self.enhancement.config.scale).to(sr.dtype)
            base = torch.lerp(sr, bicubic, weight * (draw < foreign))
        residual = hr - base
        seen, mask = base, mask_logits.sigmoid() if self.unet.config.mask else None
        if self.detach_condition:
            seen, mask = seen.detach(), None if mask is None else mask.detach()
        if not self.diffusion:
            prediction = self.unet(torch.zeros_like(sr), 0, seen, mask)
            first = prediction[:first_lines] if first_lines else None
            return TextDiffPrediction(sr, mask_logits, prior, prediction, residual, residual, prediction, first, base)

        steps = self.scheduler.config["num_train_timesteps"]
        timesteps: Any = torch.randint(steps, (len(lr),), generator=generator, device=device).to(lr.device)
        noise = randn_tensor(sr.shape, generator=generator, device=sr.device, dtype=sr.dtype)
        noisy = self.scheduler.add_noise(residual, noise, timesteps)  # Eq. 7
        prediction = self.unet(noisy, timesteps, seen, mask)
        estimate = clean_residual(self.scheduler, prediction, noisy, timesteps)
        target = noise if self.scheduler.config["prediction_type"] == "epsilon" else residual
        first = None
        if first_lines:
            seen, mask = seen[:first_lines], None if mask is None else mask[:first_lines]
            start, last = torch.zeros_like(seen), torch.full((len(seen),), steps - 1, device=seen.device)
            first = clean_residual(self.scheduler, self.unet(start, last, seen, mask), start, last)
        return TextDiffPrediction(sr, mask_logits, prior, prediction, target, residual, estimate, first, base)
