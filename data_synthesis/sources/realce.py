"""Real-CE: the same Chinese and English scenes at three focal lengths."""

from pathlib import Path

from tadisr.data_synthesis.sources.base import (
    IMAGE_SUFFIXES,
    Origin,
    Pair,
    Sample,
    Source,
    check_split,
    image_size,
    open_image,
)
from tadisr.data_synthesis.sources.photographs import select
from tadisr.evaluation.realce import read_annotation

FOCAL_LENGTHS = ("13mm", "26mm", "52mm")
# Per split: folder and prefix of the annotations, and how they are encoded.
ANNOTATIONS = {"train": ("trans_annos_52mm_renov", "res_", "utf-8"), "val": ("annos", "", "gb18030")}


class RealCE(Source):
    """Pairs of a wide and a long focal length, with the lines of text as annotated on the 52 mm image.

    `aligned_list` names the pairs to use, an image a line; without it they are those of the split's valid_list.txt, or
    all where there is none. The images of a pair are returned in the sizes they have.
    """

    kind = "pairs"
    origin = Origin(
        "Real-CE",
        "https://github.com/mjq11302010044/Real-CE",
        "academic research only, not to be redistributed",
        "2023",
        "train/ and val/, in each 13mm/, 26mm/, 52mm/ and the annotations (trans_annos_52mm_renov/ and annos/)",
    )

    def __init__(
        self,
        path: str | None = None,
        split: str = "val",
        lr: str = "13mm",
        hr: str = "52mm",
        aligned_list: str | None = None,
        encoding: str | None = None,
    ):
        check_split(split, ANNOTATIONS, self.origin.name)
        if lr not in FOCAL_LENGTHS or hr not in FOCAL_LENGTHS:
            raise ValueError(f"Real-CE has focal lengths {', '.join(FOCAL_LENGTHS)}, not {lr} and {hr}.")
        root = None if path is None else Path(path).expanduser()
        if root is None or not all((root / split / focal).is_dir() for focal in (lr, hr)):
            raise self.origin.missing(root)
        self._root, self._lr, self._hr = root / split, lr, hr
        folder, self._prefix, official = ANNOTATIONS[split]
        self._annotations, self._encoding = self._root / folder, encoding or official
        there = [{p.name for p in (self._root / focal).iterdir() if _is_image(p)} for focal in (lr, hr)]
        self._names = sorted(there[0] & there[1])
        valid_list = self._root / "valid_list.txt"
        if aligned_list is not None or valid_list.is_file():
            chosen = Path(aligned_list).expanduser() if aligned_list is not None else valid_list
            self._names = [self._names[i] for i in select(self._names, chosen)]
        if not self._names:
            raise self.origin.missing(root)
        self.name, self.home = self.origin.name, self.origin.home
        self.licence, self.version = self.origin.licence, self.origin.version

    def __len__(self) -> int:
        return len(self._names)

    def names(self) -> list[str]:
        return list(self._names)

    def __getitem__(self, i: int) -> Pair:
        name = self._names[i]
        lines = []
        if self._annotations.is_dir():
            found = read_annotation(self._annotations / f"{self._prefix}{Path(name).stem}.txt", self._encoding)
            lines = [{"text": line.text, "quad": line.quad.tolist()} for line in found]
        lr, hr = (Sample(open_image(file, str(file)), name) for file in self._files(name))
        hr.lines = lines
        return Pair(lr, hr, name, lines)

    def _files(self, name: str) -> tuple[Path, Path]:
        return self._root / self._lr / name, self._root / self._hr / name

    def size(self, i: int) -> tuple[int, int]:
        file = self._files(self._names[i])[1]
        return image_size(file, str(file))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
