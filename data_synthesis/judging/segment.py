"""Text segmenters: which pixels of an image are text. The interface, and the small model that the package carries.

Shapes: B batch, H, W pixels. Images are RGB in [0, 1]; masks are probabilities in [0, 1], 1 on text strokes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from tadisr.io.messages import one_line
from tadisr.io.structured import read_json
from tadisr.loading.repositories import resolve
from tadisr.models.tensors import on_arrays, to_tensors
from tadisr.tiling import run_tiled
from tadisr.weights import BUNDLED

_CONFIG_FILE = "text_segmenter.json"
_WEIGHTS_FILE = "model.safetensors"
BUNDLED_SEGMENTER = "text-segmenter-tiny"
_HOMES = {
    "TinyTextSegmenter": "tadisr.data_synthesis.judging.segment",
    "SamTextSegmenter": "tadisr.data_synthesis.judging.sam_ts",
}

ImageInput = Image.Image | np.ndarray | torch.Tensor


class TextSegmenter(nn.Module):
    """The interface of every text segmenter. Training calls `forward`; users call `segment`.

    Example:
        >>> segmenter = TextSegmenter.from_pretrained("text-segmenter-tiny")
        >>> [mask] = segmenter.segment(np.zeros((40, 30, 3), np.uint8))
        >>> mask.shape, mask.dtype
        ((40, 30), dtype('float32'))
    """

    config: Any
    """Dataclass of JSON scalars and lists from which `build` makes the network again."""
    tile: int = 1024
    """Side of a tile in pixels if `segment` may choose."""
    multiple: int = 1
    """Tiles and overlaps must be multiples of this."""

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) of a size that `fit` makes, to mask logits (B, 1, h, w); the last of them has H x W."""
        raise TypeError(f"{type(self).__name__} is an interface: use TextSegmenter.from_pretrained.")

    def fitted_size(self, size: Sequence[int]) -> tuple[int, int]:
        """The size (H, W) that `fit` makes of images of `size`."""
        height, width = (side + -side % self.multiple for side in size)
        return height, width

    def fit(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W) to a size that `forward` takes: the last rows and columns are repeated."""
        height, width = image.shape[-2:]
        return F.pad(image, (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")

    def unfit(self, logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        """Undo `fit`: logits (1, 1, h, w) of an image that was `size`, to (1, 1, H, W)."""
        return logits[..., : size[0], : size[1]]

    @torch.inference_mode()
    def segment(
        self,
        images: ImageInput | Sequence[ImageInput],
        tile: int | str | None = "auto",
        overlap: int = 64,
        batch_size: int = 8,
    ) -> list[np.ndarray]:
        """Text probability of every pixel of one image or a list of images of any sizes.

        Args:
            images: PIL images, uint8 arrays (H, W, 3) or (H, W), floats or tensors (3, H, W) in [0, 1].
            tile: larger images are cut into overlapping tiles of this side in pixels; "auto" is the model's own
                (`self.tile`); None never tiles.
            overlap: least overlap of neighbouring tiles in pixels.
            batch_size: images that run together. They all have the same fitted size, so that a mask does not depend on
                the other images in the list.

        Returns:
            One (H, W) float32 array in [0, 1] per image, in the order given.
        """
        m = self.multiple
        side = self.tile if isinstance(tile, str) else tile
        if tile not in ("auto", None) and (not isinstance(tile, int) or tile < 64 or tile % m):
            raise ValueError(f'tile must be "auto", None or at least 64 pixels and a multiple of {m}, got {tile!r}.')
        if overlap < 0 or overlap % m or (side is not None and overlap > side // 2):
            raise ValueError(f"overlap must be a multiple of {m} of at most half a tile, got {overlap} for {tile!r}.")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}.")
        tensors = [] if isinstance(images, (list, tuple)) and not images else to_tensors(images)
        masks: dict[int, np.ndarray] = {}
        groups: dict[tuple[int, int], list[int]] = {}
        training = self.training
        self.eval()
        try:
            for i, image in enumerate(tensors):
                if side is not None and max(image.shape[-2:]) > side:
                    masks[i] = self._segment_tiled(image, side, overlap)
                else:
                    groups.setdefault(self.fitted_size(image.shape[-2:]), []).append(i)
            for members in groups.values():
                for start in range(0, len(members), batch_size):
                    chosen = members[start : start + batch_size]
                    batch = self._run(torch.cat([self.fit(tensors[i].float()) for i in chosen]))
                    for i, logits in zip(chosen, batch.split(1), strict=True):
                        masks[i] = self.unfit(logits, tensors[i].shape[-2:])[0, 0].sigmoid().cpu().numpy()
        finally:
            self.train(training)
        return [masks[i] for i in range(len(tensors))]

    def _segment_tiled(self, image: torch.Tensor, tile: int, overlap: int) -> np.ndarray:
        height, width = image.shape[-2:]
        # Sides are multiples, so that every tile starts on the network's own grid.
        image = F.pad(image.float(), (0, -width % self.multiple, 0, -height % self.multiple), mode="replicate")

        def logits(part: torch.Tensor) -> tuple[torch.Tensor]:
            return (self.unfit(self._run(self.fit(part)), part.shape[-2:]),)

        (found,) = run_tiled(on_arrays(logits, image.device), image.cpu().numpy(), tile, overlap, 1)
        return torch.from_numpy(found[0, 0, :height, :width]).sigmoid().numpy()

    def _run(self, batch: torch.Tensor) -> torch.Tensor:
        weight = next(self.parameters())
        return self(batch.to(weight.device, weight.dtype, memory_format=torch.channels_last))[-1].float()

    def trained_state(self) -> dict[str, torch.Tensor]:
        """The tensors that training changes, by name. They are what `save_pretrained` writes."""
        return self.state_dict()

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write the configuration and the trained tensors below `folder`; floats become `dtype`, if that is given."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {"_class_name": type(self).__name__, **asdict(self.config)}
        (folder / _CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        state = {
            name: (x.detach().to(dtype) if dtype and x.is_floating_point() else x.detach()).contiguous()
            for name, x in self.trained_state().items()
        }
        save_file(state, folder / _WEIGHTS_FILE)

    @classmethod
    def build(cls, config: dict[str, Any], **options: Any) -> "TextSegmenter":
        """The untrained network that `config` describes. `options` are those of `from_pretrained`."""
        raise TypeError(f"{cls.__name__} is an interface: use TextSegmenter.from_pretrained.")

    @classmethod
    def from_pretrained(
        cls, name: str | Path = BUNDLED_SEGMENTER, base_model: str | Path | None = None, **hub: Any
    ) -> "TextSegmenter":
        """The segmenter that `save_pretrained` wrote, ready to use, float32 on the CPU.

        `name` is the bundled name, a folder, or a Hub id. `base_model` says where the base of the segmenter is, if it
        has one and that is not where its configuration says. `hub` takes `revision`, `token`, `cache_dir` and
        `local_files_only`, for Hub ids.

        FileNotFoundError: there is no such model. ValueError: the folder holds something else, or weights that do not
        fit the base.
        """
        folder = BUNDLED / BUNDLED_SEGMENTER if str(name) == BUNDLED_SEGMENTER else find_folder(name, **hub)
        if not (folder / _CONFIG_FILE).is_file() or not (folder / _WEIGHTS_FILE).is_file():
            raise ValueError(f"{folder} holds no text segmenter ({_CONFIG_FILE} and {_WEIGHTS_FILE}).")
        config = read_json(folder / _CONFIG_FILE)
        kind = config.pop("_class_name", None) if isinstance(config, dict) else None
        if not isinstance(kind, str) or kind not in _HOMES:
            raise ValueError(f"{folder / _CONFIG_FILE} names the class {kind}: known are {', '.join(_HOMES)}.")
        home = getattr(import_module(_HOMES[kind]), kind)
        try:
            segmenter = home.build(config, base_model=base_model, **hub)
        except TypeError as error:  # unknown or missing keys
            raise ValueError(f"{folder / _CONFIG_FILE} does not describe a {kind}: {one_line(error)}.") from None
        try:
            own, state = segmenter.trained_state(), load_file(folder / _WEIGHTS_FILE)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{folder / _WEIGHTS_FILE} is damaged or incomplete: {one_line(error)}.") from None
        shared = [name for name in own if name in state]
        wrong = sorted(set(own) ^ set(state)) + [n for n in shared if not _fits(state[n], own[n])]
        if wrong:
            raise ValueError(f"The weights in {folder} do not fit: {len(wrong)} tensors differ, such as {wrong[0]}.")
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(state[str(name)])
        return segmenter.eval()


def _fits(tensor: torch.Tensor, place: torch.Tensor) -> bool:
    """Whether a stored tensor has the shape and kind of another one, and nothing but finite numbers."""
    return (
        tensor.shape == place.shape
        and tensor.is_floating_point() == place.is_floating_point()
        and bool(tensor.isfinite().all())
    )


def find_folder(name: str | Path, allow_patterns: list[str] | None = None, **hub: Any) -> Path:
    """The local folder of a segmenter or of its base, downloading a Hub id first; FileNotFoundError for others."""
    patterns = allow_patterns or [_CONFIG_FILE, _WEIGHTS_FILE, "README.md"]
    try:
        return resolve(name, allow_patterns=patterns, **hub)
    except FileNotFoundError:
        raise FileNotFoundError(
            f"No model {name}: give {BUNDLED_SEGMENTER}, a folder, or a Hub id such as user/model."
        ) from None


@dataclass
class TinyConfig:
    """Configuration of `TinyTextSegmenter`."""

    widths: Sequence[int] = (32, 64, 96, 128, 192)
    """Channels at 1/2, 1/4, ... of the image's side."""

    def __post_init__(self):
        fits = isinstance(self.widths, (list, tuple)) and 1 <= len(self.widths) <= 8
        if not fits or not all(isinstance(width, int) and 1 <= width <= 4096 for width in self.widths):
            raise ValueError(f"widths are 1 to 8 whole numbers from 1 to 4096, not {self.widths!r}.")


class TinyTextSegmenter(TextSegmenter):
    """A convolutional U-Net on patches of 2x2 pixels: cheap at full resolution, and exact about thin strokes.

    Every layer is local, and every statistic is fixed at inference, so tiles agree with the whole image.
    """

    def __init__(self, config: TinyConfig | None = None):
        super().__init__()
        self.config = config or TinyConfig()
        widths = self.config.widths
        self.multiple = 2 ** len(widths)
        self.stem = _conv(12, widths[0])
        self.down = nn.ModuleList(
            nn.Sequential(_conv(above, below, stride=2), _Residual(below))
            for above, below in zip(widths, widths[1:], strict=False)
        )
        self.lateral = nn.ModuleList(
            nn.Conv2d(below, above, 1) for above, below in zip(widths, widths[1:], strict=False)
        )
        self.up = nn.ModuleList(_conv(above, above) for above in widths[:-1])
        self.head = nn.Conv2d(widths[0], 4, 3, padding=1)
        nn.init.constant_(self.head.get_parameter("bias"), -2.0)  # most pixels are not text
        self.to(memory_format=torch.channels_last)

    @classmethod
    def build(cls, config: dict[str, Any], **_options: Any) -> "TinyTextSegmenter":
        return cls(TinyConfig(**config))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, H, W) in [0, 1], sides multiples of `self.multiple`, to logits [(B, 1, H, W)]."""
        patches = F.pixel_unshuffle(images * 2 - 1, 2)  # (B, 12, H/2, W/2)
        x = self.stem(patches.contiguous(memory_format=torch.channels_last))
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        for skip, lateral, up in zip(reversed(skips), reversed(self.lateral), reversed(self.up), strict=True):
            x = up(skip + F.interpolate(lateral(x), scale_factor=2, mode="bilinear", align_corners=False))
        return [F.pixel_shuffle(self.head(x), 2)]


def _conv(channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    # A slow average, because weights are averaged over many steps, too, and the statistics must fit these weights.
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, stride, 1, bias=False),
        nn.BatchNorm2d(out_channels, momentum=0.02),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.inner = nn.Sequential(
            _conv(channels, channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels, momentum=0.02),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.inner(x))
