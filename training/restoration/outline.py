"""A pretrained base's network without values: what its configuration files, a few kilobytes, already say is wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import diffusers
import torch
from diffusers import AutoencoderKL
from torch import nn

from tadisr.io.messages import one_line, quiet
from tadisr.io.model_files import read_config
from tadisr.loading.repositories import resolve
from tadisr.models.families import Family
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.network import TADiSRNetwork
from tadisr.models.precision import beside
from tadisr.models.prompt import TextPrompt
from tadisr.models.weights import build_empty
from tadisr.training.restoration.build import (
    DTYPES,
    add_adapters,
    check_base,
    check_parts,
    decoder_options,
    drop_mask_stream,
)
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_factor


class Shape(NamedTuple):
    """What a base's configuration files say."""

    family: Family
    backbone: Mapping[str, Any]
    vae: Mapping[str, Any]
    schedule: Mapping[str, Any]
    tokens: int = 77
    """Of its prompt. The configuration files do not say how many: it matters for memory alone."""


def read_shape(name: str, revision: str | None = None) -> Shape:
    """The shape of a base, a folder or Hub id, of which its configuration files are fetched alone.

    Raises:
        FileNotFoundError: no such base, or one without these files. ValueError: one that is not supported.
    """
    family = check_base(name, revision)
    files = [f"{family.component}/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
    try:
        folder = resolve(name, allow_patterns=["model_index.json", *files], revision=revision)
        backbone, vae, schedule = (read_config(folder / file) for file in files)
        return Shape(family, backbone, vae, schedule)
    except OSError as error:
        raise FileNotFoundError(f"{name} is incomplete: {one_line(error)}") from None


def check_settings(config: TrainConfig) -> None:
    """Raise an error for settings that the pretrained base cannot be trained with, before its weights are fetched.

    Raises:
        FileNotFoundError, ValueError: as `read_shape` and `outline`; crops or tiles of a size that does not fit.
    """
    with quiet(), torch.random.fork_rng(devices=[]):
        network = outline(config, read_shape(str(config.pretrained_model_name_or_path), config.revision))
    check_sides(config, network)


def check_sides(config: TrainConfig, network: TADiSRNetwork) -> None:
    """Raise ValueError unless crops, strips and validation's tiles fit the VAE and all levels of the backbone."""
    factor = network_factor(network)
    sides = {"resolution": config.resolution}
    if config.recognizer:
        sides["recognizer_width"] = config.recognizer_width
    if config.validation_data_dir and config.validation_tile:
        sides["validation_tile"] = config.validation_tile
    for name, side in sides.items():
        if side % factor:
            raise ValueError(f"With this base {name} must be a multiple of {factor}, not {side}.")


def outline(config: TrainConfig, shape: Shape) -> TADiSRNetwork:
    """The network to train as `build_network` makes it on a base of that shape, on the meta device.

    Raises ValueError for a base that does not fit, and for adapters that it cannot carry.
    """
    name, family = str(config.pretrained_model_name_or_path), shape.family
    backbone_class = getattr(diffusers, family.backbone_class)
    backbone = build_empty(backbone_class, shape.backbone, Path(name) / family.component / "config.json")
    vae = cast(AutoencoderKL, build_empty(AutoencoderKL, shape.vae, Path(name) / "vae" / "config.json"))
    dtype = DTYPES[config.mixed_precision]
    nn.Module.to(vae, beside(dtype))
    nn.Module.to(backbone, dtype)
    width, pooled = family.prompt_widths(backbone.config)
    time_ids = None if pooled is None else [1024, 1024, 0, 0, 1024, 1024]
    scheduler = family.make_scheduler(shape.schedule)
    with torch.device("meta"):
        prompt = TextPrompt(shape.tokens, width, [shape.tokens - 1], pooled, time_ids).requires_grad_(False)
        check_parts(name, vae, backbone, prompt, scheduler)
        add_adapters(vae, backbone, config)
        joint_decoder = JointSegmentationDecoder.from_base(vae, backbone, **decoder_options(config))
    if not config.joint_decoder:
        drop_mask_stream(joint_decoder)
    if config.gradient_checkpointing:
        for model in (backbone, joint_decoder):
            model.enable_gradient_checkpointing()
    return TADiSRNetwork(vae, backbone, prompt, joint_decoder, scheduler)
