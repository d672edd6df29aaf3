"""Where weights come from: a bundled name, a folder, a Hub repository; a whole pipeline or an adapter on a base."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from huggingface_hub import snapshot_download

BUNDLED = Path(__file__).parent / "weights"
ADAPTER_FILE = "tadisr_adapter.json"
LORA_FILE = "pytorch_lora_weights.safetensors"


@dataclass
class AdapterIndex:
    """What `tadisr_adapter.json` says: the base that an adapter belongs on."""

    base_model: str
    """Folder or Hub id of a diffusers pipeline."""
    base_revision: str | None = None

    def save(self, folder: Path) -> None:
        """Write the file that marks `folder` as an adapter."""
        (folder / ADAPTER_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def bundled_names() -> list[str]:
    """The models that the package carries."""
    return sorted(path.name for path in BUNDLED.iterdir() if (path / "model_index.json").is_file())


def resolve(name: str | Path, allow_patterns: list[str] | None = None, **hub: str | bool | None) -> Path:
    """The local folder of a model, downloading it if `name` is neither bundled nor a folder.

    Hub repositories are fetched whole before loading: diffusers refuses to resolve components of other packages
    through the Hub. `hub`: `revision`, `token`, `cache_dir`, `local_files_only`, as in `snapshot_download`.

    Raises:
        FileNotFoundError: a path that does not exist.
        huggingface_hub.errors.HfHubHTTPError: an id that the Hub does not have.
    """
    if str(name) in bundled_names():
        return BUNDLED / str(name)
    folder = Path(name)
    if folder.is_dir():
        return folder
    if folder.is_absolute() or str(name).startswith((".", "~")) or str(name).count("/") != 1:
        raise FileNotFoundError(
            f"No model {name}: give one of {', '.join(bundled_names()) or 'the bundled names (none here)'}, a folder, "
            "or a Hub id such as user/model."
        )
    return Path(snapshot_download(str(name), allow_patterns=allow_patterns, **hub))


def read_adapter_index(folder: Path) -> AdapterIndex | None:
    """The adapter's index, or None where `folder` holds a whole pipeline.

    Raises:
        FileNotFoundError: neither.
    """
    if (folder / ADAPTER_FILE).is_file():
        return AdapterIndex(**json.loads((folder / ADAPTER_FILE).read_text(encoding="utf-8")))
    if (folder / "model_index.json").is_file():
        return None
    raise FileNotFoundError(f"{folder} holds neither a pipeline (model_index.json) nor an adapter ({ADAPTER_FILE}).")
