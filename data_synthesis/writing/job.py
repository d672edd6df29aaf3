"""What a data set is: the job that decides its bytes, cut into shards."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tadisr.data_synthesis.recipe import Recipe

IMAGES = ("lr", "hr", "mask")
"""The images of a triplet: columns of a Parquet shard, folders of the other layout."""
_TEST_EVERY = 10  # the paper has 45,000 triplets for training and 5,000 for testing


@dataclass(frozen=True)
class Job:
    """Everything that decides the bytes of a data set."""

    recipe: Recipe
    num: int
    seed: int
    size: int
    """Side of an HR image, pixels."""
    layout: str = "parquet"
    """Either "parquet" or "folders"."""

    def shards(self) -> list["Shard"]:
        """Every shard, train before test. Their length depends on `num` alone."""
        rows = min(100, max(8, -(-self.num // 16)))
        # Test triplets are also made of other photographs, crops and fonts (see `Selection`).
        test = range(_TEST_EVERY - 1, self.num, _TEST_EVERY)
        indices = {"train": [index for index in range(self.num) if index not in test], "test": list(test)}
        shards = []
        for split, chosen in indices.items():
            parts = [tuple(chosen[start : start + rows]) for start in range(0, len(chosen), rows)]
            shards += [Shard(split, number, len(parts), part) for number, part in enumerate(parts)]
        return shards

    def describe(self) -> dict[str, Any]:
        """The job in JSON's types. Two runs may share a folder only if it is equal."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


@dataclass(frozen=True)
class Shard:
    """Triplets `indices` of a data set: part `number` of the `count` parts of a split."""

    split: str
    number: int
    count: int
    indices: tuple[int, ...]

    @property
    def name(self) -> str:
        """As the Hub names Parquet shards, without suffix."""
        return f"{self.split}-{self.number:05d}-of-{self.count:05d}"

    @property
    def parquet(self) -> str:
        """The shard's file if the layout is "parquet", relative to the data set."""
        return f"data/{self.name}.parquet"

    def image(self, kind: str, index: int) -> str:
        """The file of a triplet's image if the layout is "folders", relative to the data set."""
        return f"{self.split}/{kind}/{index:07d}.png"


def row_seed(seed: int, index: int) -> int:
    """The seed of triplet `index`, 63 bits. The triplet follows from this number and the recipe alone."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{index}".encode(), digest_size=8).digest(), "big") >> 1
