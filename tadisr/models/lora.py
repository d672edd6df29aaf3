"""LoRA adapters on a base's denoiser (cross-attention included) and on its VAE's decoder."""

from diffusers import AutoencoderKL, ModelMixin
from peft import LoraConfig

from tadisr.models.families import family_of

ADAPTER = "tadisr"
VAE_TARGETS = r"decoder\.(.*\.)?(conv|conv1|conv2|conv_in|conv_out|conv_shortcut|to_q|to_k|to_v|to_out\.0)"


def add_lora(
    backbone: ModelMixin, vae: AutoencoderKL, rank_backbone: int = 4, rank_vae: int = 2, alpha: int | None = None
) -> None:
    """Freeze both models and add trainable adapters named `tadisr`; untrained they change nothing.

    A layer gets `alpha / rank` times the product of its two matrices; once it where `alpha` is None.
    """
    targets = list(family_of(backbone).lora_targets)
    for model, rank, names in ((backbone, rank_backbone, targets), (vae, rank_vae, VAE_TARGETS)):
        model.requires_grad_(False)
        model.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha or rank, target_modules=names, init_lora_weights="gaussian"),
            adapter_name=ADAPTER,
        )
