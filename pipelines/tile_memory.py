"""What is kept of an image's tiles while a person corrects its text mask, call after call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import torch

from tadisr.models.sharing import LOCK

LARGEST = 2**30  # bytes
Denoised = tuple[torch.Tensor, dict[str, torch.Tensor], Sequence[torch.Tensor]]
"""A tile before it is decoded: the latents, the attention maps by layer, the encoder's features."""


@dataclass(frozen=True)
class _Tile:
    denoised: Denoised
    prompt: bytes
    results: list[np.ndarray]
    call: int

    @property
    def size(self) -> int:
        """Bytes."""
        latents, maps, features = self.denoised
        return sum(x.nbytes for x in (latents, *maps.values(), *features, *self.results))


class TileMemory:
    """Tiles by their content and the settings of the call, each with its last prompt and its result, in main memory.

    Not more than `largest` bytes are kept. A call replaces what other calls have left, and never its own tiles: those
    that find no room are restored each time.
    """

    def __init__(self, largest: int = LARGEST):
        self.largest = largest
        self._tiles: dict[bytes, _Tile] = {}
        self._calls = 0

    def begin(self, settings: str, device: torch.device) -> "_Call":
        """A call on `device`. `settings`: all that decides a tile's result beside its pixels and its prompt."""
        with LOCK:
            self._calls += 1
            return _Call(self, settings, device, self._calls)

    def get(self, key: bytes) -> _Tile | None:
        return self._tiles.get(key)

    def keep(self, key: bytes, tile: _Tile) -> None:
        """Keep a tile if there is room, the oldest calls' leaving first."""
        with LOCK:
            self._tiles.pop(key, None)
            room = self.largest - tile.size - sum(other.size for other in self._tiles.values())
            for old in sorted(self._tiles, key=lambda old: self._tiles[old].call):
                if room >= 0 or self._tiles[old].call >= tile.call:
                    break
                room += self._tiles.pop(old).size
            if room >= 0:
                self._tiles[key] = tile


class _Call:
    """One pass over an image's tiles."""

    def __init__(self, memory: TileMemory, settings: str, device: torch.device, number: int):
        self._memory, self._settings, self._device, self._number = memory, settings.encode(), device, number

    def restore(
        self,
        lr: np.ndarray,
        prompt: np.ndarray,
        denoise: Callable[[], Denoised],
        decode: Callable[[Denoised], Sequence[torch.Tensor]],
    ) -> list[np.ndarray]:
        """The results of a tile, float32; as much of it is run as the memory does not hold."""
        key = blake2b(b"%a %b %b" % (lr.shape, self._settings, lr.tobytes())).digest()
        digest = blake2b(prompt.tobytes()).digest()
        tile = self._memory.get(key)
        denoised = denoise() if tile is None else tile.denoised
        if tile is not None and tile.prompt == digest:
            results = tile.results
        else:
            results = [result.float().cpu().numpy() for result in decode(_on(self._device, denoised))]
        self._memory.keep(key, _Tile(_on("cpu", denoised), digest, results, self._number))
        return [result.copy() for result in results]  # whoever gets them may change them


def _on(device: torch.device | str, denoised: Denoised) -> Denoised:
    latents, maps, features = denoised
    return latents.to(device), {name: x.to(device) for name, x in maps.items()}, [x.to(device) for x in features]
