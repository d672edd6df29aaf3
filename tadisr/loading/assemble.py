"""An adapter and its base, from their folders, as the parts of a pipeline."""

import copy
from pathlib import Path
from typing import Any

import torch

from tadisr.loading.adapters import load_adapter
from tadisr.loading.bases import backbone_component, load_base, resolve_base
from tadisr.loading.memory import quantization_by_model
from tadisr.loading.repositories import AdapterIndex
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.network import check_fits
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
    component = backbone_component(folder, "_lora")
    if prompt is None and not (folder / "prompt").is_dir():
        words = f", {index.prompt!r}" if index.prompt else ""
        raise FileNotFoundError(
            f"The adapter in {folder} has no prompt/: make it once with the base's text encoder, by tadisr.models."
            f"prompt.TextPrompt.from_base({index.base_model!r}{words}).save_pretrained({str(folder / 'prompt')!r})."
        )
    base = resolve_base(index, component, variant, **hub)
    used: Any = copy.deepcopy(prompt)
    used = TextPrompt.from_pretrained(folder, subfolder="prompt", dtype=dtype) if used is None else used.to(dtype)
    joint_decoder = JointSegmentationDecoder.from_pretrained(folder, subfolder="joint_decoder", dtype=dtype)
    quantization = quantization_by_model(quantization_config, component)
    models, scheduler = load_base(base, dtype, variant, quantization)
    check_fits(models["vae"], models[component], used)
    load_adapter(folder, models)
    origin = {"base_model": index.base_model, "base_revision": index.base_revision, "native_scale": index.native_scale}
    return {**models, "scheduler": scheduler, "prompt": used, "joint_decoder": joint_decoder, **origin}
