"""TextZoom's LMDB layout, read and written: one word per sample, as a 16x64 LR and a 32x128 HR crop with a label.

Keys count from 1: `num-samples`, `image_hr-%09d`, `image_lr-%09d` (encoded images of any size), `label-%09d` (UTF-8).
Sets that this project writes add `image_mask-%09d`, the exact stroke mask as a gray PNG; other readers ignore it.
"""

import io
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    import torch

LR_SIZE, HR_SIZE = (16, 64), (32, 128)
"""Height and width to which every crop is resized, whatever its aspect."""
SUBSETS = ("easy", "medium", "hard")
MASKS = ("mean", "mean_polarity", "stored")
_BATCH = 1000  # samples per transaction of the writer
# LMDB refuses to open a database twice in one process, so readers share it; it closes with the last of them.
_open: WeakValueDictionary[tuple[int, str], Any] = WeakValueDictionary()


class Line(NamedTuple):
    """One sample: lr (16, 64, 3), hr (32, 128, 3), uint8 RGB; mask (32, 128) uint8, 255 on text, None if not stored."""

    lr: np.ndarray
    hr: np.ndarray
    label: str
    mask: np.ndarray | None = None


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8 to `size` (height, width): Pillow's bicubic, as the reference code resizes."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.BICUBIC))


def mean_mask(hr: np.ndarray, polarity: bool = False) -> np.ndarray:
    """The paper's mask of a crop: text is what is not brighter than the mean of its gray values.

    So light text on a dark ground comes out inverted. `polarity`: let the outermost pixels vote; where most of them
    would be text, the rule is turned round.

    hr: (H, W, 3) uint8 RGB; returns (H, W) uint8, 255 on text.
    """
    gray = np.asarray(Image.fromarray(hr).convert("L"))
    text = gray <= gray.mean()
    if polarity:
        border = np.concatenate([text[0], text[-1], text[1:-1, 0], text[1:-1, -1]])
        text ^= border.mean() > 0.5
    return np.where(text, np.uint8(255), np.uint8(0))


def to_tensors(line: Line) -> "dict[str, torch.Tensor | str]":
    """{"lr" (3, 16, 64), "hr" (3, 32, 128), "mask" (1, 32, 128), "label"}, float32 in [0, 1]."""
    import torch

    def tensor(image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255  # a copy: Pillow's is read-only

    return {"lr": tensor(line.lr), "hr": tensor(line.hr), "mask": tensor(line.mask[..., None]), "label": line.label}


def with_mask(line: Line, rule: str) -> Line:
    """The line with its mask by one of the `mean` rules of `MASKS`; any other rule leaves it as it is."""
    return line._replace(mask=mean_mask(line.hr, rule == "mean_polarity")) if rule.startswith("mean") else line


class TextZoom(Sequence):
    """One database of the layout: a folder with data.mdb, such as TextZoom's train1, train2 or test/easy.

    It is opened on first use in each process, so that it may be handed to data workers.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: not a database, or not of this layout.
        ImportError: the lmdb package is missing.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"No folder {path}: name one that holds a data.mdb, such as TextZoom's test/easy.")
        if not (self.path / "data.mdb").is_file():
            inside = ", ".join(sorted(file.parent.relative_to(self.path).as_posix() for file in _databases(self.path)))
            raise ValueError(f"{path} is not an LMDB: it has no data.mdb{inside and f'; name one of {inside}'}.")
        self._environment: tuple[int, Any] | None = None  # with the process that opened it
        stated = self._get("num-samples")
        if not stated.isdigit():
            raise ValueError(f"{path}: num-samples is {stated[:20]!r}, not a number.")
        self._count = int(stated)
        if self._count and self._find(f"image_hr-{self._count:09d}") is None:
            raise ValueError(f"{path}: num-samples is {self._count}, but there is no image_hr-{self._count:09d}.")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_environment": None}

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Line:
        """Sample i, counted from 0.

        Raises:
            IndexError: no such sample.
            ValueError: a missing key, a damaged image, a label that is not UTF-8; with the key's name.
        """
        number = (i if i >= 0 else i + self._count) + 1
        if not 1 <= number <= self._count:
            raise IndexError(f"{self.path} has {self._count} samples, not {i}.")
        key = f"label-{number:09d}"
        try:
            label = self._get(key).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self.path}: {key} is not UTF-8.") from None
        lr, hr = (self._image(f"image_{part}-{number:09d}", size) for part, size in (("lr", LR_SIZE), ("hr", HR_SIZE)))
        stored = self._find(f"image_mask-{number:09d}") is not None
        return Line(lr, hr, label, self._image(f"image_mask-{number:09d}", HR_SIZE, "L") if stored else None)

    def _find(self, key: str) -> bytes | None:
        if self._environment is None or self._environment[0] != os.getpid():
            if self._environment is not None:
                self._environment[1].close()  # the copy that a fork left here; the parent's stays open
            self._environment = (os.getpid(), _environment(self.path))
        with self._environment[1].begin() as transaction:
            return transaction.get(key.encode())

    def _get(self, key: str) -> bytes:
        value = self._find(key)
        if value is None:
            raise ValueError(f"{self.path} has no key {key}: it is not of TextZoom's layout, or not whole.")
        return value

    def _image(self, key: str, size: tuple[int, int], mode: str = "RGB") -> np.ndarray:
        data = self._get(key)
        try:
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.asarray(image.convert(mode))
        except MemoryError:
            raise
        except Exception as error:  # on damaged data Pillow raises OSError, SyntaxError, struct.error and others
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ValueError(f"{self.path}: {key} cannot be read as an image: {reason}") from None
        return resize(pixels, size)


def _environment(folder: Path) -> Any:
    try:
        import lmdb
    except ImportError:
        raise ImportError("Reading LMDB databases needs the package lmdb: pip install 'tadisr[synth]'.") from None
    key = (os.getpid(), str(folder.resolve()))
    environment = _open.get(key)
    if environment is None:
        try:
            # without a lock file, which a read-only disk could not hold
            environment = lmdb.open(key[1], readonly=True, lock=False, readahead=False, meminit=False)
        except lmdb.Error as error:
            raise ValueError(f"{folder} is not an LMDB: {error}") from None
        _open[key] = environment
    return environment


class TextZoomLines:
    """One or more databases as a data set of `to_tensors` items, for training and evaluation.

    Args:
        paths: folders, read one after the other.
        mask: `mean`, the paper's rule; `mean_polarity`, see `mean_mask`; `stored`: the exact strokes, for sets that
            hold them.
    """

    def __init__(self, paths: str | Path | Sequence[str | Path], mask: str = "mean"):
        if mask not in MASKS:
            raise ValueError(f"No mask {mask!r}: choose one of {', '.join(MASKS)}.")
        paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
        if not paths:
            raise ValueError("Name at least one folder of TextZoom's layout.")
        self.mask, self._parts = mask, [TextZoom(path) for path in paths]
        self._ends = np.cumsum([len(part) for part in self._parts]).tolist()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> "dict[str, torch.Tensor | str]":
        if not 0 <= index < len(self):
            raise IndexError(f"There are {len(self)} samples, not {index}.")
        number = next(i for i, end in enumerate(self._ends) if index < end)
        part = self._parts[number]
        line = with_mask(part[index - self._ends[number] + len(part)], self.mask)
        if line.mask is None:
            raise ValueError(f"{part.path} stores no masks: choose mean or mean_polarity.")
        return to_tensors(line)


def open_subsets(root: str | Path, mask: str = "mean") -> dict[str, TextZoomLines]:
    """Every database in or below a folder by its folder's name; easy, medium, hard first, others in order.

    Raises:
        FileNotFoundError: no such folder, or no database in it.
        ValueError: as `TextZoom`; two databases of one name.
    """
    folders = [file.parent for file in _databases(Path(root))]
    if not folders:
        raise FileNotFoundError(
            f"No LMDB in {root}: expected a data.mdb there or in folders such as easy, medium, hard."
        )
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        raise ValueError(f"{root} holds several databases of one name ({', '.join(sorted(names))}): name one folder.")
    ranks = {name: i for i, name in enumerate((*SUBSETS, *sorted(set(names) - set(SUBSETS))))}
    return {
        name: TextZoomLines(folder, mask)
        for name, folder in sorted(zip(names, folders, strict=True), key=lambda pair: ranks[pair[0]])
    }


def _databases(root: Path) -> list[Path]:
    return sorted(root.rglob("data.mdb"))


def write_textzoom(path: str | Path, lines: Iterable[Line], count: int) -> None:
    """Write `count` lines as a database of the layout, losslessly. `num-samples` comes last: without it the set is cut.

    Raises:
        FileExistsError: there is a database in the folder.
        OSError: it cannot be written; nothing of it stays.
        ValueError: another number of lines than `count`.
    """
    import lmdb

    folder = Path(path)
    if (folder / "data.mdb").exists():
        raise FileExistsError(f"There is a database in {folder} already: name another folder, or delete it.")
    folder.mkdir(parents=True, exist_ok=True)
    # a page of 4 KiB at least per value; on most systems the file takes only what is really in it
    size = (1 << 24) + count * (1 << 16)
    try:
        with lmdb.open(str(folder), map_size=size, lock=False, metasync=False) as environment:
            _write(environment, lines, count)
    except lmdb.Error as error:
        (folder / "data.mdb").unlink(missing_ok=True)
        raise OSError(f"{folder / 'data.mdb'} cannot be written: {error}") from None


def _write(environment: Any, lines: Iterable[Line], count: int) -> None:
    written = 0
    batch: dict[str, bytes] = {}
    for written, line in enumerate(lines, 1):
        images = {"image_hr": line.hr, "image_lr": line.lr, "image_mask": line.mask}
        batch |= {f"{name}-{written:09d}": _png(pixels) for name, pixels in images.items() if pixels is not None}
        batch[f"label-{written:09d}"] = line.label.encode()
        if written % _BATCH == 0:
            _put(environment, batch)
    if written != count:
        raise ValueError(f"Expected {count} lines, got {written}.")
    batch["num-samples"] = str(count).encode()
    _put(environment, batch)


def _put(environment: Any, batch: dict[str, bytes]) -> None:
    with environment.begin(write=True) as transaction:
        for key, value in batch.items():
            transaction.put(key.encode(), value)
    batch.clear()


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()
