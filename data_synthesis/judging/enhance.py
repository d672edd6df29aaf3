"""Small text crops super-resolved before they are used (section 3.5).

The model is either a file that `spandrel` loads (HAT, SwinIR, Real-ESRGAN and some forty others) or a TADiSR pipeline.
Pickled files are safe to load: spandrel's unpickler builds tensors and ordered dicts and refuses all else.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from tadisr.tiling import run_tiled

if TYPE_CHECKING:
    import torch

SUFFIXES = (".pth", ".ckpt", ".safetensors")
GRID = 16  # sides are padded to multiples of this, so that crops of similar sizes fit one batch


class Enhancer:
    """A super-resolution model for crops of any size.

    Args:
        model: (B, 3, h, w) to (B, 3, scale h, scale w), both RGB, nominally in [0, 1].
        scale: integer factor.
        device, dtype: of what the model takes.
        tile: side of a tile in input pixels; larger crops are cut into tiles, one at a time.
        overlap: of neighbouring tiles, input pixels.
        batch_size: crops at once, of those that are alike in size. More than 1 pays on a GPU.
        description: plain values that a manifest records.
    """

    def __init__(
        self,
        model: Callable[["torch.Tensor"], "torch.Tensor"],
        scale: int,
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
        tile: int = 256,
        overlap: int = 16,
        batch_size: int = 1,
        description: dict[str, Any] | None = None,
    ):
        if batch_size < 1 or tile < 1 or not 0 <= 2 * overlap <= tile:
            raise ValueError(
                "Expected batch_size and tile at least 1 and overlap at most half a tile, got batch_size "
                f"{batch_size}, tile {tile}, overlap {overlap}."
            )
        self.scale = scale
        self._model, self._device, self._dtype = model, device, dtype
        self._tile, self._overlap, self._batch_size = tile, overlap, batch_size
        self._description = description or {}

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        device: "torch.device | str" = "cpu",
        dtype: "torch.dtype | None" = None,
        **options: Any,
    ) -> "Enhancer":
        """A .pth, .ckpt or .safetensors file, or what `TADiSRPipeline.from_pretrained` takes ("tadisr-tiny").

        Args:
            name_or_path: the model.
            device: where it runs.
            dtype: of its weights; None: float32.
            options: `tile`, `overlap`, `batch_size`, as the class takes them.

        Raises:
            FileNotFoundError: no such model.
            ValueError: a file of another kind, damaged, or with a model that does not turn RGB images into RGB images.
            ImportError: spandrel is not installed.
        """
        import torch

        path, dtype = Path(name_or_path), dtype or torch.float32
        if path.suffix.lower() not in SUFFIXES and not path.is_file():
            return cls._load_tadisr(name_or_path, device, dtype, options)
        if not path.is_file():
            raise FileNotFoundError(f"No model file {path}.")
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is no {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file.")
        try:
            from spandrel import ImageModelDescriptor, ModelLoader
        except ImportError:
            raise ImportError("Loading a model file needs spandrel: pip install 'tadisr[synth]'.") from None
        try:
            model = ModelLoader("cpu").load_from_file(path)
        except Exception as error:  # whatever torch, pickle, safetensors and spandrel raise for a bad file
            why = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} holds no model that spandrel can load: {why}") from None
        kind, channels = model.architecture.name, (model.input_channels, model.output_channels)
        if not isinstance(model, ImageModelDescriptor) or channels != (3, 3):
            raise ValueError(
                f"{path} does not turn RGB images into RGB images: it holds {kind}, a model for {model.purpose}, "
                f"{channels[0]} channels to {channels[1]}."
            )
        model.model.to(device, dtype)
        description = {"model": path.name, "architecture": kind, "scale": model.scale, "files": _hashes([path])}
        return cls(model, model.scale, device, dtype, description=description, **options)

    @classmethod
    def _load_tadisr(
        cls, name: str | Path, device: "torch.device | str", dtype: "torch.dtype", options: dict[str, Any]
    ) -> "Enhancer":
        from tadisr import TADiSRPipeline
        from tadisr.loading.repositories import resolve

        folder = resolve(name, TADiSRPipeline.__name__)
        pipe = TADiSRPipeline.from_pretrained(folder, dtype=dtype).to(device)
        files = _hashes(sorted(folder.rglob("*.safetensors")), folder)
        description = {"model": str(name), "architecture": "TADiSR", "scale": 4, "files": files}
        # 4 is what it is trained for
        return cls(lambda x: pipe.restore_tile(x, 4)[0], 4, device, dtype, description=description, **options)

    def describe(self) -> dict[str, Any]:
        """Model, architecture, scale, and SHA-256 of each weight file: plain JSON values."""
        return self._description

    def enhance(self, image: np.ndarray, long_edge: int | None = None) -> np.ndarray:
        """One crop; see `enhance_all`."""
        return self.enhance_all([image], long_edge)[0]

    def enhance_all(self, images: Sequence[np.ndarray], long_edge: int | None = None) -> list[np.ndarray]:
        """Restore crops, uint8 RGB (h, w, 3), of any sizes.

        Returns:
            uint8 RGB (scale h, scale w, 3), then resized so that the longer side has `long_edge` pixels, if given.

        Raises:
            ValueError: an image of another kind, or a `long_edge` below 1.
        """
        if long_edge is not None and long_edge < 1:
            raise ValueError(f"long_edge must be at least 1 pixel, not {long_edge}.")
        groups = defaultdict(list)
        for i, image in enumerate(images):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
                raise ValueError(f"Image {i}: expected uint8 RGB (H, W, 3), got {image.dtype} {image.shape}.")
            groups[tuple(-(-side // GRID) * GRID for side in image.shape[:2])].append(i)
        restored = [None] * len(images)
        for size, members in groups.items():
            count = self._batch_size if max(size) <= self._tile else 1
            for start in range(0, len(members), count):
                batch = members[start : start + count]
                for i, result in zip(batch, self._run([images[j] for j in batch], size), strict=True):
                    height, width = (side * self.scale for side in images[i].shape[:2])
                    restored[i] = _resize(result[:height, :width], long_edge)
        return restored

    def _run(self, images: Sequence[np.ndarray], size: tuple[int, int]) -> np.ndarray:
        """Crops padded to `size` (h, w) and restored: (B, scale h, scale w, 3) uint8."""
        import torch

        from tadisr.models.tensors import on_arrays

        padded = [_pad(image, size) for image in images]
        x = torch.from_numpy(np.stack(padded)).permute(0, 3, 1, 2).to(self._device, self._dtype) / 255  # (B, 3, h, w)
        with torch.inference_mode():
            if max(size) <= self._tile:
                y = self._model(x)  # (B, 3, scale h, scale w)
            else:
                model = on_arrays(lambda part: (self._model(part.to(self._dtype)),), self._device)
                array = x.float().cpu().numpy()
                y = torch.from_numpy(run_tiled(model, array, self._tile, self._overlap, self.scale)[0])
            return (y.float().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def _pad(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The borders at the right and bottom repeated up to `size` (h, w)."""
    height, width = image.shape[:2]
    return cv2.copyMakeBorder(image, 0, size[0] - height, 0, size[1] - width, cv2.BORDER_REPLICATE)


def _resize(image: np.ndarray, long_edge: int | None) -> np.ndarray:
    factor = 1 if long_edge is None else long_edge / max(image.shape[:2])
    if factor == 1:
        return np.ascontiguousarray(image)
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)


def _hashes(files: Sequence[Path], folder: Path | None = None) -> dict[str, str]:
    return {
        str(path.relative_to(folder or path.parent)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files
    }
