"""TADiSR by an exported graph: what `TADiSRPipeline` does, on plain arrays, without torch.

Shapes: B batch, h, w LR pixels, H, W pixels of the output.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadisr.arrays import as_batch, fix_alpha, fix_color, resize, to_images, to_layers, to_planes
from tadisr.pipelines.inputs import check_inputs
from tadisr.pipelines.tile_memory import TileMemory
from tadisr.runtime.graph import Graph
from tadisr.text_masks import NO_PROMPTS, OPAQUE, shuffle, to_prompts, unshuffle
from tadisr.tiling import TilePlan, auto_tile, group_by_size, run_tiled
from tadisr.transparency import sliding_maximum
from tadisr.trust.check import Thresholds, TrustReport, check_text

OUTPUT_TYPES = ("pil", "uint8", "np")
NO_TEXT = -20.0  # a mask logit, where the network did not look
_REACH = 2  # pixels that bicubic interpolation looks to each side


@dataclass
class TADiSROnnxPipelineOutput:
    """Restored images and where their text is, see `TADiSRPipelineOutput`; without "pt"."""

    images: list[Image.Image] | list[np.ndarray] | np.ndarray
    text_masks: list[Image.Image] | list[np.ndarray] | np.ndarray
    reports: list[TrustReport] | None = None


class TADiSROnnxPipeline:
    """A graph that `tadisr export` wrote, called as a `TADiSRPipeline` is.

    Args:
        graph: of which there may be many callers.

    Examples:
        >>> from tadisr.pipelines.pipeline_onnx import TADiSROnnxPipeline
        >>> pipe = TADiSROnnxPipeline.from_pretrained("tadisr-tiny")
        >>> pipe(np.zeros((16, 24, 3), np.uint8)).images[0].size
        (96, 64)
    """

    def __init__(self, graph: Graph):
        self.graph = graph
        self._tiles = TileMemory()
        self._largest_tile: int | None = None  # output pixels: what tile="auto" has been found to fit

    @property
    def dtype(self) -> str:
        """The precision of the graph."""
        return self.graph.info.precision

    @property
    def device(self) -> str:
        """What it computes on, see `tadisr.runtime.graph.choose_provider`."""
        return self.graph.device

    @property
    def takes_masks(self) -> bool:
        """Whether a person can say where text is, see `text_mask`."""
        return self.graph.takes_masks

    @property
    def native_scale(self) -> int:
        """The factor of the graph; others are made by it and then resized, tile by tile."""
        return self.graph.info.scale

    def __call__(
        self,
        image: Image.Image | np.ndarray | Sequence,
        scale: float = 4,
        tile: int | str | None = "auto",
        overlap: int = 64,
        color_fix: str = "none",
        output_type: str = "pil",
        tile_progress: Callable[[Iterable], Iterable] = iter,
        report: bool | Thresholds = False,
        tile_batch: int | None = None,
        fidelity: float | None = None,
        text_mask: Any = None,
    ) -> TADiSROnnxPipelineOutput:
        """Restore one image, or a list of images of any sizes; everything as in `TADiSRPipeline`, but for tensors.

        Raises:
            ValueError, TypeError: arguments that cannot work, before any work is done.
            ImportError: a report without the packages that read, also at once.
            MemoryError: not enough memory for the tile; the message says which one to try.
        """
        check_inputs(scale, tile, overlap, color_fix, output_type, report, tile_batch, fidelity, OUTPUT_TYPES)
        self.graph.check_fidelity(fidelity)
        images, masks, reports = [], [], []
        sources = to_planes(image, keep_alpha=True)  # (1, 3 or 4, h, w) in [0, 1]
        layers = [to_layers(source) for source in sources]
        prompts, waiting = iter(self._prompts(text_mask, layers)), iter(sources)
        for group in group_by_size(layers, self.native_scale, self._fits()):
            lr = np.concatenate(group)
            given = None if text_mask is None else np.concatenate(list(islice(prompts, len(group))))
            sr, mask_logits = self.restore(lr, scale, tile, overlap, tile_progress, tile_batch, fidelity, given)
            masks += to_images(1 / (1 + np.exp(-mask_logits)), output_type)
            for index, one_lr in enumerate(group):
                one_sr, source = sr[index : index + 1], next(waiting)
                fix_color(one_sr[:, :3], one_lr[:, :3], color_fix)
                alpha = fix_alpha(one_sr, source)
                if report:
                    before, after = (to_images(x, "uint8")[0] for x in (source[:, : one_sr.shape[1]], one_sr))
                    reports.append(check_text(before, after, None if report is True else report))
                images += to_images(one_sr, output_type, alpha)
        images, masks = (as_batch(made, output_type) for made in (images, masks))
        return TADiSROnnxPipelineOutput(images, masks, reports if report else None)

    def restore(
        self,
        lr: np.ndarray,
        scale: float = 4,
        tile: int | str | None = "auto",
        overlap: int = 64,
        tile_progress: Callable[[Iterable], Iterable] = iter,
        tile_batch: int | None = None,
        fidelity: float | None = None,
        text_mask: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Images of one size, lr (B, 3 or 4, h, w) in [0, 1], see `to_layers`, to (B, 3 or 4, H, W) in [0, 1] and
        mask logits (B, 1, H, W), tile by tile.

        `text_mask`: a prompt for it, as `to_prompts` makes it; tiles are then taken from what the last call with one
        left, or left there. After an error of not enough memory tile="auto" starts again with half the side.
        """
        factor, fixed = self.native_scale, self.graph.info.tile
        whole = int(scale) if scale == int(scale) else factor
        if fixed:
            tile, tile_batch = fixed * factor, 1
        image: np.ndarray = lr
        restore_tile: Callable = partial(self.restore_tile, scale=whole, fidelity=fidelity)
        if text_mask is not None:  # tiles are cut from both at once
            tile_batch, restore_tile = 1, self._remembering(whole, fidelity)
            image = np.concatenate([lr, unshuffle(text_mask, factor)], 1)
        plan = TilePlan(tile, tile_batch, max(lr.shape[2:]) * factor, self._fits())
        while True:
            side = fixed or max(1, plan.side // factor)  # LR pixels
            shared = min(overlap // factor, side // 2)
            try:
                sr, mask_logits = run_tiled(restore_tile, image, side, shared, whole, tile_progress, plan.batch)
                break
            except MemoryError:
                if fixed:
                    raise
            plan.shrink()
            if tile == "auto":
                self._largest_tile = min(plan.side, self._largest_tile or plan.side)
        if whole != scale:
            size = [max(1, round(length * float(scale))) for length in lr.shape[2:]]
            sr, mask_logits = resize(sr, size), resize(mask_logits, size)
        return np.clip(sr, 0, 1, out=sr), mask_logits

    def _prompts(self, text_mask: Any, layers: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A prompt for each image of `layers`, see `to_prompts`; none without a mask."""
        if text_mask is None:
            return []
        if not self.takes_masks:
            raise ValueError(NO_PROMPTS)
        if any(image.shape[1] == 4 for image in layers):
            raise ValueError(OPAQUE)
        return to_prompts(to_planes(text_mask, keep_alpha=True), [x.shape[2:] for x in layers], self.native_scale)

    def _remembering(self, scale: int, fidelity: float | None) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
        """`restore_tile` of arrays that hold LR and, its pixels as channels, the prompt; as far as it is not known."""
        call = self._tiles.begin(repr([scale, self.graph.info.fidelity if fidelity is None else fidelity]))

        def restore(tile: np.ndarray) -> Sequence[np.ndarray]:
            lr, prompt = tile[:, :3], tile[:, 3:]
            given = shuffle(prompt, self.native_scale) if prompt.any() else None
            return call.restore(lr, prompt, lambda _: self.restore_tile(lr, scale, fidelity, given))

        return restore

    def restore_tile(
        self, lr: np.ndarray, scale: int = 4, fidelity: float | None = None, text_mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """lr (B, 3 or 4, h, w) in [0, 1] to the image (B, 3 or 4, H, W), nominally in [0, 1], and mask logits
        (B, 1, H, W). `text_mask`: a prompt (B, 2, factor h, factor w)."""
        if lr.shape[1] == 4:
            return self._restore_transparent(lr, scale, fidelity)
        height, width = lr.shape[2:]
        info = self.graph.info
        below, right = (
            (info.tile or -(-max(side, info.least_side) // info.multiple) * info.multiple) - side
            for side in (height, width)
        )
        factor = self.native_scale
        if below or right:
            lr = np.pad(lr, ((0, 0), (0, 0), (0, below), (0, right)), mode="edge")
            if text_mask is not None:
                text_mask = np.pad(text_mask, ((0, 0), (0, 0), (0, below * factor), (0, right * factor)))
        batches = [slice(None)] if info.tile is None else [slice(i, i + 1) for i in range(len(lr))]
        results = [self.graph(lr[i], fidelity, None if text_mask is None else text_mask[i]) for i in batches]
        image, mask_logits = results[0] if len(results) == 1 else map(np.concatenate, zip(*results, strict=True))
        image, mask_logits = (x[..., : height * factor, : width * factor] for x in (image, mask_logits))
        if factor != scale:
            size = height * scale, width * scale
            image, mask_logits = resize(image, size), resize(mask_logits, size)
        return image, mask_logits

    def _restore_transparent(self, lr: np.ndarray, scale: int, fidelity: float | None) -> tuple[np.ndarray, np.ndarray]:
        """Colours and alpha as two pictures, as `TADiSRPipeline.restore_transparent`."""
        colors, alpha = lr[:, :3], lr[:, 3:]
        image = resize(lr, (lr.shape[2] * scale, lr.shape[3] * scale))
        mask_logits = np.full_like(image[:, :1], NO_TEXT)
        visible = sliding_maximum(alpha > 0, _REACH)
        chosen = _varied(colors) & visible.any((1, 2, 3))
        if chosen.any():
            restored, found = self.restore_tile(colors[chosen], scale, fidelity)
            image[chosen, :3] = restored
            shown = visible[chosen].repeat(scale, 2).repeat(scale, 3)
            mask_logits[chosen] = np.where(shown, found, NO_TEXT)
        chosen = _varied(alpha)
        if chosen.any():
            dark, found = self.restore_tile(1 - alpha[chosen].repeat(3, axis=1), scale, fidelity)
            image[chosen, 3:] = 1 - np.clip(dark, 0, 1).mean(1, keepdims=True)
            mask_logits[chosen] = np.maximum(mask_logits[chosen], found)
        return image, mask_logits

    def _fits(self) -> int:
        """Side of a tile, in output pixels, that should fit the memory free now."""
        import psutil

        side = auto_tile(psutil.virtual_memory().available, 4, self.graph.info.widest)
        return min(side, self._largest_tile or side)

    @classmethod
    def from_pretrained(
        cls, name: str | Path, precision: str | None = None, device: str = "auto", **hub: Any
    ) -> "TADiSROnnxPipeline":
        """Load a bundled model by name, a folder, a Hub repository with a folder `onnx`, or one ONNX file.

        `precision`: "int8", "float32" or "float16"; None: the fastest that is there. See `find_graph`.
        """
        from tadisr.loading.graphs import find_graph

        return cls(Graph(find_graph(name, precision, **hub), device))


def _varied(images: np.ndarray) -> np.ndarray:
    """Which of (B, C, H, W) are not the same everywhere: (B,)."""
    return (images.max((2, 3)) > images.min((2, 3))).any(1)
