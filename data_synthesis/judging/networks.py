"""The networks that judging runs, a text segmenter and a super-resolution model, and where they run.

On the CPU every worker process has its own. On GPUs one process a GPU has them, and serves all workers: they need no
CUDA of their own, and the GPU holds one copy of the weights.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import TYPE_CHECKING, Any

import numpy as np

from tadisr.data_synthesis.backgrounds import shrink_photo
from tadisr.data_synthesis.parallel import quiet_worker

if TYPE_CHECKING:
    from tadisr.data_synthesis.judging.enhance import Enhancer
    from tadisr.data_synthesis.judging.segment import TextSegmenter

# What runs together on the CPU: SAM works at 1024 x 1024. A GPU takes four times as much.
_BATCH_PIXELS = 1024**2


class Networks:
    """The models of a recipe on one device, loaded when they are first needed. Threads take turns."""

    def __init__(self, segmenter: str, enhancer: str | None, device: str = "cpu"):
        self._names, self._device, self._turn = (segmenter, enhancer), device, threading.Lock()

    @cached_property
    def _segmenter(self) -> "TextSegmenter":
        from tadisr.data_synthesis.judging.segment import TextSegmenter

        return TextSegmenter.from_pretrained(self._names[0]).to(self._device)

    @cached_property
    def _enhancer(self) -> "Enhancer":
        from tadisr.data_synthesis.judging.enhance import load_enhancer

        assert self._names[1] is not None  # nobody asks otherwise
        return load_enhancer(self._names[1], self._device)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """One thread at a time; RuntimeError where the device has not enough memory."""
        from tadisr.loading.memory import is_out_of_memory

        with self._turn:
            try:
                yield
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                raise RuntimeError(
                    f"Not enough memory on {self._device} for segmenter and enhancer: free some, or name smaller ones."
                ) from None

    def load(self) -> None:
        """Load both models. Errors are those of `TextSegmenter.from_pretrained` and `load_enhancer`."""
        with self._at_work():
            _ = self._segmenter, self._names[1] and self._enhancer

    def segment(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The text in crops of any sizes, (h, w, 3) uint8 RGB each: (h, w) uint8, 255 on text."""
        if not images:
            return []
        with self._at_work():
            largest = max(int(np.prod(self._segmenter.fitted_size(image.shape[:2]))) for image in images)
            pixels = _BATCH_PIXELS * (1 if self._device == "cpu" else 4)
            masks = self._segmenter.segment(list(images), batch_size=max(1, pixels // largest))
        return [(mask * 255 + 0.5).astype(np.uint8) for mask in masks]

    def enhance(self, images: Sequence[np.ndarray], longest: int) -> list[np.ndarray]:
        """Crops, (h, w, 3) uint8 RGB each, super-resolved, and then shrunk to a long side of at most `longest`."""
        if not images:
            return []
        with self._at_work():
            return [shrink_photo(image, longest) for image in self._enhancer.enhance(images)]


class _Server(BaseManager):
    pass


_Server.register("Networks", Networks, exposed=("load", "segment", "enhance"))


def find_devices(name: str = "auto", backend: str = "local") -> list[str]:
    """The devices of `--device`, "auto", "cpu" or "cuda": every GPU that is visible, or else the CPU.

    ValueError: "cuda" where PyTorch sees no GPU, or with Ray, whose workers have none.
    """
    if name == "cuda" and backend == "ray":
        raise ValueError("--backend ray judges on CPUs: leave out --device cuda.")
    if name == "cpu" or backend == "ray":
        return ["cpu"]
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if name == "cuda" and not found:
        raise ValueError("--device cuda: PyTorch sees no CUDA GPU here; --device cpu takes the processor.")
    return found or ["cpu"]


@contextmanager
def serve(segmenter: str, enhancer: str | None, devices: Sequence[str]) -> Iterator[list[Networks]]:
    """Within, one process a device has the networks; yields what calls them, and can be sent to worker processes.

    The models are loaded before it yields. Errors are those of `Networks.load`.
    """
    servers: list[Any] = []  # what is registered becomes a method
    try:
        for _ in devices:
            server = _Server(ctx=get_context("spawn"))  # a forked process cannot use CUDA
            server.start(quiet_worker)
            servers.append(server)
        made = [server.Networks(segmenter, enhancer, device) for server, device in zip(servers, devices, strict=True)]
        for networks in made:
            networks.load()
        yield made
    finally:
        for server in servers:
            server.shutdown()
