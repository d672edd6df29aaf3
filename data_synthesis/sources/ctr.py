"""Cropped text lines in LMDB: the Chinese text recognition benchmark, and any database written like it."""

from pathlib import Path

from tadisr.data_synthesis.sources.base import Origin, Sample, Source, check_split, image_size, open_image
from tadisr.datasets.databases import Database, find_databases

_PARTS = ("train", "val", "test")


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
        check_split(split, [*_PARTS, "all"], self.origin.name)
        root = None if path is None else Path(path).expanduser()
        if root is None or not root.is_dir():
            raise self.origin.missing(root)
        folders = find_databases(root)
        if split != "all":
            folders = [folder for folder in folders if folder.resolve().name.lower().endswith(split)]
        if not folders:
            raise self.origin.missing(root)
        # with the prefix of its samples' names
        self._databases = [
            (folder.relative_to(root).as_posix() if folder != root else root.resolve().name, Database(folder, "CTR's"))
            for folder in folders
        ]
        self.name, self.home = self.origin.name, self.origin.home
        self.licence, self.version = self.origin.licence, self.origin.version

    def _locate(self, i: int) -> tuple[Database, str, int]:
        """The database of sample i, the prefix of its name, and its number there, from 1 on."""
        left = i if i >= 0 else i + len(self)
        for name, database in self._databases:
            if 0 <= left < database.count:
                return database, name, left + 1
            left -= database.count
        raise IndexError(f"{self.name} has {len(self)} samples, not {i}.")

    def __len__(self) -> int:
        return sum(database.count for _, database in self._databases)

    def names(self) -> list[str]:
        return [f"{name}/{number:09d}" for name, database in self._databases for number in range(1, database.count + 1)]

    def __getitem__(self, i: int) -> Sample:
        database, name, number = self._locate(i)
        key = f"image-{number:09d}"
        image = open_image(database.get(key), f"{database.folder}: {key}")
        return Sample(image, f"{name}/{number:09d}", text=database.text(f"label-{number:09d}"))

    def size(self, i: int) -> tuple[int, int]:
        database, _, number = self._locate(i)
        key = f"image-{number:09d}"
        return image_size(database.get(key), f"{database.folder}: {key}")
