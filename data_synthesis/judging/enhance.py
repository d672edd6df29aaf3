"""Small text crops super-resolved before they are used (section 3.5).

The model is either a file that `spandrel` loads (HAT, SwinIR, Real-ESRGAN and some forty others) or a TADiSR pipeline.
Such files run nothing: their tensors are read, and whatever else they hold is refused (`load_model_file`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tadisr.loading.load import MODEL_SUFFIXES, load, load_model_file
from tadisr.tiling import run_tiled

if TYPE_CHECKING:
    import torch

    Model = Callable[[torch.Tensor], torch.Tensor]

_GRID = 16  # sides are padded to multiples of this number of pixels
_TILE, _OVERLAP = 256, 16  # input pixels; larger crops are cut into tiles


class Enhancer:
    """A super-resolution model for crops of any size, on the CPU.

    The model takes (1, 3, h, w) to (1, 3, scale h, scale w), float32 RGB, nominally in [0, 1].
    """

    def __init__(self, model: "Model", scale: int):
        self.scale, self._model = scale, model

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
    """The model in a file that spandrel loads, or a TADiSR pipeline: a bundled name, a folder or a Hub id.

    ValueError: a file of another kind, damaged, or with a model that does not turn RGB images into RGB images.
    FileNotFoundError: no such model. ImportError: spandrel is not installed.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in MODEL_SUFFIXES or path.is_file():
        model = load_model_file(path, extra="synth")
        model.model.float()
        return Enhancer(model, model.scale)
    pipe: Any = load(name_or_path, "cpu", "float32", "TADiSRPipeline").pipe
    return Enhancer(lambda x: pipe.restore_tile(x, 4)[0], 4)  # 4 is what TADiSR is trained for
