"""LMDB databases of samples, with keys such as `label-%09d` counted from 1, and `num-samples`."""

import os
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any

from tadisr.datasets.lmdb_pages import PageReader

_AT_ONCE = 1000  # samples per transaction of the writer


def find_databases(root: Path) -> list[Path]:
    """The folders in and below `root` that hold a data.mdb, sorted."""
    return [file.parent for file in sorted(root.rglob("data.mdb")) if file.is_file()]


class Database:
    """A database to read. Each process opens it on first use, so that it may be handed to data workers.

    `layout`: the expected layout, for errors: "TextZoom's"; `samples`: a key that every sample has, without its number.
    ValueError where there is no database, or `num-samples` is not the number of samples; then and later also for a
    damaged file, or one that was cut off meanwhile.
    """

    def __init__(self, folder: Path, layout: str, samples: str = "label"):
        self.folder, self._layout = folder, layout
        self._opened: tuple[int, PageReader] | None = None  # with the process that opened it
        count = self.get("num-samples")
        if not count.isdigit() or len(count) > 9:  # so many digits the keys have
            raise ValueError(f"{folder}: num-samples is {count[:20]!r}, not a number.")
        self.count = int(count)
        if self.count and self.find(last := f"{samples}-{self.count:09d}") is None:
            raise ValueError(f"{folder}: num-samples is {self.count}, but there is no {last}.")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def find(self, key: str) -> bytes | None:
        """The value of a key; None where there is none."""
        try:
            opened = self._opened
            if opened is None or opened[0] != os.getpid():
                self._opened = opened = os.getpid(), PageReader(self.folder / "data.mdb")
            return opened[1].get(key.encode())
        except ValueError as error:
            raise ValueError(f"{self.folder} is not an LMDB, or damaged: {error}.") from None

    def get(self, key: str) -> bytes:
        """The value of a key; ValueError where there is none."""
        value = self.find(key)
        if value is None:
            raise ValueError(f"{self.folder} has no key {key}: it is not of {self._layout} layout, or not whole.")
        return value

    def text(self, key: str) -> str:
        """The value of a key as text; ValueError where there is none, or it is not UTF-8."""
        try:
            return self.get(key).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self.folder}: {key} is not UTF-8.") from None


def write_database(folder: Path, samples: Iterable[dict[str, bytes]], size: int) -> None:
    """Write a database of samples, the keys and values of one each, in order.

    `size`: upper bound of the database in bytes; on most systems the file takes only what is in it. FileExistsError
    where there is a database in the folder; OSError where it cannot be written, and then nothing of it stays.
    """
    import lmdb

    if (folder / "data.mdb").exists():
        raise FileExistsError(f"There is a database in {folder} already: name another folder, or delete it.")
    folder.mkdir(parents=True, exist_ok=True)
    samples = iter(samples)
    try:
        with lmdb.open(str(folder), map_size=size, lock=False, metasync=False) as environment:
            while batch := list(islice(samples, _AT_ONCE)):
                with environment.begin(write=True) as transaction:
                    for key, value in chain.from_iterable(sample.items() for sample in batch):
                        transaction.put(key.encode(), value)
    except lmdb.Error as error:
        (folder / "data.mdb").unlink(missing_ok=True)
        raise OSError(f"{folder / 'data.mdb'} cannot be written: {error}") from None
