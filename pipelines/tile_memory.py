"""What is kept of an image's tiles while a person corrects its text mask, call after call."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np

LARGEST = 2**30  # bytes


@dataclass(frozen=True)
class _Tile:
    denoised: Any
    prompt: bytes
    results: list[np.ndarray]
    call: int

    @property
    def size(self) -> int:
        """Bytes."""
        return _bytes([self.denoised, self.results])


class TileMemory:
    """Tiles by their content and the settings of the call, each with its last prompt and its result, in main memory.

    Not more than `largest` bytes are kept. A call replaces what other calls have left, and never its own tiles: those
    that find no room are restored each time.
    """

    def __init__(self, largest: int = LARGEST):
        self.largest = largest
        self._tiles: dict[bytes, _Tile] = {}
        self._calls = 0
        self._lock = threading.Lock()

    def begin(self, settings: str) -> "_Call":
        """A call. `settings`: all that decides a tile's result beside its pixels and its prompt."""
        with self._lock:
            self._calls += 1
            return _Call(self, settings, self._calls)

    def get(self, key: bytes) -> _Tile | None:
        return self._tiles.get(key)

    def keep(self, key: bytes, tile: _Tile) -> None:
        """Keep a tile if there is room, the oldest calls' leaving first."""
        with self._lock:
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

    def __init__(self, memory: TileMemory, settings: str, number: int):
        self._memory, self._settings, self._number = memory, settings.encode(), number

    def restore(
        self,
        lr: np.ndarray,
        prompt: np.ndarray,
        decode: Callable[[Any], Sequence[np.ndarray]],
        denoise: Callable[[], Any] = tuple,
        stored: Callable[[Any], Any] = lambda denoised: denoised,
    ) -> list[np.ndarray]:
        """The results of a tile, float32; as much of it is run as the memory does not hold.

        Args:
            lr: the tile's pixels.
            prompt: what was drawn on it.
            decode: makes the results of what `denoise` or `stored` gave.
            denoise: makes what does not depend on the prompt: arrays or tensors, in tuples, lists and dictionaries.
            stored: what is kept of it, such as copies in main memory.
        """
        key = blake2b(b"%a %b %b" % (lr.shape, self._settings, lr.tobytes())).digest()
        digest = blake2b(prompt.tobytes()).digest()
        tile = self._memory.get(key)
        denoised = denoise() if tile is None else tile.denoised
        if tile is not None and tile.prompt == digest:
            results = tile.results
        else:
            results = [np.asarray(result, np.float32) for result in decode(denoised)]
        self._memory.keep(key, _Tile(stored(denoised), digest, results, self._number))
        return [result.copy() for result in results]  # whoever gets them may change them


def _bytes(held: Any) -> int:
    if isinstance(held, dict):
        held = held.values()
    return held.nbytes if hasattr(held, "nbytes") else sum(map(_bytes, held))
