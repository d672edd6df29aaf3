"""TextDiff as a whole: prior generator, enhancement, residual diffusion; its training forward and its sampling.

Letters: N batch, h, w pixels of the LR image, s scale, H = sh, W = sw, T steps of the text prior.
"""

from dataclasses import dataclass

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

    As published, alpha-bar at T - 1 is 0.37: sampling starts from pure noise, which training never shows the U-Net.
    `corrected` scales the betas by 1000 / 200, as they were made for 1000 steps; alpha-bar then ends at 0.006.
    `prediction_type` "epsilon" is Table 3's ablation.
    """
    factor = 1000 / TRAIN_TIMESTEPS if corrected else 1
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS,
        beta_start=1e-6 * factor,
        beta_end=1e-2 * factor,
        beta_schedule="linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,
        timestep_spacing="trailing",
    )


def clean_residual(
    scheduler: DDIMScheduler, prediction: torch.Tensor, noisy: torch.Tensor, timesteps: torch.Tensor
) -> torch.Tensor:
    """x0 from what the U-Net predicted of `noisy` x_t at `timesteps` (N,): the prediction itself, or Eq. 7 solved.

    Raises:
        ValueError: a scheduler that predicts neither "sample" nor "epsilon".
    """
    kind = scheduler.config.prediction_type
    if kind == "sample":
        return prediction
    if kind != "epsilon":
        raise ValueError(f"TextDiff predicts 'sample' or 'epsilon', not {kind!r}.")
    alpha_bar = scheduler.alphas_cumprod.to(noisy.device)[timesteps].view(-1, 1, 1, 1)
    return (noisy - (1 - alpha_bar).sqrt() * prediction) / alpha_bar.sqrt()


@torch.no_grad()
def refine(
    unet: ResidualUNet,
    scheduler: DDIMScheduler,
    images: torch.Tensor,
    mask: torch.Tensor | None,
    num_inference_steps: int = 5,
    generator: torch.Generator | list[torch.Generator] | None = None,
    eta: float | None = None,
    diffusion: bool = True,
    temperature: float = 1.0,
) -> torch.Tensor:
    """Sharpen images, TEM's or any method's: sample the residual by Eq. 9 and add it.

    The steps are spread over T as the scheduler says, and each goes from its timestep to the next one. (The scheduler's
    own `step` takes T // num_inference_steps for the distance, which is wrong where that does not divide: 110 steps.)

    Args:
        unet (`ResidualUNet`): MRD.
        scheduler (`DDIMScheduler`): as from `textdiff_scheduler`; what it predicts must be what `unet` was trained for.
        images (`torch.Tensor`): (N, 3, H, W) in [0, 1].
        mask (`torch.Tensor` or `None`): text probability (N, 1, H, W); not looked at where the U-Net reads none.
        num_inference_steps (`int`, defaults to 5): 1 to 200.
        generator (`torch.Generator` or a list of one per image, *optional*): of the noise.
        eta (`float`, *optional*): 0 deterministic (Eq. 8 and 9), 1 the original stochastic sampling. Defaults to 0 for
            x0 prediction and 1 for noise prediction.
        diffusion (`bool`, defaults to `True`): False: one pass at timestep 0 on a residual of zeros, without noise, for
            a U-Net trained so (Table 3's ablation).
        temperature (`float`, defaults to 1.0): factor of all noise that is drawn. 1 as published: a sample of what the
            line may be, with strokes that noise has chosen. 0: no noise, no `generator`, and closer to the truth.

    Returns:
        (N, 3, H, W) float32, not clamped.

    Raises:
        ValueError: a number of steps outside 1 to 200, a temperature outside 0 to 1, or what `ResidualUNet.forward`
            refuses.
    """
    limit = scheduler.config.num_train_timesteps
    if not 1 <= num_inference_steps <= limit:
        raise ValueError(f"Expected 1 to {limit} sampling steps, got num_inference_steps={num_inference_steps}.")
    if not 0 <= temperature <= 1:
        raise ValueError(f"Expected a temperature from 0 to 1, got {temperature}.")
    images, dtype = images.float(), unet.dtype
    condition = (images.to(dtype), mask.to(dtype) if mask is not None and unet.config.mask else None)
    if not diffusion:
        return images + unet(torch.zeros_like(condition[0]), 0, *condition).float()
    if eta is None:
        eta = 1.0 if scheduler.config.prediction_type == "epsilon" else 0.0
    scheduler.set_timesteps(num_inference_steps)
    timesteps = scheduler.timesteps[:num_inference_steps]  # rounding makes a few counts, such as 29, one too long

    def noise_of_size(factor: float) -> torch.Tensor:
        if factor == 0:
            return torch.zeros_like(images)
        return factor * randn_tensor(images.shape, generator=generator, device=images.device, dtype=images.dtype)

    x = noise_of_size(temperature)
    for timestep, previous in zip(timesteps.tolist(), [*timesteps[1:].tolist(), -1], strict=True):
        alpha_bar = float(scheduler.alphas_cumprod[timestep])
        alpha_bar_previous = float(scheduler.alphas_cumprod[previous]) if previous >= 0 else 1.0
        prediction = unet(x.to(dtype), timestep, *condition).float()
        x0 = clean_residual(scheduler, prediction, x, torch.tensor([timestep], device=x.device))
        noise = (x - alpha_bar**0.5 * x0) / (1 - alpha_bar) ** 0.5
        variance = (1 - alpha_bar_previous) / (1 - alpha_bar) * (1 - alpha_bar / alpha_bar_previous) * eta**2
        x = alpha_bar_previous**0.5 * x0 + max(0.0, 1 - alpha_bar_previous - variance) ** 0.5 * noise
        x = x + noise_of_size(temperature * max(0.0, variance) ** 0.5)
    return images + x


@dataclass
class TextDiffPrediction:
    """What one training forward of `TextDiffNetwork` gives the losses."""

    sr: torch.Tensor
    """x_sr, the coarse image (N, 3, H, W), near [0, 1]."""
    mask_logits: torch.Tensor | None
    """(N, 1, H, W); None without a mask branch."""
    prior: torch.Tensor
    """The text prior (N, T, 37), probabilities; the gradient into the prior generator is here only."""
    prediction: torch.Tensor
    """The U-Net's output (N, 3, H, W)."""
    target: torch.Tensor
    """What `prediction` should be: `residual`, or the noise for noise prediction."""
    residual: torch.Tensor
    """x0 = hr - sharpened (N, 3, H, W)."""
    predicted_residual: torch.Tensor
    """The estimate of x0 (N, 3, H, W); `sharpened + predicted_residual` is the final image."""
    first_estimate: torch.Tensor | None = None
    """Of the first lines: the estimate of x0 that sampling without noise begins with, which has not seen `hr`."""
    base: torch.Tensor | None = None
    """What MRD sharpens (N, 3, H, W), where that is not `sr`."""

    @property
    def sharpened(self) -> torch.Tensor:
        """The image that `predicted_residual` is added to."""
        return self.sr if self.base is None else self.base


class TextDiffNetwork(nn.Module):
    """TPG, TEM, MRD and their schedule, trained jointly: one module for DDP, and the whole for inference.

    Args:
        enhancement (`TextEnhancementModule`): TEM.
        recognizer (`CRNN`): the trainable prior generator (TPG); not the frozen copy of the losses.
        unet (`ResidualUNet`): MRD.
        scheduler (`DDIMScheduler`): as from `textdiff_scheduler`; `prediction_type` "sample" or "epsilon".
        diffusion (`bool`, defaults to `True`): False: MRD is a plain U-Net, one pass at timestep 0 without noise.
        detach_condition (`bool`, defaults to `False`): x_sr and the mask condition the U-Net without a gradient into
            TEM, as in DocDiff. TEM still learns from the residual hr - sr and from the joint loss.

    Raises:
        ValueError: modules that do not fit each other.
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
        """What the recogniser reads in crops (N, 3, h, w) in [0, 1]: probabilities (N, T, 37), float32."""
        return self.recognizer(self.recognizer.prepare(lr)).float().softmax(-1)

    @torch.no_grad()
    def enhance(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """`lr` (N, 3, h, w) in [0, 1] to x_sr (N, 3, H, W), mask probability (N, 1, H, W) or None, and text prior."""
        prior = self.text_prior(lr)
        sr, mask_logits = self.enhancement(lr, prior)
        return sr, None if mask_logits is None else mask_logits.sigmoid(), prior

    def refine(
        self,
        sr: torch.Tensor,
        mask: torch.Tensor | None,
        num_inference_steps: int = 5,
        generator: torch.Generator | list[torch.Generator] | None = None,
        eta: float | None = None,
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """The cascade: MRD on TEM's or any method's images (N, 3, H, W) in [0, 1]; see the function `refine`."""
        how = num_inference_steps, generator, eta, self.diffusion, temperature
        return refine(self.unet, self.scheduler, sr, mask, *how)

    def forward(
        self,
        lr: torch.Tensor,
        hr: torch.Tensor,
        generator: torch.Generator | None = None,
        first_lines: int = 0,
        foreign: float = 0.0,
    ) -> TextDiffPrediction:
        """One step of Algorithm 1 up to its losses: `lr` (N, 3, h, w) and `hr` (N, 3, H, W) in [0, 1].

        Timesteps are uniform, noise is normal, both from `generator`. Of the first `first_lines` lines there is
        `first_estimate`, too. `foreign`: the share of lines, from 0 to 1, whose MRD sharpens something between TEM's
        image and the bicubic one, for what other methods make.

        Raises:
            ValueError: `hr` is not `scale` times as large as `lr`.
        """
        prior = self.text_prior(lr)
        # The prior generator learns from the text prior loss only, as in TATT.
        sr, mask_logits = self.enhancement(lr, prior.detach())
        if hr.shape != sr.shape:
            raise ValueError(f"Expected HR images {tuple(sr.shape)}, got {tuple(hr.shape)}.")
        base = self._mixed(sr, lr, foreign, generator) if foreign else sr
        residual = hr - base
        condition = base, mask_logits.sigmoid() if self.unet.config.mask else None
        if self.detach_condition:
            condition = tuple(None if x is None else x.detach() for x in condition)
        if not self.diffusion:
            prediction = self.unet(torch.zeros_like(sr), 0, *condition)
            first = prediction[:first_lines] if first_lines else None
            return TextDiffPrediction(sr, mask_logits, prior, prediction, residual, residual, prediction, first, base)

        device = generator.device if generator is not None else lr.device
        timesteps = torch.randint(
            self.scheduler.config.num_train_timesteps, (len(lr),), generator=generator, device=device
        ).to(lr.device)
        noise = randn_tensor(sr.shape, generator=generator, device=sr.device, dtype=sr.dtype)
        noisy = self.scheduler.add_noise(residual, noise, timesteps)  # Eq. 7
        prediction = self.unet(noisy, timesteps, *condition)
        estimate = clean_residual(self.scheduler, prediction, noisy, timesteps)
        target = noise if self.scheduler.config.prediction_type == "epsilon" else residual
        first = self._first_estimate(*(x if x is None else x[:first_lines] for x in condition)) if first_lines else None
        return TextDiffPrediction(sr, mask_logits, prior, prediction, target, residual, estimate, first, base)

    def _mixed(
        self, sr: torch.Tensor, lr: torch.Tensor, share: float, generator: torch.Generator | None
    ) -> torch.Tensor:
        device = generator.device if generator is not None else lr.device
        draw, weight = torch.rand(2, len(lr), 1, 1, 1, generator=generator, device=device).to(lr.device)
        return torch.lerp(sr, upsample(lr, self.enhancement.config.scale).to(sr.dtype), weight * (draw < share))

    def _first_estimate(self, sr: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        x = torch.zeros_like(sr)
        last = torch.full((len(sr),), self.scheduler.config.num_train_timesteps - 1, device=sr.device)
        return clean_residual(self.scheduler, self.unet(x, last, sr, mask), x, last)
