"""Any dataset of the HuggingFace `datasets` library with a column of images."""

from pathlib import Path
from typing import Any

from tadisr.data_synthesis.sources.source import Sample, Source, image_size, open_gray, open_image


class Table(Source):
    """A dataset saved with `save_to_disk`, a folder that `load_dataset` takes (Parquet, ImageFolder), or a Hub id.

    image: the column of images (default: the first one). mask, text: optional columns of stroke masks (255, or 1 in
    two-valued ones, where strokes are) and of strings; with one of them the samples are crops, else backgrounds.
    config: the dataset's configuration, where it has several. revision: of the Hub repository.
    """

    def __init__(
        self,
        path: str | None = None,
        split: str = "train",
        image: str | None = None,
        mask: str | None = None,
        text: str | None = None,
        config: str | None = None,
        revision: str | None = None,
    ):
        if path is None:
            raise FileNotFoundError("A dataset needs a path: datasets:PATH, a folder or a Hub id.")
        try:
            from datasets import Image
        except ImportError:
            message = "Reading tables of images needs the package datasets: pip install 'tadisr[synth]'."
            raise ImportError(message) from None
        data = _load(path, split, config, revision)
        images = [name for name, feature in data.features.items() if isinstance(feature, Image)]
        columns = ", ".join(data.column_names)
        if image is None and not images:
            raise ValueError(f"{path} has no column of images; its columns are {columns}.")
        self._image, self._mask, self._text = image or images[0], mask, text
        for column in filter(None, (image, mask)):
            if column not in images:
                known = ", ".join(images) or "none at all"
                raise ValueError(f"{path} has no column of images {column!r}, but {known}.")
        if text is not None and getattr(data.features.get(text), "dtype", None) not in ("string", "large_string"):
            raise ValueError(f"{path} has no column of strings {text!r}; its columns are {columns}.")
        data = data.select_columns([column for column in (self._image, mask, text) if column])
        for column in filter(None, (self._image, mask)):
            data = data.cast_column(column, Image(decode=False))
        self._data, self._where, self._split = data, f"{path} ({split})", split
        self.name = Path(path).name
        self.kind = "crops" if mask or text else "backgrounds"
        self.licence = data.info.license or "unknown"
        self.home = data.info.homepage or ("the user's own" if Path(path).expanduser().exists() else path)
        self.version = revision or str(data.info.version or "unknown")

    def __len__(self) -> int:
        return len(self._data)

    def names(self) -> list[str]:
        return [f"{self._split}/{i:07d}" for i in range(len(self))]

    def _file(self, row: dict[str, Any], column: str, i: int) -> tuple[Path | bytes, str]:
        """The encoded image and its name in errors."""
        where = f"{self._where}, row {i}, column {column}"
        value = row[column]
        if not value or not (value["bytes"] or value["path"]):
            raise ValueError(f"{where} is empty.")
        return value["bytes"] or Path(value["path"]), where

    def __getitem__(self, i: int) -> Sample:
        i = range(len(self))[i]
        row = self._data[i]
        image = open_image(*self._file(row, self._image, i))
        mask = None
        if self._mask is not None:
            mask = open_gray(*self._file(row, self._mask, i))
            if mask.shape != image.shape[:2]:
                raise ValueError(f"{self._where}, row {i}: the image is {image.shape[:2]}, its mask {mask.shape}.")
            mask = mask * 255 if mask.max() <= 1 else mask
        return Sample(image, f"{self._split}/{i:07d}", mask, row[self._text] if self._text else None)

    def size(self, i: int) -> tuple[int, int]:
        i = range(len(self))[i]
        return image_size(*self._file(self._data[i], self._image, i))


def _load(path: str, split: str, config: str | None, revision: str | None) -> Any:
    """The `datasets.Dataset`."""
    from datasets import Dataset, DatasetDict, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    folder = Path(path).expanduser()
    try:
        if any((folder / name).is_file() for name in ("state.json", "dataset_dict.json")):
            data = load_from_disk(str(folder))
        else:
            data = load_dataset(str(folder) if folder.exists() else path, config, split=split, revision=revision)
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, OSError):
            raise ValueError(f"{path} cannot be loaded as a dataset: {reason}") from None
        # no such folder or Hub repository, no access, no network
        known = f"No dataset {path}: it must be a folder that datasets loads, or a Hub id ({reason})."
        raise FileNotFoundError(known) from None
    if isinstance(data, DatasetDict):
        if split not in data:
            raise ValueError(f"{path} has no split {split!r}: known are {', '.join(map(str, data))}.")
        data = data[split]
    if not isinstance(data, Dataset):
        raise ValueError(f"{path}: expected a table of samples, got {type(data).__name__}.")
    return data
