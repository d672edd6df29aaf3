"""LMDB databases of samples, with keys such as `label-%09d` counted from 1, and `num-samples`."""

import os
from collections.abc import Iterable
from itertools import chain, islice
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

_AT_ONCE = 1000  # samples per transaction of the writer
# LMDB refuses to open a database twice in one process, so readers share it; it closes with the last of them.
_shared: WeakValueDictionary[tuple[int, str], Any] = WeakValueDictionary()


def find_databases(root: Path) -> list[Path]:
    """The folders in and below `root` that hold a data.mdb, sorted."""
    return [file.parent for file in sorted(root.rglob("data.mdb"))]


class Database:
    """A database to read. Each process opens it on first use, so that it may be handed to data workers.

    `layout`: the expected layout, for errors: "TextZoom's". ValueError where there is no database, or `num-samples` is
    not a number; ImportError without the package lmdb.
    """

    def __init__(self, folder: Path, layout: str):
        self.folder, self._layout = folder, layout
        self._environment: tuple[int, Any] | None = None  # with the process that opened it
        count = self.get("num-samples")
        if not count.isdigit():
            raise ValueError(f"{folder}: num-samples is {count[:20]!r}, not a number.")
        self.count = int(count)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def find(self, key: str) -> bytes | None:
        """The value of a key; None where there is none."""
        if self._environment is None or self._environment[0] != os.getpid():
            self._environment = (os.getpid(), _open(self.folder))
        with self._environment[1].begin() as transaction:
            return transaction.get(key.encode())

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


def _open(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise ImportError("Reading LMDB databases needs the package lmdb: pip install 'tadisr[synth]'.") from None
    key = (os.getpid(), str(folder.resolve()))
    if environment := _shared.get(key):
        return environment
    for (_, place), inherited in list(_shared.items()):
        if place == key[1]:
            inherited.close()  # the copy that a fork left here; the parent's stays open
    try:
        # without a lock file, which a read-only disk could not hold
        _shared[key] = environment = lmdb.open(key[1], readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise ValueError(f"{folder} is not an LMDB: {error}") from None
    return environment


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
