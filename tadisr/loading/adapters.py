"""What an adapter changes in its base's models: LoRA, and layers replaced whole. It is checked before it is applied.

A folder holds, for the VAE and for the backbone, each by its name in the pipeline:

- `NAME_lora/pytorch_lora_weights.safetensors`. Its metadata are diffusers' own (peft's configuration, and so the
  scaling `lora_alpha / r`) and the names of the replaced layers' tensors.
- `NAME_layers.safetensors`, with the replaced layers' tensors, where there are any.
"""

import copy
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import ModelMixin
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from tadisr.io.messages import shortened
from tadisr.io.model_files import not_finite, read_header, refuse, shown
from tadisr.io.structured import parse_json
from tadisr.loading.bases import backbone_component, load_base, resolve_base
from tadisr.loading.memory import quantization_by_model
from tadisr.loading.repositories import AdapterIndex
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.lora import ADAPTER, VAE_TARGETS
from tadisr.models.network import check_fits
from tadisr.models.one_step import check_prediction
from tadisr.models.precision import beside
from tadisr.models.prompt import TextPrompt
from tadisr.models.weights import load_network

_MAX_METADATA = 1 << 20  # characters
_MAX_RANK, _MAX_ALPHA, _MAX_TARGETS = 4096, 1e6, 2000
_PLAIN = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_READ = {  # of a LoRA's metadata: what is read, and what says nothing about what it computes
    "r", "lora_alpha", "target_modules", "init_lora_weights", "inference_mode", "lora_dropout", "peft_type",
    "task_type", "auto_mapping", "base_model_name_or_path", "revision", "peft_version",
}  # fmt: skip
_LAYERS_KEY = "replaced_layers"  # in the LoRA file's metadata: JSON, the names of the tensors in the layers' file
_REPLACED = "_tadisr_replaced_layers"  # on a model: the names of its parameters that an adapter has replaced


class _Part(NamedTuple):
    lora: dict[str, torch.Tensor]
    config: LoraConfig
    layers: dict[str, torch.Tensor]


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

    `hub`: as in `resolve`; `dtype`: of the backbone and the prompt, the rest is kept in `beside(dtype)`; `prompt`:
    instead of the saved one; `variant`: of the base's weight files; `quantization_config`: diffusers'. Of `others`
    there may be `use_safetensors`, which is so anyway. Raises ValueError for a base that the adapter does not fit; a
    FileNotFoundError says what to fetch or make.
    """
    if odd := sorted(name for name, value in others.items() if (name, value) != ("use_safetensors", True)):
        raise ValueError(f"An adapter is not loaded with {', '.join(odd)}: leave it out, and use to() to move it.")
    component = backbone_component(folder, "_lora")
    if prompt is None and not (folder / "prompt").is_dir():
        words = f", {index.prompt!r}" if index.prompt else ""
        raise FileNotFoundError(
            f"The adapter in {folder} has no prompt/: make it once with the base's text encoder, by tadisr.models."
            f"prompt.TextPrompt.from_base({index.base_model!r}{words}).save_pretrained({str(folder / 'prompt')!r})."
        )
    used: Any = copy.deepcopy(prompt)
    try:
        used = load_network(TextPrompt, folder, "prompt", dtype) if used is None else used.to(dtype)
        joint_decoder = load_network(JointSegmentationDecoder, folder, "joint_decoder", beside(dtype))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"The adapter is incomplete: {error}.") from None
    parts = {name: _read(folder, name) for name in ("vae", component)}
    base = resolve_base(index, component, variant, **hub)  # last, for it may be gigabytes away
    quantization = quantization_by_model(quantization_config, component)
    models, scheduler = load_base(base, dtype, variant, quantization)
    check_prediction(scheduler)
    check_fits(models["vae"], models[component], used, joint_decoder)
    load_adapter(folder, models, parts)
    origin = {"base_model": index.base_model, "base_revision": index.base_revision, "native_scale": index.native_scale}
    return {**models, "scheduler": scheduler, "prompt": used, "joint_decoder": joint_decoder, **origin}


def load_adapter(folder: Path, models: Mapping[str, ModelMixin], parts: Mapping[str, _Part] | None = None) -> None:
    """Put the adapter in `folder` on a base's models, by name, as adapters named "tadisr".

    Every name and shape is checked against the models first: after an exception they are as they were. `parts`: what
    was read of the adapter already. Raises FileNotFoundError for a missing file, ValueError for a damaged one or a
    model that cannot take the adapter.
    """
    parts = {name: _read(folder, name) for name in models} if parts is None else parts
    for name, model in models.items():
        if ADAPTER in getattr(model, "peft_config", {}):
            raise ValueError(f"The {name} already carries a TADiSR adapter: load the base anew for another one.")
        if mistakes := list(_mistakes(parts[name], model)):
            raise ValueError(
                f"The adapter in {folder} does not fit this {name}: {shortened(mistakes)}. "
                "It was made for another base model, see its tadisr_adapter.json."
            )
    for name, model in models.items():
        lora, config, layers = parts[name]
        with torch.no_grad():
            for key, tensor in layers.items():
                model.get_parameter(key).copy_(tensor)
        if layers:
            setattr(model, _REPLACED, sorted(layers))
        model.load_lora_adapter(lora, prefix=None, adapter_name=ADAPTER, metadata=config.to_dict())


def save_adapter(folder: Path, models: Mapping[str, ModelMixin]) -> None:
    """Write what the adapters named "tadisr" on these models add and replace; raises ValueError where one has none."""
    for name, model in models.items():
        if ADAPTER not in getattr(model, "peft_config", {}):
            raise ValueError(f"The {name} carries no TADiSR adapter.")
    for name, model in models.items():
        layers = {key: model.get_parameter(key) for key in getattr(model, _REPLACED, [])}
        lora = get_peft_model_state_dict(model, adapter_name=ADAPTER)
        write_adapter(folder, name, lora, model.peft_config[ADAPTER], layers)


def write_adapter(
    folder: Path, name: str, lora: Mapping[str, torch.Tensor], config: LoraConfig, layers: Mapping[str, torch.Tensor]
) -> None:
    """Write the share that the model called `name` has of the adapter in `folder`.

    `lora` maps "LAYER.lora_A.weight" and "LAYER.lora_B.weight" to tensors, `layers` names of parameters to the tensors
    that replace them.
    """
    metadata = {
        "format": "pt",
        LORA_ADAPTER_METADATA_KEY: json.dumps(config.to_dict(), default=sorted, sort_keys=True),  # its sets as lists
        _LAYERS_KEY: json.dumps(sorted(layers)),
    }
    path, layers_path = _paths(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.detach().contiguous() for key, tensor in lora.items()}, path, metadata)
    if layers:
        tensors = {key: tensor.detach().contiguous() for key, tensor in layers.items()}
        save_file(tensors, layers_path, {"format": "pt"})


def _paths(folder: Path, name: str) -> tuple[Path, Path]:
    """The files of the LoRA and of the replaced layers."""
    return folder / f"{name}_lora" / "pytorch_lora_weights.safetensors", folder / f"{name}_layers.safetensors"


def _read(folder: Path, name: str) -> _Part:
    path, layers_path = _paths(folder, name)
    lora, metadata = _read_tensors(path)
    where = f"The metadata of {path}"
    if LORA_ADAPTER_METADATA_KEY not in metadata:
        raise ValueError(f"{where} are missing: write the adapter anew.")
    texts = (metadata[LORA_ADAPTER_METADATA_KEY], metadata.get(_LAYERS_KEY, "[]"))
    if max(map(len, texts)) > _MAX_METADATA:
        raise ValueError(f"{where} are damaged: they have {max(map(len, texts))} characters.")
    config = _read_lora_config(parse_json(texts[0], where), where)
    expected = parse_json(texts[1], where)
    if not isinstance(expected, list) or not all(isinstance(name, str) for name in expected):
        raise ValueError(f"{where} are damaged: replaced_layers is no list of names.")
    layers = _read_tensors(layers_path)[0] if expected else {}
    if sorted(layers) != sorted(expected):
        raise ValueError(
            f"{layers_path} does not hold the layers that {path} names: {shortened(map(shown, expected))}."
        )
    return _Part(lora, config, layers)


def _read_lora_config(values: Any, where: str) -> LoraConfig:
    """What a LoRA's metadata say that loading needs: its rank, its scaling, and the layers it is on.

    peft takes names in metadata as regular expressions, and has options by which an adapter does other things than to
    add a product of two matrices. So nothing else of the metadata is handed on, and anything that would have an effect
    is a ValueError.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where} are damaged: they hold no object.")
    at_rest = LoraConfig().to_dict()
    rank, alpha, targets = ((at_rest | values)[name] for name in ("r", "lora_alpha", "target_modules"))
    if type(rank) is not int or not 1 <= rank <= _MAX_RANK:
        raise ValueError(f"{where} are damaged: r must be a whole number from 1 to {_MAX_RANK}, not {rank!r:.50}.")
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha <= _MAX_ALPHA:
        raise ValueError(
            f"{where} are damaged: lora_alpha must be above 0 and at most {_MAX_ALPHA}, not {alpha!r:.50}."
        )
    plain = isinstance(targets, list) and 0 < len(targets) <= _MAX_TARGETS
    if targets != VAE_TARGETS and not (plain and all(isinstance(x, str) and _PLAIN.fullmatch(x) for x in targets)):
        raise ValueError(f"{where} name layers otherwise than by a list of plain names: refused ({targets!r:.50}).")
    for name, value in values.items():
        if name not in _READ and value and value != at_rest.get(name):
            raise ValueError(f"{where} set {name[:50]!r}, which is not known here: refused.")
    read: dict[str, Any] = {"r": rank, "lora_alpha": alpha, "target_modules": targets}
    return LoraConfig(**read, init_lora_weights="gaussian")


def _read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    try:
        metadata = read_header(path)[1]
    except FileNotFoundError:
        raise FileNotFoundError(f"The adapter is incomplete: no {path}.") from None
    tensors = load_file(path)
    wrong = [f"{shown(name)} holds {x.dtype}" for name, x in tensors.items() if not x.is_floating_point()]
    refuse(path, wrong or [f"{shown(name)} is not finite" for name in not_finite(tensors)])
    return tensors, metadata


def _mistakes(part: _Part, model: nn.Module) -> Iterator[str]:
    """In words, every tensor of `part` that has no place in `model`, and every one that is missing."""
    if not part.lora:
        yield "no LoRA weights"
    layers: dict[str, dict[str, tuple[int, ...]]] = defaultdict(dict)
    for key, tensor in part.lora.items():
        layer, _, rest = key.partition(".lora_")
        layers[layer][f"lora_{rest}"] = tuple(tensor.shape)
    modules = dict(model.named_modules())
    for layer in modules:
        if layer not in layers and _is_target(layer, part.config.target_modules):
            yield f"{layer} has no LoRA weights"
    for layer, found in layers.items():
        module = modules.get(layer)
        if module is not None and not _is_target(layer, part.config.target_modules):
            yield f"{layer} is not among the target_modules"
        if isinstance(module, nn.Linear):  # its features and not its weight, which quantisation packs
            inputs, outputs, ones = (module.in_features,), module.out_features, ()
        elif isinstance(module, nn.Conv2d):
            inputs, outputs, ones = module.weight.shape[1:], module.out_channels, (1, 1)
        else:
            yield f"it has no linear or convolutional layer {shown(layer)}"
            continue
        rank = part.config.r
        wanted = {"lora_A.weight": (rank, *inputs), "lora_B.weight": (outputs, rank, *ones)}
        for key in sorted({*found, *wanted}):
            if found.get(key) != wanted.get(key):
                yield f"{layer}.{shown(key)} is {found.get(key, 'missing')}, expected {wanted.get(key, 'none')}"
    parameters = dict(model.named_parameters())
    for key, tensor in part.layers.items():
        shape = tuple(parameters[key].shape) if key in parameters else "none"
        if tuple(tensor.shape) != shape:
            yield f"{shown(key)} is {tuple(tensor.shape)}, expected {shape}"


def _is_target(layer: str, targets: Any) -> bool:
    """Whether peft puts LoRA on the layer: by our own expression, or by names that its name ends with."""
    if isinstance(targets, str):
        return re.fullmatch(VAE_TARGETS, layer) is not None
    parts = layer.split(".")
    return any(".".join(parts[start:]) in targets for start in range(len(parts)))
