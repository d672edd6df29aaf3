"""Folders of photographs: anybody's, and LSDIR, DIV2K, Flickr2K as they are distributed."""

import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tadisr.data_synthesis.sources.source import (
    PHOTO_SUFFIXES,
    Sample,
    Source,
    image_size,
    open_image,
)
from tadisr.io.structured import parse_json


def find_images(folders: list[str] | list[Path]) -> list[Path]:
    """All images below `folders` (or the files themselves), sorted; hidden files are left out.

    FileNotFoundError: a folder does not exist or holds no image.
    """
    found = []
    for folder in map(Path, folders):
        files = [folder] if folder.is_file() else _images_below(folder)
        if not files:
            raise FileNotFoundError(f"No images in {folder}: name a folder of .jpg, .png or .webp photographs.")
        found += files
    return found


def _images_below(folder: Path) -> list[Path]:
    # "._0001.png" is what macOS leaves in archives: no image.
    files = (p for p in folder.rglob("*") if p.suffix.lower() in PHOTO_SUFFIXES and not p.name.startswith("."))
    return sorted(p for p in files if p.is_file())


def _read_list(path: Path) -> list[str]:
    """The images that a list names: a line each, or JSON as LSDIR's ([{"path_gt": ...}] or plain strings)."""
    if not path.is_file():
        raise FileNotFoundError(f"No list of images {path}: it names one image a line, or is LSDIR's JSON.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() == ".json":
            if not isinstance(rows := parse_json(text, "it"), list):
                raise TypeError("expected a JSON array")
            entries = [row["path_gt"] if isinstance(row, dict) else row for row in rows]
        else:
            entries = [line.strip() for line in text.splitlines()]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a list of images: {error!r}") from None
    entries = [str(entry).replace("\\", "/") for entry in entries if entry]
    if not entries:
        raise ValueError(f"{path} names no image.")
    return entries


def select(names: list[str], path: Path) -> list[int]:
    """Where the images of a list stand in `names`, in the list's order.

    Lists are written for other folders: "HR/train/0001000/0000001.png" and "0000001" both find "0001000/0000001.png".
    FileNotFoundError: no such list. ValueError: not a list, an empty one, or one with images that are not there.
    """
    by_stem: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        by_stem.setdefault(PurePosixPath(name).stem, []).append(i)
    chosen, absent = [], []
    for entry in (entries := _read_list(path)):
        file = entry if PurePosixPath(entry).suffix.lower() in PHOTO_SUFFIXES else f"{entry}.png"
        fits = by_stem.get(PurePosixPath(file).stem, [])
        if len(fits) > 1:  # the folder decides; with one image of that name it does not matter
            fits = [i for i in fits if _same_tail(names[i], file)]
        chosen += fits[:1]
        absent += [entry] * (not fits)
    if absent:
        first = absent[0][:200]
        raise ValueError(f"{path}: {len(absent)} of its {len(entries)} images are not there, such as {first}.")
    return list(dict.fromkeys(chosen))


def _same_tail(name: str, other: str) -> bool:
    name, other = (f"/{PurePosixPath(path).with_suffix('')}" for path in (name, other))
    return name.endswith(other) or other.endswith(name)


class ImageFiles(Source):
    """Samples that are image files."""

    def __init__(self, files: list[Path], names: list[str]):
        self._files, self._names = files, names

    def names(self) -> list[str]:
        return list(self._names)

    def __getitem__(self, i: int) -> Sample:
        return Sample(open_image(self._files[i]), self._names[i])

    def size(self, i: int) -> tuple[int, int]:
        return image_size(self._files[i])


class Folder(ImageFiles):
    """Every image below a folder, or one file; `list_file` selects some of them (`select`)."""

    home, licence, version = "the user's own", "unknown", "unknown"

    def __init__(self, path: str | None = None, list_file: str | None = None, licence: str = "unknown"):
        if path is None:
            raise FileNotFoundError("A folder of images needs a path: folder:PATH.")
        root = Path(path).expanduser()
        files = find_images([root])
        names = [file.name if file == root else file.relative_to(root).as_posix() for file in files]
        if list_file is not None:
            chosen = select(names, Path(list_file).expanduser())
            files, names = [files[i] for i in chosen], [names[i] for i in chosen]
        super().__init__(files, names)
        self.name, self.licence = root.resolve().name or "folder", licence


class _HighResolution(ImageFiles):
    """HR images of a super-resolution dataset, found below `path` by their folder's and their own name."""

    stem: str
    """Pattern of a file's stem."""
    folders: frozenset[str] | None
    """Names of the folders that HR images lie in; None: any that `splits` accepts."""
    splits: dict[str, Callable[[PurePosixPath], bool]]
    """Which images, given by their path from the name of `path` on, each split has."""

    def __init__(self, path: str | None = None, split: str = "train", list_file: str | None = None):
        self.check_split(split, *self.splits, "all")
        root = self.find_root(path)
        wanted = [self.splits[split]] if split != "all" else [*self.splits.values()]
        found = {}
        for file in _images_below(root):
            where = PurePosixPath(root.resolve().name, file.relative_to(root).as_posix())
            in_place = self.folders is None or file.parent.name in self.folders
            if in_place and re.fullmatch(self.stem, file.stem) and any(belongs(where) for belongs in wanted):
                found[self._short(where)] = file
        if not found:
            raise self.missing(root)
        names = sorted(found)
        if list_file is not None:
            names = [names[i] for i in select(names, Path(list_file).expanduser())]
        super().__init__([found[name] for name in names], names)

    @staticmethod
    def _short(where: PurePosixPath) -> str:
        """The name, the same whichever of the layouts the images lie in."""
        return where.name


VAL_FOLDERS, LR_FOLDERS = {"val", "val1"}, {"X2", "X3", "X4", "LR"}


class LSDIR(_HighResolution):
    """84,991 training images in folders of 1,000 and 250 for validation (val1/HR/val/)."""

    name = "LSDIR"
    home = "https://ofsoundof.github.io/lsdir-data"
    licence = "academic research only, access on request"
    version = "2023"
    layout = "0001000/0000001.png and so on (the unpacked shards), and val1/HR/val/ for the validation images"
    stem = r"\d{7}"  # low-resolution files are 0000001x4.png
    folders = None
    splits = {
        "train": lambda where: not {*where.parts} & (VAL_FOLDERS | LR_FOLDERS),
        "val": lambda where: bool({*where.parts} & VAL_FOLDERS) and not {*where.parts} & LR_FOLDERS,
    }

    @staticmethod
    def _short(where: PurePosixPath) -> str:
        thousand = where.parent.name if re.fullmatch(r"\d{7}", where.parent.name) else ""
        val = "val" if {*where.parts} & VAL_FOLDERS else ""
        return "/".join(part for part in (val, thousand, where.name) if part)


class DIV2K(_HighResolution):
    """800 training images (0001 to 0800) and 100 for validation."""

    name = "DIV2K"
    home = "https://data.vision.ee.ethz.ch/cvl/DIV2K"
    licence = "academic research only"
    version = "NTIRE 2017"
    layout = "DIV2K_train_HR/0001.png and so on, DIV2K_valid_HR/0801.png and so on"
    stem = r"\d{4}"
    folders = frozenset({"DIV2K_train_HR", "DIV2K_valid_HR", "HR"})
    splits = {"train": lambda where: int(where.stem) <= 800, "valid": lambda where: int(where.stem) > 800}


class Flickr2K(_HighResolution):
    """2,650 training images."""

    name = "Flickr2K"
    home = "https://github.com/sanghyun-son/EDSR-PyTorch"
    licence = "research only; the photographs keep their owners' terms on Flickr"
    version = "2017"
    layout = "Flickr2K_HR/000001.png and so on"
    stem = r"\d{6}"
    folders = frozenset({"Flickr2K_HR", "HR"})
    splits = {"train": lambda where: True}
