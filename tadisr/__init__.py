"""Text-aware super-resolution: a blurred photo with text in; a sharp, legible, faithful one and its text mask out."""

from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tadisr.loading.load import Restored, Restorer, load
    from tadisr.models.prompt import TextPrompt
    from tadisr.ocr import load_engine
    from tadisr.pipelines.pipeline_output import TADiSRPipelineOutput, TextDiffPipelineOutput
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
    from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
    from tadisr.trust.check import check_text

__all__ = [
    "Restored", "Restorer", "TADiSRPipeline", "TADiSRPipelineOutput", "TextDiffPipeline", "TextDiffPipelineOutput",
    "TextPrompt", "check_text", "load", "load_engine",
]  # fmt: skip
__version__ = version("tadisr")

# In a clone, tadisr.pipelines, tadisr.training and tadisr.data_synthesis lie beside this folder. An editable
# installation knows that. With any other, Python started in the clone would find this folder alone.
_CLONE = Path(__file__).resolve().parents[1]
if (_CLONE / "pipelines" / "pipeline_tadisr.py").is_file():
    __path__.append(str(_CLONE))

TORCH_PACKAGES = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "cv2")
"""What the extra "torch" brings."""

# Imported on first use: `import tadisr` loads no torch.
_NAMES = {
    "tadisr.loading.load": ("Restored", "Restorer", "load"),
    "tadisr.models.prompt": ("TextPrompt",),
    "tadisr.ocr": ("load_engine",),
    "tadisr.pipelines.pipeline_output": ("TADiSRPipelineOutput", "TextDiffPipelineOutput"),
    "tadisr.pipelines.pipeline_tadisr": ("TADiSRPipeline",),
    "tadisr.pipelines.pipeline_textdiff": ("TextDiffPipeline",),
    "tadisr.trust.check": ("check_text",),
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'tadisr' has no attribute {name!r}")
    try:
        return getattr(import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if (package := str(error.name).partition(".")[0]) not in TORCH_PACKAGES:
            raise
        raise ImportError(f"{name} needs {package}: pip install 'tadisr[torch]'.") from None


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
