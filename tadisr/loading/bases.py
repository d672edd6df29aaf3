"""A base model: recognised by its files' class names, fetched in parts, and loaded without its text encoders."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL
from huggingface_hub.errors import HFValidationError

from tadisr.io.messages import one_line
from tadisr.io.model_files import read_config, shown
from tadisr.loading.custom_code import own_index
from tadisr.loading.repositories import AdapterIndex, is_hub_id, resolve
from tadisr.models.families import FAMILIES, Family, backbone_components, family_by_class, supported_bases
from tadisr.models.one_step import Scheduler
from tadisr.models.precision import beside
from tadisr.models.scratch import LeanUNet2DConditionModel
from tadisr.models.weights import load_network


def backbone_component(folder: Path, ending: str = "") -> str:
    """The backbone's name in the pipeline that is saved in `folder`, or, with the ending "_lora", in the adapter there.

    Raises FileNotFoundError where no backbone is.
    """
    components = backbone_components()
    if found := [component for component in components if (folder / f"{component}{ending}").is_dir()]:
        return found[0]
    wanted = " nor ".join(f"{component}{ending}" for component in components)
    raise FileNotFoundError(f"{folder} is incomplete: neither {wanted} is there.")


def _is_lean(folder: Path) -> bool:
    """Whether a pipeline from scratch is saved in `folder`."""
    index = folder / "model_index.json"
    backbone = read_config(index).get("unet") if index.is_file() else None
    return isinstance(backbone, list) and LeanUNet2DConditionModel.__name__ in backbone


def holds_float16(folder: Path) -> bool:
    """Whether the backbone of the pipeline, or of the adapter, in `folder` is known to hold its values in float16."""
    names = {family.component for family in FAMILIES.values() if family.holds_float16}
    found = {name for name in backbone_components() if (folder / name).is_dir() or (folder / f"{name}_lora").is_dir()}
    return found <= names and not _is_lean(folder)


def check_holds_values(folder: Path, dtype: torch.dtype | None) -> None:
    """Raise ValueError where the network saved in `folder` is known to give values that `dtype` does not hold."""
    if dtype is torch.float16 and _is_lean(folder):
        raise ValueError(
            f"{folder.name} has no normalisation, and its values outgrow float16: take bfloat16 or float32."
        )


def base_family(folder: Path, component: str | None = None) -> Family:
    """The family of the base in `folder`, by the class names in its model_index.json or its config.json files.

    `component`: the name of an adapter's backbone, which the base's backbone must have, too. Raises FileNotFoundError
    where no base is, ValueError for one of no family, or one that the adapter is not for.
    """
    index_path = folder / "model_index.json"
    index = own_index(read_config(index_path)) if index_path.is_file() else {}
    found = {}
    for name in ("vae", *backbone_components()):
        config_path = folder / name / "config.json"
        if isinstance(entry := index.get(name), list) and len(entry) == 2 and isinstance(entry[1], str):
            found[name] = entry[1]
        elif config_path.is_file():
            found[name] = str(read_config(config_path).get("_class_name"))
    if not found and not index:
        raise FileNotFoundError(f"{folder} holds no diffusers pipeline")
    classes = ", ".join(map(shown, found.values())) or "no backbone"
    what = f"{folder} holds a {shown(index.get('_class_name', 'base'))} with {classes}"
    families = [family for name in found if (family := family_by_class(found[name])) and family.component == name]
    if found.get("vae", "AutoencoderKL") != "AutoencoderKL" or not families:
        raise ValueError(f"{what}, which is not supported as a base. Supported: {supported_bases()}.")
    if component not in (None, families[0].component):
        wanted = dict.fromkeys(family.backbone_class for family in FAMILIES.values() if family.component == component)
        raise ValueError(
            f"{what}, and this adapter is for a base with a {' or '.join(wanted)}: give that as base_model=FOLDER."
        )
    return families[0]


def fetch_base(name: str | Path, component: str, variant: str | None = None, **hub: Any) -> Path:
    """The local folder of a base; only its VAE, its backbone and its scheduler are fetched.

    Text encoders, most of a base's bytes, stay where they are, and so do weight files of another variant.

    `variant`: of the weight files. None: plain ones; where a repository has none, such as Kolors' with its fp16 files,
    whatever it has. `hub`: as in `resolve`, whose errors are raised.
    """
    folders = ("vae", component)
    stem = f"diffusion_pytorch_model.{variant}" if variant else "diffusion_pytorch_model"
    folder = Path()
    for weights in ((f"{stem}.safetensors", f"{stem}-*.safetensors"), ("*.safetensors",)):
        patterns = [f"{sub}/{kind}" for sub in folders for kind in ("*.json", *weights)]
        folder = resolve(name, allow_patterns=["model_index.json", "scheduler/*.json", *patterns], **hub)
        if variant or all(any((folder / sub).glob("*.safetensors")) for sub in folders):
            break
    return folder


def resolve_base(index: AdapterIndex, component: str, variant: str | None = None, **hub: Any) -> Path:
    """The local folder of an adapter's base whose backbone is called `component`, see `fetch_base`.

    By its model_index.json another kind of base is refused with a ValueError, before anything large is downloaded.
    Where the base or a part of it is missing, a FileNotFoundError says what to fetch.
    """
    name, revision = index.base_model, index.base_revision
    try:
        base_family(resolve(name, allow_patterns=["model_index.json"], revision=revision, **hub), component)
        base = fetch_base(name, component, variant, revision=revision, **hub)
        for sub in ("vae", component):
            weights_variant(base / sub)
        if not (config := base / "scheduler" / "scheduler_config.json").is_file():
            raise FileNotFoundError(f"no {config}")
    except (OSError, HFValidationError) as error:
        reason = one_line(error, 200).rstrip(". ")
        wanted = f"model_index.json vae/ {component}/ scheduler/"
        fetch = f"get its {wanted}"
        if is_hub_id(name) and not Path(name).is_dir():
            fetch = f"hf download {name} {wanted}{f' --revision {revision}' if revision else ''} --local-dir FOLDER"
        raise FileNotFoundError(
            f"The adapter's base {name} is missing or incomplete: {fetch}, and give base_model=FOLDER. ({reason})"
        ) from None
    return base


def weights_variant(folder: Path) -> str | None:
    """The variant of the weights in a diffusers model's folder: None for plain files, which go first, or "fp16", ...

    Raises FileNotFoundError where no safetensors are.
    """
    pattern = re.compile(r"diffusion_pytorch_model(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")
    matches = [pattern.fullmatch(path.name) for path in folder.glob("*.safetensors")]
    variants = {match[1] for match in matches if match}
    if not variants or not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no config.json with diffusion_pytorch_model.safetensors in {folder}")
    return None if None in variants else min(variants)


def load_base(
    folder: Path, dtype: torch.dtype, variant: str | None = None, quantization: Mapping[str, Any] | None = None
) -> tuple[dict[str, Any], Scheduler]:
    """What restoring needs of the base in `folder`: its VAE and its backbone, by their names, and its scheduler.

    `dtype`: of the backbone; the VAE is kept in `beside(dtype)`. `variant`: of the weight files, such as fp16. None:
    plain ones where there are any. `quantization`: models' names to diffusers' configurations. Raises ValueError where
    the scheduler is of the wrong kind for the backbone.
    """
    family = base_family(folder)
    scheduler = family.make_scheduler(read_config(folder / "scheduler" / "scheduler_config.json"))
    models = {}
    for name, cls in (("vae", AutoencoderKL), (family.component, getattr(diffusers, family.backbone_class))):
        files = variant or weights_variant(folder / name)
        how = (quantization or {}).get(name)
        kept_in = beside(dtype) if name == "vae" else dtype
        models[name] = load_network(cls, folder, name, kept_in, files, quantization_config=how)
    return models, scheduler
