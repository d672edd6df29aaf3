"""Cut an image into overlapping tiles and blend what comes back, without ever holding more than one result more."""

from collections.abc import Callable, Iterator, Sequence

import torch

Window = tuple[int, int]


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
    progress: Callable[[Iterator], Iterator] = iter,
) -> tuple[torch.Tensor, ...]:
    """Apply `function` to every tile and blend each of its results with the same windows.

    Args:
        function: (1, C, h, w) to a tuple of (1, C', scale h, scale w).
        image: (1, C, H, W), on any device; tiles are views of it.
        tile, overlap: in pixels of `image`.
        scale: how much larger the results are.
        progress: wraps the iterator over tiles.

    Returns:
        The blended results, float32 on the CPU, (1, C', scale H, scale W). Where an image fits one tile, exactly what
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
    for rows, columns in progress(grid):
        results = function(image[..., slice(*rows), slice(*columns)])
        spans = [(start * scale, stop * scale) for start, stop in (rows, columns)]
        weight_rows, weight_columns = (
            blend_weights(span, length * scale, overlap * scale) / total[slice(*span)]
            for span, length, total in zip(spans, (height, width), totals, strict=True)
        )
        if not sums:
            sums = [torch.zeros(*result.shape[:2], height * scale, width * scale) for result in results]
        for total, result in zip(sums, results, strict=True):
            total[..., slice(*spans[0]), slice(*spans[1])] += (
                result.float().cpu() * weight_rows[:, None] * weight_columns
            )
    return tuple(sums)


def auto_tile(dtype: torch.dtype, device: torch.device, widest: int, smallest: int = 256, largest: int = 1024) -> int:
    """Side of a tile, in output pixels, that fits the memory free now; a multiple of 64.

    Both decoder streams hold about a dozen full-size feature maps at once, an eighth of them at the VAE's full width.
    """
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        free = psutil.virtual_memory().available
    bytes_per_pixel = 12 * max(widest // 4, 16) * dtype.itemsize
    side = int((0.5 * free / bytes_per_pixel) ** 0.5) // 64 * 64
    return min(max(side, smallest), largest)
