"""Where weights come from: a bundled name, a folder, a Hub repository; a whole pipeline or an adapter on a base."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError

from tadisr.models.families import BACKBONES, SUPPORTED_BASES
from tadisr.weights import BUNDLED

PIPELINES = ("TADiSRPipeline", "TextDiffPipeline")
ADAPTER_FILE = "tadisr_adapter.json"
LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass
class AdapterIndex:
    """What `tadisr_adapter.json` says: the base that an adapter belongs on."""

    base_model: str
    """Folder or Hub id of a diffusers pipeline."""
    base_revision: str | None = None
    prompt: str | None = None
    """The fixed prompt's words, in an adapter whose embeddings of it (prompt/) are still to be made."""
    native_scale: int | None = None
    """See TADiSRPipeline."""

    def save(self, folder: Path) -> None:
        """Write the file that marks `folder` as an adapter."""
        (folder / ADAPTER_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def bundled_names(pipeline: str = "") -> list[str]:
    """The models that the package carries; with a class's name, that class's."""
    indices = {path.parent.name: path.read_text(encoding="utf-8") for path in BUNDLED.glob("*/model_index.json")}
    return sorted(name for name, index in indices.items() if pipeline in ("", json.loads(index)["_class_name"]))


def resolve(
    name: str | Path, pipeline: str | None = None, allow_patterns: list[str] | None = None, **hub: str | bool | None
) -> Path:
    """The local folder of a model, downloading it if `name` is neither bundled nor a folder.

    `pipeline`: the class that is wanted, or "" for either of ours; an error names its bundled models. None: not one of
    our pipelines is wanted, but a base or a part of one.

    Hub repositories are fetched before loading: diffusers refuses to resolve components of other packages through the
    Hub. `hub`: `revision`, `token`, `cache_dir`, `local_files_only`, as in `snapshot_download`.

    Raises:
        FileNotFoundError: a path that does not exist, or neither a pipeline nor an adapter on the Hub.
        ValueError: another class's pipeline on the Hub.
        huggingface_hub.errors.HfHubHTTPError: an id that the Hub does not have.
    """
    if str(name) in bundled_names():
        return BUNDLED / str(name)
    folder = Path(name)
    if folder.is_dir():
        return folder
    if not _is_hub_id(str(name)):
        choices = ", ".join([*(() if pipeline is None else bundled_names(pipeline)), "a folder"])
        raise FileNotFoundError(f"No model {name}: give {choices} or a Hub id such as user/model.")
    if pipeline is not None and allow_patterns is None:  # a foreign pipeline's gigabytes are not fetched to be refused
        pipeline_kind(_fetch(name, ["model_index.json", ADAPTER_FILE], **hub), pipeline)
        allow_patterns = ["*.json", "*.safetensors", "*.md"]
    return _fetch(name, allow_patterns, **hub)


def _fetch(name: str | Path, allow_patterns: list[str] | None, **hub: str | bool | None) -> Path:
    try:
        return Path(snapshot_download(str(name), allow_patterns=allow_patterns, **hub))
    except Exception as error:
        if not Path(name).parent.is_dir():
            raise
        # Perhaps a folder beside others was meant, of which the Hub's message would say nothing.
        reason = " ".join(str(error).split())
        raise FileNotFoundError(f"No folder {name} here, and no such model could be fetched: {reason}") from error


def _is_hub_id(name: str) -> bool:
    return not Path(name).is_absolute() and not name.startswith((".", "~")) and name.count("/") == 1


def read_adapter_index(folder: Path) -> AdapterIndex | None:
    """The adapter's index, or None where `folder` holds a whole pipeline.

    Raises:
        FileNotFoundError: neither. ValueError: a damaged index.
    """
    path = folder / ADAPTER_FILE
    if path.is_file():
        try:
            return AdapterIndex(**json.loads(path.read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or of another version of tadisr: {error}") from None
    if (folder / "model_index.json").is_file():
        return None
    raise FileNotFoundError(f"{folder} holds neither a pipeline (model_index.json) nor an adapter ({ADAPTER_FILE}).")


def adapter_backbone(folder: Path) -> str:
    """ "unet" or "transformer": which backbone the adapter in `folder` is for.

    Raises:
        FileNotFoundError: neither is there.
    """
    for part in BACKBONES:
        if (folder / f"{part}_lora").is_dir():
            return part
    raise FileNotFoundError(f"The adapter in {folder} is incomplete: neither unet_lora nor transformer_lora is there.")


def fetch_base(name: str | Path, part: str, variant: str | None = None, **hub: str | bool | None) -> Path:
    """The local folder of a base, of which only what restoring needs is fetched: VAE, backbone `part`, scheduler.

    Text encoders, most of a base's bytes, stay where they are, and so do weight files of another `variant`; None takes
    plain ones, or whatever a repository without them has, such as Kolors' fp16. `hub`: as in `resolve`, which raises.
    """
    parts = ("vae", part)
    stem = f"diffusion_pytorch_model.{variant}" if variant else "diffusion_pytorch_model"
    for weights in ((f"{stem}.safetensors", f"{stem}-*.safetensors"), ("*.safetensors",)):
        patterns = [f"{sub}/{kind}" for sub in parts for kind in ("*.json", *weights)]
        folder = resolve(name, allow_patterns=["model_index.json", "scheduler/*.json", *patterns], **hub)
        if variant or all(any((folder / sub).glob("*.safetensors")) for sub in parts):
            break
    return folder


def resolve_base(index: AdapterIndex, part: str, variant: str | None = None, **hub: str | bool | None) -> Path:
    """The local folder of an adapter's base whose backbone is `part`, see `fetch_base`.

    A base of the wrong kind is refused by its model_index.json, before anything large is downloaded.

    Raises:
        FileNotFoundError: the base is not here and cannot be fetched, or a part of it is missing: what to fetch.
        ValueError: another kind of base.
    """
    name, revision = index.base_model, index.base_revision
    try:
        check_base(resolve(name, allow_patterns=["model_index.json"], revision=revision, **hub), part)
        base = fetch_base(name, part, variant, revision=revision, **hub)
        for sub in ("vae", part):
            weights_variant(base / sub)
        if not (base / "scheduler" / "scheduler_config.json").is_file():
            raise FileNotFoundError(f"no {base / 'scheduler' / 'scheduler_config.json'}")
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(". ") or type(error).__name__
        wanted = f"model_index.json vae/ {part}/ scheduler/"
        fetch = f"get its {wanted}"
        if _is_hub_id(name) and not Path(name).is_dir():
            fetch = f"hf download {name} {wanted}{f' --revision {revision}' if revision else ''} --local-dir FOLDER"
        raise FileNotFoundError(
            f"The adapter's base {name} is missing or incomplete: {fetch}, and give base_model=FOLDER. ({reason})"
        ) from None
    return base


def pipeline_class(folder: Path) -> str | None:
    """The class of the pipeline saved in `folder`.

    Raises:
        FileNotFoundError: none is. ValueError: its model_index.json is damaged.
    """
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(f"{folder} holds no pipeline: there is no model_index.json.")
    return _read_json(index).get("_class_name")


def pipeline_kind(folder: Path, wanted: str = "") -> str:
    """The class of the pipeline in `folder`, for an adapter too.

    Raises:
        FileNotFoundError: there is neither a pipeline nor an adapter.
        ValueError: it is not of the class `wanted`; or, for "", not of any of ours.
    """
    found = PIPELINES[0] if read_adapter_index(folder) is not None else pipeline_class(folder)
    if found not in ((wanted,) if wanted else PIPELINES):
        raise ValueError(f"{folder} holds a {found}, not a {wanted or ' or a '.join(PIPELINES)}.")
    return found


def check_base(folder: Path, part: str) -> None:
    """Raise ValueError unless the base in `folder` has a backbone of the kind `part`, by its files' class names.

    Raises:
        FileNotFoundError: no base there.
    """
    index_path = folder / "model_index.json"
    index = _read_json(index_path) if index_path.is_file() else {}
    found = {}
    for name in ("vae", *BACKBONES):
        config_path = folder / name / "config.json"
        if isinstance(index.get(name), list) and index[name][1]:
            found[name] = index[name][1]
        elif config_path.is_file():
            found[name] = _read_json(config_path).get("_class_name")
    if not found and not index:
        raise FileNotFoundError(f"{folder} holds no diffusers pipeline")
    classes = ", ".join(map(str, found.values())) or "no backbone"
    what = f"{folder} holds a {index.get('_class_name', 'base')} with {classes}"
    if found.get("vae", "AutoencoderKL") != "AutoencoderKL" or not any(
        found.get(name) == cls for name, cls in BACKBONES.items()
    ):
        raise ValueError(f"{what}, which is not supported as a base. Supported: {SUPPORTED_BASES}.")
    if found.get(part) != BACKBONES[part]:
        raise ValueError(
            f"{what}, and this adapter is for a base with a {BACKBONES[part]}: give that as base_model=FOLDER."
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def weights_variant(folder: Path) -> str | None:
    """The variant of the weights in a diffusers model's folder: None for plain files, which go first, or "fp16", ...

    Raises:
        FileNotFoundError: no safetensors there.
    """
    pattern = re.compile(r"diffusion_pytorch_model(?:\.(\w+))?(?:-\d+-of-\d+)?\.safetensors")
    matches = [pattern.fullmatch(path.name) for path in folder.glob("*.safetensors")]
    variants = {match[1] for match in matches if match}
    if not variants or not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no config.json with diffusion_pytorch_model.safetensors in {folder}")
    return None if None in variants else min(variants)
