"""TADiSR as an architecture of spandrel, by whose loader ComfyUI's own nodes and chaiNNer read upscalers.

Importing this module adds it to spandrel's main registry. A file is made by `tadisr export MODEL --spandrel FILE`. It
gives the image alone: spandrel knows no second output.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, StateDict
from torch import nn

if TYPE_CHECKING:
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline


class RestoreTile(nn.Module):
    """`TADiSRPipeline.restore_tile` as a network, which moves and casts the pipeline's own."""

    def __init__(self, pipe: "TADiSRPipeline", scale: int):
        super().__init__()
        self.pipe, self.scale = pipe, scale
        self.networks = nn.ModuleDict({name: x for name, x in pipe.components.items() if isinstance(x, nn.Module)})

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, h, w) in [0, 1] to (B, 3, H, W), nominally in [0, 1]."""
        return self.pipe.restore_tile(image, self.scale)[0].to(image)


class TADiSRArch(Architecture[RestoreTile]):
    """Recognises and loads the files of `tadisr.loading.packed.pack`."""

    def __init__(self):
        super().__init__(id="TADiSR", detect=lambda state: "tadisr.configs" in state)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[RestoreTile]:
        """Raises ValueError for a file that is damaged, ImportError without the packages of the extra torch."""
        from tadisr import TADiSRPipeline  # with an ImportError that names the extra
        from tadisr.io.messages import quiet
        from tadisr.loading.packed import unpack

        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, quiet():
            unpack(state_dict, Path(name))
            pipe = TADiSRPipeline.from_pretrained(name)
        scale = pipe.config["native_scale"] or 4
        model = RestoreTile(pipe, scale)
        return ImageModelDescriptor(
            model,
            model.state_dict(),
            architecture=self,
            purpose="SR",
            tags=[],
            supports_half=False,
            supports_bfloat16=True,
            scale=scale,
            input_channels=3,
            output_channels=3,
        )


def register() -> None:
    """Make every `spandrel.ModelLoader` with the main registry know these files; once is enough."""
    if "TADiSR" not in MAIN_REGISTRY:
        MAIN_REGISTRY.add(ArchSupport.from_architecture(TADiSRArch()))


register()
