"""The steps of a degradation on any torch device: the same operations as in `steps`.

An image here is (3, h, w) float32 RGB in 0..255. Blur, resize and JPEG agree with OpenCV's to rounding; noise has the
same distribution, drawn by torch's own generators.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from tadisr.data_synthesis.degrade.steps import Blur, Jpeg, Noise, Resize, Step, fast_length

LUMA = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)
CHROMA = np.full((8, 8), 99)
CHROMA[:4, :4] = [[17, 18, 24, 47], [18, 21, 26, 66], [24, 26, 56, 99], [47, 66, 99, 99]]
_TO_YCC = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]
_FROM_YCC = [[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]]
_DCT = [
    [math.sqrt((1 if k else 0.5) / 4) * math.cos((2 * n + 1) * k * math.pi / 16) for n in range(8)] for k in range(8)
]


def apply(steps: list[Step], image: torch.Tensor) -> torch.Tensor:
    """(3, H, W) uint8 RGB to (3, h, w) uint8 RGB."""
    x = image.float()
    for step in steps:
        x = FUNCTIONS[type(step)](x, step)
    return x.round().clamp(0, 255).to(torch.uint8)


def _reflected(length: int, before: int, total: int, device: torch.device) -> torch.Tensor:
    """Indices that extend an axis by mirroring without repeating the edge, as often as needed."""
    period = max(2 * length - 2, 1)
    at = (torch.arange(total, device=device) - before) % period
    return torch.where(at < length, at, period - at)


def blur(x: torch.Tensor, step: Blur) -> torch.Tensor:
    kernel = step.kernel if step.kernel.ndim == 2 else np.outer(step.kernel, step.kernel)
    (h, w), (ky, kx) = x.shape[1:], kernel.shape
    size = fast_length(h + ky - 1), fast_length(w + kx - 1)
    rows = _reflected(h, ky // 2, h + ky - 1, x.device)
    columns = _reflected(w, kx // 2, w + kx - 1, x.device)
    spectrum = torch.fft.rfft2(torch.from_numpy(kernel).to(x.device), s=size)
    blurred = torch.fft.irfft2(torch.fft.rfft2(x[:, rows][:, :, columns], s=size) * spectrum, s=size)
    return blurred[:, ky - 1 : ky - 1 + h, kx - 1 : kx - 1 + w]


def _shares(before: int, after: int, device: torch.device) -> torch.Tensor:
    """(after, before): the part of each new pixel that each old one fills."""
    borders = torch.arange(after + 1, dtype=torch.float64) * (before / after)
    old = torch.arange(before, dtype=torch.float64)
    overlap = torch.minimum(borders[1:, None], old + 1) - torch.maximum(borders[:-1, None], old)
    return (overlap.clamp(min=0) * (after / before)).float().to(device)


def resize(x: torch.Tensor, step: Resize) -> torch.Tensor:
    if step.mode == "area":
        h, w = x.shape[1:]
        return _shares(h, step.height, x.device) @ x @ _shares(w, step.width, x.device).T
    return F.interpolate(x[None], (step.height, step.width), mode=step.mode, align_corners=False)[0]


def noise(x: torch.Tensor, step: Noise) -> torch.Tensor:
    """Clipped to 0..255."""
    generator = torch.Generator(x.device).manual_seed(step.seed)
    if step.kind == "gaussian":
        shape = x[:1].shape if step.gray else x.shape
        drawn = torch.randn(shape, generator=generator, device=x.device)
    else:
        gray = (x * x.new_tensor(_TO_YCC[0])[:, None, None]).sum(0, keepdim=True) if step.gray else x
        levels = gray.round().clamp(0, 255)
        photons = 1 << (len(levels.unique()) - 1).bit_length()
        drawn = torch.poisson(levels * (photons / 255), generator=generator) * (255 / photons) - levels
    return (x + step.strength * drawn).clamp(0, 255)


def quantisation_table(base: np.ndarray, quality: int) -> np.ndarray:
    """(8, 8) int, as libjpeg scales its tables."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((base * percent + 50) // 100).clip(1, 255)


def _quantised(plane: torch.Tensor, table: np.ndarray, quality: int) -> torch.Tensor:
    """A plane (h, w), sides divisible by 8, once its blocks' cosine transforms are rounded to the table's steps."""
    q = torch.from_numpy(quantisation_table(table, quality)).to(plane)
    dct = plane.new_tensor(_DCT)
    h, w = plane.shape
    blocks = (plane - 128).reshape(h // 8, 8, w // 8, 8).transpose(1, 2)
    blocks = dct.T @ ((dct @ blocks @ dct.T / q).round() * q) @ dct
    return (blocks.transpose(1, 2).reshape(h, w) + 128).round().clamp(0, 255)


def jpeg(x: torch.Tensor, step: Jpeg) -> torch.Tensor:
    """What libjpeg's encoder and decoder leave of an image, chroma at half size (the lossless part is left out)."""
    h, w = x.shape[1:]
    x = x.round().clamp(0, 255)
    ycc = torch.einsum("ij,jhw->ihw", x.new_tensor(_TO_YCC), x)
    ycc[1:] += 128
    # As libjpeg fills the last blocks: the columns before the chroma is halved, the rows after it.
    ycc = F.pad(ycc[None].round(), (0, -w % 16, 0, h % 2), mode="replicate")
    chroma = F.avg_pool2d(ycc[:, 1:], 2)
    chroma = (chroma + x.new_tensor([0.25, 0.5]).repeat(chroma.shape[3] // 2)).floor()  # its way of rounding
    rows = -h % 16 // 2
    y = _quantised(F.pad(ycc[:, :1], (0, 0, 0, 2 * rows), mode="replicate")[0, 0], LUMA, step.quality)
    chroma = F.pad(chroma, (0, 0, 0, rows), mode="replicate")[0]
    chroma = torch.stack([_quantised(plane, CHROMA, step.quality) for plane in chroma])
    chroma = chroma[:, : (h + 1) // 2, : (w + 1) // 2]  # what was added to fill the last blocks counts no more
    chroma = F.interpolate(chroma[None], scale_factor=2, mode="bilinear", align_corners=False)[0]
    ycc = torch.stack([y[:h, :w], *(chroma[:, :h, :w].round() - 128)])
    return torch.einsum("ij,jhw->ihw", x.new_tensor(_FROM_YCC), ycc).round().clamp(0, 255)


FUNCTIONS = {Blur: blur, Resize: resize, Noise: noise, Jpeg: jpeg}
