"""Our repositories in plain diffusers: the small programs in them that `trust_remote_code=True` lets it run.

`DiffusionPipeline.from_pretrained` takes classes that are not its own from files of the repository: the pipeline's from
the one that `_class_name` in model_index.json names, a component's from one in the component's folder. Each of ours
imports the class from this package. Our own `from_pretrained` runs none of them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadisr.io.atomic import write_atomically

INDEX_FILE = "model_index.json"
_PIPELINES = {
    "TADiSRPipeline": "tadisr.pipelines.pipeline_tadisr",
    "TADiSRAdapterPipeline": "tadisr.pipelines.pipeline_adapter",
    "TextDiffPipeline": "tadisr.pipelines.pipeline_textdiff",
}
_COMPONENTS = {  # their classes that diffusers lacks are of these modules
    "vae": "tadisr.models.scratch",
    "unet": "tadisr.models.scratch",
    "prompt": "tadisr.models.prompt",
    "joint_decoder": "tadisr.models.joint_decoder",
    "enhancement": "tadisr.models.textdiff.enhancement",
    "prior": "tadisr.models.textdiff.recognizer",
    "residual": "tadisr.models.textdiff.residual_unet",
}
_PROGRAM = '''"""{name} for diffusers, which runs this file in `from_pretrained(..., trust_remote_code=True)`."""

from importlib.util import find_spec

if find_spec("tadisr") is None:
    raise ImportError("This model needs the package tadisr: pip install tadisr")

from {module} import {name}  # noqa: E402, F401
'''


def add_custom_code(folder: Path, index: Mapping[str, Any]) -> None:
    """Write `index`, as `own_index` gives it, as the model_index.json in `folder`, and the programs that it names.

    None are written for a class of somebody else's.
    """
    if index["_class_name"] not in _PIPELINES:
        return
    written = dict(index)
    for name, module in _COMPONENTS.items():
        if list(index.get(name) or ())[:1] == [module]:
            written[name] = [f"tadisr_{name}", index[name][1]]
            _write(folder / name / f"tadisr_{name}.py", module, index[name][1])
    cls = index["_class_name"]
    module = _PIPELINES[cls]
    written["_class_name"] = [module.rpartition(".")[2], cls]
    _write(folder / f"{written['_class_name'][0]}.py", module, cls)
    write_atomically(folder / INDEX_FILE, json.dumps(written, indent=2, sort_keys=True) + "\n")


def _write(path: Path, module: str, name: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(_PROGRAM.format(module=module, name=name), encoding="utf-8")


def own_index(index: Mapping[str, Any]) -> dict[str, Any]:
    """What a model_index.json of ours says, with the package's modules in place of the programs in the repository."""
    plain = dict(index)
    for name, module in _COMPONENTS.items():
        if isinstance(value := index.get(name), list) and value[:1] == [f"tadisr_{name}"]:
            plain[name] = [module, *value[1:]]
    for cls, module in _PIPELINES.items():
        if index.get("_class_name") == [module.rpartition(".")[2], cls]:
            plain["_class_name"] = cls
    return plain
