"""The base's diffusion backbone, a U-Net or CogView4's transformer: what one call of it takes.

Shapes: B batch, c latent channels, h, w latent size, H, W pixels.
"""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, CogView4Transformer2DModel, UNet2DConditionModel

from tadisr.models.prompt import TextPrompt

Backbone = UNet2DConditionModel | CogView4Transformer2DModel


def predict(
    backbone: Backbone, latents: torch.Tensor, timestep: float, prompt: TextPrompt, pixels_per_latent: int
) -> torch.Tensor:
    """The backbone's prediction for noisy latents, both (B, c, h, w), of any size.

    CogView4's transformer reads patches: latents are padded to a whole number of them, by repeating the border, and the
    prediction is cropped. As in CogView4's own pipeline it is told the (padded) image's height and width in pixels,
    as original and as target size, and that nothing was cropped.
    """
    conditions = prompt(len(latents))
    if not isinstance(backbone, CogView4Transformer2DModel):
        return backbone(latents, timestep, **conditions, return_dict=False)[0]
    height, width = latents.shape[-2:]
    patch = backbone.config.patch_size
    if height % patch or width % patch:
        latents = F.pad(latents, (0, -width % patch, 0, -height % patch), mode="replicate")
    size = torch.tensor(latents.shape[-2:], dtype=torch.float32, device=latents.device) * pixels_per_latent
    size = size.expand(len(latents), 2)
    prediction = backbone(
        latents,
        timestep=size.new_full((len(latents),), timestep),
        original_size=size,
        target_size=size,
        crop_coords=torch.zeros_like(size),
        **conditions,
        return_dict=False,
    )[0]
    return prediction[..., :height, :width]


def prompt_widths(backbone: Backbone) -> tuple[int, int | None]:
    """Widths of the text embeddings and of the pooled embedding (None: there is none) that the backbone reads."""
    config = backbone.config
    if isinstance(backbone, CogView4Transformer2DModel):
        return config.text_embed_dim, None
    pooled = None
    if config.addition_embed_type == "text_time":  # SDXL and Kolors: with six time ids
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return config.encoder_hid_dim or config.cross_attention_dim, pooled


def check_fits(vae: AutoencoderKL, backbone: Backbone, prompt: TextPrompt) -> None:
    """Raise ValueError where the backbone cannot read the VAE's latents or the prompt."""
    kind = type(backbone).__name__
    if backbone.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"The base's {kind} reads {backbone.config.in_channels} channels and its VAE has "
            f"{vae.config.latent_channels}, as in inpainting models: choose another base."
        )
    wanted, given = prompt_widths(backbone), (prompt.config.embed_dim, prompt.config.pooled_dim)
    if wanted != given:
        raise ValueError(
            f"The prompt has text and pooled embeddings of {given} values and the base's {kind} reads {wanted}: "
            "the prompt was made with another base."
        )
