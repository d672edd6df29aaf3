"""From a model's name to the ONNX graph to run, where one is to be run; no torch.

A model's graphs lie in the folder `onnx` beside its parts: `model.onnx` in float32, `model_int8.onnx`,
`model_fp16.onnx`, the names that other libraries look for, too.
"""

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tadisr import TORCH_PACKAGES
from tadisr.loading.repositories import ADAPTER_FILE, is_hub_id, pipeline_kind, resolve
from tadisr.runtime.graph import SUFFIX

FOLDER = "onnx"
FILES = {"int8": "model_int8.onnx", "float32": "model.onnx", "float16": "model_fp16.onnx"}
"""By precision, in the order of speed on CPUs."""
RUNTIMES = ("auto", "torch", "onnx")


class NoGraphError(FileNotFoundError):
    """A model without the graph that is wanted."""


def find_graph(name: str | Path, precision: str | None = None, **hub: Any) -> Path:
    """The file of a model's graph.

    Args:
        name: a bundled name, a folder that holds graphs or a folder `onnx` of them, a Hub id of such a repository, or
            an ONNX file.
        precision: one of `FILES`, or None for the first that is there. An ONNX file is taken as it is.
        hub: as in `resolve`. Nothing but the graphs is fetched.

    Raises:
        FileNotFoundError: no such model, or none with such a graph; the message says what to do.
        ValueError: a precision that no graph has, or another pipeline's repository on the Hub.
    """
    if str(name).lower().endswith(SUFFIX):
        if not Path(name).is_file():
            raise FileNotFoundError(f"No graph {name}.")
        return Path(name)
    if precision not in (None, *FILES):
        raise ValueError(f"ONNX graphs compute in {', '.join(FILES)}, not in {precision}: take one of those.")
    if is_hub_id(str(name)) and not Path(name).is_dir():
        pipeline_kind(resolve(name, allow_patterns=["model_index.json", ADAPTER_FILE], **hub), "TADiSRPipeline")
    wanted = [FILES[precision]] if precision else list(FILES.values())
    folder = resolve(name, "TADiSRPipeline", allow_patterns=[f"{FOLDER}/{file}" for file in wanted], **hub)
    there = [path for file in FILES.values() for path in (folder / FOLDER / file, folder / file) if path.is_file()]
    if found := [path for path in there if path.name in wanted]:
        return found[0]
    if not there:
        pipeline_kind(folder)  # which says what is there instead of a model
    kind = f"{precision} graph" if precision else "graph"
    raise NoGraphError(f"{name} has no {kind}: write one with 'tadisr export {name} -o FOLDER'.")


def graph_to_run(
    name: str | Path, device: str = "auto", dtype: str = "auto", runtime: str = "auto", **hub: Any
) -> Path | None:
    """The graph that is to be run, or None where PyTorch is to run the model.

    "auto" takes a graph on CPUs, where it is the fastest, and wherever PyTorch or what the pipelines need
    beside it is not installed.

    Raises:
        ValueError, FileNotFoundError: as `find_graph`; a runtime that there is not.
        ImportError: PyTorch is needed and not installed.
    """
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, got {runtime!r}.")
    # PyTorch alone is not enough: where other programs bring it, the pipelines' packages may be missing.
    missing = [package for package in TORCH_PACKAGES if find_spec(package) is None]
    given = str(name).lower().endswith(SUFFIX)
    if runtime == "torch":
        if given:
            raise ValueError(f"{name} is an ONNX graph, and PyTorch does not run it: leave the runtime out.")
        if missing:
            raise ImportError(f"PyTorch's runtime needs {missing[0]}: pip install 'tadisr[torch]'.")
        return None
    precision = None if dtype == "auto" else dtype
    if given or runtime == "onnx" or missing:
        try:
            return find_graph(name, precision, **hub)
        except NoGraphError:
            if runtime == "onnx":
                raise
            raise ImportError(f"{name} runs by PyTorch alone: pip install 'tadisr[torch]'.") from None
    if device not in ("auto", "cpu") or precision not in (None, *FILES) or (device == "auto" and _may_have_gpu()):
        return None
    try:
        return find_graph(name, precision, **hub)
    except (FileNotFoundError, ValueError):  # PyTorch's loader says what is wrong with it, if anything is
        return None


def _may_have_gpu() -> bool:
    """Whether there is a driver of a GPU that PyTorch computes on; without importing PyTorch, which takes seconds."""
    nodes = ("/dev/nvidia0", "/dev/dxg", "/dev/kfd")
    return sys.platform == "darwin" or bool(shutil.which("nvidia-smi")) or any(Path(node).exists() for node in nodes)
