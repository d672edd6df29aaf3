"""Whole pipelines: looked through before diffusers loads them, and once more with their values."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import ModelMixin

from tadisr.io.messages import one_line
from tadisr.io.model_files import ANEW, read_config
from tadisr.loading.custom_code import INDEX_FILE, own_index
from tadisr.models.one_step import build_schedule, check_prediction
from tadisr.models.weights import check_files, check_values, default_dtype_kept

Kinds = Mapping[str, Sequence[type]]


def check_whole(folder: Path, kinds: Kinds, given: Collection[str] = (), variant: str | None = None) -> None:
    """Check the pipeline in `folder` before diffusers loads it: classes, configs, and the headers of the weights.

    `kinds`: the classes that each component may be of, NoneType among them where it may be left out; `given`: what
    comes from elsewhere; `variant`: of the weight files. Raises ValueError for a class that is not among them, since
    diffusers would import any module that the index names, and for what `check_files` and `build_schedule` refuse;
    FileNotFoundError for a missing file.
    """
    path = folder / INDEX_FILE
    index = own_index(read_config(path))
    for name in (name for name in kinds if name not in given):
        found = index.get(name) or [None, None]
        if found == [None, None] and type(None) in kinds[name]:
            continue
        classes = {cls.__name__: cls for cls in kinds[name] if cls is not type(None)}
        library, kind = found if isinstance(found, list) and len(found) == 2 else (None, None)
        cls = classes.get(kind) if isinstance(kind, str) else None
        if cls is None or library not in (cls.__module__, "diffusers"):
            said = f"{found!r:.100}"
            raise ValueError(f"{path} names as {name} {said}, which is not loaded: known are {', '.join(classes)}.")
        if (code := folder / name / f"{library}.py").exists():
            raise ValueError(f"{code} is a program, which some versions of diffusers would run: delete it.")
        try:
            if issubclass(cls, ModelMixin):
                check_files(cls, folder / name, variant)
            else:
                check_prediction(build_schedule(cls, read_config(folder / name / "scheduler_config.json")))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder} is incomplete: {error}. {ANEW}") from None


def load_whole(load: Callable[..., Any], folder: Path, kinds: Kinds, **options: Any) -> Any:
    """The pipeline that diffusers' `load` makes of `folder`, checked before and after; `options` are those of `load`.

    Raises as `check_whole` does, and ValueError for weights that are not finite, and for options that load pickles or
    programs.
    """
    for name, safe in (("use_safetensors", True), ("trust_remote_code", False), ("custom_pipeline", None)):
        if options.get(name, safe) not in (safe, None):
            raise ValueError(f"{name}={options[name]!r} would run what files hold: leave it out.")
    given, variant = kinds.keys() & options.keys(), options.get("variant")
    check_whole(folder, kinds, given, variant)
    try:
        with default_dtype_kept():
            pipe = load(folder, **options | {"use_safetensors": True})
    except (TypeError, KeyError, IndexError, AttributeError) as error:  # values of model_index.json that fit nowhere
        raise ValueError(f"{folder} cannot be loaded: {one_line(error)}") from error
    for name, part in pipe.components.items():
        if isinstance(part, ModelMixin) and name not in given:
            check_values(part, folder / name, variant)
    return pipe
