"""Random numbers that no version of a library changes."""

import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Dice:
    """Draws from Python's `random()`, whose sequence is guaranteed; all else is made of it here."""

    def __init__(self, seed: int):
        self._unit = random.Random(seed).random

    def between(self, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        return low + (high - low) * self._unit()

    def integer(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        return low + int(self._unit() * (high - low + 1))

    def chance(self, share: float) -> bool:
        """True in a `share` of the calls."""
        return self._unit() < share

    def pick(self, items: Sequence[T]) -> T:
        """One of the items."""
        return items[int(self._unit() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """The items in another order."""
        rest = list(items)
        return [rest.pop(int(self._unit() * len(rest))) for _ in items]


def noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Nearly normal int64 values of mean 0 and standard deviation 65,536: sums of four hashed counters (splitmix64)."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        x = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    total = np.zeros(count, np.int64)
    for shift in (0, 16, 32, 48):
        total += ((x >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.int64)
    # four uniform values of 0 to 65,535 have a variance of 4 * 65,536^2 / 12: the root of 3 takes the sum to 65,536
    return ((total - 131070) * 113512 // 65536).reshape(shape)
