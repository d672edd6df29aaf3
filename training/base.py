"""The network to train: a pretrained base with new adapters, or a small base from scratch."""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.training_utils import cast_training_params
from tadisr.training.config import TrainConfig
from torch import nn

from tadisr.models.attention import cross_attention_layers
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.lora import add_lora
from tadisr.models.network import TADiSRNetwork, ddpm_scheduler
from tadisr.models.prompt import TextPrompt
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel, initialize

FITS = (
    "What fits: Stable Diffusion 1.x and 2.x (StableDiffusionPipeline), SDXL (StableDiffusionXLPipeline) and Kolors "
    "(KolorsPipeline): a UNet2DConditionModel with cross-attention, an AutoencoderKL of as many latent channels, and a "
    "DDPM noise schedule with epsilon or v prediction."
)
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NO_TEXT = -10.0  # mask logit where there is no mask stream


def build_network(config: TrainConfig) -> TADiSRNetwork:
    """The network to train: a pretrained base with new adapters, or a base from scratch with every weight trainable.

    Raises:
        ValueError: a base that does not fit. FileNotFoundError: no such base.
    """
    if config.base_config:
        models, scheduler = _from_scratch(config)
    else:
        models, scheduler = _on_base(config)
    models["joint_decoder"] = _joint_decoder(models["vae"], models["unet"], config)
    if config.base_config:
        initialize(models["vae"], models["unet"], models["joint_decoder"])
        if config.image_residual:  # start at the upsampled input
            nn.init.zeros_(models["vae"].decoder.conv_out.weight)
            nn.init.zeros_(models["vae"].decoder.conv_out.bias)
    if config.init_from:
        for name, model in models.items():
            model.load_state_dict(type(model).from_pretrained(config.init_from, subfolder=name).state_dict())
    network = TADiSRNetwork(**models, scheduler=scheduler)
    if not config.joint_decoder:
        drop_mask_stream(models["joint_decoder"])
    if config.gradient_checkpointing:
        for name in ("unet", "joint_decoder"):
            models[name].enable_gradient_checkpointing()
    return network.to(memory_format=torch.channels_last)


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that take gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def _from_scratch(config: TrainConfig) -> tuple[dict[str, nn.Module], DDPMScheduler]:
    path = Path(config.base_config)
    if not path.is_file():
        raise FileNotFoundError(f"No base_config {path}.")
    base = json.loads(path.read_text(encoding="utf-8"))
    models = {
        "vae": LeanAutoencoderKL(**base["vae"]),
        "unet": LeanUNet2DConditionModel(**base["unet"]),
        "prompt": TextPrompt(**base["prompt"]),
    }
    return models, DDPMScheduler(**base["scheduler"])


def _on_base(config: TrainConfig) -> tuple[dict[str, nn.Module], DDPMScheduler]:
    name, options = config.pretrained_model_name_or_path, {"revision": config.revision}
    check_base(name, config.revision)
    try:
        scheduler = ddpm_scheduler(DDPMScheduler.load_config(name, **options, subfolder="scheduler"))
    except ValueError as error:
        raise ValueError(f"{error} {FITS}") from None
    if scheduler.config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(f"{name} predicts {scheduler.config.prediction_type}. {FITS}")
    options |= {"variant": config.variant, "torch_dtype": DTYPES[config.mixed_precision]}
    vae = AutoencoderKL.from_pretrained(name, subfolder="vae", **options)
    unet = UNet2DConditionModel.from_pretrained(name, subfolder="unet", **options)
    if unet.config.in_channels != vae.config.latent_channels:
        raise ValueError(
            f"The U-Net of {name} reads {unet.config.in_channels} channels and its VAE has "
            f"{vae.config.latent_channels}, as in inpainting models. {FITS}"
        )
    if not cross_attention_layers(unet):
        raise ValueError(f"The U-Net of {name} has no cross-attention. {FITS}")
    for module in (*unet.modules(), *vae.modules()):
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            module.float()  # autocast leaves some of their inputs in float32, and CPUs refuse a mixture
    prompt = load_prompt(config)
    torch.manual_seed(config.seed)  # the same adapters in every process, whether or not it made the prompt
    add_lora(unet, vae, config.rank_unet, config.rank_vae)
    cast_training_params([unet, vae], dtype=torch.float32)  # adapters are as precise as the optimiser
    return {"vae": vae, "unet": unet, "prompt": prompt}, scheduler


def check_base(name: str, revision: str | None = None) -> dict[str, Any]:
    """The base's model_index.json, before anything large is downloaded.

    Raises:
        FileNotFoundError: no pipeline there. ValueError: one that does not fit; the message says what does.
    """
    try:
        index = DiffusionPipeline.load_config(name, revision=revision)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"No diffusers pipeline {name} (a folder, or a Hub id): {' '.join(str(error).split())}"
        ) from None
    found = {part: index[part][1] for part in ("unet", "vae", "scheduler") if index.get(part)}
    wanted = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL"}
    if any(found.get(part) != cls for part, cls in wanted.items()) or "scheduler" not in found:
        parts = [f"{key} {value[1]}" for key, value in index.items() if isinstance(value, (list, tuple)) and value[1]]
        raise ValueError(f"{name} is a {index.get('_class_name')} ({', '.join(parts)}), which does not fit. {FITS}")
    return index


def load_prompt(config: TrainConfig) -> TextPrompt:
    """The base's embeddings of the prompt, made by its text encoders once and kept in OUTPUT_DIR/prompt.

    The process that finds none there makes them: have one process go first.
    """
    folder = Path(config.output_dir) / "prompt"
    origin = [config.pretrained_model_name_or_path, config.revision, config.prompt]
    mark = folder / "made_from.json"
    if mark.is_file() and json.loads(mark.read_text(encoding="utf-8")) == origin:
        return TextPrompt.from_pretrained(folder).requires_grad_(False)
    pipe = DiffusionPipeline.from_pretrained(
        config.pretrained_model_name_or_path,
        revision=config.revision,
        variant=config.variant,
        unet=None,
        vae=None,
        torch_dtype=DTYPES[config.mixed_precision],
    )
    prompt = TextPrompt.from_pipeline(pipe, config.prompt).float().requires_grad_(False)
    prompt.save_pretrained(folder)
    mark.write_text(json.dumps(origin), encoding="utf-8")
    return prompt


def _joint_decoder(vae: AutoencoderKL, unet: UNet2DConditionModel, config: TrainConfig) -> JointSegmentationDecoder:
    options = {} if config.text_attention else {"text_attention": False}
    skips, residual = (config.encoder_skips, config.image_residual) if config.base_config else (False, False)
    return JointSegmentationDecoder.from_base(vae, unet, skips, residual, **options)


def drop_mask_stream(decoder: JointSegmentationDecoder) -> None:
    """Leave the image stream alone, untouched by the mask stream, which says "no text" everywhere and is frozen.

    The decoder keeps its form, so what is trained loads and runs as any other; encoder skips belong to the image.
    """
    for part in (decoder.attention, decoder.mask_decoder, decoder.interactions):
        part.requires_grad_(False)
    for name, parameter in decoder.interactions.named_parameters():
        if name.endswith(".scale"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(decoder.mask_decoder.conv_out.weight)
    nn.init.constant_(decoder.mask_decoder.conv_out.bias, NO_TEXT)
