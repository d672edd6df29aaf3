"""The families of base models that TADiSR works on."""

BACKBONES = {"unet": "UNet2DConditionModel", "transformer": "CogView4Transformer2DModel"}
"""The class that a base's backbone must have, by the sub-folder that it is in."""
SUPPORTED_BASES = (
    "Stable Diffusion 1.x and 2.x, SDXL and Kolors (UNet2DConditionModel, DDPM noise schedule), and CogView4 "
    "(CogView4Transformer2DModel, flow matching), each with an AutoencoderKL"
)
