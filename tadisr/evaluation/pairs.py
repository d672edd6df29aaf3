"""What is evaluated on: pairs of an LR and an HR image, and the lines of text in them.

`open_data` tells the layout of a folder by what lies in it:

- `hr/`, `lr/` (the same names; any suffix) and, optionally, `truth.json`: [{"name", "text": [{"box": four (x, y),
  "text"}]}] with lines that an engine read on the HR image, or, with "annotated": true, that a person wrote down or a
  program drew ("glyph_height", HR pixels, may say how tall its capitals or square characters are);
- what `tadisr synthesize` writes: Parquet shards or folders with exact text, boxes and masks;
- Real-CE: `val/13mm/`, `val/52mm/`, `val/valid_list.txt`, `val/annos/`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tadisr.datasets.folders import AnnotatedLine, check_scale, checked_line, list_images
from tadisr.datasets.ftsr import Shards, read_metadata
from tadisr.datasets.realce import ANNOTATIONS, RealCE, align
from tadisr.io.images import image_size, read_image
from tadisr.io.structured import read_json
from tadisr.ocr import is_box

ENGINE, ANNOTATION = "engine", "annotation"


@dataclass
class Line:
    """A line of text in an HR image."""

    text: str
    quad: np.ndarray
    """(4, 2) float32 (x, y), pixels of the HR image, clockwise from the text's top left."""
    source: str = ANNOTATION
    """`ENGINE`: read by an OCR engine; `ANNOTATION`: written by a person or drawn by the synthesiser."""
    glyph_height: float | None = None
    """HR pixels: of a capital, or of a square character. None: unknown."""


@dataclass
class Pair:
    """The same scene twice. Images are uint8 RGB, (h, w, 3) and (scale h, scale w, 3)."""

    name: str
    lr: np.ndarray
    hr: np.ndarray
    path: str
    """The HR image's file, or its place in a data set."""
    lines: list[Line] = field(default_factory=list)
    mask: np.ndarray | None = None
    """(H, W) bool: the text's strokes in the HR image."""


class Pairs(ABC):
    """Pairs in a fixed order, decoded one at a time; each has another of `names`.

    `scale`: HR pixels per LR pixel and side. `note`: what was done to the images to make them pairs. `find_lines`: the
    judge is to find text in the HR images; False where the data set says what an engine read.
    """

    def __init__(self, name: str, scale: int, names: Iterable[str], note: str = "", find_lines: bool = True):
        self.name, self.scale, self.note, self.find_lines = name, scale, note, find_lines
        self._names = list(names)

    def names(self) -> list[str]:
        """The names of all pairs, in order."""
        return list(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @abstractmethod
    def size(self, i: int) -> tuple[int, int]:
        """(h, w) of LR image i; from the file's header wherever that suffices."""

    @abstractmethod
    def __getitem__(self, i: int) -> Pair:
        """Pair i; ValueError, with the file, where an image cannot be read, or sizes do not fit."""


def open_data(path: str | Path, split: str | None = None, scale: int = 4) -> Pairs:
    """The data set in a folder, see the module.

    `split`: of a data set that has several; None: "test", for Real-CE "val", or the folder itself. `scale`: HR pixels
    per LR pixel and side.

    FileNotFoundError without the folder or a known data set in it; ValueError for a damaged annotation or images that
    do not fit together.
    """
    root = Path(path)
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}.")
    for candidate in (split, "val", "train"):
        if candidate and (root / candidate / "13mm").is_dir():
            return _RealCEPairs(root, split or candidate, scale)
    for place in (root / (split or "test"), *(() if split else (root,))):
        if (place / "hr").is_dir() and (place / "lr").is_dir():
            return _FolderPairs(place, scale, root.resolve().name)
    if shards := sorted((root / "data").glob(f"{split or 'test'}-*.parquet")):
        return _ShardPairs(root, shards, scale)
    raise FileNotFoundError(
        f"{root} holds no data set known here: expected hr/ and lr/, data/{split or 'test'}-*.parquet, "
        f"or Real-CE's {split or 'val'}/13mm/ and {split or 'val'}/52mm/."
    )


class _FolderPairs(Pairs):
    """hr/ and lr/, with truth.json, with metadata.jsonl and mask/ (from `tadisr synthesize`), or alone."""

    def __init__(self, root: Path, scale: int, name: str):
        self._hr, self._lr, self._masks = (list_images(root / part) for part in ("hr", "lr", "mask"))
        truth, find_lines = root / "truth.json", True
        if truth.is_file():
            self._lines = _read_truth(truth)
            find_lines = {line.source for lines in self._lines.values() for line in lines} == {ANNOTATION}
        else:
            self._lines = {image: _annotated(lines) for image, lines in read_metadata(root).items()}
        if not self._hr:
            raise FileNotFoundError(f"No images in {root / 'hr'}.")
        if lonely := sorted(self._hr.keys() ^ self._lr.keys()):
            missing = "lr" if lonely[0] in self._hr else "hr"
            raise ValueError(f"{root / missing} has no image {lonely[0]}, its partner has.")
        if unknown := sorted(self._lines.keys() - self._hr.keys()):
            raise ValueError(f"{root}: there is text for {unknown[0]}, but no such image.")
        super().__init__(name, scale, sorted(self._hr), find_lines=find_lines)
        for image in self._names:
            size = image_size(self._hr[image])
            check_scale(self._lr[image], image_size(self._lr[image]), self._hr[image], size, scale)
            for line in self._lines.get(image, []):  # what cannot be cut out is refused now, not after an hour
                if not is_box(line.quad) or (line.quad < -max(size)).any() or (line.quad > 2 * max(size)).any():
                    box = f"The box {line.quad.round(1).tolist()} of {line.text!r} in image {image}"
                    raise ValueError(f"{box} has no area, or lies outside of it.")

    def size(self, i: int) -> tuple[int, int]:
        return image_size(self._lr[self._names[i]])

    def __getitem__(self, i: int) -> Pair:
        name = self._names[i]
        lr, hr, mask = read_image(self._lr[name]).rgb, read_image(self._hr[name]).rgb, None
        if name in self._masks:
            mask = read_image(self._masks[name]).rgb[..., 0] > 127
            check_scale(self._masks[name], mask.shape, self._hr[name], hr.shape[:2], 1)
        return Pair(name, lr, hr, str(self._hr[name]), list(self._lines.get(name, [])), mask)


class _ShardPairs(Pairs):
    """FTSR's Parquet shards."""

    def __init__(self, root: Path, shards: list[Path], scale: int):
        self._pages = Shards(shards)
        names = [f"{shard.stem.split('-of-')[0]}-{row:03d}" for shard, row in self._pages.rows]
        super().__init__(root.resolve().name, scale, names)

    def size(self, i: int) -> tuple[int, int]:
        return self._pages.lr(i).shape[:2]

    def __getitem__(self, i: int) -> Pair:
        pages, where = self._pages, self._pages.name(i)
        lr, hr, mask = pages.lr(i), pages.hr(i), pages.mask(i) > 127
        check_scale(f"{where}: lr", lr.shape[:2], "hr", hr.shape[:2], self.scale)
        check_scale(f"{where}: mask", mask.shape, "hr", hr.shape[:2], 1)
        return Pair(self._names[i], lr, hr, where, _annotated(pages.lines(i)), mask)


class _RealCEPairs(Pairs):
    """Real-CE: 13 mm as LR, 52 mm as HR, made to fit by `align`. Where there is a valid_list.txt, only its images."""

    def __init__(self, root: Path, split: str, scale: int):
        if split not in ANNOTATIONS:
            raise ValueError(f"Real-CE has the splits {', '.join(ANNOTATIONS)}, not {split}.")
        self._data = RealCE(root, split)
        names, listing = sorted(self._data.files), self._data.folder / "valid_list.txt"
        if listing.is_file():
            listed = {Path(line.strip()).stem for line in listing.read_text(encoding="utf-8").splitlines()} - {""}
            if missing := sorted(listed.difference(names)):
                raise ValueError(f"{listing} names {missing[0]}, which is not in both 13mm/ and 52mm/.")
            names = sorted(listed)
        if not names:
            raise FileNotFoundError(f"No images that are both in 13mm/ and in 52mm/ of {self._data.folder}.")
        note = f"LR: 13 mm, resized (cubic) to a {scale}th of the 52 mm image; HR: 52 mm, cut to a multiple"
        super().__init__(f"Real-CE {split}", scale, names, note)

    def size(self, i: int) -> tuple[int, int]:
        height, width = image_size(self._data.files[self._names[i]][1])
        return height // self.scale, width // self.scale

    def __getitem__(self, i: int) -> Pair:
        name = self._names[i]
        files = self._data.files[name]
        lr, hr = (read_image(file).rgb for file in files)
        if min(hr.shape[:2]) < self.scale:
            raise ValueError(f"{files[1]} is smaller than {self.scale} pixels.")
        return Pair(name, *align(lr, hr, self.scale), str(files[1]), _annotated(self._data.lines(name)))


def _annotated(lines: Sequence[AnnotatedLine]) -> list[Line]:
    return [Line(line["text"], np.asarray(line["quad"], np.float32)) for line in lines]


def _read_truth(path: Path) -> dict[str, list[Line]]:
    """{image name: lines} of a truth.json."""
    lines: dict[str, list[Line]] = {}
    items = read_json(path)
    try:
        for item in items:
            lines[item["name"]] = _annotated([checked_line(line["text"], line["box"]) for line in item["text"]])
            for line, stated in zip(lines[item["name"]], item["text"], strict=True):
                line.source = ANNOTATION if stated.get("annotated") else ENGINE
                line.glyph_height = float(height) if (height := stated.get("glyph_height")) is not None else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path} is not [{{"name", "text": [{{"box": four (x, y), "text"}}]}}]: {type(error).__name__}: {error}.'
        ) from None
    return lines
