"""Networks from the folders of model repositories. Before the weights are read, config and files are compared.

diffusers leaves a weight that a file lacks as uninitialised memory, and a config can ask for any network at all.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf, prod
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers import ModelMixin
from safetensors import safe_open
from torch import nn

from tadisr.io.messages import one_line
from tadisr.io.model_files import ANEW, Stored, describe, mistakes, not_finite, read_config, read_header, refuse, shown

_STEM = "diffusion_pytorch_model"
_REPEATS = re.compile(r"(.*_)?(layers|blocks)(_.*)?")  # keys of a config that say how often something is built
_MAX_BLOCKS = 10_000
_M = TypeVar("_M", bound=ModelMixin)


def load_network(
    cls: type[_M],
    folder: str | Path,
    subfolder: str = "",
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    **options: Any,
) -> _M:
    """The network of class `cls` in a folder with config.json and safetensors, every tensor checked.

    `subfolder`: where in `folder` it is; `variant`: of the weight files; `options`: as in `ModelMixin.from_pretrained`.
    Raises FileNotFoundError without the files; ValueError, with names, for tensors that are missing, unknown, of
    another shape or kind, or not finite.
    """
    place = Path(folder) / subfolder
    check_files(cls, place, variant)
    options |= {"dtype": dtype, "variant": variant, "use_safetensors": True}
    with default_dtype_kept():
        model = cls.from_pretrained(folder, subfolder=subfolder or None, **options)
    check_values(model, place, variant)
    return model


@contextmanager
def default_dtype_kept() -> Iterator[None]:
    """Put torch's default type back after the block: diffusers changes it while it loads, and errors would leave it."""
    before = torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_files(cls: type[ModelMixin], folder: Path, variant: str | None = None) -> None:
    """Raise ValueError unless the weights in `folder` are those of the network that its config.json describes.

    The network is built on the meta device, and of the files only the headers are read.
    """
    config = read_config(folder / "config.json")
    if "quantization_config" in config:
        raise ValueError(f"{folder} holds quantised weights: take the plain ones, and quantise them when loading.")
    network: Any = build_empty(cls, config, folder / "config.json")
    stored, sharded = _stored(folder, variant)
    if not sharded:
        network._fix_state_dict_keys_on_load(stored)  # names of old attention layers, as in SD 1.5's VAE
    ignored = cls._keys_to_ignore_on_load_unexpected or []
    stored = {name: value for name, value in stored.items() if not any(re.search(rule, name) for rule in ignored)}
    refuse(folder, mistakes(stored, {name: describe(tensor) for name, tensor in network.state_dict().items()}))


def check_values(model: nn.Module, folder: Path, variant: str | None = None) -> None:
    """Raise ValueError where a loaded network has values that are not finite, or none."""
    state = model.state_dict()
    if any(
        hasattr(module, "_hf_hook") for module in model.modules()
    ):  # offloaded: what is on the meta device is elsewhere
        state = {name: tensor for name, tensor in state.items() if not tensor.is_meta}
    if not (bad := not_finite(state)):
        return
    stored = {}
    for file in weight_files(folder, variant):
        with safe_open(file, framework="pt") as opened:
            stored |= {name: opened.get_tensor(name) for name in {*bad} & {*opened.keys()}}
    wrong = not_finite(stored)
    if len(stored) == len(bad) and not wrong:
        dtype = str(state[bad[0]].dtype).removeprefix("torch.")
        raise ValueError(f"{dtype} does not hold the weights in {folder}, such as {bad[0]}: take bfloat16 or float32.")
    refuse(folder, [f"{name} is not finite" for name in wrong or bad])


def build_empty(cls: Any, config: Mapping[str, Any], where: Path) -> Any:
    """An instance of `cls` by a config from the file `where`, its tensors without memory.

    Raises ValueError for a config that does not describe one, or one of absurdly many layers.
    """
    parameters = inspect.signature(cls.__init__).parameters
    known = {key: value for key, value in config.items() if key in parameters}
    for key, value in known.items():
        if not _is_like(value, parameters[key].default):
            raise ValueError(f"{where} is damaged: {key} cannot be {value!r:.50}.")
    levels = [len(value) for key, value in known.items() if key.endswith("out_channels") and isinstance(value, list)]
    repeats = [_largest(value) for key, value in known.items() if _REPEATS.fullmatch(key)]
    if prod((max(1, count) for count in (*repeats, *levels)), start=1) > _MAX_BLOCKS:
        raise ValueError(f"{where} is damaged: it asks for more layers than any network has.")
    try:
        with torch.device("meta"):
            return cls(**known)
    except Exception as error:  # whatever a constructor raises for values that do not fit together
        raise ValueError(f"{where} does not describe a {cls.__name__}: {one_line(error, 200)}") from None


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value from JSON can stand where `default` stands."""
    if value is None or default is None or default is inspect.Parameter.empty:
        return True
    if isinstance(default, (list, tuple)):
        return isinstance(value, list) and (not default or all(_is_like(item, default[0]) for item in value))
    if isinstance(value, list):  # one for each level
        return not isinstance(default, str) and all(isinstance(item, (int, float, list)) for item in value)
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    return isinstance(value, str) if isinstance(default, str) else isinstance(value, (int, float))


def _largest(value: Any) -> int:
    if isinstance(value, list):
        return max((_largest(item) for item in value), default=0)
    return value if isinstance(value, int) else 0


def weight_files(folder: Path, variant: str | None = None) -> list[Path]:
    """The safetensors files that diffusers reads from `folder`: of `variant` where there are such, else plain ones.

    Raises FileNotFoundError where there are none, ValueError for an index of shards that leads elsewhere.
    """
    return _files(folder, variant)[0]


def _files(folder: Path, variant: str | None) -> tuple[list[Path], dict[str, str]]:
    """The weight files, and of shards the index: tensors' names to the files that hold them."""
    for kind in dict.fromkeys([f".{variant}" if variant else "", ""]):
        single = folder / f"{_STEM}{kind}.safetensors"
        for name in (f"{_STEM}.safetensors.index{kind}.json", f"{_STEM}{kind}.safetensors.index.json"):
            if (folder / name).is_file():
                index = _read_index(folder / name)
                return [folder / shard for shard in dict.fromkeys(index.values())], index
        if single.is_file():
            return [single], {}
    raise FileNotFoundError(f"no {_STEM}.safetensors in {folder}; files of other kinds, such as .bin, are not read")


def _read_index(path: Path) -> dict[str, str]:
    names, plain = read_config(path, inf).get("weight_map"), re.compile(r"\w[\w.-]*\.safetensors")
    if not names or not isinstance(names, dict) or not all(plain.fullmatch(str(name)) for name in names.values()):
        raise ValueError(f"{path} is damaged: its weight_map does not name safetensors files beside it. {ANEW}")
    return names


def _stored(folder: Path, variant: str | None) -> tuple[dict[str, Stored], bool]:
    """What the weight files in `folder` hold, and whether they are shards."""
    places: dict[str, str] = {}
    stored: dict[str, Stored] = {}
    files, index = _files(folder, variant)
    for file in files:
        header = read_header(file)[0]
        refuse(folder, [f"{shown(name)} is in two files" for name in header if name in stored])
        places |= dict.fromkeys(header, file.name)
        stored |= header
    if index:
        refuse(
            folder, [f"{shown(name)} is missing in {file}" for name, file in index.items() if places.get(name) != file]
        )
        refuse(folder, [f"{shown(name)} is in no index" for name in stored if name not in index])
    return stored, bool(index)


def why_not_finite(models: Iterable[nn.Module], dtype: torch.dtype) -> str:
    """Why models that compute in `dtype` gave values that are not finite: damaged weights, or a type too small."""
    for model in models:
        for name, weight in model.named_parameters():
            overflowed = weight.dtype is torch.float16 and not weight.isnan().any()  # when it was cast
            if weight.is_floating_point() and not weight.isfinite().all() and not overflowed:
                return f"The weights {name} of the {type(model).__name__} are not finite: load the model anew."
    if dtype in (torch.float32, torch.float64):
        return "This model gives values that are not finite, in float32 too: its training went wrong."
    other = "float32" if dtype is torch.bfloat16 else "bfloat16 or float32"
    return f"{dtype} does not hold this model's values: take {other}."
