"""JSON and YAML that users and strangers wrote: read within bounds, and what is wrong with them in one line."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tadisr.io.messages import one_line

_MAX_YAML = 1 << 18  # bytes: PyYAML reads 100 kB a second
_MAX_NODES = 20_000  # values in a YAML file, those behind aliases counted wherever they are named
_MAX_INT = 1 << 63


def read_json(path: Path) -> Any:
    """What a JSON file in UTF-8 holds, with a byte order mark or without.

    ValueError, with the path in it, for anything that is not JSON, for a key that an object has twice, and for values
    too deep for Python; OSError where there is no such file.
    """
    return parse_json(path.read_bytes(), str(path))


def parse_json(data: bytes | str, where: str) -> Any:
    """As `read_json`; `where` names the data in errors."""
    try:
        return _DECODER.decode(data.removeprefix("\ufeff") if isinstance(data, str) else data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not JSON: {_reason(error)}.") from None


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 (byte {error.start})"
    return "its values are nested too deeply" if isinstance(error, RecursionError) else one_line(error).rstrip(".")


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"an object has the key {twice[:50]!r} twice")
    return values


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def read_yaml(path: Path) -> Any:
    """What a YAML file in UTF-8 holds: plain values alone, no objects of Python's.

    ValueError, with the path in it, for anything that is not YAML, for a key that a mapping has twice, for whole
    numbers beyond 64 bits, and for what would grow: large files, and aliases of aliases. OSError where there is no such
    file; ImportError without the package pyyaml.
    """
    import yaml

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_YAML + 1)
        if len(data) > _MAX_YAML:
            raise ValueError(f"more than {_MAX_YAML} bytes are no settings")
        loader = yaml.SafeLoader(data.decode("utf-8-sig"))
        node = loader.get_single_node()
        if node is None:
            return None
        _weigh(loader, node, {})
        return loader.construct_document(node)
    except OSError:
        raise
    except Exception as error:  # PyYAML's own, and for tags that do not fit their values nearly any other
        raise ValueError(f"{path} is not YAML: {_reason(error)}.") from None


def _weigh(loader: Any, node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for; ValueError for too many, and for what the bounds forbid."""
    if id(node) in known:
        if not known[id(node)]:
            raise ValueError("a value contains itself")
        return known[id(node)]
    known[id(node)], total = 0, 1
    if node.id == "scalar":
        whole = node.tag.endswith(":int")
        if whole and (len(node.value) > 70 or abs(loader.construct_yaml_int(node)) >= _MAX_INT):
            raise ValueError(f"the number {node.value[:20]} ... is too large")
    elif node.id == "mapping":
        keys = [(key.tag, key.value) for key, _ in node.value if key.id == "scalar" and not key.tag.endswith(":merge")]
        if len(set(keys)) < len(keys):
            (((_, twice), _),) = Counter(keys).most_common(1)
            raise ValueError(f"a mapping has the key {twice[:50]!r} twice")
        total += sum(_weigh(loader, part, known) for pair in node.value for part in pair)
    else:
        total += sum(_weigh(loader, part, known) for part in node.value)
    if total > _MAX_NODES:
        raise ValueError(f"it holds more than {_MAX_NODES} values")
    known[id(node)] = total
    return total
