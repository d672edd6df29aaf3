"""Text crops super-resolved before they are pasted (section 3.5).

The model is either a file that `spandrel` loads (HAT, SwinIR, Real-ESRGAN and some forty others) or a TADiSR pipeline.
Such files run nothing: their tensors are read, and whatever else they hold is refused (`load_model_file`).
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tadisr.loading.load import MODEL_SUFFIXES, load, load_model_file
from tadisr.tiling import run_tiled

if TYPE_CHECKING:
    import torch

    Model = Callable[[torch.Tensor], torch.Tensor]

_GRID = 32  # sides are padded to multiples of this number of pixels, so that crops of similar sizes run together
_TILE, _OVERLAP = 256, 16  # input pixels; larger crops are cut into tiles


class Enhancer:
    """A super-resolution model for crops of any size.

    The model takes (B, 3, h, w) to (B, 3, scale h, scale w), float32 RGB, nominally in [0, 1], on `device`.
    """

    def __init__(self, model: "Model", scale: int, device: str = "cpu"):
        self.scale, self._model, self._device = scale, model, device

    def enhance(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Restore crops, (h, w, 3) uint8 RGB each, to (scale h, scale w, 3) uint8 RGB.

        Crops whose sides pad to the same multiples run together, as many as have the pixels of one tile. How a crop is
        padded depends on its own size alone, so the others change its result by no more than rounding.
        """
        import torch

        from tadisr.models.tensors import on_arrays

        restored: dict[int, np.ndarray] = {}
        groups: dict[tuple[int, int], list[int]] = {}
        for i, image in enumerate(images):
            height, width = (side + -side % _GRID for side in image.shape[:2])
            groups.setdefault((height, width), []).append(i)
        for (height, width), members in groups.items():
            count = max(1, _TILE**2 // (height * width))
            for start in range(0, len(members), count):
                chosen = members[start : start + count]
                x = np.stack([_padded(images[i], height, width) for i in chosen])
                with torch.inference_mode():
                    model = on_arrays(lambda part: (self._model(part),), self._device)
                    [y] = run_tiled(model, x, _TILE, _OVERLAP, self.scale)
                for i, values in zip(chosen, y, strict=True):
                    own = values[:, : images[i].shape[0] * self.scale, : images[i].shape[1] * self.scale]
                    pixels = np.rint(own.clip(0, 1) * 255).astype(np.uint8)
                    restored[i] = np.ascontiguousarray(pixels.transpose(1, 2, 0))
        return [restored[i] for i in range(len(images))]


def _padded(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """(h, w, 3) uint8 to (3, height, width) float32 in [0, 1]: the last row and column are repeated."""
    borders = (0, height - image.shape[0], 0, width - image.shape[1])  # at the bottom and on the right
    padded = cv2.copyMakeBorder(image, *borders, cv2.BORDER_REPLICATE)
    return padded.transpose(2, 0, 1).astype(np.float32) / 255


def load_enhancer(name_or_path: str | Path, device: str = "cpu") -> Enhancer:
    """The model in a file that spandrel loads, or a TADiSR pipeline: a bundled name, a folder or a Hub id.

    ValueError: a file of another kind, damaged, or with a model that does not turn RGB images into RGB images.
    FileNotFoundError: no such model. ImportError: spandrel is not installed.
    """
    path = Path(name_or_path)
    if path.suffix.lower() in MODEL_SUFFIXES or path.is_file():
        model = load_model_file(path, extra="synth")
        model.model.float()
        model.to(device)
        return Enhancer(model, model.scale, device)
    pipe: Any = load(name_or_path, device, "float32", "TADiSRPipeline", "torch").pipe
    return Enhancer(lambda x: pipe.restore_tile(x, 4)[0], 4, device)  # 4 is what TADiSR is trained for
