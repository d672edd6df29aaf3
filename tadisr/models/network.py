"""One forward pass of TADiSR: encode, one denoising step (Eq. 1), joint decode (Eq. 5)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, SchedulerMixin, UNet2DConditionModel
from torch import nn

from tadisr.models.attention import record_text_attention
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode
from tadisr.models.prompt import TextPrompt

TIMESTEP = 200  # the paper's fixed t


def ddpm_scheduler(config: Mapping[str, Any]) -> DDPMScheduler:
    """The base's noise schedule as a `DDPMScheduler`, from the config of whichever scheduler the base comes with.

    Raises:
        ValueError: a scheduler without a DDPM noise schedule, such as flow matching.
    """
    if "beta_schedule" not in config:
        raise ValueError(f"The base's {config['_class_name']} has no DDPM noise schedule, which the one step needs.")
    return DDPMScheduler.from_config(config)


def one_step_coefficients(scheduler: SchedulerMixin, timestep: int = TIMESTEP) -> tuple[float, float]:
    """`(alpha_t, beta_t)` of Eq. 1: sqrt(alpha-bar_t) and sqrt(1 - alpha-bar_t) from the base's own noise schedule.

    Raises:
        ValueError: a scheduler without a DDPM noise schedule.
    """
    if not hasattr(scheduler, "alphas_cumprod"):
        raise ValueError(
            f"{type(scheduler).__name__} has no DDPM noise schedule, which the one step needs: use DDPMScheduler."
        )
    alpha_bar = float(scheduler.alphas_cumprod[timestep])
    return alpha_bar**0.5, (1 - alpha_bar) ** 0.5


def one_step(
    latents: torch.Tensor, prediction: torch.Tensor, scheduler: SchedulerMixin, timestep: int = TIMESTEP
) -> torch.Tensor:
    r"""`z_H = (z_L - beta_t n) / alpha_t` (Eq. 1), all (B, c, h, w).

    A base that predicts v is converted: `n = alpha_t v + beta_t z_L`, hence `z_H = alpha_t z_L - beta_t v`.

    Raises:
        ValueError: a base that predicts neither epsilon nor v.
    """
    alpha, beta = one_step_coefficients(scheduler, timestep)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (latents - beta * prediction) / alpha
    if kind == "v_prediction":
        return alpha * latents - beta * prediction
    raise ValueError(
        f"The base's scheduler says prediction_type={kind!r}: only 'epsilon' and 'v_prediction' are known."
    )


class TADiSRNetwork(nn.Module):
    """The trainable whole, as one module for DDP: x_L (B, 3, H, W) in [-1, 1] to (image, mask logits).

    H and W are multiples of `vae_factor(vae)`. The U-Net's recording processors are installed by `recording()`, which
    must be open around `forward`, and around `backward` too with gradient checkpointing.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        prompt: TextPrompt,
        joint_decoder: JointSegmentationDecoder,
        scheduler: SchedulerMixin,
        timestep: int = TIMESTEP,
    ):
        super().__init__()
        self.vae, self.unet, self.prompt, self.joint_decoder = vae, unet, prompt, joint_decoder
        self.scheduler, self.timestep = scheduler, timestep
        self.attention_maps: dict[str, torch.Tensor] = {}

    def recording(self) -> AbstractContextManager[dict[str, torch.Tensor]]:
        """Install the recording processors; what they record is what `forward` decodes the mask from."""
        self.attention_maps.clear()
        layers = self.joint_decoder.config.attention_layers
        return record_text_attention(self.unet, self.prompt.config.text_positions, layers, self.attention_maps)

    def denoise(self, latents: torch.Tensor) -> torch.Tensor:
        """z_L to z_H, both (B, c, h, w), recording the text attention on the way."""
        prediction = self.unet(latents, self.timestep, **self.prompt(len(latents)), return_dict=False)[0]
        return one_step(latents, prediction, self.scheduler, self.timestep)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents, features = encode_mode(self.vae, image)  # (B, c, h, w)
        latents = self.denoise(latents)
        return self.joint_decoder(self.vae, latents, self.attention_maps, features, image)
