"""Cropped text lines in LMDB: the Chinese text recognition benchmark, and any database written like it."""

from tadisr.data_synthesis.sources.source import Sample, Source, image_size, open_image
from tadisr.datasets.databases import Database, find_databases


class CTR(Source):
    """Lines of text as images and labels, without masks.

    Keys are `num-samples`, `image-%09d` and `label-%09d`, counted from 1. `path` is a database (a folder with data.mdb)
    or holds any number of them, such as scene_train/ and web_train/; `split` takes those whose name ends with it.
    """

    kind = "crops"
    name = "CTR"
    home = "https://github.com/FudanVI/benchmarking-chinese-text-recognition"
    licence = "MIT for the collection; RCTW, ReCTS, LSVT, ArT, CTW and MTWI keep their own terms, mostly research only"
    version = "2022"
    layout = "scene_train/data.mdb and so on"

    def __init__(self, path: str | None = None, split: str = "all"):
        self.check_split(split, "train", "val", "test", "all")
        root = self.find_root(path)
        folders = find_databases(root)
        if split != "all":
            folders = [folder for folder in folders if folder.resolve().name.lower().endswith(split)]
        if not folders:
            raise self.missing(root)
        # with the prefix of its samples' names
        self._databases = [
            (folder.relative_to(root).as_posix() if folder != root else root.resolve().name, Database(folder, "CTR's"))
            for folder in folders
        ]

    def _locate(self, i: int) -> tuple[Database, str, str]:
        """The database of sample i, the prefix of its name, and its number there, from 000000001 on."""
        left = i if i >= 0 else i + len(self)
        for name, database in self._databases:
            if 0 <= left < database.count:
                return database, name, f"{left + 1:09d}"
            left -= database.count
        raise IndexError(f"{self.name} has {len(self)} samples, not {i}.")

    def __len__(self) -> int:
        return sum(database.count for _, database in self._databases)

    def names(self) -> list[str]:
        return [f"{name}/{number:09d}" for name, database in self._databases for number in range(1, database.count + 1)]

    def __getitem__(self, i: int) -> Sample:
        database, name, number = self._locate(i)
        image = open_image(database.get(f"image-{number}"), f"{database.folder}: image-{number}")
        return Sample(image, f"{name}/{number}", text=database.text(f"label-{number}"))

    def size(self, i: int) -> tuple[int, int]:
        database, _, number = self._locate(i)
        return image_size(database.get(f"image-{number}"), f"{database.folder}: image-{number}")
