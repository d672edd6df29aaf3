"""One forward pass of TADiSR: encode, one denoising step (Eq. 1), joint decode (Eq. 5)."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    CogView4Transformer2DModel,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    SchedulerMixin,
    UNet2DConditionModel,
)
from torch import nn

from tadisr.models.attention import record_text_attention
from tadisr.models.backbone import Backbone, predict
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode, vae_factor
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


def flow_scheduler(config: Mapping[str, Any]) -> FlowMatchEulerDiscreteScheduler:
    """A flow-matching base's schedule, from the config of whichever flow-matching scheduler the base comes with.

    Raises:
        ValueError: a scheduler that does not match flows.
    """
    if not config["_class_name"].startswith("FlowMatch"):
        raise ValueError(
            f"The base's {config['_class_name']} has no flow-matching schedule, which the one step of CogView4 needs."
        )
    return FlowMatchEulerDiscreteScheduler.from_config(config)


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


def flow_point(scheduler: FlowMatchEulerDiscreteScheduler, timestep: int = TIMESTEP) -> tuple[float, float]:
    """`(t, sigma)`: of the training schedule's timesteps the nearest to `timestep`, and the share of noise there.

    That schedule is the scheduler as its config makes it, before any `set_timesteps`: all `num_train_timesteps`, with
    a constant `shift` applied and without dynamic shifting, which depends on the image's size. CogView4 shifts
    dynamically, so this is (200, 0.2) for it, as in the authors' release.
    """
    schedule = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    index = int((schedule.timesteps - timestep).abs().argmin())
    return float(schedule.timesteps[index]), float(schedule.sigmas[index])


def one_step(
    latents: torch.Tensor, prediction: torch.Tensor, scheduler: SchedulerMixin, timestep: int = TIMESTEP
) -> torch.Tensor:
    r"""`z_H = (z_L - beta_t n) / alpha_t` (Eq. 1), all (B, c, h, w).

    A base that predicts v is converted: `n = alpha_t v + beta_t z_L`, hence `z_H = alpha_t z_L - beta_t v`. One that
    matches flows predicts noise minus image: `z_H = z_L - sigma_t v`.

    Raises:
        ValueError: a base that predicts neither epsilon nor v and does not match flows.
    """
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return latents - flow_point(scheduler, timestep)[1] * prediction
    alpha, beta = one_step_coefficients(scheduler, timestep)
    kind = scheduler.config.prediction_type
    if kind == "epsilon":
        return (latents - beta * prediction) / alpha
    if kind == "v_prediction":
        return alpha * latents - beta * prediction
    raise ValueError(
        f"The base's scheduler says prediction_type={kind!r}: only 'epsilon' and 'v_prediction' are known."
    )


def denoise(
    backbone: Backbone,
    latents: torch.Tensor,
    prompt: TextPrompt,
    scheduler: SchedulerMixin,
    pixels_per_latent: int,
    timestep: int = TIMESTEP,
) -> torch.Tensor:
    """z_L to z_H, both (B, c, h, w): one prediction and one step."""
    is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    told = flow_point(scheduler, timestep)[0] if is_flow else timestep
    return one_step(latents, predict(backbone, latents, told, prompt, pixels_per_latent), scheduler, timestep)


def one_backbone(unet: UNet2DConditionModel | None, transformer: CogView4Transformer2DModel | None) -> Backbone:
    """Whichever of the two is there. Raises ValueError unless exactly one is."""
    if (unet is None) == (transformer is None):
        raise ValueError("Give either unet or transformer: a base has one of them.")
    return transformer if unet is None else unet


class TADiSRNetwork(nn.Module):
    """The trainable whole, as one module for DDP: x_L (B, 3, H, W) in [-1, 1] to (image, mask logits).

    H and W are multiples of `vae_factor(vae)`. A base has a `unet` or a `transformer`, the other one is None;
    `backbone` is the one that is there. Its recording processors are installed by `recording()`, which must be open
    around `forward`, and around `backward` too with gradient checkpointing.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel | None,
        prompt: TextPrompt,
        joint_decoder: JointSegmentationDecoder,
        scheduler: SchedulerMixin,
        timestep: int = TIMESTEP,
        transformer: CogView4Transformer2DModel | None = None,
    ):
        super().__init__()
        one_backbone(unet, transformer)
        self.vae, self.unet, self.transformer = vae, unet, transformer
        self.prompt, self.joint_decoder = prompt, joint_decoder
        self.scheduler, self.timestep = scheduler, timestep
        self.attention_maps: dict[str, torch.Tensor] = {}

    @property
    def backbone(self) -> Backbone:
        """The base's U-Net or transformer."""
        return one_backbone(self.unet, self.transformer)

    def recording(self) -> AbstractContextManager[dict[str, torch.Tensor]]:
        """Install the recording processors; what they record is what `forward` decodes the mask from."""
        self.attention_maps.clear()
        layers = self.joint_decoder.config.attention_layers
        return record_text_attention(self.backbone, self.prompt.config.text_positions, layers, self.attention_maps)

    def denoise(self, latents: torch.Tensor) -> torch.Tensor:
        """z_L to z_H, both (B, c, h, w), recording the text attention on the way."""
        return denoise(self.backbone, latents, self.prompt, self.scheduler, vae_factor(self.vae), self.timestep)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        latents, features = encode_mode(self.vae, image)  # (B, c, h, w)
        latents = self.denoise(latents)
        return self.joint_decoder(self.vae, latents, self.attention_maps, features, image)
