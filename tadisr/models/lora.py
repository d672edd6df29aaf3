"""LoRA adapters on the U-Net (cross-attention included) and on the VAE decoder."""

from diffusers import AutoencoderKL, UNet2DConditionModel
from peft import LoraConfig

ADAPTER = "tadisr"
UNET_TARGETS = [
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv", "conv1", "conv2", "conv_shortcut", "conv_out",
]  # fmt: skip
VAE_TARGETS = r"decoder\.(.*\.)?(conv|conv1|conv2|conv_in|conv_out|conv_shortcut|to_q|to_k|to_v|to_out\.0)"


def add_lora(unet: UNet2DConditionModel, vae: AutoencoderKL, rank_unet: int = 4, rank_vae: int = 2) -> None:
    """Freeze both models and add trainable adapters named `tadisr`; untrained they change nothing."""
    for model, rank, targets in ((unet, rank_unet, UNET_TARGETS), (vae, rank_vae, VAE_TARGETS)):
        model.requires_grad_(False)
        model.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, init_lora_weights="gaussian"),
            adapter_name=ADAPTER,
        )
