"""An adapter and its base, from their folders, as the parts of a pipeline."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    CogView4Transformer2DModel,
    DDPMScheduler,
    ModelMixin,
    SchedulerMixin,
    UNet2DConditionModel,
)

from tadisr.loading.adapters import load_adapter
from tadisr.loading.memory import quantization_by_model
from tadisr.loading.repositories import AdapterIndex, adapter_backbone, resolve_base, weights_variant
from tadisr.models.backbone import check_fits
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.network import ddpm_scheduler, flow_scheduler
from tadisr.models.prompt import TextPrompt


def load_adapted(
    folder: Path,
    index: AdapterIndex,
    hub: dict[str, Any],
    dtype: torch.dtype,
    prompt: TextPrompt | None = None,
    variant: str | None = None,
    quantization_config: Any = None,
    **others: Any,
) -> dict[str, Any]:
    """A pipeline's arguments: the adapter in `folder` on the base it names.

    `hub`: as in `resolve`; `prompt`: instead of the saved one; `variant`: of the base's weight
    files; `quantization_config`: diffusers'. Of `others` there may be `use_safetensors`, which is so anyway.

    Raises:
        FileNotFoundError: the base, or a part of the adapter, is not here; the message says what to fetch or make.
        ValueError: a base that the adapter does not fit, or any of `others`.
    """
    if odd := sorted(set(others) - {"use_safetensors"}):
        raise ValueError(f"An adapter is not loaded with {', '.join(odd)}: leave it out, and use to() to move it.")
    part = adapter_backbone(folder)
    if prompt is None and not (folder / "prompt").is_dir():
        words = f", {index.prompt!r}" if index.prompt else ""
        raise FileNotFoundError(
            f"The adapter in {folder} has no prompt/: make it once with the base's text encoder, by tadisr.models."
            f"prompt.TextPrompt.from_base({index.base_model!r}{words}).save_pretrained({str(folder / 'prompt')!r})."
        )
    base = resolve_base(index, part, variant, **hub)
    if prompt is None:
        prompt = TextPrompt.from_pretrained(folder, subfolder="prompt", dtype=dtype)
    else:
        prompt = copy.deepcopy(prompt).to(dtype)
    joint_decoder = JointSegmentationDecoder.from_pretrained(folder, subfolder="joint_decoder", dtype=dtype)
    quantization = quantization_by_model(quantization_config, part)
    models, scheduler = load_base(base, part, dtype, variant, quantization)
    check_fits(models["vae"], models[part], prompt)
    load_adapter(folder, models)
    origin = {"base_model": index.base_model, "base_revision": index.base_revision, "native_scale": index.native_scale}
    return {**models, "scheduler": scheduler, "prompt": prompt, "joint_decoder": joint_decoder, **origin}


def load_base(
    folder: Path,
    part: str,
    dtype: torch.dtype,
    variant: str | None = None,
    quantization: Mapping[str, Any] | None = None,
) -> tuple[dict[str, ModelMixin], SchedulerMixin]:
    """What restoring needs of the base in `folder`: {"vae": ..., "unet" or "transformer": ...}, and its scheduler.

    `part`: "unet" or "transformer", as `check_base` found it. `variant`: of the weight files, such
    as fp16; None takes plain ones where there are any. `quantization`: a model's name to diffusers' configuration.

    Raises:
        ValueError: a scheduler that is not one for this backbone.
    """
    backbone_class = {"unet": UNet2DConditionModel, "transformer": CogView4Transformer2DModel}[part]
    config = DDPMScheduler.load_config(folder, subfolder="scheduler")
    scheduler = ddpm_scheduler(config) if part == "unet" else flow_scheduler(config)
    models = {
        name: cls.from_pretrained(
            folder,
            subfolder=name,
            variant=variant or weights_variant(folder / name),
            dtype=dtype,
            quantization_config=(quantization or {}).get(name),
        )
        for name, cls in (("vae", AutoencoderKL), (part, backbone_class))
    }
    return models, scheduler
