"""An exported pipeline: one ONNX file, checked and opened by ONNX Runtime; no torch.

Shapes: B batch, h, w LR pixels, H, W pixels of the output.
"""

import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.io.messages import one_line
from tadisr.text_masks import unshuffle

FORMAT = 1
"""Of what a graph takes and gives, and of what it says of itself. Another number is another version's."""
PRECISIONS = ("int8", "float16", "float32")
SUFFIX = ".onnx"
FIDELITY = "fidelity"
TEXT_MASK, GIVEN = "text_mask", "text_mask_given"
"""Inputs beside the image that may be left out, as their defaults are in the file: the dial; and a prompt, its pixels
as channels (B, 2 f², H / f, W / f) with f pixels of the output per latent, and where it is given (B, 1, H, W)."""
_KEY, _DIGEST = "tadisr", "tadisr_sha256"  # of the file's metadata
_NO_DIGEST = "0" * 64
_LARGEST = 2 << 30  # bytes: protobuf holds no more
_ANEW = "fetch it anew, or write it with 'tadisr export'"
# In the order of speed. What the installed ONNX Runtime has of them is taken for "auto".
_PROVIDERS = {
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
    "cpu": "CPUExecutionProvider",
}


_ABANDONED: list[Any] = []  # sessions of processes that this one was forked from


class GraphError(ValueError):
    """A file that is no graph of this version, in one line."""


@dataclass(frozen=True, kw_only=True)
class GraphInfo:
    """What the file says of itself."""

    name: str = ""
    """Of the model."""
    precision: str
    """In which it computes: one of `PRECISIONS`."""
    scale: int
    """H = scale h."""
    least_side: int
    """h and w are at least this; smaller images are padded."""
    multiple: int = 1
    """h and w are multiples of this; other images are padded."""
    tile: int | None = None
    """Where h and w are fixed, both are this, and B is 1."""
    fidelity: float = 1.0
    """The model's own, of calls that name none."""
    widest: int = 64
    """Channels of the widest layer at LR size or above, by which memory is estimated."""
    weights: str = ""
    """SHA-256 of the weights that it was made of."""
    psnr: float | None = None
    """dB between its results and PyTorch's in float32, measured when it was written; None if not finite."""
    license: str = ""
    card: str = ""
    """The model card, Markdown."""
    format: int = FORMAT


def metadata(info: GraphInfo) -> dict[str, str]:
    """What to write into a file's metadata; its digest is not known yet."""
    return {_KEY: json.dumps(asdict(info)), _DIGEST: _NO_DIGEST}


def sealed(data: bytes) -> bytes:
    """The bytes of an ONNX file that `metadata` is in, with their digest in the place that is kept for it."""
    return data.replace(_NO_DIGEST.encode(), hashlib.sha256(data).hexdigest().encode(), 1)


def is_graph(name: str | Path) -> bool:
    """Whether that is an ONNX file, by its name."""
    return str(name).lower().endswith(SUFFIX) and Path(name).is_file()


def import_onnxruntime() -> Any:
    """The package onnxruntime, of any flavour; where it is missing, the ImportError says what to install."""
    try:
        import onnxruntime
    except ImportError:
        raise ImportError("ONNX graphs need ONNX Runtime: pip install onnxruntime.") from None
    return onnxruntime


def choose_provider(device: str = "auto") -> str:
    """The name, such as "cpu" or "cuda", of what ONNX Runtime computes on; "auto": the fastest that is installed.

    Raises ValueError for one that is not here.
    """
    here = import_onnxruntime().get_available_providers()
    known = [name for name, provider in _PROVIDERS.items() if provider in here]
    if device == "auto":
        return known[0]
    if device not in known:
        advice = " or ".join(known)
        extra = {"cuda": ": install onnxruntime-gpu, or", "directml": ": install onnxruntime-directml, or"}
        raise ValueError(f"cannot use device {device} with this ONNX Runtime{extra.get(device, ':')} take {advice}.")
    return device


class Graph:
    """An opened graph; many threads may call it at a time.

    Args:
        path: the file.
        device: "cpu", "cuda", "coreml", "directml", or "auto".
        threads: at most so many; None: as many as there are cores.

    Raises:
        GraphError: no file, one of another version, a damaged or a changed one; the message says what to do.
        ValueError: a device that is not here.
        ImportError: without ONNX Runtime.
    """

    def __init__(self, path: Path, device: str = "auto", threads: int | None = None):
        self.path, self.device = path, choose_provider(device)
        self._threads = threads or _cores()
        self._open()

    def _open(self) -> None:
        ort = import_onnxruntime()
        data = _read(self.path)
        options = ort.SessionOptions()
        options.log_severity_level = 4  # what fails is an exception as well
        options.intra_op_num_threads = self._threads
        providers = list(dict.fromkeys([_PROVIDERS[self.device], _PROVIDERS["cpu"]]))
        try:
            self._session = ort.InferenceSession(data, options, providers=providers)
            self.info = _info(self.path, self._session.get_modelmeta().custom_metadata_map, data)
            self._check_interface()
        except GraphError:
            raise
        except Exception as error:  # whatever ONNX Runtime raises for a file that it cannot use
            raise GraphError(f"{self.path} cannot be used: {one_line(error, 150)}: {_ANEW}.") from None
        self._process = os.getpid()

    def __call__(
        self, lr: np.ndarray, fidelity: float | None = None, prompt: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """lr (B, 3, h, w) float32 in [0, 1] to the image (B, 3, H, W), nominally in [0, 1], and mask logits
        (B, 1, H, W), both float32; `fidelity` from 0 to 1, None for the model's own; `prompt` (B, 2, H, W), see
        `tadisr.text_masks`, where the graph takes masks.

        Raises MemoryError where that is not enough, ValueError for a fidelity where the graph has no such input.
        """
        self.check_fidelity(fidelity)
        if self._process != os.getpid():  # forked, without the session's threads, for which its end would wait
            _ABANDONED.append(self._session)
            self._open()
        try:
            feeds = {self._input: np.ascontiguousarray(lr, np.float32)}
            if fidelity is not None:
                feeds[FIDELITY] = np.asarray(fidelity, np.float32)
            if prompt is not None:
                feeds[TEXT_MASK] = unshuffle(np.asarray(prompt, np.float32), self._prompt_factor)
                feeds[GIVEN] = np.ascontiguousarray(prompt[:, 1:], np.float32)
            image, mask_logits = self._session.run(None, feeds)
        except Exception as error:
            said = str(error).lower()
            if "alloc" in said or "memory" in said:
                raise MemoryError(one_line(error, 150)) from None
            raise
        return image, mask_logits

    def check_fidelity(self, fidelity: float | None) -> None:
        """Raise ValueError for a fidelity, where the graph is from before it was an input."""
        if fidelity is not None and not self.has_dial:
            raise ValueError(f"{self.path} has no fidelity to choose: write it anew with 'tadisr export'.")

    def _check_interface(self) -> None:
        """Raise GraphError for inputs and outputs that no graph of this version has."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        channels = [[value.shape[1] for value in values if len(value.shape) == 4] for values in (inputs, outputs)]
        if channels != [[3], [3, 1]]:
            raise GraphError(f"{self.path} is no graph of a TADiSR pipeline: {_ANEW}.")
        self._input = inputs[0].name
        others = {value.name: value.shape for value in self._session.get_overridable_initializers()}
        self.has_dial, self.takes_masks = FIDELITY in others, {TEXT_MASK, GIVEN} <= {*others}
        self._prompt_factor = math.isqrt(others[TEXT_MASK][1] // 2) if self.takes_masks else 1


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise GraphError(f"No graph {path}.")
    if not 0 < path.stat().st_size < _LARGEST:
        raise GraphError(f"{path} is no ONNX graph: it has {path.stat().st_size} bytes.")
    return path.read_bytes()


def _info(path: Path, found: Mapping[str, str], data: bytes) -> GraphInfo:
    """What the file says of itself, checked."""
    if _KEY not in found:
        raise GraphError(f"{path} is no graph of a TADiSR pipeline: write one with 'tadisr export'.")
    try:
        values = json.loads(found[_KEY])
        known = values.get("format") if isinstance(values, dict) else None
    except ValueError:
        known = None
    if known != FORMAT:
        raise GraphError(
            f"{path} is of format {str(known)[:20]}, and this tadisr reads format {FORMAT}: write it anew with "
            "'tadisr export', or install the tadisr that it was written with."
        )
    digest = found.get(_DIGEST, "")
    whole = re.fullmatch("[0-9a-f]{64}", digest) and data.count(digest.encode()) == 1
    if not whole or hashlib.sha256(data.replace(digest.encode(), _NO_DIGEST.encode())).hexdigest() != digest:
        raise GraphError(f"{path} was damaged or changed after it was written: {_ANEW}.")
    try:
        info = GraphInfo(**values)
        sound = (
            1 <= info.scale <= 64
            and info.least_side >= 1 <= info.multiple
            and (info.tile is None or info.tile >= info.least_side)
        )
    except TypeError:
        sound = False
    if not sound:
        raise GraphError(f"{path} says of itself what cannot be: {_ANEW}.")
    return info


def _cores() -> int:
    """Cores that this process may use: half of the threads that they run, where they run two each."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))
