"""Real-CE: the same Chinese and English scenes at two focal lengths."""

from pathlib import Path

import cv2
import numpy as np

from tadisr.evaluation.pairs import Line, Pair, Pairs, list_images
from tadisr.io.images import image_size, read_image


class RealCEPairs(Pairs):
    """Real-CE: 13 mm as LR, 52 mm as HR.

    The images of a pair come in one size; as in the authors' loader, the LR image is reduced (cubic) to a `scale`-th of
    the HR image, whose rest at the right and bottom is cut off.
    """

    ANNOTATIONS = {"val": ("annos", "", "gb18030"), "train": ("trans_annos_52mm_renov", "res_", "utf-8")}

    def __init__(self, root: Path, split: str, scale: int):
        if split not in self.ANNOTATIONS:
            raise ValueError(f"Real-CE has the splits {', '.join(self.ANNOTATIONS)}, not {split}.")
        self.name, self.scale = f"Real-CE {split}", scale
        self.note = f"LR: 13 mm, resized (cubic) to a {scale}th of the 52 mm image; HR: 52 mm, cut to a multiple"
        self._lr, self._hr = (list_images(root / split / focal) for focal in ("13mm", "52mm"))
        folder, self._prefix, self._encoding = self.ANNOTATIONS[split]
        self._annotations = root / split / folder
        self._names = sorted(self._lr.keys() & self._hr.keys())
        chosen = root / split / "valid_list.txt"
        if chosen.is_file():
            wanted = [Path(line.strip()).stem for line in chosen.read_text(encoding="utf-8").splitlines()]
            wanted = [name for name in wanted if name]
            if missing := sorted(set(wanted) - set(self._names)):
                raise ValueError(f"{chosen} names {missing[0]}, which is not in both 13mm/ and 52mm/.")
            self._names = sorted(set(wanted))
        if not self._names:
            raise FileNotFoundError(f"No images that are both in 13mm/ and in 52mm/ of {root / split}.")

    def names(self) -> list[str]:
        return list(self._names)

    def size(self, i: int) -> tuple[int, int]:
        height, width = image_size(self._hr[self._names[i]])
        return height // self.scale, width // self.scale

    def __getitem__(self, i: int) -> Pair:
        name = self._names[i]
        lr, hr = (read_image(files[name]).rgb for files in (self._lr, self._hr))
        height, width = (side // self.scale for side in hr.shape[:2])
        if min(height, width) < 1:
            raise ValueError(f"{self._hr[name]} is smaller than {self.scale} pixels.")
        if lr.shape[:2] != (height, width):
            lr = cv2.resize(lr, (width, height), interpolation=cv2.INTER_CUBIC)
        lines = []
        if self._annotations.is_dir():
            lines = read_annotation(self._annotations / f"{self._prefix}{name}.txt", self._encoding)
        hr = np.ascontiguousarray(hr[: height * self.scale, : width * self.scale])
        return Pair(name, lr, hr, str(self._hr[name]), lines)


def read_annotation(path: Path, encoding: str) -> list[Line]:
    """Lines of text, "x1,y1,x2,y2,x3,y3,x4,y4,TEXT" each.

    Raises:
        ValueError: missing, in another encoding, or a line without eight numbers and a text.
    """
    try:
        text = path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not encoded in {encoding}.") from None
    lines = []
    for number, row in enumerate(text.splitlines(), 1):
        if row.strip():
            *numbers, said = row.split(",", 8)
            try:
                lines.append(Line(said.strip(), np.array(numbers, np.float32).reshape(4, 2)))
            except ValueError:
                raise ValueError(
                    f"{path}, line {number}: expected eight coordinates and a text, got {row!r}."
                ) from None
    return lines
