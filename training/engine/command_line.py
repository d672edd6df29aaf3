"""From a command line and configuration files to settings; mistakes end a program with one line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from safetensors import SafetensorError
from transformers import HfArgumentParser

from tadisr.io.messages import one_line
from tadisr.io.structured import read_json, read_yaml
from tadisr.training.engine.loop_config import LoopConfig

C = TypeVar("C", bound=LoopConfig)
_TRAINING = Path(__file__).parents[1]


@contextmanager
def mistakes_in_one_line() -> Iterator[None]:
    """End the program with one line, not a traceback, on wrong settings, missing files or a full disk."""
    try:
        yield
    except (OSError, ImportError, ValueError, SafetensorError) as error:
        raise SystemExit(one_line(error, None)) from None


def parse(argv: list[str] | None, kind: type[C]) -> C:
    """Settings, a dataclass `kind`, from `--config FILE.yaml` or `--config NAME`, a bundled one, and from flags.

    A flag wins.
    `argv` None is this program's command line. SystemExit's one line names an unknown key or flag, or a wrong value.
    """
    argv = sys.argv[1:] if argv is None else argv
    argv = [part for arg in argv for part in (arg.split("=", 1) if arg.startswith("--") else [arg])]
    try:
        if "--config" in argv:
            at = argv.index("--config")
            if at + 1 == len(argv):
                raise ValueError("--config needs a file, or the name of a bundled one.")
            from_file = []
            for key, value in read_settings(find_settings(argv[at + 1], kind), kind).items():
                if value not in (None, []) and f"--{key}" not in argv:
                    from_file += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
            argv = from_file + argv[:at] + argv[at + 2 :]
        parser = HfArgumentParser(kind, allow_abbrev=False)
        parser.error = _refuse  # argparse would print all flags first
        (config,) = parser.parse_args_into_dataclasses(argv)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from None
    return config


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)


def find_settings(name: str, kind: type[LoopConfig]) -> Path:
    """The file called `name`, or else the bundled one: `tiny`, `textdiff/paper`. FileNotFoundError names them all."""
    if (path := Path(name)).is_file():
        return path
    bundled = {}
    for folder in (_TRAINING / "configs", _TRAINING / "tiny"):
        for file in sorted(folder.rglob("*.yaml")):
            with suppress(ValueError):  # settings of another script, or no settings at all
                read_settings(file, kind)
                bundled[file.relative_to(folder).with_suffix("").as_posix()] = file
    if name not in bundled:
        raise FileNotFoundError(f"No config file {name}: name a file, or a bundled one of {', '.join(bundled)}.")
    return bundled[name]


def read_settings(path: Path, kind: type[LoopConfig]) -> dict[str, Any]:
    """`read_with_extends` for the dataclass `kind`; ValueError also for a key that it does not have.

    A file that lies beside the settings is found from there: `kind.FILES` has the keys that name such files.
    """

    def check(path: Path, values: dict[str, Any]) -> None:
        for name in kind.FILES:
            if isinstance(values.get(name), str) and (path.parent / values[name]).is_file():
                values[name] = os.path.normpath(path.parent / values[name])
        if unknown := sorted(map(str, set(values) - {f.name for f in fields(kind)})):
            raise ValueError(f"{path}: unknown keys {', '.join(unknown)}.")
        required = [f.name for f in fields(kind) if f.default not in (None, MISSING)]
        if empty := [name for name in required if values.get(name, name) is None]:
            raise ValueError(f"{path}: {', '.join(empty)} must have a value.")
        if values.get("mixed_precision") is False:  # YAML reads an unquoted no as False
            values["mixed_precision"] = "no"

    return read_with_extends(path, check)


def read_with_extends(
    path: Path, check: Callable[[Path, dict[str, Any]], None], heirs: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """The values of a YAML or JSON file. `extends: FILE`, relative to it, names a file whose values it changes.

    Where both files have an object of one name, the values in it are changed one by one. `check` is called with each
    file and its own values, and raises ValueError for values that cannot be. `heirs`: the files that extend this one.

    Raises:
        FileNotFoundError: no such file. ValueError: it cannot be read, or `check` raised it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No config file {path}.")
    is_json = path.suffix == ".json"
    values = read_json(path) if is_json else read_yaml(path)
    values = {} if values is None and not is_json else values
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no {'object' if is_json else '`key: value` lines'}.")
    base = values.pop("extends", None)
    if base is not None and not isinstance(base, str):
        raise ValueError(f"{path}: extends names a file, not {repr(base)[:100]}.")
    heirs = (*heirs, path.resolve())
    if base and (path.parent / base).resolve() in heirs:
        raise ValueError(f"{path} extends itself.")
    merged = read_with_extends(path.parent / base, check, heirs) if base else {}
    check(path, values)
    for key, value in values.items():
        inherited = merged.get(key)
        merged[key] = inherited | value if isinstance(inherited, dict) and isinstance(value, dict) else value
    return merged
