"""A whole pipeline as one safetensors file, as programs want it that know a model by its tensors alone.

Every tensor is called COMPONENT.NAME. The configurations are JSON in one more tensor, of bytes: such programs pass on
tensors, and not what else a file holds.
"""

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save, save_file

from tadisr.io.atomic import write_atomically
from tadisr.io.structured import parse_json
from tadisr.loading.custom_code import INDEX_FILE
from tadisr.loading.repositories import ADAPTER_FILE

CONFIGS = "tadisr.configs"
_NAMES = re.compile(r"model_index\.json|scheduler/scheduler_config\.json|(\w+)/config\.json")


def pack(pipe: Any, path: Path) -> None:
    """Write a `TADiSRPipeline` as one file. Raises ValueError for an adapter, which is no whole pipeline."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pipe.save_pretrained(folder, max_shard_size="1TB")
        if (folder / ADAPTER_FILE).is_file():
            raise ValueError("an adapter needs its base, and one file holds whole pipelines alone.")
        files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.json"))}
        configs = {name: json.loads(file.read_bytes()) for name, file in files.items() if _NAMES.fullmatch(name)}
        tensors = {CONFIGS: torch.frombuffer(bytearray(json.dumps(configs).encode()), dtype=torch.uint8)}
        for file in sorted(folder.rglob(SAFETENSORS_WEIGHTS_NAME)):
            part = load_file(file)
            halves = {key: tensor.half() for key, tensor in part.items()}
            if all(torch.equal(halves[key].to(tensor.dtype), tensor) for key, tensor in part.items()):
                part = halves  # as small as the files that it was loaded from
            tensors |= {f"{file.parent.name}.{key}": tensor for key, tensor in part.items()}
        write_atomically(path, save(tensors, {"format": "pt"}))


def unpack(state: Mapping[str, torch.Tensor], folder: Path) -> None:
    """Write the tensors of `pack`'s file as a folder that `TADiSRPipeline.from_pretrained` loads, and checks.

    Raises ValueError for configurations that are damaged or would lie elsewhere.
    """
    configs = parse_json(state[CONFIGS].to("cpu", torch.uint8).numpy().tobytes(), CONFIGS)
    names = list(configs) if isinstance(configs, dict) else []
    if INDEX_FILE not in names or not all(map(_NAMES.fullmatch, names)):
        raise ValueError(f"{CONFIGS} holds no configurations of a TADiSR pipeline: export the model anew.")
    for name, config in configs.items():
        write_atomically(folder / name, json.dumps(config), sync=False)
        if component := _NAMES.fullmatch(name)[1]:  # pyright: ignore[reportOptionalSubscript]
            start = f"{component}."
            part = {key.removeprefix(start): x.contiguous() for key, x in state.items() if key.startswith(start)}
            save_file(part, folder / component / SAFETENSORS_WEIGHTS_NAME, {"format": "pt"})
