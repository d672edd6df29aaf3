"""The network to train: a pretrained base with new adapters, or a small base from scratch."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, ModelMixin
from diffusers.models.resnet import ResnetBlock2D
from diffusers.training_utils import cast_training_params
from huggingface_hub.errors import HFValidationError
from torch import nn

from tadisr.io.atomic import write_atomically
from tadisr.io.messages import one_line
from tadisr.io.structured import read_json
from tadisr.loading.bases import base_family, fetch_base, load_base
from tadisr.loading.repositories import resolve
from tadisr.models.attention import cross_attention_layers
from tadisr.models.families import FAMILIES, Family, supported_bases
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.lora import add_lora
from tadisr.models.network import TADiSRNetwork, check_fits
from tadisr.models.one_step import Scheduler
from tadisr.models.prompt import TextPrompt
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel, initialize
from tadisr.models.weights import load_network
from tadisr.training.engine.command_line import read_with_extends
from tadisr.training.restoration.train_config import TrainConfig

DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def build_network(config: TrainConfig) -> TADiSRNetwork:
    """The network to train: a pretrained base with new adapters, or a base from scratch with every weight trainable.

    Raises:
        ValueError: a base that does not fit. FileNotFoundError: no such base.
    """
    shape = read_with_extends(Path(config.base_config), _check_parts) if config.base_config else {}
    vae, backbone, prompt, scheduler = _from_scratch(shape) if config.base_config else _on_base(config)
    options = decoder_options(config) | shape.get("joint_decoder", {})
    skips, residual = config.encoder_skips, config.image_residual
    joint_decoder = JointSegmentationDecoder.from_base(vae, backbone, skips, residual, **options)
    network = TADiSRNetwork(vae, backbone, prompt, joint_decoder, scheduler)
    if config.base_config:
        initialize(vae, backbone, joint_decoder)
        if residual:  # start at the upsampled input
            nn.init.zeros_(vae.decoder.conv_out.weight)
            nn.init.zeros_(vae.decoder.conv_out.bias)
    if config.init_from:
        folder = resolve(config.init_from, "TADiSRPipeline")
        for name, model in network.named_children():
            start_from(model, load_network(type(model), folder, name).state_dict())
    if not config.joint_decoder:
        drop_mask_stream(joint_decoder)
    if config.train_only:
        train_only(network, config.train_only)
    if config.gradient_checkpointing:
        for model in (backbone, joint_decoder):
            model.enable_gradient_checkpointing()
    if config.compile_blocks:
        for module in network.modules():
            if isinstance(module, ResnetBlock2D):
                module.compile()  # one by one: all of a shape share what is compiled
    return network.to(memory_format=torch.channels_last)


def decoder_options(config: TrainConfig) -> dict[str, Any]:
    """What the settings say to `JointSegmentationDecoder.from_base` on any base."""
    return {
        "text_attention": config.text_attention,
        "interaction_resblocks": config.interaction_resblocks,
        "mask_block_out_channels": config.mask_block_out_channels or None,
        "mask_prompt": config.mask_prompt,
        "mask_prompt_blocks": config.mask_prompt_blocks,
    }


def train_only(network: nn.Module, parts: Sequence[str]) -> None:
    """Freeze all weights but those whose names begin with one of `parts`; ValueError where none does."""
    names = [name for name, _ in network.named_parameters()]
    if unknown := [part for part in parts if not any(name.startswith(part) for name in names)]:
        raise ValueError(f"train_only: no weight's name begins with {', '.join(unknown)}.")
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(tuple(parts)))


def start_from(model: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load `weights` of the same model or of one with fewer layers per block; the ResBlocks it lacks start as identity.

    They may also lack what mask prompts need, which then starts untrained. Any other architecture is a ValueError.
    """
    for key, own in model.state_dict().items():
        if key in weights and weights[key].shape != own.shape:
            raise ValueError(
                f"init_from holds another {type(model).__name__}: {key} is {tuple(weights[key].shape)} there and "
                f"{tuple(own.shape)} here."
            )
    missing, unexpected = model.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not key.startswith(("prompt_encoder.", "prompt_follower."))]
    if unexpected or not all(".resnets." in key and ".conv_shortcut." not in key for key in missing):
        odd = sorted([*unexpected, *missing])[0]
        raise ValueError(f"init_from holds another {type(model).__name__}: {odd} is only in one of the two.")
    for key in missing:
        if ".conv2." in key:
            nn.init.zeros_(model.get_parameter(key))


def _check_parts(path: Path, parts: dict[str, Any]) -> None:
    if not all(isinstance(values, dict) for values in parts.values()):
        raise ValueError(f"base_config {path}: each part, such as vae, must be an object.")


_Parts = tuple[AutoencoderKL, ModelMixin, TextPrompt, Scheduler]


def _from_scratch(base: Mapping[str, Mapping[str, Any]]) -> _Parts:
    kinds = {
        "vae": LeanAutoencoderKL,
        FAMILIES["sd"].component: LeanUNet2DConditionModel,
        "prompt": TextPrompt,
        "scheduler": DDPMScheduler,
    }
    if missing := sorted(kinds.keys() - base.keys()):
        raise ValueError(f"base_config lacks {', '.join(missing)}.")
    parts = []
    for part, kind in kinds.items():
        try:
            parts.append(kind(**base[part]))
        except TypeError as error:
            raise ValueError(f"base_config: {part} is no {kind.__name__}: {error}") from None
    return tuple(parts)


def _on_base(config: TrainConfig) -> _Parts:
    name, dtype = str(config.pretrained_model_name_or_path), DTYPES[config.mixed_precision]
    component = check_base(name, config.revision).component
    prompt = load_prompt(config)  # first: text encoders and backbone are never in memory together
    try:
        folder = fetch_base(name, component, config.variant, revision=config.revision)
        models, scheduler = load_base(folder, dtype, config.variant)
    except OSError as error:
        raise FileNotFoundError(f"{name} is incomplete: {one_line(error)}") from None
    vae, backbone = models["vae"], models[component]
    check_parts(name, vae, backbone, prompt, scheduler)
    add_adapters(vae, backbone, config)
    return vae, backbone, prompt, scheduler


def check_parts(name: str, vae: AutoencoderKL, backbone: ModelMixin, prompt: TextPrompt, scheduler: Scheduler) -> None:
    """Raise ValueError where the parts of the base called `name` cannot be trained."""
    kind = scheduler.config.get("prediction_type", "epsilon")  # flow matching has none
    if kind not in ("epsilon", "v_prediction"):
        raise ValueError(f"{name} predicts {kind}, not epsilon or v. Supported: {supported_bases()}.")
    if not cross_attention_layers(backbone):
        raise ValueError(f"The backbone of {name} has no cross-attention. Supported: {supported_bases()}.")
    check_fits(vae, backbone, prompt)


def add_adapters(vae: AutoencoderKL, backbone: ModelMixin, config: TrainConfig) -> None:
    """Freeze the base and add its adapters: in float32, as are its normalisations, whatever the base is kept in."""
    for module in (*backbone.modules(), *vae.modules()):
        if isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            module.float()  # autocast leaves some of their inputs in float32, and CPUs refuse a mixture
    torch.manual_seed(config.seed)  # the same adapters in every process, whether or not it made the prompt
    add_lora(backbone, vae, config.rank_unet, config.rank_vae, config.lora_alpha)
    cast_training_params([backbone, vae], dtype=torch.float32)  # adapters are as precise as the optimiser


def check_base(name: str, revision: str | None = None) -> Family:
    """The base's family, by its model_index.json: before anything large is downloaded.

    Raises:
        FileNotFoundError: no pipeline there. ValueError: one that does not fit; the message says what does.
    """
    try:
        return base_family(resolve(name, allow_patterns=["model_index.json"], revision=revision))
    except (OSError, HFValidationError) as error:
        raise FileNotFoundError(f"No diffusers pipeline {name} (a folder, or a Hub id): {one_line(error)}") from None


def load_prompt(config: TrainConfig) -> TextPrompt:
    """The base's embeddings of the prompt, made by its text encoders once and kept in OUTPUT_DIR/prompt.

    The process that finds none there makes them: have one process go first.
    """
    folder = Path(config.output_dir) / "prompt"
    name = config.pretrained_model_name_or_path
    origin = [name, config.revision, config.prompt]
    mark = folder / "made_from.json"
    if not mark.is_file() or read_json(mark) != origin:
        options = {"revision": config.revision, "variant": config.variant, "dtype": DTYPES[config.mixed_precision]}
        TextPrompt.from_base(name, config.prompt, **options).float().save_pretrained(folder)
        write_atomically(mark, json.dumps(origin))
    # Read by the run that made it, too: sums depend on how a tensor lies in memory, and a resumed run is to equal it.
    return load_network(TextPrompt, folder).requires_grad_(False)


def drop_mask_stream(decoder: JointSegmentationDecoder) -> None:
    """Freeze the mask stream, have it say "no text" everywhere, and cut its influence on the image stream.

    The decoder keeps its form, so the trained network loads and runs as any other. Encoder skips stay: they belong to
    the image.
    """
    for part in (decoder.attention, decoder.mask_decoder, decoder.interactions):
        part.requires_grad_(False)
    for name, parameter in decoder.interactions.named_parameters():
        if name.endswith(".scale"):
            nn.init.zeros_(parameter)
    nn.init.zeros_(decoder.mask_decoder.conv_out.weight)
    nn.init.constant_(decoder.mask_decoder.conv_out.bias, -10.0)  # the logit of "no text"
