"""Files with models in them, as strangers may have made them: looked through before any loader sees them.

Nothing that a file holds is run, and nothing is allocated that its size does not warrant.
"""

import re
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tadisr.io.messages import one_line, shortened
from tadisr.io.structured import parse_json

if TYPE_CHECKING:
    import torch

_MAX_JSON = 4 << 20  # bytes: the largest index of shards that is known has a quarter of that
_MAX_HEADER = 16 << 20  # bytes of a safetensors file's header; SDXL's U-Net has 0.2 MB
_MAX_NUMBER = 10**6  # in a config: no network has wider layers or more of anything
_MAX_VALUES = 50_000  # in a config, and tensors in a model
_KINDS = {"F": "floats", "B": "floats", "I": "integers", "U": "integers", "C": "complex numbers"}
ANEW = "Fetch or write the model anew."


class Stored(NamedTuple):
    """What a file says of a tensor."""

    kind: str
    """floats, integers, truth values or complex numbers."""
    shape: tuple[int, ...]


def read_config(path: Path, largest: float = _MAX_NUMBER) -> dict[str, Any]:
    """The object in a JSON file of a model: a config or an index.

    Raises FileNotFoundError without the file; ValueError for a damaged one, for anything but an object, and for what no
    model has: a key twice, whole numbers beyond `largest`, NaN and infinities, endless lists.
    """
    if not path.is_file():  # nor a pipe or a device, which would never end
        raise FileNotFoundError(f"no {path}")
    if path.stat().st_size > _MAX_JSON:
        raise ValueError(f"{path} is damaged: {path.stat().st_size} bytes are no config.")
    data = path.read_bytes()
    if data.startswith(b"\xef\xbb\xbf"):  # the libraries that read it after us do not take it
        raise ValueError(f"{path} begins with a byte order mark: save it as UTF-8 without one.")
    values = parse_json(data, str(path))
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it holds a {type(values).__name__}, not an object.")
    if odd := [name for name in values if name.startswith("__") or name == "self"]:  # diffusers sets what it reads
        raise ValueError(f"{path} is damaged: no config has the key {shown(odd[0])}.")
    for count, value in enumerate(_leaves(values)):
        if isinstance(value, int) and abs(value) > largest or isinstance(value, float) and not isfinite(value):
            raise ValueError(f"{path} is damaged: {str(value)[:20]} is no value of a config.")
        if count > _MAX_VALUES:
            raise ValueError(f"{path} is damaged: it has more than {_MAX_VALUES} values.")
    return values


def _leaves(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
        if inner is None:
            yield value
        else:
            waiting += inner


def read_header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    """The names of a safetensors file's tensors, what they are, and the file's metadata; no tensor is read.

    Raises FileNotFoundError without the file, ValueError for a damaged one.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no {path}")
    with path.open("rb") as file:
        if int.from_bytes(file.read(8), "little") > _MAX_HEADER:
            raise ValueError(f"{path} is damaged or incomplete: no safetensors file has so long a header. {ANEW}")
    try:
        with safe_open(path, framework="np") as file:
            names = list(file.keys())
            if len(names) > _MAX_VALUES:
                raise ValueError(f"{path} is damaged: it has {len(names)} tensors.")
            parts = {name: file.get_slice(name) for name in names}
            stored = {name: Stored(_kind(x.get_dtype()), tuple(x.get_shape())) for name, x in parts.items()}
            return stored, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is damaged or incomplete: {one_line(error, 200)}. {ANEW}") from None


def _kind(dtype: str) -> str:
    return "truth values" if dtype == "BOOL" else _KINDS.get(dtype[0], "values of an unknown kind")


def describe(tensor: "torch.Tensor") -> Stored:
    """The same of a tensor in memory."""
    import torch

    kind = "floats" if tensor.is_floating_point() else "complex numbers" if tensor.is_complex() else "integers"
    return Stored("truth values" if tensor.dtype == torch.bool else kind, tuple(tensor.shape))


def mistakes(found: Mapping[str, Stored], wanted: Mapping[str, Stored]) -> list[str]:
    """In words, the tensors that are missing, unknown, or of another shape or kind."""
    said = [f"{name} is missing" for name in wanted if name not in found]
    for name, tensor in found.items():
        if name not in wanted:
            said.append(f"{shown(name)} is unknown")
        elif tensor.shape != wanted[name].shape:
            said.append(f"{name} is {tensor.shape}, expected {wanted[name].shape}")
        elif tensor.kind != wanted[name].kind:
            said.append(f"{name} holds {tensor.kind}, expected {wanted[name].kind}")
    return said


def not_finite(tensors: Mapping[str, Any]) -> list[str]:
    """The names of tensors with a value that is NaN or infinite, or, on the meta device, with no values at all.

    One pass over the values, without copies: 0.2 to 0.4 seconds a GB on one core. What quantisation packed is left out.
    """
    import torch

    empty = [name for name, x in tensors.items() if x.is_meta]
    plain = {
        name: x.detach() if x.element_size() > 1 else x.detach().float()
        for name, x in tensors.items()
        if type(x) in (torch.Tensor, torch.nn.Parameter) and x.is_floating_point() and x.numel() and not x.is_meta
    }
    extremes = [torch.stack(torch.aminmax(x)) for x in plain.values()]  # NaN where there is one
    return empty + [name for name, pair in zip(plain, extremes, strict=True) if not pair.isfinite().all()]


def check_tensors(
    tensors: Mapping[str, "torch.Tensor"], wanted: Mapping[str, "torch.Tensor"], where: str | Path
) -> None:
    """Raise ValueError unless `tensors`, read from `where`, are those `wanted`, by name, shape and kind, and finite."""
    said = mistakes(*({name: describe(x) for name, x in group.items()} for group in (tensors, wanted)))
    refuse(where, said or [f"{name} is not finite" for name in not_finite(tensors)])


def shown(name: Any) -> str:
    """A name from a file for a message: a short one as it is, others cut, and without what a terminal would obey."""
    return name if isinstance(name, str) and name.isprintable() and len(name) <= 200 else f"{name!r:.100}"


def refuse(where: str | Path, said: Iterable[str]) -> None:
    """Raise ValueError with what is wrong with the weights in `where`, where anything is."""
    if said := list(said):
        raise ValueError(f"The weights in {where} are incomplete or damaged: {shortened(said)}. {ANEW}")


def runs_code(path: Path) -> bool:
    """Whether a file is a TorchScript archive, which brings its own program. By content, whatever it is called."""
    names = (entry.filename for entry in _entries(path))
    return any(re.fullmatch(r"([^/]*/)?(constants\.pkl|model\.json|code/.*)", name) for name in names)


def _entries(path: Path) -> list[zipfile.ZipInfo]:
    """The entries of a zip archive; none where the file is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return []


def load_pickled(path: Path) -> Any:
    """What a PyTorch file (.pth, .ckpt, .pkl) holds: tensors and plain values, on the CPU, mapped where possible.

    Nothing in the file is run. Raises FileNotFoundError without the file; ValueError for one that is damaged, would run
    code (TorchScript; a pickle that calls anything but what tensors are made of), or would take more memory than its
    own size.
    """
    import torch

    if not path.is_file():
        raise FileNotFoundError(f"No file {path}.")
    size, entries = path.stat().st_size, _entries(path)
    if runs_code(path):
        raise ValueError(f"{path} is a TorchScript archive, a program that would run here: refused. Give its weights.")
    if any(entry.compress_type for entry in entries) or sum(entry.file_size for entry in entries) > size:
        raise ValueError(f"{path} would unpack to more than its size, which no PyTorch checkpoint does: refused.")
    try:
        if tarfile.is_tarfile(path):
            raise ValueError("the .tar format of PyTorch before 0.1.10 is not read")
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=bool(entries))
        large = sum(map(_logical_size, _tensors(loaded)))
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises nearly anything
        if called := re.search(r"GLOBAL ([\w.]+)", str(error)):
            said = f"would call {called[1]} when loaded, which tensors do not need: refused, nothing of it was run."
        else:
            said = f"is no PyTorch checkpoint, or damaged: compare its size and SHA-256 ({one_line(error, 100)})."
        raise ValueError(f"{path} {said}") from None
    if large > 2 * size + (1 << 20):
        raise ValueError(f"{path} holds tensors that are larger than the file: refused.")
    return loaded


def _tensors(value: Any) -> Iterator["torch.Tensor"]:
    import torch

    waiting, seen = [value], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, torch.Tensor):
            yield value  # as often as it is named: whoever copies the tensors makes as many
        elif isinstance(value, (Mapping, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, Mapping) else value


def _logical_size(tensor: "torch.Tensor") -> int:
    import torch

    if tensor.is_meta or tensor.layout != torch.strided:
        raise ValueError("it holds tensors without values of their own")
    return tensor.numel() * tensor.element_size()
