"""Real-CE's pairs as a source."""

from pathlib import Path

from tadisr.data_synthesis.sources.photographs import select
from tadisr.data_synthesis.sources.source import Pair, Sample, Source, image_size, open_image
from tadisr.datasets import realce

_FOCAL_LENGTHS = ("13mm", "26mm", "52mm")


class RealCE(Source):
    """Pairs of a wide and a long focal length, with the lines of text as annotated on the 52 mm image.

    `aligned_list` names the pairs to use, an image a line; without it they are those of the split's valid_list.txt, or
    all where there is none. The images of a pair are returned in the sizes they have.
    """

    kind = "pairs"
    name = "Real-CE"
    home = "https://github.com/mjq11302010044/Real-CE"
    licence = "academic research only, not to be redistributed"
    version = "2023"
    layout = "train/ and val/, in each 13mm/, 26mm/, 52mm/ and the annotations (trans_annos_52mm_renov/ and annos/)"

    def __init__(
        self,
        path: str | None = None,
        split: str = "val",
        lr: str = "13mm",
        hr: str = "52mm",
        aligned_list: str | None = None,
        encoding: str | None = None,
    ):
        self.check_split(split, *realce.ANNOTATIONS)
        if lr not in _FOCAL_LENGTHS or hr not in _FOCAL_LENGTHS:
            raise ValueError(f"Real-CE has focal lengths {', '.join(_FOCAL_LENGTHS)}, not {lr} and {hr}.")
        root = self.find_root(path)
        if not all((root / split / focal).is_dir() for focal in (lr, hr)):
            raise self.missing(root)
        self._data = realce.RealCE(root, split, lr, hr, encoding)
        files = sorted(self._data.files.values(), key=lambda pair: pair[1].name)
        chosen = self._data.folder / "valid_list.txt" if aligned_list is None else Path(aligned_list).expanduser()
        if aligned_list is not None or chosen.is_file():
            files = [files[i] for i in select([hr.name for _, hr in files], chosen)]
        if not files:
            raise self.missing(root)
        self._files = files

    def names(self) -> list[str]:
        return [hr.name for _, hr in self._files]

    def __getitem__(self, i: int) -> Pair:
        lr, hr = self._files[i]
        lines = [{"text": line["text"], "quad": line["quad"].tolist()} for line in self._data.lines(hr.stem)]
        return Pair(Sample(open_image(lr), hr.name), Sample(open_image(hr), hr.name, lines=lines), hr.name, lines)

    def size(self, i: int) -> tuple[int, int]:
        return image_size(self._files[i][1])
