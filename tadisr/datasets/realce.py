"""Real-CE: the same Chinese and English scenes at three focal lengths, with the text of the 52 mm images."""

from pathlib import Path

import cv2
import numpy as np

from tadisr.datasets.folders import AnnotatedLine, list_images

ANNOTATIONS = {"val": ("annos", "", "gb18030"), "train": ("trans_annos_52mm_renov", "res_", "utf-8")}
"""By split: the folder and the prefix of the annotations, and their encoding."""


class RealCE:
    """The pairs of one split, a key of `ANNOTATIONS`: `files` is {name: (LR file, HR file)}, sorted by name.

    `lr`, `hr`: folders of the two focal lengths. `encoding`: of the annotations; None: the official one.
    """

    def __init__(self, root: Path, split: str, lr: str = "13mm", hr: str = "52mm", encoding: str | None = None):
        folder, self._prefix, official = ANNOTATIONS[split]
        self.folder, self._encoding = root / split, encoding or official
        self._annotations = self.folder / folder
        small, large = (list_images(self.folder / focal) for focal in (lr, hr))
        self.files = {name: (small[name], large[name]) for name in sorted(small.keys() & large.keys())}

    def lines(self, name: str) -> list[AnnotatedLine]:
        """The text of pair `name`, see `read_annotation`; empty in a copy without annotations."""
        if not self._annotations.is_dir():
            return []
        return read_annotation(self._annotations / f"{self._prefix}{name}.txt", self._encoding)


def align(lr: np.ndarray, hr: np.ndarray, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """A pair as the authors' loader makes it of two images in any sizes.

    The LR image is resized (cubic) to a `scale`-th of the HR image; the HR image is cut at the right and bottom to a
    multiple of `scale`.
    """
    height, width = (side // scale for side in hr.shape[:2])
    if lr.shape[:2] != (height, width):
        lr = cv2.resize(lr, (width, height), interpolation=cv2.INTER_CUBIC)
    return lr, np.ascontiguousarray(hr[: height * scale, : width * scale])


def read_annotation(path: Path, encoding: str) -> list[AnnotatedLine]:
    """Lines "x1,y1,x2,y2,x3,y3,x4,y4,TEXT", in pixels of the 52 mm image; corners as float32.

    ValueError for a file that is missing or in another encoding, and for a line without eight numbers and a text.
    """
    try:
        text = path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not encoded in {encoding}.") from None
    lines: list[AnnotatedLine] = []
    for number, row in enumerate(text.splitlines(), 1):
        if row.strip():
            *numbers, said = row.split(",", 8)
            try:
                lines.append({"text": said.strip(), "quad": np.array(numbers, np.float32).reshape(4, 2)})
            except ValueError:
                message = f"{path}, line {number}: expected eight coordinates and a text, got {row!r}."
                raise ValueError(message) from None
    return lines
