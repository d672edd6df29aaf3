"""Judges of text lines: anything that turns images (N, 3, H, W), RGB in [0, 1], into N strings.

Judges, as `load_recognizer` names them:

- the OCR engines of `tadisr.ocr.ENGINES`, such as `rapidocr`;
- `crnn:crnn-tiny`, the bundled CRNN, or `crnn:PATH`: another one (a folder), or the public PyTorch weights (a file);
- `aster:FILE`, `moran:FILE`: TorchScript files of those networks (`CONVENTIONS`), which this project does not ship.
  Such a file is a program: it is loaded only where `allow_code` says so.
"""

import string
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from tadisr.io.images import LUMA
from tadisr.io.messages import one_line
from tadisr.io.model_files import not_finite, refuse, runs_code
from tadisr.ocr import ENGINES, OCREngine, load_engine

if TYPE_CHECKING:
    import torch

Recognizer = Callable[["torch.Tensor"], list[str]]


@dataclass(frozen=True)
class Convention:
    """The input and the output of a TorchScript recogniser.

    It takes one tensor (N, C, height, width) of bicubic-resized images. It returns scores (N, T, K), or class numbers
    (N, T) as integers; class i is the character `alphabet[i]`.
    """

    size: tuple[int, int]
    gray: bool
    """True: C is 1, the luma (BT.601). False: C is 3, RGB."""
    centred: bool
    """True: values in [-1, 1]. False: in [0, 1]."""
    alphabet: str
    end: int
    """The class that ends a text; classes after it are not read."""


CONVENTIONS = {
    # digits, lower and upper case, punctuation; then end, padding, unknown
    "aster": Convention((32, 128), gray=False, centred=True, alphabet=string.printable[:94], end=94),
    # the decoder that reads from left to right; then "$"
    "moran": Convention((32, 100), gray=True, centred=False, alphabet=string.digits + string.ascii_lowercase, end=36),
}


def load_script(path: str | Path, device: str, allow_code: bool, limit: int = 300) -> "torch.jit.ScriptModule":
    """The module in a TorchScript file, for inference.

    Loading and calling it runs the file's own program, so without `allow_code` it is refused. Raises ValueError for
    that, for another file (with `limit` characters of why), and for weights that are not finite.
    """
    import torch

    if not runs_code(Path(path)):
        raise ValueError(f"{path} is not a TorchScript file: it has no program in it.")
    if not allow_code:
        raise ValueError(
            f"{path} is a TorchScript file, a program that would run here with all your rights: if you trust whoever "
            "made it, add --allow-code (in Python allow_code=True)."
        )
    try:
        module = torch.jit.load(str(path), map_location=device).eval()
        state = module.state_dict()
    except Exception as error:  # whatever torch raises for a damaged or foreign file
        raise ValueError(f"{path} is not a TorchScript file: {one_line(error, limit)}") from None
    refuse(path, (f"{name} is not finite" for name in not_finite(state)))
    return module


class ScriptedRecognizer:
    """A recogniser in a TorchScript file; FileNotFoundError or ValueError where there is none.

    To export one, put `torch.jit.trace` or `script` around a module that takes the image alone; the module makes
    MORAN's text buffer and length, or ASTER's targets, itself.
    """

    def __init__(self, path: str | Path, convention: Convention, device: str = "cpu", allow_code: bool = False):
        if not Path(path).is_file():
            raise FileNotFoundError(f"No recogniser {path}: name a TorchScript file.")
        self._model = load_script(path, device, allow_code, 200)
        self._path, self._convention, self._device = path, convention, device

    def __call__(self, images: "torch.Tensor") -> list[str]:
        import torch

        rule = self._convention
        x = _resize(images.float().to(self._device), rule.size)
        x = (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True) if rule.gray else x
        with torch.inference_mode():
            out = self._model(x * 2 - 1 if rule.centred else x)
        if not torch.is_tensor(out) or len(out) != len(images) or out.ndim not in (2, 3):
            got = tuple(out.shape) if torch.is_tensor(out) else type(out).__name__
            raise ValueError(f"{self._path}: expected (N, T, K) or (N, T) with N = {len(images)}, got {got}.")
        if out.ndim == 3:
            out = out.argmax(-1)
        elif out.is_floating_point():
            raise ValueError(f"{self._path}: class numbers (N, T) must be integers, not {out.dtype}.")
        # special classes (padding, unknown) stand for no character
        return [
            "".join(rule.alphabet[i] for i in takewhile(lambda i: i != rule.end, row) if i < len(rule.alphabet))
            for row in out.tolist()
        ]


class EngineRecognizer:
    """An OCR engine as a judge of lines.

    Images of at most 4:1 are enlarged to `size` (height, width) first: in narrower images a long word would have fewer
    columns than the engine needs to tell its letters apart. Wider images keep their aspect.
    """

    def __init__(self, engine: OCREngine, size: tuple[int, int] = (48, 192)):
        self._engine, self._size = engine, size

    def __call__(self, images: "torch.Tensor") -> list[str]:
        height, width = self._size
        width = max(width, round(height * images.shape[-1] / images.shape[-2]))
        pixels = _resize(images.float().cpu(), (height, width)).clamp(0, 1).mul(255).round().byte()
        readings = self._engine.read([image.permute(1, 2, 0).numpy().copy() for image in pixels])
        # engines made for Chinese write some Latin letters at full width
        return [unicodedata.normalize("NFKC", reading.text) for reading in readings]


def load_recognizer(name: str, device: str = "cpu", allow_code: bool = False) -> Recognizer:
    """A judge by name, see the module.

    `allow_code`: whether a TorchScript file may run its program. ValueError for an unknown name, a file that holds
    something else or may not run; FileNotFoundError without the file, ImportError for an engine that is not installed.
    """
    check_recognizer(name)
    kind, _, path = name.partition(":")
    if kind in ENGINES:
        return EngineRecognizer(load_engine(kind))
    if kind in CONVENTIONS:
        return ScriptedRecognizer(path, CONVENTIONS[kind], device, allow_code)
    from tadisr.models.textdiff.recognizer import load_crnn

    model = load_crnn(path)
    model.to(device)  # pyright: ignore[reportArgumentType]: diffusers wraps `to` without its `self`
    return lambda images: model.read(images.float().to(device))


def check_recognizer(name: str) -> None:
    """Raise ValueError for a name that `load_recognizer` does not know, FileNotFoundError without its file."""
    kind, _, path = name.partition(":")
    if kind in CONVENTIONS and path and not Path(path).is_file():
        raise FileNotFoundError(f"No recogniser {path}: name a TorchScript file.")
    if path if kind in (*CONVENTIONS, "crnn") else kind in ENGINES and not path:
        return
    known = ", ".join([*ENGINES, "crnn:PATH", *(f"{kind}:FILE" for kind in CONVENTIONS)])
    raise ValueError(f"No recogniser {name!r}: choose one of {known}.")


def _resize(images: "torch.Tensor", size: tuple[int, int]) -> "torch.Tensor":
    import torch.nn.functional as F

    return F.interpolate(images, size, mode="bicubic", align_corners=False)  # as the reference code does
