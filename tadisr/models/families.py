"""What TADiSR must know of each family of base models: one record each, in `FAMILIES`.

A family is added by a record here, and by nothing else: tests/loading/test_new_family.py shows how, with Stable
Diffusion 3. Whoever has a backbone asks `family_of`; whoever has the name of a class asks `family_by_class`, or
`family_by_pipeline` where it is a pipeline's.

Shapes: B batch, c latent channels, h, w latent size, T prompt tokens, D and P widths of the text and pooled embeddings.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import diffusers
import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import nn

from tadisr.models.attention_processors import JointTextAttnProcessor, StreamTextAttnProcessor, TextAttnProcessor
from tadisr.models.one_step import Scheduler, ddpm_scheduler, flow_scheduler
from tadisr.models.recording import recorded, recorders

if TYPE_CHECKING:
    from tadisr.models.prompt import TextPrompt


class EncodedPrompt(NamedTuple):
    """A prompt as a base's own pipeline encodes it."""

    embeds: torch.Tensor
    """(1, T, D)."""
    pooled: torch.Tensor | None
    """(1, P), or None where the base has none."""
    tokens: list[str]
    """The T tokens, padding included."""


@dataclass(frozen=True)
class Family:
    """A family of base models. Families that share a class of backbones agree in all that concerns it."""

    name: str
    """As error messages call it."""
    pipelines: str
    """Regular expression: how the class names of its diffusers pipelines begin."""
    backbone_class: str
    """The class of its denoiser in diffusers; subclasses count, too."""
    component: str
    """The denoiser's name in a pipeline, and so its sub-folder: "unet" or "transformer"."""
    make_scheduler: Callable[[Mapping[str, Any]], Scheduler]
    """From the config of whichever scheduler the base comes with; raises ValueError for one of another kind."""
    predict: Callable[[Any, torch.Tensor, float, "TextPrompt", int], torch.Tensor]
    """(backbone, noisy latents (B, c, h, w) of any size, timestep, prompt, pixels per latent) to its prediction
    (B, c, h, w)."""
    encode: Callable[[Any, str], EncodedPrompt]
    """(pipeline, prompt) to the prompt's embeddings and tokens."""
    prompt_widths: Callable[[Any], tuple[int, int | None]]
    """The backbone's config to the widths D and P that it reads; P is None where it reads no pooled embedding."""
    text_layers: str
    """Regular expression: the names of the layers in which the image attends to the prompt."""
    recorder: Callable[[str, list[int], dict[str, torch.Tensor]], Any]
    """The class of their recording processors, see `tadisr.models.attention_processors`."""
    lora_targets: tuple[str, ...]
    """How the names of the layers end that LoRA adapts."""
    levels: str | None = None
    """The entry of the backbone's config that has one value per level, each of half the size of the one before. None:
    the backbone pads latents by itself."""
    holds_float16: bool = False
    """Whether the published backbones hold their values in float16, as U-Nets do whose weights are published in it."""
    needs: tuple[str, str] | None = None
    """A package that the prompt's tokenizer needs, and what to install for it."""


def _unet_predict(
    backbone: Any, latents: torch.Tensor, timestep: float, prompt: "TextPrompt", pixels_per_latent: int
) -> torch.Tensor:
    embeds, pooled = prompt(latents.shape[0])
    added = None
    if pooled is not None:
        time_ids = torch.tensor([prompt.config.time_ids], dtype=embeds.dtype, device=embeds.device)
        added = {"text_embeds": pooled, "time_ids": time_ids.expand(latents.shape[0], -1)}
    return backbone(latents, timestep, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False)[0]


def _unet_encode(pipe: Any, prompt: str) -> EncodedPrompt:
    embeds, pooled = _encode(pipe, prompt)
    ids = pipe.tokenizer(prompt, padding="max_length", max_length=embeds.shape[1], truncation=True)["input_ids"]
    return EncodedPrompt(embeds, pooled, pipe.tokenizer.convert_ids_to_tokens(ids))


def _unet_prompt_widths(config: Any) -> tuple[int, int | None]:
    pooled = None
    if config.addition_embed_type == "text_time":  # SDXL and Kolors: with six time ids
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    return config.encoder_hid_dim or config.cross_attention_dim, pooled


def _cogview4_predict(
    backbone: Any, latents: torch.Tensor, timestep: float, prompt: "TextPrompt", pixels_per_latent: int
) -> torch.Tensor:
    """Latents are padded to whole patches, by repeating the border, and the prediction is cropped.

    As in CogView4's own pipeline the transformer is told the (padded) image's height and width in pixels, as original
    and as target size, and that nothing was cropped.
    """
    height, width = latents.shape[-2:]
    latents = _whole_patches(latents, backbone.config.patch_size)
    size = torch.tensor(latents.shape[-2:], dtype=torch.float32, device=latents.device) * pixels_per_latent
    size = size.expand(latents.shape[0], 2)
    prediction = backbone(
        latents,
        encoder_hidden_states=prompt(latents.shape[0])[0],
        timestep=size.new_full((latents.shape[0],), timestep),
        original_size=size,
        target_size=size,
        crop_coords=torch.zeros_like(size),
        return_dict=False,
    )[0]
    return prediction[..., :height, :width]


def _cogview4_encode(pipe: Any, prompt: str) -> EncodedPrompt:
    embeds, _ = _encode(pipe, prompt)
    ids = pipe.tokenizer(prompt, max_length=embeds.shape[1], truncation=True)["input_ids"]
    padding = [pipe.tokenizer.pad_token_id] * (embeds.shape[1] - len(ids))  # to a multiple of 16, on the left
    return EncodedPrompt(embeds, None, pipe.tokenizer.convert_ids_to_tokens([*padding, *ids]))


def _zimage_predict(
    backbone: Any, latents: torch.Tensor, timestep: float, prompt: "TextPrompt", pixels_per_latent: int
) -> torch.Tensor:
    """Latents are padded to whole patches, by repeating the border, and the prediction is cropped.

    Z-Image's transformer takes a list of latents with a frame axis, lists of prompts, and as time the share of image
    instead of noise. It predicts image minus noise: the sign is turned, as in Z-Image's own pipeline.
    """
    height, width = latents.shape[-2:]
    patch = backbone.config.all_patch_size[0]
    latents = _whole_patches(latents, patch)
    rows, columns = (side // patch for side in latents.shape[-2:])
    if any(side > most for side, most in zip((rows, columns), backbone.config.axes_lens[1:], strict=True)):
        most = min(backbone.config.axes_lens[1:]) * patch * pixels_per_latent
        raise ValueError(f"Z-Image has no places for images of more than {most} pixels a side: give a tile.")
    embeds = prompt(len(latents))[0]
    for recorder in recorders(backbone).values():
        recorder.prompt_tokens = embeds.shape[1]
    time = torch.full((len(latents),), 1 - timestep / 1000, dtype=torch.float32, device=latents.device)
    prediction = backbone(list(latents.unsqueeze(2)), time, list(embeds), return_dict=False, patch_size=patch)[0]
    maps = recorded(backbone)
    maps.update({name: logits[..., : rows * columns] for name, logits in maps.items()})  # without the padding
    return -torch.stack(prediction)[:, :, 0, :height, :width]


def _zimage_encode(pipe: Any, prompt: str) -> EncodedPrompt:
    [embeds], _ = pipe.encode_prompt(prompt, device=pipe.device, do_classifier_free_guidance=False)  # without padding
    written = pipe.tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    ids = pipe.tokenizer(written)["input_ids"][: len(embeds)]
    return EncodedPrompt(embeds[None], None, pipe.tokenizer.convert_ids_to_tokens(ids))


def _whole_patches(latents: torch.Tensor, patch: int) -> torch.Tensor:
    height, width = latents.shape[-2:]
    if height % patch == width % patch == 0:
        return latents
    return F.pad(latents, (0, -width % patch, 0, -height % patch), mode="replicate")


def _encode(pipe: Any, prompt: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    encoded = pipe.encode_prompt(prompt, device=pipe.device, num_images_per_prompt=1, do_classifier_free_guidance=False)
    return encoded[0], encoded[2] if len(encoded) == 4 else None


_LORA_TARGETS = (
    "to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2",
    "conv", "conv1", "conv2", "conv_shortcut", "conv_out",
)  # fmt: skip
_UNET: dict[str, Any] = {
    "backbone_class": "UNet2DConditionModel",
    "component": "unet",
    "make_scheduler": ddpm_scheduler,
    "predict": _unet_predict,
    "encode": _unet_encode,
    "prompt_widths": _unet_prompt_widths,
    "text_layers": r".*attn2",
    "recorder": TextAttnProcessor,
    "lora_targets": _LORA_TARGETS,
    "levels": "block_out_channels",
    "holds_float16": True,
}

FAMILIES: dict[str, Family] = {
    "sd": Family(name="Stable Diffusion 1.x and 2.x", pipelines="StableDiffusion(?!XL|3)", **_UNET),
    "sdxl": Family(name="SDXL", pipelines="StableDiffusionXL", **_UNET),
    "kolors": Family(name="Kolors", pipelines="Kolors", **_UNET, needs=("sentencepiece", "tadisr[kolors]")),
    "cogview4": Family(
        name="CogView4",
        pipelines="CogView4",
        backbone_class="CogView4Transformer2DModel",
        component="transformer",
        make_scheduler=flow_scheduler,
        predict=_cogview4_predict,
        encode=_cogview4_encode,
        prompt_widths=lambda config: (config.text_embed_dim, None),
        text_layers=r"transformer_blocks\.\d+\.attn1",
        recorder=JointTextAttnProcessor,
        lora_targets=_LORA_TARGETS,
    ),
    "zimage": Family(
        name="Z-Image",
        pipelines="ZImage(?!Omni)",
        backbone_class="ZImageTransformer2DModel",
        component="transformer",
        make_scheduler=flow_scheduler,
        predict=_zimage_predict,
        encode=_zimage_encode,
        prompt_widths=lambda config: (config.cap_feat_dim, None),
        text_layers=r"layers\.\d+\.attention",
        recorder=StreamTextAttnProcessor,
        lora_targets=("to_q", "to_k", "to_v", "to_out.0", "w1", "w2", "w3", "linear"),
    ),
}


def family_of(backbone: nn.Module) -> Family:
    """The family that has such a backbone, of several the first, or a ValueError."""
    for cls in type(backbone).__mro__:
        if family := family_by_class(cls.__name__):
            return family
    raise ValueError(f"{type(backbone).__name__} is no backbone of a base. Supported: {supported_bases()}.")


def family_by_class(name: str | None) -> Family | None:
    """The family whose backbones are of the class `name`; of several the first."""
    return next((family for family in FAMILIES.values() if family.backbone_class == name), None)


def family_by_pipeline(name: str) -> Family:
    """The family of the pipeline class `name`, or a ValueError."""
    for family in FAMILIES.values():
        if re.match(family.pipelines, name):
            return family
    raise ValueError(f"No prompt can be made with a {name}. Supported bases: {supported_bases()}.")


def backbone_components() -> list[str]:
    """The names that a backbone can have in a pipeline."""
    return list(dict.fromkeys(family.component for family in FAMILIES.values()))


def backbone_classes(component: str) -> list[type]:
    """diffusers' classes of the backbones that a pipeline has under that name."""
    names = dict.fromkeys(f.backbone_class for f in FAMILIES.values() if f.component == component)
    return [getattr(diffusers, name) for name in names]


def supported_bases() -> str:
    """All families by name, for error messages."""
    by_class: dict[str, list[str]] = {}
    for family in FAMILIES.values():
        by_class.setdefault(family.backbone_class, []).append(family.name)
    kinds = [f"{', '.join(names)} ({cls})" for cls, names in by_class.items()]
    return f"{'; '.join(kinds)}; each with an AutoencoderKL"


def predict(
    backbone: ModelMixin, latents: torch.Tensor, timestep: float, prompt: "TextPrompt", pixels_per_latent: int
) -> torch.Tensor:
    """The backbone's prediction for noisy latents, both (B, c, h, w), of any size."""
    return family_of(backbone).predict(backbone, latents, timestep, prompt, pixels_per_latent)


def latent_multiple(backbone: ModelMixin) -> int:
    """Latents whose sides are multiples of this fit every level of the backbone."""
    levels = family_of(backbone).levels
    return 1 if levels is None else 2 ** (len(backbone.config[levels]) - 1)
