"""Plans of `draw_plan` carried out on batches of square images by PyTorch, on whatever device they are.

The same steps as in `steps`, but for rounding and the random numbers of the noise. Images of a batch may be of
different sizes on the way: each lies in the top left corner of its canvas. Shapes: R rows of a batch, S their canvas.
"""

from collections import deque
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from tadisr.data_synthesis.degrade import steps as by_processor
from tadisr.data_synthesis.degrade.kernels import gaussian_vector
from tadisr.data_synthesis.degrade.steps import (
    GAMMA,
    Blur,
    Chroma,
    Jpeg,
    Noise,
    Resize,
    Scratch,
    Sharpen,
    Step,
    WebP,
    resize,
)
from tadisr.io.images import LUMA

_ROUND = 4  # steps of one round at most
_YCC = (LUMA, (-0.168735892, -0.331264108, 0.5), (0.5, -0.418687589, -0.081312411))
# Annex K of the JPEG standard, as libjpeg has them.
_TABLES = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99",
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99" + " 99" * 32,
)


def degrade_batch(
    images: torch.Tensor, plans: Sequence[Sequence[Step]], generator: torch.Generator | None = None
) -> torch.Tensor:
    """Each image after all steps of its plan: (B, 3, S, S) to (B, 3, s, s), float32, whole numbers from 0 to 255.

    All plans end at one size. `generator`, of the images' device, draws the noise: the seeds in the plans are not used.
    ValueError for images that are not square, or a number of plans that is not B.
    """
    if images.shape[-1] != images.shape[-2] or len(plans) != len(images):
        raise ValueError(f"Expected {len(plans)} square images, one a plan, got {tuple(images.shape)}.")
    images = images.float()
    todo, sizes = [deque(plan) for plan in plans], np.full(len(plans), images.shape[-1])
    while any(todo):
        # Longer plans first: then all images go through their last steps together, and they are small by then.
        active = [i for i, steps in enumerate(todo) if len(steps) > _ROUND] or range(len(todo))
        for kind, function in FUNCTIONS.items():
            rows = [i for i in active if todo[i] and type(todo[i][0]) is kind]
            if not rows:
                continue
            steps, side = [todo[i].popleft() for i in rows], int(sizes[rows].max())
            index = torch.tensor(rows, device=images.device)
            part = function(images[index, :, :side, :side], steps, sizes[rows], generator)
            if kind is Resize:
                sizes[rows] = [step.width for step in steps if isinstance(step, Resize)]
            side = int(sizes.max())
            images = F.pad(images, [0, max(0, side - images.shape[-1])] * 2)[..., :side, :side].contiguous()
            part = part[..., :side, :side]
            images[index, :, : part.shape[-2], : part.shape[-1]] = part
    if (sizes != sizes[0]).any():
        raise ValueError(f"The plans end at different sizes: {sorted(set(sizes.tolist()))}.")
    return _rounded(images)


def _rounded(x: torch.Tensor) -> torch.Tensor:
    return x.round().clamp_(0, 255)


def _numbers(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(-1, 1, 1, 1)


def _taken(x: torch.Tensor, rows: np.ndarray, columns: np.ndarray | None = None) -> torch.Tensor:
    """Every image at `rows` (R, n) and `columns`, else the same: (R, C, S, S) to (R, C, n, n)."""
    down, right = (torch.from_numpy(places).to(x.device) for places in (rows, rows if columns is None else columns))
    x = x.gather(2, down[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
    return x.gather(3, right[:, None, None, :].expand(-1, x.shape[1], x.shape[2], -1))


def _extended(x: torch.Tensor, sizes: np.ndarray, side: int) -> torch.Tensor:
    """Each image's last row and column repeated up to `side`."""
    return _taken(x, np.minimum(np.arange(side), sizes[:, None] - 1))


def _blur(x: torch.Tensor, steps: Sequence[Blur], sizes: np.ndarray, _: torch.Generator | None) -> torch.Tensor:
    kernels = [np.outer(s.kernel, s.kernel) if s.kernel.ndim == 1 else s.kernel for s in steps]
    reach = max(max(kernel.shape) for kernel in kernels) // 2
    padded = np.zeros((len(kernels), 2 * reach + 1, 2 * reach + 1), np.float32)
    for whole, kernel in zip(padded, kernels, strict=True):
        (down, right) = (reach - side // 2 for side in kernel.shape)
        whole[down : down + kernel.shape[0], right : right + kernel.shape[1]] = kernel
    last = sizes[:, None] - 1
    mirrored = (last - np.abs(last - np.abs(np.arange(-reach, x.shape[-1] + reach)))).clip(0, last)
    light = _numbers([step.light for step in steps], x) > 0
    x = torch.where(light, 255 * (x / 255).clamp(min=0) ** GAMMA, x)
    x = _taken(x, mirrored)
    weight = torch.from_numpy(padded).to(x.device).repeat_interleave(3, 0)[:, None]
    height, width = (side - 2 * reach for side in x.shape[-2:])
    x = F.conv2d(x.reshape(1, -1, *x.shape[-2:]), weight, groups=len(weight)).view(len(x), 3, height, width)
    return torch.where(light, 255 * (x / 255).clamp(min=0) ** (1 / GAMMA), x)


@lru_cache(maxsize=512)
def resizing(before: int, after: int, mode: str) -> np.ndarray:
    """(after, before): what OpenCV makes of a line of pixels, as a matrix."""
    lines = np.repeat(np.eye(before, dtype=np.float32)[..., None], 3, 2)
    if mode == "area" and after > before:  # along one axis alone OpenCV would do something else
        wide = [resize(np.ascontiguousarray(lines[i : i + 1]), Resize(1, after, mode), Scratch())[0, :, 0].copy()
                for i in range(before)]  # fmt: skip
        return np.stack(wide, 1)
    return resize(lines, Resize(after, before, mode), Scratch())[..., 0].copy()


def _resize(x: torch.Tensor, steps: Sequence[Resize], sizes: np.ndarray, _: torch.Generator | None) -> torch.Tensor:
    if any(step.width != step.height for step in steps):
        raise ValueError("Only squares are resized in batches.")
    keys = [(int(size), step.width, step.mode) for size, step in zip(sizes, steps, strict=True)]
    known = list(dict.fromkeys(keys))
    matrices = np.zeros((len(known), max(key[1] for key in known), x.shape[-1]), np.float32)
    for whole, key in zip(matrices, known, strict=True):
        whole[: key[1], : key[0]] = resizing(*key)
    chosen = torch.tensor([known.index(key) for key in keys], device=x.device)
    weight = torch.from_numpy(matrices).to(x.device)[chosen][:, None]
    return weight @ x @ weight.transpose(-1, -2)


def _noise(x: torch.Tensor, steps: Sequence[Noise], sizes: np.ndarray, generator: torch.Generator | None):
    drawn = torch.randn(x.shape, generator=generator, device=x.device)
    gray = _numbers([step.gray for step in steps], x) > 0
    rows = [i for i, step in enumerate(steps) if step.kind == "poisson"]
    if rows:
        index = torch.tensor(rows, device=x.device)
        drawn[index] = _photon_noise(_extended(x[index], sizes[rows], x.shape[-1]), gray[index], generator)
    drawn = torch.where(gray, drawn[:, :1], drawn)
    return drawn.mul_(_numbers([step.strength for step in steps], x)).add_(x).clamp_(0, 255)


def _photon_noise(x: torch.Tensor, gray: torch.Tensor, generator: torch.Generator | None) -> torch.Tensor:
    """Photon noise of as many photons, at full brightness, as the image has levels, rounded up to a power of two."""
    luma = torch.einsum("rchw,c->rhw", x, x.new_tensor(LUMA))[:, None].expand_as(x)
    levels = _rounded(torch.where(gray, luma, x))
    photons = 2 ** torch.log2((histogram(levels) > 0).sum(1).float()).ceil().view(-1, 1, 1, 1)
    return torch.poisson(levels * (photons / 255), generator) * (255 / photons) - levels


def histogram(levels: torch.Tensor) -> torch.Tensor:
    """How often each image has each level: whole numbers from 0 to 255, (R, ...) to (R, 256)."""
    levels = levels.flatten(1).long()
    counts = torch.zeros(len(levels), 256, device=levels.device)
    return counts.scatter_add_(1, levels, torch.ones_like(levels, dtype=torch.float32))


@cache
def _quantisation(quality: int) -> np.ndarray:
    """libjpeg's tables for luma and chroma, (2, 8, 8)."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    tables = np.array([np.array(table.split(), int) for table in _TABLES]).reshape(2, 8, 8)
    return ((tables * percent + 50) // 100).clip(1, 255).astype(np.float32)


def _cosines(like: torch.Tensor) -> torch.Tensor:
    """The orthonormal transform of 8 samples, a frequency a row."""
    return torch.from_numpy(cv2.dct(np.eye(8, dtype=np.float32), flags=cv2.DCT_ROWS).T.copy()).to(like.device)


def _coded(planes: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Planes (R, C, H, W), sides multiples of 8, after their blocks' coefficients were rounded by tables (R, 8, 8)."""
    cosines = _cosines(planes)
    blocks = (planes - 128).unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8)).transpose(-3, -2)  # (R, C, Y, X, 8, 8)
    table = tables[:, None, None, None]
    blocks = (cosines @ blocks @ cosines.T / table).round() * table
    blocks = cosines.T @ blocks @ cosines
    return _rounded(blocks.transpose(-3, -2).flatten(-2).flatten(-3, -2) + 128)


def _jpeg(x: torch.Tensor, steps: Sequence[Jpeg], sizes: np.ndarray, _: torch.Generator | None) -> torch.Tensor:
    """As libjpeg, with chroma at half the resolution, which is smoothed when it is enlarged."""
    side, shift = x.shape[-1], np.array([step.shift for step in steps])
    along = np.arange(-(-(side + shift.max()) // 16) * 16)
    x = _rounded(_taken(x, *((along - shift[:, axis, None]).clip(0, sizes[:, None] - 1) for axis in (0, 1))))
    tables = torch.from_numpy(np.stack([_quantisation(step.quality) for step in steps])).to(x.device)
    matrix = x.new_tensor(_YCC)
    offset = x.new_tensor([0.0, 128.0, 128.0]).view(3, 1, 1)
    ycc = (torch.einsum("rchw,dc->rdhw", x, matrix) + offset).round()
    bias = 1 + torch.arange(ycc.shape[-1] // 2, device=x.device) % 2  # libjpeg rounds down and up in turn
    chroma = ((F.avg_pool2d(ycc[:, 1:], 2) * 4 + bias) / 4).floor()
    luma, chroma = _coded(ycc[:, :1], tables[:, 0]), _coded(chroma, tables[:, 1])
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear").round() - 128
    blue, red = chroma[:, :1], chroma[:, 1:]
    rgb = torch.cat([luma + 1.402 * red, luma - 0.344136286 * blue - 0.714136286 * red, luma + 1.772 * blue], 1)
    return _rounded(_taken(rgb, *(np.arange(side) + shift[:, axis, None] for axis in (0, 1))))


def _webp(x: torch.Tensor, steps: Sequence[WebP], sizes: np.ndarray, _: torch.Generator | None) -> torch.Tensor:
    """By the processor: few images go through it, and its prediction of blocks is long."""
    images = _rounded(x).byte().permute(0, 2, 3, 1).flip(-1).cpu().numpy().copy()
    for image, size, step in zip(images, sizes, steps, strict=True):
        image[:size, :size] = by_processor.webp(np.ascontiguousarray(image[:size, :size]), step, Scratch())
    return torch.from_numpy(images).to(x.device).flip(-1).permute(0, 3, 1, 2).float()


def _chroma(x: torch.Tensor, steps: Sequence[Chroma], sizes: np.ndarray, generator: torch.Generator | None):
    side = -(-x.shape[-1] // 2)
    drawn = torch.randn((len(x), 3, side, side), generator=generator, device=x.device)
    drawn = drawn * _numbers([step.sigma for step in steps], x)
    drawn -= torch.einsum("rchw,c->rhw", drawn, x.new_tensor(LUMA))[:, None]
    drawn = F.interpolate(drawn, scale_factor=2, mode="bilinear")[..., : x.shape[-2], : x.shape[-1]]
    return (x + drawn).clamp_(0, 255)


def _sharpen(x: torch.Tensor, steps: Sequence[Sharpen], sizes: np.ndarray, _: torch.Generator | None) -> torch.Tensor:
    kernels = [gaussian_vector(step.sigma, round(8 * step.sigma + 1) | 1) for step in steps]  # as large as OpenCV's
    soft = _blur(x, [Blur(kernel) for kernel in kernels], sizes, None)
    return (x + (x - soft) * _numbers([step.amount for step in steps], x)).clamp_(0, 255)


FUNCTIONS: dict[type, Callable] = {
    Blur: _blur, Resize: _resize, Noise: _noise, Chroma: _chroma, Sharpen: _sharpen, Jpeg: _jpeg, WebP: _webp
}  # fmt: skip
