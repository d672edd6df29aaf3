"""The text of one enlargement in the picture of another, on plain arrays: its look stays, and its letters are ours.

Shapes: h, w pixels of the LR image, H, W of both enlargements.
"""

import numpy as np
from PIL import Image

from tadisr.arrays import fix_color, from_array, resize
from tadisr.transparency import sliding_maximum

TEXT = 0.25  # probability from which a pixel counts as text
_REACH = 3  # LR pixels around strokes that are ours as well: the gaps within letters, and between them
_FEATHER = 2  # LR pixels over which one picture passes into the other
_PATCH = 512  # pixels: the side of what the shift is measured on
_LEAST_SHIFT = 0.25  # pixels: less is not worth an interpolation
_CLEAR = 10  # standard deviations: noise has peaks of five among so many values


def text_share(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """How much of each pixel is to be ours, (H, W) float32 in [0, 1]; exactly 0 away from text.

    mask: (H, W) uint8, the probability of text; size: (h, w).
    """
    planes = (mask[None, None] >= round(255 * TEXT)).astype(np.float32)
    near = resize(planes, size, Image.Resampling.BOX)[0, 0] > 0
    share = sliding_maximum(near, _REACH + _FEATHER).astype(np.float32)
    for axis in (0, 1):
        padded = np.pad(share, [(_FEATHER, _FEATHER) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        sums = np.cumsum(np.insert(padded, 0, 0, axis), axis)
        length, width = share.shape[axis], 2 * _FEATHER + 1
        share = (sums.take(range(width, width + length), axis) - sums.take(range(length), axis)) / np.float32(width)
    share = np.where(sliding_maximum(near, _REACH + 2 * _FEATHER), share, 0)
    return resize(share[None, None], mask.shape, Image.Resampling.BILINEAR)[0, 0].clip(0, 1)


def shift_between(image: np.ndarray, other: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    """By how many pixels, down and right, `other` lies from `image`, both (H, W, 3) uint8, where most of `share` is.

    By phase correlation of their edges, to a fraction of a pixel. (0, 0) where there is nothing to measure, or where
    the two have too little in common.
    """
    rows, columns = (_busiest(share.sum(axis), _PATCH) for axis in (1, 0))
    patches = [_edges(x[rows, columns]) for x in (image, other)]
    window = np.outer(*(np.hanning(length + 2)[1:-1] for length in patches[0].shape))
    spectra = [np.fft.rfft2((patch - patch.mean()) * window) for patch in patches]
    cross = spectra[1] * spectra[0].conj()
    size = np.abs(cross)
    if not size.max() > 0:
        return 0.0, 0.0
    peak = np.fft.irfft2(cross / (size + 1e-3 * size.max()), patches[0].shape)
    row, column = np.unravel_index(int(peak.argmax()), peak.shape)
    if peak[row, column] < _CLEAR * peak.std():
        return 0.0, 0.0
    return _vertex(peak[:, column], int(row)), _vertex(peak[row], int(column))


def transplant(image: np.ndarray, restored: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image`, another method's enlargement, with the text of `restored`: (H, W, 3) uint8, and `image` away from text.

    What is taken is moved to where `image` has it, by at most an LR pixel, and gets `image`'s colours: low frequencies
    are exchanged.

    Args:
        image, restored: (H, W, 3) uint8.
        mask: (H, W) uint8, where the text of `restored` is, as a probability.
        size: (h, w).

    Raises:
        ValueError: images of different sizes.
    """
    if not image.shape[:2] == restored.shape[:2] == mask.shape:
        raise ValueError(f"The images and the mask must be of one size: {image.shape}, {restored.shape}, {mask.shape}.")
    share = text_share(mask, size)
    if not share.any():
        return image
    down, right = shift_between(restored, image, share)
    most = max(image.shape[0] / size[0], 1.0)
    if _LEAST_SHIFT < max(abs(down), abs(right)) <= most:
        restored, mask = (_moved(x, down, right) for x in (restored, mask))
        share = text_share(mask, size)
    ours, theirs = (from_array(x).astype(np.float32) / np.float32(255) for x in (restored, image))
    fix_color(ours, resize(theirs, size, Image.Resampling.BOX), "wavelet")
    mixed = theirs + share * (ours - theirs)
    return np.where(share[..., None] > 0, np.rint(mixed[0].transpose(1, 2, 0) * 255).astype(np.uint8), image)


def _busiest(sums: np.ndarray, length: int) -> slice:
    """The `length` places with the largest sum."""
    if len(sums) <= length:
        return slice(None)
    total = np.cumsum(np.insert(sums.astype(np.float64), 0, 0))
    start = int((total[length:] - total[:-length]).argmax())
    return slice(start, start + length)


def _edges(pixels: np.ndarray) -> np.ndarray:
    gray = pixels.astype(np.float32).mean(2)
    return np.hypot(*np.gradient(gray)) if min(gray.shape) > 1 else gray


def _vertex(values: np.ndarray, at: int) -> float:
    """Where the parabola through a circular maximum and its neighbours is highest, from minus half the length on."""
    length = len(values)
    before, middle, after = (float(values[(at + i) % length]) for i in (-1, 0, 1))
    bend = before - 2 * middle + after
    place = at + (0.5 * (before - after) / bend if bend else 0.0)
    return place - length if place > length / 2 else place


def _moved(pixels: np.ndarray, down: float, right: float) -> np.ndarray:
    """An image or a mask, uint8, so many pixels further down and to the right; what comes in repeats the edge."""
    reach = int(np.ceil(max(abs(down), abs(right)))) + 2
    padded = np.pad(pixels, [(reach, reach)] * 2 + [(0, 0)] * (pixels.ndim - 2), mode="edge")
    height, width = pixels.shape[:2]
    place = (1, 0, reach - right, 0, 1, reach - down)
    moved = Image.fromarray(padded).transform(
        (width, height), Image.Transform.AFFINE, place, resample=Image.Resampling.BICUBIC
    )
    return np.asarray(moved)
