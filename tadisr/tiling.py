"""Tiles of an image and their blending, on plain arrays; memory holds one batch of them beside the whole result."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)
Window = tuple[int, int]
MIN_SIDE = 64  # output pixels: smaller images are padded, so that every normalisation has something to measure
LEAST_TILE = 128  # output pixels: below it a tile is hardly more than overlap
BATCH_SIDE = 512  # output pixels: tiles or images that make up such a square together are as fast as one of that size


def windows(length: int, tile: int, overlap: int) -> list[Window]:
    """`[start, stop)` spans of `tile` that cover `length` with at least `overlap` in common.

    The last one shifts inward rather than shrink; a length below `tile` gives one span of that length.

    >>> windows(10, 4, 1)
    [(0, 4), (3, 7), (6, 10)]
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"The overlap must be at least 0 and less than the tile, got overlap {overlap}, tile {tile}.")
    if length <= tile:
        return [(0, length)]
    count = -(-(length - overlap) // (tile - overlap))
    return [(start, start + tile) for start in (min(i * (tile - overlap), length - tile) for i in range(count))]


def blend_weights(window: Window, length: int, overlap: int) -> np.ndarray:
    """Weights of one window's pixels, (stop - start,) float32: 1, and a raised-cosine ramp over `overlap` at each side
    that has a neighbour."""
    start, stop = window
    weights = np.ones(stop - start, np.float32)
    ramp = 0.5 - 0.5 * np.cos(np.pi * (np.arange(overlap, dtype=np.float32) + 0.5) / max(overlap, 1))
    if overlap and start > 0:
        weights[:overlap] *= ramp
    if overlap and stop < length:
        weights[-overlap:] *= ramp[::-1]
    return weights


def tile_grid(height: int, width: int, tile: int, overlap: int) -> list[tuple[Window, Window]]:
    """All (rows, columns) windows of an image, row by row."""
    return [(rows, columns) for rows in windows(height, tile, overlap) for columns in windows(width, tile, overlap)]


def regions_around(quads: Iterable[np.ndarray], height: int, width: int, margin: int) -> list[tuple[Window, Window]]:
    """Upright (rows, columns) windows that hold every quad, (4, 2) of x and y, with a margin, and do not meet.

    >>> regions_around([np.array([[10, 10], [30, 10], [30, 20], [10, 20]])], 40, 100, 4)
    [((6, 24), (6, 34))]
    """
    boxes: list[tuple[int, int, int, int]] = []
    for quad in quads:
        (left, top), (right, bottom) = np.floor(quad.min(axis=0)) - margin, np.ceil(quad.max(axis=0)) + margin
        box = max(0, int(top)), min(height, int(bottom)), max(0, int(left)), min(width, int(right))
        while met := [x for x in boxes if box[0] < x[1] and x[0] < box[1] and box[2] < x[3] and x[2] < box[3]]:
            boxes = [x for x in boxes if x not in met]
            tops, bottoms, lefts, rights = zip(box, *met, strict=True)
            box = min(tops), max(bottoms), min(lefts), max(rights)
        if box[0] < box[1] and box[2] < box[3]:
            boxes.append(box)
    return [((top, bottom), (left, right)) for top, bottom, left, right in sorted(boxes)]


def run_tiled(
    function: Callable[[np.ndarray], Sequence[np.ndarray]],
    image: np.ndarray,
    tile: int,
    overlap: int,
    scale: int,
    progress: Callable[[Iterable], Iterable] = iter,
    batch: int = 1,
) -> tuple[np.ndarray, ...]:
    """Apply `function` to every tile and blend each of its results with the same windows.

    Args:
        function: (N, C, h, w) to several arrays (N, C', scale h, scale w).
        image: (B, C, H, W).
        tile, overlap: in pixels of `image`.
        scale: factor from `image` to the results.
        progress: wraps the iterator over tiles.
        batch: largest number of tiles of each image that `function` gets at a time.

    Returns:
        The blended results, (B, C', scale H, scale W) float32. Where an image fits one tile, the very values that
        `function` returned.
    """
    height, width = image.shape[-2:]
    grid = tile_grid(height, width, tile, overlap)
    if len(grid) == 1:
        return tuple(np.asarray(result, np.float32) for result in function(image))
    size, ramp = (height * scale, width * scale), overlap * scale
    # Weights are separable, so their total is the outer product of the totals along each side.
    weights = []
    for length in size:
        along = {window: blend_weights(window, length, ramp) for window in windows(length, tile * scale, ramp)}
        total = np.zeros(length, np.float32)
        for window, values in along.items():
            total[slice(*window)] += values
        weights.append({window: values / total[slice(*window)] for window, values in along.items()})
    sums: list[np.ndarray] = []
    tiles = iter(progress(grid))
    while chunk := list(islice(tiles, batch)):
        results = function(np.concatenate([image[..., slice(*rows), slice(*columns)] for rows, columns in chunk]))
        if not sums:
            sums = [np.zeros((len(image), result.shape[1], *size), np.float32) for result in results]
        for number, spans in enumerate(chunk):
            rows, columns = ((start * scale, stop * scale) for start, stop in spans)
            of_tile = slice(number * len(image), (number + 1) * len(image))
            for total, result in zip(sums, results, strict=True):
                weighted = np.multiply(result[of_tile], weights[0][rows][:, None], dtype=np.float32)
                weighted *= weights[1][columns]
                total[..., slice(*rows), slice(*columns)] += weighted
    return tuple(sums)


def auto_tile(free: int, itemsize: int, widest: int) -> int:
    """Side of a tile, in output pixels, that fits the free memory; a multiple of 64 from 256 to 1024.

    Both decoder streams hold about a dozen full-size feature maps at once, an eighth of them at the VAE's full width.
    `free`: bytes; `itemsize`: bytes of a value; `widest`: channels of the VAE's widest block.
    """
    bytes_per_pixel = 12 * max(widest // 4, 16) * itemsize
    side = int((0.5 * free / bytes_per_pixel) ** 0.5) // 64 * 64
    return min(max(side, 256), 1024)


def auto_batch(tile: int, largest: int) -> int:
    """How many tiles to restore at a time where memory is enough for one of side `largest`; both in output pixels.

    >>> [auto_batch(tile, 1024) for tile in (128, 192, 256, 512, 1024)]
    [16, 4, 4, 1, 1]
    """
    return max(1, min(BATCH_SIDE, largest) // tile) ** 2


def group_by_size(images: Sequence[Any], scale: int, fits: int) -> Iterator[list[Any]]:
    """Neighbours of one shape, arrays or tensors (1, C, h, w), in groups that can be restored together.

    A group has at most `fits` or `BATCH_SIDE` squared output pixels; an image larger than that is a group of its own.
    """
    for (*_, height, width), neighbours in groupby(images, key=lambda image: tuple(image.shape)):
        count = max(1, min(BATCH_SIDE, fits) ** 2 // (height * width * scale**2))
        while group := list(islice(neighbours, count)):
            yield group


class TilePlan:
    """How large tiles are and how many are restored at a time, and what to try where memory is not enough.

    All sides are in output pixels. `tile`: the side asked for, "auto", or None for no tiles. `batch`: how many tiles
    at a time were asked for, or None for as many as are faster and fit. `whole`: the image's longer side. `fits`: a
    side that should fit the memory.
    """

    def __init__(self, tile: int | str | None, batch: int | None, whole: int, fits: int):
        self.tile_is_given, self.batch_is_given = tile != "auto", batch is not None
        self.side = min(fits if isinstance(tile, str) else tile or whole, whole)
        self.batch = batch or (auto_batch(tile, fits) if isinstance(tile, int) else 1)

    def shrink(self) -> None:
        """After an out-of-memory error: tiles one by one, or of half the side. What was asked for stays as it is.

        Raises MemoryError where nothing is left to try; the message says what else can be done.
        """
        smaller = max(self.side // 2 // 64 * 64, LEAST_TILE)
        if self.batch > 1 and not self.batch_is_given:
            logger.warning("Not enough memory for %d tiles of %d pixels at a time: now one.", self.batch, self.side)
            self.batch = 1
        elif smaller < self.side and not self.tile_is_given:
            logger.warning("Not enough memory for tiles of %d pixels: from now on %d.", self.side, smaller)
            self.side = smaller
        else:
            advice = "bfloat16, offloading to the CPU, or a smaller image"
            if smaller < self.side:
                advice = f'tile={smaller} or tile="auto"'
            if self.batch > 1:
                advice = "tile_batch=1"
            raise MemoryError(f"Not enough memory for {self.batch} x {self.side} x {self.side} pixels: try {advice}.")
