"""Cropped text lines in LMDB: the Chinese text recognition benchmark, and any database written like it."""

from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from tadisr.data_synthesis.sources.base import Origin, Sample, Source, check_split, image_size, open_image

PARTS = ("train", "val", "test")
# LMDB refuses to open a database twice in one process, so sources share it; it closes with the last of them.
_open: WeakValueDictionary[str, Any] = WeakValueDictionary()


def _environment(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise ImportError("Reading LMDB databases needs the package lmdb: pip install 'tadisr[synth]'.") from None

    key = str(folder.resolve())
    environment = _open.get(key)
    if environment is None:
        try:
            environment = lmdb.open(key, readonly=True, lock=False, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise ValueError(f"{folder} is not an LMDB database: {error}") from None
        _open[key] = environment
    return environment


class CTR(Source):
    """Lines of text as images and labels, without masks.

    Keys are `num-samples`, `image-%09d` and `label-%09d`, counted from 1. `path` is a database (a folder with data.mdb)
    or holds any number of them, such as scene_train/ and web_train/; `split` takes those whose name ends with it.
    """

    kind = "crops"
    origin = Origin(
        "CTR",
        "https://github.com/FudanVI/benchmarking-chinese-text-recognition",
        "MIT for the collection; RCTW, ReCTS, LSVT, ArT, CTW and MTWI keep their own terms, mostly research only",
        "2022",
        "scene_train/data.mdb and so on",
    )

    def __init__(self, path: str | None = None, split: str = "all"):
        check_split(split, [*PARTS, "all"], self.origin.name)
        root = None if path is None else Path(path).expanduser()
        if root is None or not root.is_dir():
            raise self.origin.missing(root)
        folders = sorted(file.parent for file in root.rglob("data.mdb"))
        if split != "all":
            folders = [folder for folder in folders if folder.resolve().name.lower().endswith(split)]
        if not folders:
            raise self.origin.missing(root)
        self._databases: list[tuple[Path, str, int]] = []  # folder, prefix of names, samples
        self._environments: dict[Path, Any] = {}
        for folder in folders:
            name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
            self._databases.append((folder, name, self._count(folder)))
        self.name, self.home = self.origin.name, self.origin.home
        self.licence, self.version = self.origin.licence, self.origin.version

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environments": {}}  # opened again where it is unpickled

    def _get(self, folder: Path, key: str) -> bytes:
        if folder not in self._environments:
            self._environments[folder] = _environment(folder)
        with self._environments[folder].begin(buffers=False) as transaction:
            value = transaction.get(key.encode())
        if value is None:
            raise ValueError(f"{folder} has no key {key}.")
        return value

    def _count(self, folder: Path) -> int:
        value = self._get(folder, "num-samples")
        try:
            return int(value)
        except ValueError:
            raise ValueError(f"{folder}: num-samples is {value[:20]!r}, not a number.") from None

    def _locate(self, i: int) -> tuple[Path, str, int]:
        """Folder, name and 1-based number within it of sample i."""
        left = i if i >= 0 else i + len(self)
        for folder, name, count in self._databases:
            if 0 <= left < count:
                return folder, f"{name}/{left + 1:09d}", left + 1
            left -= count
        raise IndexError(f"{self.name} has {len(self)} samples, not {i}.")

    def __len__(self) -> int:
        return sum(count for _, _, count in self._databases)

    def names(self) -> list[str]:
        return [f"{name}/{number:09d}" for _, name, count in self._databases for number in range(1, count + 1)]

    def __getitem__(self, i: int) -> Sample:
        folder, name, number = self._locate(i)
        image = open_image(self._get(folder, f"image-{number:09d}"), f"{folder}: image-{number:09d}")
        try:
            text = self._get(folder, f"label-{number:09d}").decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{folder}: label-{number:09d} is not UTF-8.") from None
        return Sample(image, name, text=text)

    def size(self, i: int) -> tuple[int, int]:
        folder, _, number = self._locate(i)
        return image_size(self._get(folder, f"image-{number:09d}"), f"{folder}: image-{number:09d}")
