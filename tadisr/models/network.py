"""One forward pass of TADiSR: encode, one denoising step (Eq. 1), joint decode (Eq. 5).

Shapes: B batch, c latent channels, h, w latent size, H, W pixels.
"""

from contextlib import AbstractContextManager
from itertools import zip_longest

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ModelMixin
from torch import nn

from tadisr.io.messages import shortened
from tadisr.models.attention import cross_attention_layers, record_text_attention
from tadisr.models.families import family_of, predict
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode, vae_factor, vae_patch
from tadisr.models.one_step import TIMESTEP, Scheduler, flow_point, one_step
from tadisr.models.precision import without_float16
from tadisr.models.prompt import TextPrompt
from tadisr.models.recording import recorded


def check_fits(
    vae: AutoencoderKL, backbone: ModelMixin, prompt: TextPrompt, joint_decoder: JointSegmentationDecoder | None = None
) -> None:
    """Raise ValueError where the parts cannot work together: latents, prompt, and what the joint decoder reads."""
    kind = type(backbone).__name__
    reads, has = backbone.config["in_channels"], vae.config["latent_channels"]
    if reads != has:
        raise ValueError(
            f"The base's {kind} reads {reads} channels and its VAE has {has}, as in inpainting models: choose another "
            "base."
        )
    wanted = family_of(backbone).prompt_widths(backbone.config)
    given = (prompt.config.embed_dim, prompt.config.pooled_dim)
    if wanted != given:
        raise ValueError(
            f"The prompt has text and pooled embeddings of {given} values and the base's {kind} reads {wanted}: "
            "the prompt was made with another base."
        )
    if prompt.config.pooled_dim and not prompt.config.time_ids:
        raise ValueError("The prompt has pooled embeddings and no time_ids: make it anew with TextPrompt.from_base.")
    scaling, shift = vae.config["scaling_factor"], vae.config["shift_factor"]
    if vae.config["in_channels"] != 3 * vae_patch(vae) ** 2 or not scaling > 0 or isinstance(shift, (str, list)):
        raise ValueError(
            f"The VAE reads {vae.config['in_channels']} channels, scales latents by {scaling} and shifts them by "
            f"{shift!r:.50}: no VAE of RGB images does."
        )
    if joint_decoder is None:
        return
    config, layers = joint_decoder.config, cross_attention_layers(backbone)
    wanted = (list(config.block_out_channels), config.latent_channels, config.patch)
    given = (list(vae.config["block_out_channels"]), has, vae_patch(vae))
    if wanted != given:
        raise ValueError(
            f"The joint decoder is for a VAE of channels, latent channels and patch {wanted}, and this one has {given}."
        )
    read = zip_longest(config.attention_layers, config.attention_heads)
    if wrong := [str(name) for name, heads in read if layers.get(str(name)) != heads]:
        raise ValueError(f"The joint decoder reads attention that the {kind} does not have: {shortened(wrong)}.")


def denoise(
    backbone: ModelMixin, latents: torch.Tensor, prompt: TextPrompt, scheduler: Scheduler, pixels_per_latent: int
) -> torch.Tensor:
    """z_L to z_H, both (B, c, h, w) and of one type: one prediction, in the backbone's precision, and one step."""
    is_flow = isinstance(scheduler, FlowMatchEulerDiscreteScheduler)
    timestep = flow_point(scheduler)[0] if is_flow else TIMESTEP
    noisy = latents.to(backbone.dtype)
    return one_step(latents, predict(backbone, noisy, timestep, prompt, pixels_per_latent), scheduler)


class TADiSRNetwork(nn.Module):
    """The trainable whole, as one module for DDP: x_L (B, 3, H, W) in [-1, 1] to (image, mask logits).

    H and W are multiples of `vae_factor(vae)`. `text_mask` is a prompt (B, 2, H, W), see `MaskPromptEncoder`. The
    backbone is registered under the name that it has in a pipeline, so that its weights have the same names in both.
    `recording()` must be open around `forward`, and around `backward` too with gradient checkpointing.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        backbone: ModelMixin,
        prompt: TextPrompt,
        joint_decoder: JointSegmentationDecoder,
        scheduler: Scheduler,
    ):
        super().__init__()
        self.component = family_of(backbone).component
        self.vae = vae
        self.add_module(self.component, backbone)
        self.prompt, self.joint_decoder, self.scheduler = prompt, joint_decoder, scheduler
        joint_decoder.image_in_float32(vae)

    @property
    def backbone(self) -> ModelMixin:
        """The base's denoiser."""
        return getattr(self, self.component)

    def recording(self) -> AbstractContextManager[dict[str, torch.Tensor]]:
        """Record the text attention; `forward` decodes the mask from what was recorded."""
        layers = self.joint_decoder.config.attention_layers
        return record_text_attention(self.backbone, self.prompt.config.text_positions, layers)

    @property
    def attention_maps(self) -> dict[str, torch.Tensor]:
        """What the `recording()` that is open holds so far, layer name -> (B, n, L)."""
        return recorded(self.backbone)

    def denoise(self, latents: torch.Tensor) -> torch.Tensor:
        """z_L to z_H, both (B, c, h, w), recording the text attention on the way."""
        return denoise(self.backbone, latents, self.prompt, self.scheduler, vae_factor(self.vae))

    def forward(self, image: torch.Tensor, text_mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        with without_float16(image.device):  # autocast to float16 is for the backbone alone, see `beside`
            latents, features = encode_mode(self.vae, image)  # (B, c, h, w)
        latents = self.denoise(latents)
        with without_float16(image.device):
            return self.joint_decoder(self.vae, latents, self.attention_maps, features, image, text_mask)
