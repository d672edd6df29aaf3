"""Text masks that a person drew or corrected, as prompts of a pipeline: plain arrays, for every runtime.

Shapes: B batch, h, w LR pixels, H, W pixels of what the network makes.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from tadisr.arrays import resize

NO_PROMPTS = "The model takes no mask prompt: train one with mask_prompt: true."
OPAQUE = "text_mask is for opaque images: lay the image on a ground first."


def to_prompts(masks: Sequence[np.ndarray], sizes: Sequence[Sequence[int]], factor: int) -> list[np.ndarray]:
    """A person's masks of images of those LR `sizes` (h, w), as prompts (1, 2, factor h, factor w) float32.

    `masks`: planes (1, 3 or 4, rows, columns), as `tadisr.arrays.to_planes` makes them, one for each size. White is
    text, black is none, and where alpha is less than half the network decides. Each is of the size of its image, or of
    any size of the same aspect.

    Channel 0 of a prompt is the mask in [0, 1] where it is given and 0 elsewhere, channel 1 is 1 where it is given and
    0 where the network decides.

    Raises:
        ValueError: another number of masks, or one of another aspect.
    """
    if len(masks) != len(sizes):
        raise ValueError(f"Expected one text_mask for each of {len(sizes)} images, got {len(masks)}.")
    prompts = []
    for mask, (height, width) in zip(masks, sizes, strict=True):
        rows, columns = mask.shape[2:]
        if abs(rows * width / height - columns) > 1 and abs(columns * height / width - rows) > 1:
            raise ValueError(
                f"A text_mask of {columns}x{rows} pixels does not fit an image of {width}x{height}: make it as large "
                "as the image, or as its output."
            )
        given = (mask[:, 3:] > 0.5).astype(np.float32) if mask.shape[1] == 4 else np.ones_like(mask[:, :1])
        prompt = np.concatenate([mask[:, :3].mean(1, keepdims=True) * given, given], 1)
        size = (height * factor, width * factor)
        if prompt.shape[2:] != size:
            drawn, share = np.split(resize(prompt, size, Image.Resampling.BILINEAR), 2, axis=1)
            given = (share >= 0.5).astype(np.float32)
            prompt = np.concatenate([np.clip(drawn / np.maximum(share, 0.5), 0, 1) * given, given], 1)
        prompts.append(prompt)
    return prompts


def unshuffle(planes: np.ndarray, factor: int) -> np.ndarray:
    """Squares of pixels as channels: (B, C, factor h, factor w) to (B, C factor², h, w), as `torch.pixel_unshuffle`."""
    batch, channels, height, width = planes.shape
    squares = planes.reshape(batch, channels, height // factor, factor, width // factor, factor)
    return squares.transpose(0, 1, 3, 5, 2, 4).reshape(batch, -1, height // factor, width // factor)


def shuffle(planes: np.ndarray, factor: int) -> np.ndarray:
    """The way back: (B, C factor², h, w) to (B, C, factor h, factor w), as `torch.pixel_shuffle`."""
    batch, _, height, width = planes.shape
    squares = planes.reshape(batch, -1, factor, factor, height, width)
    return squares.transpose(0, 1, 4, 2, 5, 3).reshape(batch, -1, height * factor, width * factor)
