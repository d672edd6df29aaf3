"""ComfyUI's node: IMAGE in; the restored IMAGE, the MASK of its text and the lines to check out.

ComfyUI brings the packages that are imported here and are no dependencies of tadisr. `integrations/comfyui` is the
folder that it loads.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths  # pyright: ignore[reportMissingImports]
import numpy as np
from comfy.model_management import (  # pyright: ignore[reportMissingImports]
    get_torch_device,
    throw_exception_if_processing_interrupted,
)
from comfy.utils import ProgressBar  # pyright: ignore[reportMissingImports]
from comfy_api.latest import ComfyExtension, io  # pyright: ignore[reportMissingImports]

import tadisr
from tadisr.arrays import COLOR_FIXES
from tadisr.loading.graphs import FOLDER as GRAPHS
from tadisr.loading.graphs import RUNTIMES
from tadisr.loading.repositories import ADAPTER_FILE, INDEX_FILE, bundled_names
from tadisr.runtime.graph import SUFFIX
from tadisr.trust.check import TrustReport

if TYPE_CHECKING:
    import torch

with suppress(ImportError):  # so that ComfyUI's own nodes know files of `tadisr export --spandrel`
    import tadisr.apps.spandrel  # noqa: F401

FOLDER = "tadisr"  # in ComfyUI's folder `models`
KIND = "TADiSRPipeline"
OVERLAP = 64  # output pixels
_STEPS = 100  # of the progress bar, for each image

folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))


def models() -> dict[str, str]:
    """The models to choose from, by name, and what `tadisr.load` takes: the bundled ones, then those in
    `models/tadisr`: folders, and ONNX files."""
    found = {name: name for name in bundled_names(KIND)}
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        for path in sorted(root.glob("*")):
            parts = (path / INDEX_FILE, path / ADAPTER_FILE, path / GRAPHS, *path.glob(f"*{SUFFIX}"))
            if (path.is_file() and path.suffix == SUFFIX) or any(part.exists() for part in parts):
                found.setdefault(path.name, str(path))
    return found


class TADiSRRestore(io.ComfyNode):
    """Restore a batch of images."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the node takes and gives; ComfyUI asks anew whenever it lists its nodes."""
        names = list(models())
        return io.Schema(
            node_id="TADiSRRestore",
            display_name="Restore Text (TADiSR)",
            category="image/upscaling",
            description="Enlarges photos and scans so that their text stays faithful and legible, and finds the text.",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input("model", options=names, default=names[0], tooltip="bundled, or in models/tadisr"),
                io.Float.Input("scale", default=4.0, min=1.0, max=16.0, step=0.25, tooltip="4 is the models' own"),
                io.Int.Input("tile", default=0, min=0, max=8192, step=64, tooltip="output pixels; 0: what fits memory"),
                io.Combo.Input("color_fix", options=list(COLOR_FIXES), default="none"),
                io.Combo.Input("runtime", options=list(RUNTIMES), default="auto"),
                io.Boolean.Input("check_lines", default=False, tooltip="read the text before and after (extra ocr)"),
                io.Float.Input(
                    "fidelity",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.05,
                    tooltip="of text: 0 faithful and soft, 1 sharp; below 0: the model's own",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image"),
                io.Mask.Output(display_name="text_mask", tooltip="the probability of text"),
                io.String.Output(display_name="lines_to_check"),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: "torch.Tensor",
        model: str,
        scale: float = 4.0,
        tile: int = 0,
        color_fix: str = "none",
        runtime: str = "auto",
        check_lines: bool = False,
        fidelity: float = -1.0,
    ) -> io.NodeOutput:
        """image (B, h, w, 3 or 4) in [0, 1] to (B, H, W, 3 or 4), the mask (B, H, W), and the lines as text.

        Raises:
            ValueError: no such model, or arguments that cannot work.
            Others as `tadisr.load` and `Restorer.restore`, and ComfyUI's own where it is interrupted.
        """
        device = "cpu" if get_torch_device().type == "cpu" else "auto"
        if (path := models().get(model)) is None:
            raise ValueError(f"No model {model}: choose one of {', '.join(models())}.")
        restorer = _load(path, device, runtime)
        options: dict[str, Any] = {"scale": scale, "color_fix": color_fix, "report": check_lines}
        options["fidelity"] = fidelity if fidelity >= 0 else None
        options |= {"tile": tile, "overlap": min(OVERLAP, tile // 2)} if tile else {"tile": "auto", "overlap": OVERLAP}
        bar = ProgressBar(_STEPS * len(image))
        images, masks, reports = [], [], []
        for number, one in enumerate(image):
            throw_exception_if_processing_interrupted()
            watched = partial(_watched, lambda share, done=number: bar.update_absolute(int(_STEPS * (done + share))))
            pixels = np.clip(one.float().cpu().numpy(), 0, 1)  # other nodes' interpolation overshoots
            result = restorer.pipe(pixels, output_type="np", tile_progress=watched, **options)
            if not number:  # all are of one size; only one of them is held twice
                images, masks = (
                    image.new_empty((len(image), *made[0].shape)) for made in (result.images, result.text_masks)
                )
            for batch, made in ((images, result.images), (masks, result.text_masks)):
                batch[number] = image.new_tensor(made[0])
            reports += result.reports or []
            bar.update_absolute(_STEPS * (number + 1))
        return io.NodeOutput(images, masks, describe(reports))


class TADiSRExtension(ComfyExtension):
    """What ComfyUI asks for its nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The one node."""
        return [TADiSRRestore]


async def comfy_entrypoint() -> ComfyExtension:
    """ComfyUI calls this once."""
    return TADiSRExtension()


def describe(reports: list[TrustReport]) -> str:
    """The lines that a person should look at, image by image; "" without reports."""
    said = []
    for number, report in enumerate(reports, 1):
        head = f"image {number}: " if len(reports) > 1 else ""
        if report.error is not None:
            said.append(f"{head}the text could not be read: {report.error}")
            continue
        said.append(f"{head}{len(report.to_check)} of {len(report.lines)} lines to check")
        for line in report.to_check:
            x, y = (round(value) for value in line.quad[0])
            said.append(f'at {x}, {y}: "{line.output.text}", in the input "{line.input.text}": {line.reason}')
    return "\n".join(said)


@lru_cache(maxsize=1)
def _load(name: str, device: str, runtime: str) -> tadisr.Restorer:
    """The model that was used last stays loaded."""
    return tadisr.load(name, device, pipeline=KIND, runtime=runtime)


def _watched(show: Callable[[float], None], tiles: Iterable) -> Iterator:
    """The tiles of one image; `show` is called with the share that is done, in [0, 1]. Stops where ComfyUI does."""
    tiles = list(tiles)
    for number, tile in enumerate(tiles):
        throw_exception_if_processing_interrupted()
        show(number / len(tiles))
        yield tile
