"""TextZoom's LMDB layout, read and written: one word per sample, as a 16x64 LR and a 32x128 HR crop with a label.

Keys count from 1: `num-samples`, `image_hr-%09d`, `image_lr-%09d` (encoded images of any size), `label-%09d` (UTF-8).
Sets that this project writes add `image_mask-%09d`, the exact stroke mask as a gray PNG; other readers ignore it.
"""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tadisr.datasets.databases import Database, find_databases, write_database
from tadisr.io.messages import one_line

LR_SIZE, HR_SIZE = (16, 64), (32, 128)
"""Height and width to which every crop is resized, whatever its aspect."""
_MAX_PIXELS = 1 << 24  # of a crop before it is resized


class Line(NamedTuple):
    """One sample: lr (16, 64, 3), hr (32, 128, 3), uint8 RGB; mask (32, 128) uint8, 255 on text, None if not stored."""

    lr: np.ndarray
    hr: np.ndarray
    label: str
    mask: np.ndarray | None = None


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) or (H, W) uint8 to `size` (height, width): Pillow's bicubic, as the reference code resizes."""
    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BICUBIC))


class TextZoom:
    """One database of the layout: a folder with data.mdb, such as TextZoom's train1, train2 or test/easy.

    Errors as `Database`; FileNotFoundError for no folder, ValueError for another layout.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_dir():
            raise FileNotFoundError(f"No folder {path}: name one that holds a data.mdb, such as TextZoom's test/easy.")
        if not (self.path / "data.mdb").is_file():
            inside = ", ".join(folder.relative_to(self.path).as_posix() for folder in find_databases(self.path))
            raise ValueError(f"{path} is not an LMDB: it has no data.mdb{inside and f'; name one of {inside}'}.")
        self._data = Database(self.path, "TextZoom's", "image_hr")

    def __len__(self) -> int:
        return self._data.count

    def __getitem__(self, i: int) -> Line:
        """Sample i, from 0. IndexError beyond the last; ValueError, with the key, for what is missing or damaged."""
        number = (i if i >= 0 else i + len(self)) + 1
        if not 1 <= number <= len(self):
            raise IndexError(f"{self.path} has {len(self)} samples, not {i}.")
        label = self._data.text(f"label-{number:09d}")
        lr, hr = (self._image(f"image_{part}-{number:09d}", size) for part, size in (("lr", LR_SIZE), ("hr", HR_SIZE)))
        mask = f"image_mask-{number:09d}"
        return Line(lr, hr, label, None if self._data.find(mask) is None else self._image(mask, HR_SIZE, "L"))

    def _image(self, key: str, size: tuple[int, int], mode: str = "RGB") -> np.ndarray:
        data = self._data.get(key)
        try:
            with Image.open(io.BytesIO(data)) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise ValueError(f"{image.width} x {image.height} pixels are no line of text")
                pixels = np.asarray(image.convert(mode))
        except MemoryError:
            raise
        except Exception as error:  # on damaged data Pillow raises OSError, SyntaxError, struct.error and others
            raise ValueError(f"{self.path}: {key} cannot be read as an image: {one_line(error, None)}") from None
        return resize(pixels, size)


def write_textzoom(path: str | Path, lines: Iterable[Line], count: int) -> None:
    """Write `count` lines losslessly; errors as `write_database`, and ValueError for another number of lines.

    `num-samples` is written last, so that a database that was cut off is refused by `TextZoom`.
    """

    def entries() -> Iterator[dict[str, bytes]]:
        written = 0
        for written, line in enumerate(lines, 1):
            images = {"image_hr": line.hr, "image_lr": line.lr, "image_mask": line.mask}
            pngs = {f"{name}-{written:09d}": _png(pixels) for name, pixels in images.items() if pixels is not None}
            yield pngs | {f"label-{written:09d}": line.label.encode()}
        if written != count:
            raise ValueError(f"Expected {count} lines, got {written}.")
        yield {"num-samples": str(count).encode()}

    # a page of 4 KiB at least per value
    write_database(Path(path), entries(), (1 << 24) + count * (1 << 16))


def _png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=4)
    return file.getvalue()
