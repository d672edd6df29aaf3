"""Cut an image into overlapping tiles and blend what comes back, without ever holding more than one result more."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice

import torch

logger = logging.getLogger(__name__)
Window = tuple[int, int]
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


def blend_weights(window: Window, length: int, overlap: int, device: torch.device | str = "cpu") -> torch.Tensor:
    """Raised-cosine ramp over `overlap` at the sides of a window that have a neighbour, else 1; (stop - start,)."""
    start, stop = window
    weights = torch.ones(stop - start, device=device)
    ramp = 0.5 - 0.5 * torch.cos(torch.pi * (torch.arange(overlap, device=device) + 0.5) / max(overlap, 1))
    if overlap and start > 0:
        weights[:overlap] *= ramp
    if overlap and stop < length:
        weights[-overlap:] *= ramp.flip(0)
    return weights


def tile_grid(height: int, width: int, tile: int, overlap: int) -> list[tuple[Window, Window]]:
    """All (rows, columns) windows of an image, row by row."""
    return [(rows, columns) for rows in windows(height, tile, overlap) for columns in windows(width, tile, overlap)]


def run_tiled(
    function: Callable[[torch.Tensor], Sequence[torch.Tensor]],
    image: torch.Tensor,
    tile: int,
    overlap: int,
    scale: int,
    progress: Callable[[Iterable], Iterable] = iter,
    batch: int = 1,
) -> tuple[torch.Tensor, ...]:
    """Apply `function` to every tile and blend each of its results with the same windows.

    Args:
        function: (N, C, h, w) to a tuple of (N, C', scale h, scale w).
        image: (B, C, H, W), on any device.
        tile, overlap: in pixels of `image`.
        scale: how much larger the results are.
        progress: wraps the iterator over tiles.
        batch: how many tiles of each image at most `function` gets at a time.

    Returns:
        The blended results, float32 on the CPU, (B, C', scale H, scale W). Where an image fits one tile, exactly what
        `function` returned for the whole.
    """
    height, width = image.shape[-2:]
    grid = tile_grid(height, width, tile, overlap)
    if len(grid) == 1:
        return tuple(result.float().cpu() for result in function(image))
    sums: list[torch.Tensor] = []
    # Weights are separable, so their total is the outer product of the totals along each side.
    totals = [torch.zeros(length * scale) for length in (height, width)]
    for axis, length in enumerate((height, width)):
        for start, stop in windows(length, tile, overlap):
            window = (start * scale, stop * scale)
            totals[axis][slice(*window)] += blend_weights(window, length * scale, overlap * scale)
    tiles = iter(progress(grid))
    while chunk := list(islice(tiles, batch)):
        results = function(torch.cat([image[..., slice(*rows), slice(*columns)] for rows, columns in chunk]))
        if not sums:
            sums = [torch.zeros(len(image), result.shape[1], height * scale, width * scale) for result in results]
        results = [result.unflatten(0, (len(chunk), len(image))) for result in results]
        for number, window in enumerate(chunk):
            spans = [(start * scale, stop * scale) for start, stop in window]
            weight_rows, weight_columns = (
                blend_weights(span, length * scale, overlap * scale) / total[slice(*span)]
                for span, length, total in zip(spans, (height, width), totals, strict=True)
            )
            for total, result in zip(sums, results, strict=True):
                total[..., slice(*spans[0]), slice(*spans[1])] += (
                    result[number].float().cpu() * weight_rows[:, None] * weight_columns
                )
    return tuple(sums)


def auto_tile(dtype: torch.dtype, device: torch.device, widest: int, smallest: int = 256, largest: int = 1024) -> int:
    """Side of a tile, in output pixels, that fits the memory free now; a multiple of 64.

    Both decoder streams hold about a dozen full-size feature maps at once, an eighth of them at the VAE's full width.
    """
    if device.type in ("cuda", "xpu"):
        memory = getattr(torch, device.type)  # what its allocator keeps for the next tile is free, too
        free = memory.mem_get_info(device)[0] + memory.memory_reserved(device) - memory.memory_allocated(device)
    else:
        import psutil

        free = psutil.virtual_memory().available
    bytes_per_pixel = 12 * max(widest // 4, 16) * dtype.itemsize
    side = int((0.5 * free / bytes_per_pixel) ** 0.5) // 64 * 64
    return min(max(side, smallest), largest)


def auto_batch(tile: int, largest: int) -> int:
    """How many tiles to restore at a time where memory is enough for one of side `largest`; both in output pixels.

    >>> [auto_batch(tile, 1024) for tile in (128, 192, 256, 512, 1024)]
    [16, 4, 4, 1, 1]
    """
    return max(1, min(BATCH_SIDE, largest) // tile) ** 2


def alike(images: Sequence[torch.Tensor], scale: int, fits: int) -> Iterator[list[torch.Tensor]]:
    """Neighbours of one size, (1, C, h, w) each, in groups of at most `fits` or `BATCH_SIDE` squared output pixels."""
    for ((height, width), _), group in groupby(images, key=lambda image: (image.shape[-2:], image.device)):
        count = max(1, min(BATCH_SIDE, fits) ** 2 // (height * width * scale**2))
        while some := list(islice(group, count)):
            yield some


class TilePlan:
    """How large tiles are and how many are restored at a time, and what to try where memory is not enough.

    Args:
        tile: as asked for: side in output pixels; "auto"; None: no tiles.
        batch: tiles at a time as asked for; None: as many as are faster and fit.
        whole: the image's longer side, in output pixels.
        fits: side of a tile that should fit the memory.
    """

    def __init__(self, tile: int | str | None, batch: int | None, whole: int, fits: int):
        self.tile_is_given, self.batch_is_given = tile != "auto", batch is not None
        self.side = min(fits if tile == "auto" else tile or whole, whole)
        self.batch = batch or (auto_batch(tile, fits) if isinstance(tile, int) else 1)

    def shrink(self) -> None:
        """After an out-of-memory error: tiles one by one, or of half the side. What was asked for stays as it is.

        Raises:
            MemoryError: nothing is left to try; the message says what else can be done.
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
