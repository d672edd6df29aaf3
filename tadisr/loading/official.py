"""The authors' released checkpoints (`.pkl`) as adapters that `TADiSRPipeline.from_pretrained` loads."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from peft import LoraConfig

from tadisr.io.atomic import replacing_folder
from tadisr.io.hashing import sha256
from tadisr.io.messages import shortened
from tadisr.io.model_files import load_pickled, not_finite
from tadisr.loading.adapters import write_adapter
from tadisr.loading.cards import front_matter, snippet
from tadisr.loading.official_layouts import (
    DECODER_GROUPS,
    LORA_ALPHA,
    RANK_BACKBONE,
    RANK_VAE,
    RELEASES,
    SKIPS,
    VAE_TARGETS,
    Layout,
    Release,
)
from tadisr.loading.repositories import AdapterIndex

Checkpoint = Mapping[str, Any]
_LICENSE = {
    "license": "other", "license_name": "research-use", "license_link": "https://github.com/mingcv/TADiSR",
}  # fmt: skip


class Conversion(NamedTuple):
    """What was converted."""

    release: Release
    released: bool  # byte for byte the file that the authors published
    base_model: str
    has_prompt: bool


def convert(
    path: Path,
    output: Path,
    base_model: str | None = None,
    releases: Sequence[Release] | None = None,
    name: str | None = None,
) -> Conversion:
    """Write the checkpoint in the file `path` as an adapter to the new folder `output`, or nothing.

    Args:
        path: what the authors published, or a file of the same layout. Nothing in it is executed.
        output: must not exist, or be empty.
        base_model: folder or Hub id of the base pipeline. Its text encoder makes the embeddings of the prompt, without
            which the adapter cannot run yet. By default none are made, and the adapter names the authors' base.
        releases: the layouts to expect, by default the two that were published.
        name: by which the model card loads the adapter: its Hub id; by default the name of `output`.

    Raises:
        ValueError: the file is damaged, holds more than tensors, or has another layout.
        OSError: no such file, `output` is taken or cannot be written, or the base's text encoder cannot be loaded.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No file {path}.")
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise FileExistsError(f"{output} exists already: name a new folder.")
    checkpoint = read_checkpoint(path)
    releases = RELEASES if releases is None else releases
    release = next((release for release in releases if release.backbone_group in checkpoint), None)
    if release is None:
        known = " or ".join(f"{release.file} ({release.backbone_group})" for release in releases)
        raise ValueError(f"This checkpoint has the entries {shortened(map(str, checkpoint))}; known are {known}.")
    decoder_group = next((group for group in DECODER_GROUPS if group in checkpoint), DECODER_GROUPS[0])
    layout = release.layout(decoder_group)
    component = release.family.component
    others = {f"rank_{component}", f"{component}_lora_target_modules"}  # without tensors
    if mistakes := list(_mistakes(checkpoint, layout, others)):
        raise ValueError(f"{path} has not the layout of {release.file}: {shortened(mistakes, 5)}.")
    released = path.stat().st_size == release.size and sha256(path) == release.sha256
    done = Conversion(release, released, base_model or release.base_model, has_prompt=base_model is not None)
    with replacing_folder(output) as folder:
        _write(checkpoint, layout, decoder_group, done, folder, name or output.resolve().name)
    return done


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint's entries, its tensors on the CPU and mapped from the file where its format allows that.

    Raises ValueError for a damaged file, or one whose pickle would call anything but what tensors are made of.
    """
    checkpoint = load_pickled(path)
    if not isinstance(checkpoint, Mapping):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint's groups of tensors.")
    return checkpoint


def _mistakes(checkpoint: Checkpoint, layout: Layout, others: set[str]) -> Iterator[str]:
    """Where the checkpoint differs from the layout, in words."""
    yield from (f"unknown entry {entry}" for entry in checkpoint if entry not in layout and entry not in others)
    for group, slots in layout.items():
        found = checkpoint.get(group)
        if not isinstance(found, Mapping):
            yield f"no group {group}"
            continue
        sources: dict[tuple[str, ...], str] = {}
        for key, slot in slots.items():
            tensor = found.get(key)
            if not isinstance(tensor, torch.Tensor):
                yield f"missing {group}: {key}"
            elif tuple(tensor.shape) != slot.shape or not tensor.is_floating_point():
                yield f"{group}: {key} is {tuple(tensor.shape)} {tensor.dtype}, expected {slot.shape} floats"
            elif slot.ours:
                twin = sources.setdefault(slot.ours, key)
                if twin != key and not torch.equal(found[twin], tensor):
                    yield f"{group}: {twin} and {key} are one layer, but differ"
        yield from (f"unknown {group}: {key}" for key in found if key not in slots)
        tensors = {str(key): value for key, value in found.items() if isinstance(value, torch.Tensor)}
        yield from (f"{group}: {key} is not finite" for key in not_finite(tensors))


def _write(
    checkpoint: Checkpoint, layout: Layout, decoder_group: str, done: Conversion, folder: Path, name: str
) -> None:
    release = done.release
    for name, group, rank, targets in (
        (release.family.component, release.backbone_group, RANK_BACKBONE, release.backbone_targets),
        ("vae", "state_dict_vae", RANK_VAE, VAE_TARGETS),
    ):
        ours = {slot.ours[0]: checkpoint[group][key] for key, slot in layout[group].items() if slot.ours}
        lora = {key: tensor for key, tensor in ours.items() if ".lora_" in key}
        layers = {key: tensor for key, tensor in ours.items() if key not in lora}
        config = LoraConfig(r=rank, lora_alpha=LORA_ALPHA, target_modules=list(targets), init_lora_weights="gaussian")
        write_adapter(folder, name, lora, config, layers)
    decoder = release.decoder()
    decoder.load_state_dict(_decoder_weights(checkpoint, layout, decoder_group), assign=True)
    decoder.save_pretrained(folder / "joint_decoder")
    if done.has_prompt:
        from tadisr.models.prompt import TextPrompt

        prompt = TextPrompt.from_base(done.base_model, release.prompt, dtype=release.text_encoder_dtype)
        wanted, made = release.prompt_widths(), (prompt.config.embed_dim, prompt.config.pooled_dim)
        if made != wanted:
            raise ValueError(
                f"{done.base_model} encodes prompts with {made} values, and {release.file} needs {wanted} (text, "
                f"pooled): give a copy of {release.base_model}."
            )
        prompt.float().save_pretrained(folder / "prompt")
    AdapterIndex(done.base_model, prompt=None if done.has_prompt else release.prompt).save(folder)
    (folder / "README.md").write_text(_card(done, name), encoding="utf-8")


def _decoder_weights(checkpoint: Checkpoint, layout: Layout, group: str) -> dict[str, torch.Tensor]:
    weights = {}
    for key, slot in layout[group].items():
        if len(slot.ours) == 1:
            weights[slot.ours[0]] = checkpoint[group][key].contiguous()
        else:  # copies, since safetensors writes no two parts of one storage
            parts = checkpoint[group][key].chunk(len(slot.ours)) if slot.ours else []
            weights |= {name: part.clone() for name, part in zip(slot.ours, parts, strict=True)}
    vae = checkpoint["state_dict_vae"]
    for i in SKIPS[1:]:  # their LoRA merged
        parts = ("base_layer", "lora_A.vae_skip", "lora_B.vae_skip")
        base, a, b = (vae[f"decoder.skip_conv_{i}.{part}.weight"] for part in parts)
        update = (b.flatten(1).double() @ a.flatten(1).double()) * (LORA_ALPHA / RANK_VAE)
        weights[f"skips.{i - 1}.weight"] = (base.double() + update.view_as(base)).to(base.dtype)
    return weights


def _card(done: Conversion, name: str) -> str:
    release = done.release
    backbone = release.family.component
    front = front_matter(base_model=done.base_model, license=_LICENSE)
    origin = "a file of the same layout as the released one, but **not the released file**"
    if done.released:
        origin = f"byte for byte the released file (SHA-256 `{release.sha256}`)"
    whole = "".join(f"; its `{layer}` whole" for layer in release.replaced_layers)
    prompt = "" if done.has_prompt else " Its embeddings are still to be made, see `tadisr convert --help`."
    return f"""{front}# {release.name}

{snippet(name)}
Adapters for text-aware super-resolution, by the authors of TADiSR: Qiming Hu, Linlong Fan, Yiyan Luo, Yuhang Yu,
Xiaojie Guo and Qingnan Fan, *Text-Aware Real-World Image Super-Resolution via Diffusion Model with Joint Segmentation
Decoders* (arXiv:2506.04641, https://github.com/mingcv/TADiSR).

They trained them on {release.trained_on}, for the base {release.base_model}. Converted from `{release.file}`: {origin}.

## Licence

The authors release these weights for research use. They remain subject to the terms of the base model as well, the
commercial-use terms of Kolors included. The conversion changes neither.

## What was converted

- LoRA of the {backbone} (rank {RANK_BACKBONE}){whole}; LoRA of the VAE's encoder and decoder (rank {RANK_VAE}).
  `lora_alpha` is {LORA_ALPHA}: peft's default, which the authors' code leaves as it is.
- The mask decoder and the interaction blocks, with the weights that both streams share kept once.
- The encoder skips, their own LoRA merged.
- Left out, as without effect: the first encoder skip; for Kolors the scales of the image's updates.

There is no text-aware cross-attention in these weights: the mask is decoded from the image decoder's mid block.
The prompt is "{release.prompt}".{prompt}
"""
