"""`tadisr.load`: from a model's name to something that restores images, in the one way that every front end uses.

Networks of others come from files, by `load_model_file`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from PIL.Image import Resampling

from tadisr.detail import real_reduction
from tadisr.io.hashing import hashes
from tadisr.io.messages import one_line, quiet
from tadisr.io.model_files import load_pickled, not_finite, read_header, refuse
from tadisr.loading.graphs import graph_to_run
from tadisr.loading.repositories import pipeline_kind, resolve
from tadisr.tiling import Window, blend_weights, regions_around

if TYPE_CHECKING:
    import torch
    from spandrel import ImageModelDescriptor

    from tadisr.trust.check import Thresholds, TrustReport

TEXT_MARGIN = 16
"""Pixels around lines of text that `only_text` restores with them. The outer half is blended."""
CORRECTION_MARGIN = 24
"""The same around what a text mask says. Two pixels from there the image changes by 0.2 gray levels in the mean."""
_BLOCK = 64  # pixels: what is said in one is restored together
MODEL_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True, eq=False)
class Restored:
    """A restored image and where its text is."""

    image: np.ndarray
    """(H, W, 3) uint8 RGB, or (H, W, 4) with alpha."""
    mask: np.ndarray | None = None
    """(H, W) uint8, the probability of text: 255 is 1. None where a TextDiff model has no mask branch."""
    report: "TrustReport | None" = None
    """Which lines of text to check, where that was asked for."""
    reduction: float = 1
    """How many times smaller the image was made before it was restored."""
    share: float = 1
    """How much of the image was restored. The rest was enlarged bicubically."""

    @property
    def kept(self) -> int:
        """How many lines are as in the input, enlarged, because restored they were doubtful."""
        return self._count("kept")

    @property
    def retraced(self) -> int:
        """How many lines are drawn as they read in the input."""
        return self._count("retraced")

    def _count(self, verdict: str) -> int:
        return sum(line.verdict == verdict for line in self.report.lines) if self.report else 0


@dataclass(frozen=True, eq=False)
class Restorer:
    """A loaded model."""

    name: str
    """As it was asked for."""
    folder: Path
    """Where its files are."""
    pipe: Any
    """What does the work: a `TADiSRPipeline` or a `TextDiffPipeline`, of diffusers, or a `TADiSROnnxPipeline`."""
    graph: Path | None = None
    """The ONNX file, where ONNX Runtime does the work."""

    def restore(
        self,
        image: np.ndarray,
        reduction: float | str = 1,
        only_text: bool = False,
        abstain: bool = False,
        first: Restored | None = None,
        retrace: bool = False,
        **options: Any,
    ) -> Restored:
        """Restore one image.

        Args:
            image: a photo for TADiSR, one line of text for TextDiff: (h, w, 3) uint8 RGB, or (h, w, 4) with straight
                alpha. TADiSR then restores alpha as well; TextDiff lays the line on the ground that shows it.
            reduction: how many times smaller a photo is made first, at least 1; "auto" asks `real_reduction`. The
                output has the size that it has with 1.
            only_text: restore lines of text and what is near them, and enlarge the rest of an opaque photo
                bicubically: faster where text is a small part of it. The engine of trust reports finds the lines.
                Transparent photos are restored as a whole.
            abstain: keep the input's strokes, enlarged, in lines that read differently and not more surely than in the
                input; the report says which, see `tadisr.trust.abstain`. It takes the time of a report.
            first: what this gave for the image without `text_mask`, all else being equal. Only what is near the mask's
                parts is then restored again, and all else is as it is there. This is for masks (H, W, 2) of the size of
                the result, and for whole factors; others are taken as without `first`.
            retrace: draw lines that surely read in the input as they read, and restore them again so, see
                `tadisr.trust.retrace`; the report says which. This is for models that follow masks, and takes the time
                of a report and of drawing. In transparent photos nothing is drawn.
            options: of the pipeline's call. TADiSR: `scale`, `tile`, `overlap`, `color_fix`, `fidelity`, `report`, ...;
                TextDiff: `num_inference_steps`, `strength`, ...

        Raises:
            ValueError, TypeError: arguments that cannot work, before any work is done.
            ImportError: a report, `only_text` or `abstain` without the packages that read.
            MemoryError: not enough memory; the message says what to try.
            FloatingPointError: the precision does not hold the model's values.
        """
        if isinstance(image, (list, tuple)) or (getattr(image, "ndim", 0) == 4 and image.shape[0] != 1):
            raise ValueError("Restorer.restore takes one image: call it for each, or give all to Restorer.pipe.")
        for name in ("output_type", "return_dict"):
            if name in options:
                raise TypeError(f"Restorer.restore gives uint8 arrays: leave out {name}, or call Restorer.pipe.")
        if isinstance(reduction, str) and reduction != "auto" or not isinstance(reduction, str) and not reduction >= 1:
            raise ValueError(f'reduction must be "auto" or at least 1, got {reduction!r}.')
        if only_text and (reduction != 1 or options.get("text_mask") is not None):
            raise ValueError("only_text does not go with reduction or text_mask: leave one of them out.")
        if first is not None:
            if reduction != 1 or only_text or abstain or options.get("text_mask") is None:
                raise ValueError("first goes with text_mask, and not with reduction, only_text or abstain.")
            return self._restore_corrected(image, first, **options)
        if retrace:
            if reduction != 1 or only_text or abstain or options.get("text_mask") is not None:
                raise ValueError("retrace does not go with reduction, only_text, abstain or text_mask.")
            return self._retrace(image, **options)
        if abstain:
            return self._restore_cautiously(image, reduction=reduction, only_text=only_text, **options)
        if only_text:
            return self._restore_text(image, **options)
        if reduction != 1:
            if getattr(image, "dtype", None) != np.uint8:
                raise TypeError("reduction is for arrays of uint8: convert the image, or leave reduction out.")
            factor = real_reduction(image) if isinstance(reduction, str) else reduction
            if factor > 1:
                return self._restore_reduced(image, factor, **options)
        result = self.pipe(image, output_type="uint8", **options)
        reports = getattr(result, "reports", None)
        masks = result.text_masks
        return Restored(result.images[0], masks[0] if masks else None, reports[0] if reports else None)

    def _restore_cautiously(self, image: np.ndarray, report: "bool | Thresholds" = False, **options: Any) -> Restored:
        """`restore` without what a report does not trust."""
        from tadisr.trust.abstain import keep_input

        is_photo = getattr(image, "dtype", None) == np.uint8 and image.ndim == 3 and image.shape[2] in (3, 4)
        if not is_photo or not hasattr(self.pipe, "native_scale"):
            raise ValueError("abstain is for photos, arrays (h, w, 3) of uint8, and for TADiSR models: leave it out.")
        result = self.restore(image, report=report or True, **options)
        assert result.report is not None
        made, found = keep_input(image, result.image, result.report)
        return replace(result, image=made, report=found)

    def _retrace(self, image: np.ndarray, report: "bool | Thresholds" = False, **options: Any) -> Restored:
        """`restore`, and once more with what was read surely."""
        from tadisr.lettering import draw_lines
        from tadisr.trust.retrace import lines_to_draw, quads_of, with_retraced

        is_photo = getattr(image, "dtype", None) == np.uint8 and image.ndim == 3 and image.shape[2] in (3, 4)
        if not is_photo or not getattr(self.pipe, "takes_masks", False):
            raise ValueError(
                "retrace is for photos, arrays (h, w, 3 or 4) of uint8, and for models that follow masks: leave it out."
            )
        first = self.restore(image, report=report or True, **options)
        assert first.report is not None and first.mask is not None
        if image.shape[2] == 4 or not (drawn := lines_to_draw(first.report)):
            return first
        mask = draw_lines(quads_of(first.report, drawn), first.mask, image)
        again = self.restore(image, text_mask=mask, first=first, **options)
        return replace(again, report=with_retraced(first.report, drawn))

    def _restore_reduced(
        self, image: np.ndarray, reduction: float, scale: float = 4, report: "bool | Thresholds" = False, **options: Any
    ) -> Restored:
        """`restore` by way of a smaller image."""
        from tadisr.transparency import seen
        from tadisr.trust.check import check_text

        sides = image.shape[1::-1]  # width and height, as Pillow has them
        smaller = Image.fromarray(image).resize([max(1, round(side / reduction)) for side in sides], Resampling.LANCZOS)
        result = self.restore(np.asarray(smaller), **options)
        size = [max(1, round(side * scale)) for side in sides]
        how = Resampling.LANCZOS if result.image.shape[1] > size[0] else Resampling.BICUBIC
        made = np.asarray(Image.fromarray(result.image).resize(size, how))
        mask = None if result.mask is None else np.asarray(Image.fromarray(result.mask).resize(size, how))
        before, after = seen(image, made)
        found = check_text(before, after, None if isinstance(report, bool) else report) if report else None
        return Restored(made, mask, found, reduction)

    def _restore_text(
        self, image: np.ndarray, scale: float = 4, report: "bool | Thresholds" = False,
        tile_progress: Callable[[Iterable], Iterable] = iter, **options: Any,
    ) -> Restored:  # fmt: skip
        """`restore` where text is, within the bicubic enlargement."""
        from tadisr.trust.check import check_text, find_text

        if getattr(image, "dtype", None) != np.uint8 or image.ndim != 3 or not hasattr(self.pipe, "native_scale"):
            raise ValueError("only_text is for photos, arrays (h, w, 3) of uint8, and for TADiSR models: leave it out.")
        if image.shape[2] != 3:
            return self.restore(image, scale=scale, report=report, tile_progress=tile_progress, **options)
        h, w = image.shape[:2]
        factor = max(self.pipe.native_scale or 1, math.ceil(scale))
        made = np.array(Image.fromarray(image).resize((w * factor, h * factor), Resampling.BICUBIC))
        mask = np.zeros(made.shape[:2], np.uint8)
        regions = regions_around(find_text(image), h, w, TEXT_MARGIN)
        for region in tile_progress(regions):
            self._restore_part(image, region, (made, mask), factor, TEXT_MARGIN, **options)
        size = [max(1, round(side * scale)) for side in (w, h)]
        if size != [w * factor, h * factor]:
            made, mask = (np.asarray(Image.fromarray(x).resize(size, Resampling.LANCZOS)) for x in (made, mask))
        found = check_text(image, made, None if isinstance(report, bool) else report) if report else None
        return Restored(made, mask, found, share=_area(regions) / (h * w))

    def _restore_corrected(
        self, image: np.ndarray, first: Restored, text_mask: Any, scale: float = 4,
        report: "bool | Thresholds" = False, tile_progress: Callable[[Iterable], Iterable] = iter, **options: Any,
    ) -> Restored:  # fmt: skip
        """`restore` near what a mask says, within what was restored without it."""
        from tadisr.trust.check import check_text

        fits = getattr(text_mask, "ndim", 0) == 3 and text_mask.shape == (*first.image.shape[:2], 2)
        opaque = image.ndim == 3 and image.shape[2] == 3 and first.image.shape[2] == 3 and first.mask is not None
        whole = not fits or not opaque or scale != int(scale)
        regions = [] if whole else _said_in(text_mask[..., 1] > 127, int(scale))
        if whole or _area(regions) > image.shape[0] * image.shape[1] / 2:
            options |= {"scale": scale, "report": report, "tile_progress": tile_progress}
            return self.restore(image, text_mask=text_mask, **options)
        assert first.mask is not None
        made, mask = first.image.copy(), first.mask.copy()
        for region in tile_progress(regions):
            place = tuple(slice(start * int(scale), stop * int(scale)) for start, stop in region)
            said = np.ascontiguousarray(text_mask[place])
            self._restore_part(image, region, (made, mask), int(scale), CORRECTION_MARGIN, text_mask=said, **options)
        found = check_text(image, made, None if isinstance(report, bool) else report) if report else None
        return Restored(made, mask, found)

    def _restore_part(
        self, image: np.ndarray, region: tuple[Window, Window], into: tuple[np.ndarray, np.ndarray], factor: int,
        margin: int, **options: Any,
    ) -> None:  # fmt: skip
        """Restore a region of an image into the whole result, image and mask; the outer half of the margin is blended.

        At the image's own border nothing has to be blended.
        """
        rows, columns = region
        result = self.restore(np.ascontiguousarray(image[slice(*rows), slice(*columns)]), scale=factor, **options)
        place = tuple(slice(start * factor, stop * factor) for start, stop in region)
        ramps = [
            blend_weights((start * factor, stop * factor), length * factor, margin * factor // 2)
            for (start, stop), length in zip(region, image.shape, strict=False)
        ]
        weight = ramps[0][:, None] * ramps[1]
        for whole, part, share in zip(into, (result.image, result.mask), (weight[..., None], weight), strict=True):
            if part is not None:
                whole[place] = np.rint(whole[place] + (part - whole[place].astype(np.float32)) * share)

    @cached_property
    def files(self) -> dict[str, str]:
        """SHA-256 of every weight file that is used, by its name in `folder`."""
        used = [self.graph] if self.graph else filter(Path.is_file, self.folder.rglob("*.safetensors"))
        return hashes(sorted(used), self.folder)

    @property
    def dtype(self) -> str:
        """The precision that it computes in, such as "bfloat16" or "int8"; by torch, "float16" is the backbone's."""
        return str(getattr(self.pipe, "backbone", self.pipe).dtype).removeprefix("torch.")

    @property
    def runtime(self) -> str:
        """ "torch" or "onnx"."""
        return "onnx" if self.graph else "torch"

    def about(self) -> dict[str, str]:
        """What runs the model: "runtime", "dtype" and "device"."""
        return {"runtime": self.runtime, "dtype": self.dtype, "device": str(self.pipe.device)}


def _area(regions: Iterable[tuple[Window, Window]]) -> int:
    return sum((bottom - top) * (right - left) for (top, bottom), (left, right) in regions)


def _said_in(given: np.ndarray, factor: int) -> list[tuple[Window, Window]]:
    """The regions of an LR image, with a margin, around where a mask (H, W), bool, of its result says something."""
    height, width = (side // factor for side in given.shape)
    squares = given[: height * factor, : width * factor].reshape(height, factor, width, factor)
    said = squares.max((1, 3))
    quads = []
    for top in range(0, height, _BLOCK):
        for left in range(0, width, _BLOCK):
            y, x = said[top : top + _BLOCK, left : left + _BLOCK].nonzero()
            if y.size:
                quads.append(np.array([[left + x.min(), top + y.min()], [left + x.max() + 1, top + y.max() + 1]]))
    return regions_around(quads, height, width, CORRECTION_MARGIN)


def load(
    name: str | Path,
    device: "str | torch.device" = "auto",
    dtype: "str | torch.dtype" = "auto",
    pipeline: str = "",
    runtime: str = "auto",
    **options: Any,
) -> Restorer:
    """Find a model, fetch it if it is not here, and make it ready: quietly, on the device, an adapter fused on a GPU.

    Args:
        name: a bundled name such as "tadisr-tiny", a folder, a Hub id, or an ONNX file of `tadisr export`.
        device: "cpu", "cuda", "mps", ..., or "auto" for the fastest here; for graphs also "coreml" and "directml".
        dtype: "float32", "bfloat16", "float16" (VAE and joint decoder stay in float32), or "auto": the one in which
            the device computes fastest; float16 on GPUs without bfloat16, for U-Nets that hold their values in it.
            Graphs: "int8", "float32", "float16", or "auto" for the first of these that is there.
        pipeline: "TADiSRPipeline" or "TextDiffPipeline" to refuse models of the other kind, before their weights are
            fetched; "" takes either.
        runtime: "torch"; "onnx" for ONNX Runtime, which needs a model's ONNX graph and no torch; "auto": "onnx" on CPUs
            where the model has a graph, and wherever torch is not installed, else "torch".
        options: `revision`, `token`, `cache_dir`, `local_files_only` for the Hub; `base_model` for an adapter, to take
            its base from somewhere else.

    Raises:
        FileNotFoundError: there is no such model, or an adapter's base is not here; the message says what to fetch.
        ValueError: another kind of model, damaged or incomplete weights, or a device that cannot be used.
        ImportError: the runtime is not installed.

    Examples:
        >>> import numpy as np, tadisr
        >>> restorer = tadisr.load("tadisr-tiny", device="cpu", dtype="float32")
        >>> restorer.restore(np.zeros((16, 24, 3), np.uint8)).image.shape
        (64, 96, 3)
    """
    hub = {key: options.pop(key) for key in ("revision", "token", "cache_dir", "local_files_only") if key in options}
    if "base_model" not in options and pipeline != "TextDiffPipeline":
        precision = str(dtype).removeprefix("torch.")
        if (path := graph_to_run(name, str(device), precision, runtime, **hub)) is not None:
            from tadisr.pipelines.pipeline_onnx import TADiSROnnxPipeline
            from tadisr.runtime.graph import Graph

            return Restorer(str(name), path.parent, TADiSROnnxPipeline(Graph(path, str(device))), path)

    from tadisr.loading.bases import holds_float16
    from tadisr.loading.memory import as_dtype
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
    from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline

    device = choose_device(device)
    folder = resolve(name, pipeline, **hub)
    cls = TADiSRPipeline if pipeline_kind(folder, pipeline) == "TADiSRPipeline" else TextDiffPipeline
    if cls is TADiSRPipeline:  # the base of an adapter is fetched now; its revision is the adapter's affair
        options |= {key: value for key, value in hub.items() if key != "revision"}
    dtype = as_dtype(dtype, device, cls is TADiSRPipeline and holds_float16(folder))
    with quiet():
        pipe = cls.from_pretrained(folder, dtype=dtype, **options).to(device)
    pipe.set_progress_bar_config(disable=True)
    if isinstance(pipe, TADiSRPipeline) and pipe.device.type != "cpu":  # on a CPU fusing takes longer than it saves
        pipe.fuse_lora()
    return Restorer(str(name), folder, pipe)


def choose_device(name: "str | torch.device" = "auto") -> str:
    """The device of that name; for "auto" the fastest here. Raises ValueError for one that cannot be used."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()
    except Exception as error:  # its class depends on how this torch was built
        raise ValueError(f"cannot use device {name}: {one_line(error)}") from None
    return str(name)


def import_spandrel(extra: str = "metrics") -> ModuleType:
    """The package spandrel; where it is missing, the ImportError names the `extra` of this package that brings it."""
    try:
        import spandrel
    except ImportError:
        raise ImportError(f"Model files need spandrel: pip install 'tadisr[{extra}]'.") from None
    return spandrel


def load_model_file(path: Path, scale: int | None = None, extra: str = "metrics") -> "ImageModelDescriptor":
    """The network in a file that spandrel loads (Real-ESRGAN, HAT, SwinIR, some forty more), on the CPU, for inference.

    `scale`: the factor that the network must have; None takes any. `extra`: as in `import_spandrel`. Nothing in the
    file is run: spandrel gets its tensors alone. Raises ValueError for anything but a network from RGB to RGB images of
    that scale, every value finite, and for files that would run code.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No model file {path}.")
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise ValueError(f"{path} is no {', '.join(MODEL_SUFFIXES[:-1])} or {MODEL_SUFFIXES[-1]} file.")
    spandrel = import_spandrel(extra)
    state = _read_state(path)
    try:
        state = spandrel.canonicalize_state_dict(state)
        tensors = {str(name): value for name, value in state.items() if hasattr(value, "is_floating_point")}
        model = spandrel.ModelLoader("cpu").load_from_state_dict(state).eval()
    except Exception as error:  # whatever spandrel raises for tensors that it does not know
        raise ValueError(f"{path} holds no model that spandrel can load: {one_line(error)}") from None
    refuse(path, (f"{name} is not finite" for name in not_finite(tensors)))
    channels = (model.input_channels, model.output_channels)
    if not isinstance(model, spandrel.ImageModelDescriptor) or channels != (3, 3) or scale not in (None, model.scale):
        wanted = "an RGB model" if scale is None else f"an RGB model for {scale} times"
        raise ValueError(
            f"{path} holds {model.architecture.name}, a model for {model.purpose}, {channels[0]} channels to "
            f"{channels[1]}, {model.scale} times larger: expected {wanted}."
        )
    return model


def _read_state(path: Path) -> Any:
    """The tensors in a model file, by what it is and not by what it is called."""
    with path.open("rb") as file:
        start = file.read(9)
    if start[8:] != b"{":
        return load_pickled(path)
    from safetensors.torch import load_file

    read_header(path)
    return load_file(path)
