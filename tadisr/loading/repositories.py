"""Where weights come from: a bundled name, a folder, a Hub repository; a whole pipeline or an adapter on a base."""

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tadisr.io.atomic import write_atomically
from tadisr.io.messages import one_line
from tadisr.io.model_files import read_config, shown
from tadisr.loading.custom_code import INDEX_FILE, add_custom_code, own_index
from tadisr.weights import BUNDLED

_MAX_SCALE = 64
PIPELINES = ("TADiSRPipeline", "TextDiffPipeline")
ADAPTER_FILE = "tadisr_adapter.json"


@dataclass
class AdapterIndex:
    """What `tadisr_adapter.json` says: the base that an adapter belongs on."""

    base_model: str  # folder or Hub id of a diffusers pipeline
    base_revision: str | None = None
    prompt: str | None = None  # the fixed prompt's words, where its embeddings (prompt/) are still to be made
    native_scale: int | None = None  # see TADiSRPipeline

    def save(self, folder: Path) -> None:
        """Write the file that marks `folder` as an adapter, and what lets plain diffusers load it."""
        write_atomically(folder / ADAPTER_FILE, json.dumps(asdict(self), indent=2) + "\n")
        parts = {"joint_decoder": ["tadisr.models.joint_decoder", "JointSegmentationDecoder"]}
        if (folder / "prompt").is_dir():
            parts["prompt"] = ["tadisr.models.prompt", "TextPrompt"]
        cls = "TADiSRAdapterPipeline"
        add_custom_code(folder, {"_class_name": cls, "_diffusers_version": version("diffusers"), **parts})


def bundled_names(pipeline: str = "") -> list[str]:
    """The models that the package carries; with a class's name, that class's."""
    indices = {path.parent.name: own_index(read_config(path)) for path in BUNDLED.glob(f"*/{INDEX_FILE}")}
    return sorted(name for name, index in indices.items() if pipeline in ("", index["_class_name"]))


def resolve(name: str | Path, pipeline: str | None = None, allow_patterns: list[str] | None = None, **hub: Any) -> Path:
    """The local folder of a model, downloading it if `name` is neither bundled nor a folder.

    Diffusers refuses to resolve components of other packages through the Hub, so all is fetched before loading.

    Args:
        name: a bundled name, a folder, or a Hub id.
        pipeline: the wanted class of pipelines, or "" for either of ours; an error names its bundled models. Another
            class's pipeline on the Hub is refused before its weights are fetched. None: a base is wanted, or a part.
        allow_patterns: which files to fetch. None: configurations, safetensors and cards.
        hub: `revision`, `token`, `cache_dir`, `local_files_only`, as in `snapshot_download`.

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
    if not is_hub_id(str(name)):
        choices = ", ".join([*(() if pipeline is None else bundled_names(pipeline)), "a folder"])
        raise FileNotFoundError(f"No model {name}: give {choices} or a Hub id such as user/model.")
    if pipeline is not None and allow_patterns is None:  # a foreign pipeline's gigabytes are not fetched to be refused
        pipeline_kind(_fetch(name, [INDEX_FILE, ADAPTER_FILE], **hub), pipeline)
        allow_patterns = ["*.json", "*.safetensors", "*.md"]
    return _fetch(name, allow_patterns, **hub)


def _fetch(name: str | Path, allow_patterns: list[str] | None, **hub: Any) -> Path:
    from huggingface_hub import snapshot_download  # half a second, which bundled models need not wait for

    try:
        return Path(snapshot_download(str(name), allow_patterns=allow_patterns, **hub))
    except Exception as error:
        if not Path(name).parent.is_dir():
            raise
        # Perhaps a folder was meant that should lie beside others. The Hub's message would not say so.
        said = f"No folder {name} here, and no such model could be fetched: {one_line(error)}"
        raise FileNotFoundError(said) from error


def complete_snapshot(folder: Path) -> Path:
    """`folder`, with all that `resolve` fetches where it is a snapshot of a Hub's repository in the client's cache.

    Of an adapter's repository diffusers fetches only what its model_index.json names.
    """
    cached, kind = folder.absolute().parent.parent, "models--"
    if folder.parent.name != "snapshots" or not cached.name.startswith(kind):
        return folder
    repository = cached.name.removeprefix(kind).replace("--", "/")
    return resolve(repository, PIPELINES[0], revision=folder.name, cache_dir=cached.parent)


def is_hub_id(name: str) -> bool:
    """Whether `name` can be a Hub id, by its form."""
    return not Path(name).is_absolute() and not name.startswith((".", "~")) and name.count("/") == 1


def read_adapter_index(folder: Path) -> AdapterIndex | None:
    """The adapter's index, or None where `folder` holds a whole pipeline; raises FileNotFoundError where neither is."""
    path = folder / ADAPTER_FILE
    if path.is_file():
        try:
            index = AdapterIndex(**read_config(path))
            _check_index(index)
            return index
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged or of another version of tadisr: {one_line(error)}") from None
    if (folder / INDEX_FILE).is_file():
        return None
    raise FileNotFoundError(f"{folder} holds neither a pipeline (model_index.json) nor an adapter ({ADAPTER_FILE}).")


def _check_index(index: AdapterIndex) -> None:
    """Raise ValueError for what no adapter says of itself."""
    check_native_scale(index.native_scale)
    for name in ("base_model", "base_revision", "prompt"):
        value = getattr(index, name)
        empty = not value if name == "base_model" else value == ""
        if empty or not (value is None or isinstance(value, str) and len(value) <= 500 and value.isprintable()):
            raise ValueError(f"{name} cannot be {value!r:.50}.")
    if "://" in index.base_model:
        raise ValueError(f"base_model is a folder or a Hub id, not the address {index.base_model[:100]}.")


def check_native_scale(scale: Any) -> None:
    """Raise ValueError unless `scale` can be the factor that a model was trained for, or None."""
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int) or not 1 <= scale <= _MAX_SCALE):
        raise ValueError(f"native_scale must be a whole number from 1 to {_MAX_SCALE}, or none, not {scale!r:.50}.")


def native_scale(folder: Path) -> int | None:
    """The factor that the model in `folder` was trained for, if it says so; ValueError for one that cannot be."""
    index = read_adapter_index(folder)
    scale = index.native_scale if index else read_config(folder / INDEX_FILE).get("native_scale")
    check_native_scale(scale)
    return scale


def pipeline_kind(folder: Path, wanted: str = "") -> str:
    """The class of the pipeline in `folder`, for an adapter too.

    Raises ValueError if it is not of the class `wanted`; or, for "", not of any of ours.
    """
    adapter = read_adapter_index(folder)
    found: Any = PIPELINES[0] if adapter else own_index(read_config(folder / INDEX_FILE)).get("_class_name")
    if found not in ((wanted,) if wanted else PIPELINES):
        raise ValueError(f"{folder} holds a {shown(found)}, not a {wanted or ' or a '.join(PIPELINES)}.")
    return found


def most_steps(folder: Path) -> int:
    """How many steps of sampling the pipeline in `folder` takes at most; of a damaged one any, until it is loaded."""
    with suppress(OSError, ValueError, TypeError):
        return int(read_config(folder / "scheduler" / "scheduler_config.json").get("num_train_timesteps", 1000))
    return 1000
