"""Super-resolution networks of others, in files that spandrel loads: Real-ESRGAN, HAT, SwinIR and some forty more."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from tadisr.io.messages import one_line

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

MODEL_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")


def import_spandrel(extra: str = "metrics") -> ModuleType:
    """The package spandrel.

    Raises:
        ImportError: it is missing; the message names the `extra` of this package that brings it.
    """
    try:
        import spandrel
    except ImportError:
        raise ImportError(f"Model files need spandrel: pip install 'tadisr[{extra}]'.") from None
    return spandrel


def load_model_file(path: Path, scale: int | None = None, extra: str = "metrics") -> "ImageModelDescriptor":
    """The network in a file, on the CPU, for inference.

    Args:
        path: the file.
        scale: the factor that the network must have; None takes any.
        extra: the extra of this package that brings spandrel, for the error's advice.

    Raises:
        FileNotFoundError: no such file.
        ImportError: spandrel is missing.
        ValueError: nothing that spandrel can load, no network from RGB to RGB images, or one of another scale.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No model file {path}.")
    if path.suffix.lower() not in MODEL_SUFFIXES:
        raise ValueError(f"{path} is no {', '.join(MODEL_SUFFIXES[:-1])} or {MODEL_SUFFIXES[-1]} file.")
    spandrel = import_spandrel(extra)
    try:
        model = spandrel.ModelLoader("cpu").load_from_file(path).eval()
    except Exception as error:  # whatever torch, pickle, safetensors and spandrel raise for a bad file
        raise ValueError(f"{path} holds no model that spandrel can load: {one_line(error)}") from None
    channels = (model.input_channels, model.output_channels)
    if not isinstance(model, spandrel.ImageModelDescriptor) or channels != (3, 3) or scale not in (None, model.scale):
        wanted = "an RGB model" if scale is None else f"an RGB model for {scale} times"
        raise ValueError(
            f"{path} holds {model.architecture.name}, a model for {model.purpose}, {channels[0]} channels to "
            f"{channels[1]}, {model.scale} times larger: expected {wanted}."
        )
    return model
