"""Small text crops super-resolved before they are used (section 3.5).

The model is either a file that `spandrel` loads (HAT, SwinIR, Real-ESRGAN and some forty others) or a TADiSR pipeline.
Pickled files are safe to load: spandrel's unpickler builds tensors and ordered dicts and refuses everything else.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tadisr.io.messages import one_line, quiet
from tadisr.tiling import run_tiled

if TYPE_CHECKING:
    import torch

    Model = Callable[[torch.Tensor], torch.Tensor]

_SUFFIXES = (".pth", ".ckpt", ".safetensors")
_GRID = 16  # sides are padded to multiples of this number of pixels
_TILE, _OVERLAP = 256, 16  # input pixels; larger crops are cut into tiles


class Enhancer:
    """A super-resolution model for crops of any size, on the CPU.

    Args:
        model: (1, 3, h, w) to (1, 3, scale h, scale w), float32 RGB, nominally in [0, 1].
        scale: integer factor.
    """

    def __init__(self, model: "Model", scale: int):
        self.scale = scale
        self._model = model

    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Restore a crop, (h, w, 3) uint8 RGB, to (scale h, scale w, 3) uint8 RGB."""
        import torch

        from tadisr.models.tensors import on_arrays

        height, width = image.shape[:2]
        borders = (0, -height % _GRID, 0, -width % _GRID)  # at the bottom and on the right
        padded = cv2.copyMakeBorder(image, *borders, cv2.BORDER_REPLICATE)
        x = padded.transpose(2, 0, 1)[None].astype(np.float32) / 255
        with torch.inference_mode():
            [y] = run_tiled(on_arrays(lambda part: (self._model(part),), "cpu"), x, _TILE, _OVERLAP, self.scale)
        pixels = np.rint(y[0].clip(0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
        return np.ascontiguousarray(pixels[: height * self.scale, : width * self.scale])


def load_enhancer(name_or_path: str | Path) -> Enhancer:
    """The model of a .pth, .ckpt or .safetensors file, or a TADiSR pipeline: a bundled name, a folder or a Hub id.

    Raises:
        FileNotFoundError: no such model.
        ValueError: a file of another kind, damaged, or with a model that does not turn RGB images into RGB images.
        ImportError: spandrel is not installed.
    """
    path = Path(name_or_path)
    if path.suffix.lower() not in _SUFFIXES and not path.is_file():
        return _load_tadisr(name_or_path)
    if not path.is_file():
        raise FileNotFoundError(f"No model file {path}.")
    if path.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{path} is no {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file.")
    try:
        from spandrel import ImageModelDescriptor, ModelLoader
    except ImportError:
        raise ImportError("Loading a model file needs spandrel: pip install 'tadisr[synth]'.") from None
    try:
        model = ModelLoader("cpu").load_from_file(path)
    except Exception as error:  # for a bad file torch, pickle, safetensors and spandrel each raise their own
        raise ValueError(f"{path} holds no model that spandrel can load: {one_line(error, 200)}") from None
    channels = (model.input_channels, model.output_channels)
    if not isinstance(model, ImageModelDescriptor) or channels != (3, 3):
        raise ValueError(
            f"{path} does not turn RGB images into RGB images: it holds {model.architecture.name}, a model for "
            f"{model.purpose}, {channels[0]} channels to {channels[1]}."
        )
    model.model.float()
    return Enhancer(model, model.scale)


def _load_tadisr(name: str | Path) -> Enhancer:
    # TODO: by `tadisr.load`, once that is there. Until then this imports from a room that synthesis should not know.
    from tadisr import TADiSRPipeline

    with quiet():
        pipe = TADiSRPipeline.from_pretrained(name)
    return Enhancer(lambda x: pipe.restore_tile(x, 4)[0], 4)  # trained for a scale of 4
