"""Restoring many images with Ray Data: a model for each worker of a cluster.

    import ray
    from tadisr.ray import Restore

    photos = ray.data.read_parquet("photos/")  # or read_images, read_binary_files, from_huggingface
    restored = photos.map_batches(Restore, fn_constructor_kwargs={"column": "image"}, batch_size=8, concurrency=4)
    restored.write_parquet("restored/")

`num_gpus=0.25` gives each worker a quarter of a GPU. `concurrency` must leave processors for those who read and write:
where workers take all, Ray waits for ever. For files in folders there is `tadisr upscale --backend ray`.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.arrays import to_images, to_planes
from tadisr.io.images import ImageError, encode_png, read_image
from tadisr.io.messages import one_line
from tadisr.loading.load import load
from tadisr.transparency import seen


class Restore:
    """For `ray.data.Dataset.map_batches`, with batches of NumPy arrays, Ray's default.

    To each row it adds `restored` and `text_mask`, PNG files as bytes, and `error`, why an image could not be restored;
    that row's images are empty then, and the others are unharmed. Transparent images are laid on the ground that shows
    them.

    Args:
        model: as for `tadisr.load`, as are device, dtype and runtime.
        column: where the images are: the bytes of files, arrays (H, W, 3), (H, W, 4) or (H, W), or the records
            {"bytes", "path"} that `datasets` writes to Parquet.
        options: for `Restorer.restore`, such as scale, tile and fidelity.

    Raises:
        ValueError: a model or options that cannot be used.
        KeyError: when it is called on batches without that column.
    """

    def __init__(
        self, model: str = "tadisr-tiny", column: str = "image", device: str = "auto", dtype: str = "auto",
        runtime: str = "auto", **options: Any,
    ):  # fmt: skip
        self.column, self.options = column, options
        self._restorer = load(model, device, dtype, "TADiSRPipeline", runtime)

    def __call__(self, batch: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The batch with three more columns."""
        if self.column not in batch:
            raise KeyError(f"The batch has no column {self.column!r}; it has {', '.join(map(repr, batch))}.")
        rows = [self._row(value) for value in batch[self.column]]
        columns = zip(*rows, strict=True) if rows else ((), (), ())
        added = zip(("restored", "text_mask", "error"), columns, strict=True)
        return {**batch, **{name: np.array(values, object) for name, values in added}}

    def _row(self, value: Any) -> tuple[bytes, bytes, str]:
        try:
            (pixels,) = seen(_pixels(value))
            result = self._restorer.restore(pixels, **self.options)
        except (ImageError, MemoryError) as error:
            return b"", b"", one_line(error)
        assert result.mask is not None  # a TADiSR model always gives one
        return encode_png(result.image), encode_png(result.mask), ""


def _pixels(value: Any) -> np.ndarray:
    """(H, W, 3 or 4) uint8; ImageError where it is no image."""
    if isinstance(value, Mapping):  # Parquet of `datasets`
        if value.get("bytes") is None and value.get("path"):
            return read_image(value["path"]).pixels
        value = value.get("bytes") or b""
    if isinstance(value, bytes | bytearray):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "image")
            path.write_bytes(value)
            try:
                return read_image(path).pixels
            except ImageError as error:
                raise ImageError(str(error).replace(str(path), "the image")) from None
    try:
        return to_images(to_planes(np.asarray(value))[0], "uint8")[0]
    except (TypeError, ValueError) as error:
        raise ImageError(one_line(error)) from None
