"""The steps of a degradation, on OpenCV and numpy.

An image here is (h, w, 3) BGR, uint8 or float32 in 0..255. BGR is OpenCV's order of channels: the codec must see the
true colours, because it halves the resolution of the chroma.
"""

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import NormalDist

import cv2
import numpy as np

from tadisr.io.images import decode


@dataclass(frozen=True, slots=True)
class Blur:
    """Convolve with a kernel; beyond its borders the image is mirrored."""

    kernel: np.ndarray
    """(k,) or (ky, kx), see `kernels`."""
    light: bool = False
    """Whether light is averaged, as a lens does it, not sRGB values."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Resize to height x width; the image's centre stays in place."""

    height: int
    width: int
    mode: str
    """area (exact shares of the pixels), or bilinear or bicubic (without anti-aliasing)."""


@dataclass(frozen=True, slots=True)
class Noise:
    """Add noise and clip."""

    kind: str
    """gaussian or poisson."""
    strength: float
    """Gaussian: sigma in 1/255. Poisson: factor on the photon noise of an image with as many levels as this image."""
    gray: bool
    """Whether the noise is the same on the three channels."""
    seed: int


@dataclass(frozen=True, slots=True)
class Jpeg:
    """Encode and decode."""

    quality: int
    """1 to 100, as libjpeg counts it."""
    shift: tuple[int, int] = (0, 0)
    """How far the blocks lie up and to the left of the image's corner, as after a cut, pixels."""


@dataclass(frozen=True, slots=True)
class WebP:
    """Encode and decode."""

    quality: int
    """1 to 100, as libwebp counts it."""


@dataclass(frozen=True, slots=True)
class Chroma:
    """Add blotches of colour, two pixels large and without luma, and clip."""

    sigma: float
    """In 1/255, before the luma is taken out."""
    seed: int


@dataclass(frozen=True, slots=True)
class Sharpen:
    """Unsharp masking, which leaves halos, and clip."""

    sigma: float
    """Pixels."""
    amount: float


Step = Blur | Resize | Noise | Jpeg | WebP | Chroma | Sharpen

_INTERPOLATION = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
MODES = tuple(_INTERPOLATION)
GAMMA = 2.2  # of sRGB, near enough
_DIRECT_TAPS = 130  # with more taps cv2.filter2D uses a Fourier transform of its own, which is slow for large images
_SMALL = 64 * 64  # pixels; for smaller images that transform is fast enough
_KEPT = 2**25  # bytes; larger arrays are not kept, so that a few huge images do not occupy the memory for good
_BLOCK = 16000  # values per block of noise: temporary arrays stay in the cache and need no fresh pages


class Scratch:
    """Memory that is used again for the next image: fresh pages take longer than most of the steps.

    About 100 bytes per HR pixel stay allocated, 25 MB for 512 x 512. Only one thread may use it at a time.
    """

    def __init__(self):
        self._buffers: dict[str, np.ndarray] = {}
        self._turn = False

    def array(self, name: str, shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
        """An uninitialised array; the next call with this name gives the same memory."""
        count = math.prod(shape) * np.dtype(dtype).itemsize
        if count > _KEPT:
            return np.empty(shape, dtype)
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < count:
            buffer = self._buffers[name] = np.empty(count, np.uint8)
        return buffer[:count].view(dtype).reshape(shape)

    def output(self, shape: tuple[int, ...]) -> np.ndarray:
        """A float32 array that shares no memory with the previous output."""
        self._turn = not self._turn
        return self.array("even" if self._turn else "odd", shape)


def apply(steps: list[Step], image: np.ndarray, scratch: Scratch) -> np.ndarray:
    """The image after all steps, as uint8. It may be `image` itself or lie in `scratch`: copy it to keep it."""
    for step in steps:
        image = FUNCTIONS[type(step)](image, step, scratch)
    return _to_uint8(image)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Rounded and clipped."""
    return image if image.dtype == np.uint8 else cv2.add(image, 0.0, dtype=cv2.CV_8U)  # pyright: ignore[reportCallIssue, reportArgumentType]


def _to_float(image: np.ndarray, scratch: Scratch) -> np.ndarray:
    if image.dtype == np.float32:
        return image
    out = scratch.output(image.shape)
    np.copyto(out, image)
    return out


def blur(image: np.ndarray, step: Blur, scratch: Scratch) -> np.ndarray:
    """The fastest of three ways (`benchmarks/degradation.py --blurs`). They differ by rounding only."""
    if step.light:
        light = cv2.pow(_to_float(image, scratch) / np.float32(255), GAMMA)
        blurred = np.maximum(blur(light, Blur(step.kernel), scratch), 0)
        return cv2.pow(blurred, 1 / GAMMA) * np.float32(255)
    kernel = step.kernel
    if kernel.ndim == 1:
        out = scratch.output(image.shape)
        return cv2.sepFilter2D(image, cv2.CV_32F, kernel, kernel, out, borderType=cv2.BORDER_REFLECT_101)
    if kernel.size < _DIRECT_TAPS or image.shape[0] * image.shape[1] < _SMALL:
        image = _to_float(image, scratch)
        return cv2.filter2D(image, -1, kernel, scratch.output(image.shape), borderType=cv2.BORDER_REFLECT_101)
    return blur_by_fourier(image, kernel, scratch)


@lru_cache(maxsize=128)
def _waves(taps: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of every frequency of `length` samples at every offset of `taps`, (length, taps) each."""
    angles = 2 * np.pi / length * np.outer(np.arange(length), np.arange(taps) - taps // 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _spectrum(kernel: np.ndarray, height: int, width: int) -> np.ndarray:
    """The kernel's Fourier transform about its centre, in the layout of cv2.dft for a real image.

    The kernel is symmetric, so its transform is real, and one multiplication per value filters the image. In the layout
    real and imaginary parts stand side by side along x; in the first and last column they stand below each other.
    """
    down, right = (np.arange(length + 1)[1:] // 2 for length in (height, width))
    (cos_y, sin_y), (cos_x, sin_x) = _waves(kernel.shape[0], height), _waves(kernel.shape[1], width)
    spectrum = cos_y @ (kernel @ cos_x[right].T) - sin_y @ (kernel @ sin_x[right].T)
    for column in (0,) if width % 2 else (0, -1):
        spectrum[:, column] = spectrum[down, column]
    return spectrum


@cache
def _fast_length(length: int) -> int:
    """The least multiple of 16, from `length` on, without prime factors above 11: such transforms are fast (IPP)."""
    length += -length % 16
    rest = length
    for factor in (2, 3, 5, 7, 11):
        while rest % factor == 0:
            rest //= factor
    return length if rest == 1 else _fast_length(length + 1)


def blur_by_fourier(image: np.ndarray, kernel: np.ndarray, scratch: Scratch) -> np.ndarray:
    (h, w), (ky, kx), kind = image.shape[:2], kernel.shape, image.dtype.type
    top, left = ky // 2, kx // 2
    height, width = _fast_length(h + ky - 1), _fast_length(w + kx - 1)
    spectrum = _spectrum(kernel, height, width)
    widths = top, height - h - top, left, width - w - left
    border = scratch.array("border", (height, width, 3), kind)
    bordered = cv2.copyMakeBorder(image, *widths, cv2.BORDER_REFLECT_101, dst=border)
    planes = cv2.split(bordered, [scratch.array(f"channel{c}", (height, width), kind) for c in range(3)])
    blurred = []
    for c, work in enumerate(planes):
        if kind != np.float32:
            work = scratch.array(f"plane{c}", (height, width))
            np.copyto(work, planes[c])
        cv2.dft(work, work)
        cv2.multiply(work, spectrum, work)
        cv2.dft(work, work, cv2.DFT_INVERSE | cv2.DFT_SCALE | cv2.DFT_REAL_OUTPUT)
        blurred.append(work[top : top + h, left : left + w])
    return cv2.merge(blurred, scratch.output(image.shape))


def resize(image: np.ndarray, step: Resize, scratch: Scratch) -> np.ndarray:
    image = _to_float(image, scratch)
    out = scratch.output((step.height, step.width, 3))
    factors = step.width / image.shape[1], step.height / image.shape[0]
    if step.mode == "area" and max(factors) > 1:
        # A little less: if borders of old and new pixels coincide, OpenCV's rounding may take the previous pixel.
        fx, fy = (factor * (1 - 1e-12) for factor in factors)
        return cv2.resize(image, None, out, fx, fy, cv2.INTER_AREA)
    return cv2.resize(image, (step.width, step.height), out, interpolation=_INTERPOLATION[step.mode])


def _through_file(image: np.ndarray, suffix: str, parameters: list[int]) -> np.ndarray:
    ok, data = cv2.imencode(suffix, image, parameters)
    if not ok:
        raise RuntimeError(f"OpenCV could not write a {suffix} of {image.shape[1]}x{image.shape[0]} pixels.")
    return decode(data, cv2.IMREAD_COLOR)


def jpeg(image: np.ndarray, step: Jpeg, scratch: Scratch) -> np.ndarray:
    down, right = step.shift
    image = _to_uint8(image)
    if down or right:
        image = cv2.copyMakeBorder(image, down, 0, right, 0, cv2.BORDER_REPLICATE)
    return _through_file(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, step.quality])[down:, right:]


def webp(image: np.ndarray, step: WebP, scratch: Scratch) -> np.ndarray:
    return _through_file(_to_uint8(image), ".webp", [cv2.IMWRITE_WEBP_QUALITY, step.quality])


def chroma(image: np.ndarray, step: Chroma, scratch: Scratch) -> np.ndarray:
    """float32, clipped to 0..255."""
    image = _to_float(image, scratch)
    h, w = image.shape[:2]
    rows, columns = (h + 1) // 2, (w + 1) // 2
    bits = np.random.SFC64(step.seed).random_raw((3 * rows * columns + 3) // 4).view(np.uint16)
    drawn = normal_table().take(bits[: 3 * rows * columns]).reshape(rows, columns, 3) * np.float32(step.sigma)
    drawn -= cv2.cvtColor(drawn, cv2.COLOR_BGR2GRAY)[..., None]
    image += cv2.resize(drawn, (w, h), interpolation=cv2.INTER_LINEAR)
    return np.clip(image, 0, 255, out=image)


def sharpen(image: np.ndarray, step: Sharpen, scratch: Scratch) -> np.ndarray:
    """float32, clipped to 0..255."""
    image = _to_float(image, scratch)
    soft = cv2.GaussianBlur(image, (0, 0), step.sigma, borderType=cv2.BORDER_REFLECT_101)
    out = cv2.addWeighted(image, 1 + step.amount, soft, -step.amount, 0, scratch.output(image.shape))
    return np.clip(out, 0, 255, out=out)


def noise(image: np.ndarray, step: Noise, scratch: Scratch) -> np.ndarray:
    """float32, clipped to 0..255."""
    image = _to_float(image, scratch)
    bits, table = np.random.SFC64(step.seed), None
    levels = image[..., 0] if step.gray else image
    if step.kind == "poisson":
        levels = _to_uint8(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) if step.gray else image)
        table = poisson_table(_photons(levels))
    h, w = image.shape[:2]
    rows = max(1, _BLOCK // (w * (1 if step.gray else 3)))
    for top in range(0, h, rows):
        block, part = image[top : top + rows], levels[top : top + rows]
        if table is None:
            drawn = normal_table().take(bits.random_raw((part.size + 3) // 4).view(np.uint16)[: part.size])
        else:
            drawn = _poisson(part, table, bits)
        drawn = drawn.reshape(part.shape)
        drawn *= np.float32(step.strength)
        np.add(block, cv2.cvtColor(drawn, cv2.COLOR_GRAY2BGR) if step.gray else drawn, out=block)
        np.clip(block, 0, 255, out=block)
    return image


FUNCTIONS = {
    Blur: blur, Resize: resize, Noise: noise, Jpeg: jpeg, WebP: webp, Chroma: chroma, Sharpen: sharpen
}  # fmt: skip


@lru_cache(maxsize=1)
def normal_table() -> np.ndarray:
    """The standard normal distribution as 2^16 equally likely values, float32.

    Each value is the mean of one of 2^16 slices of equal probability; all are scaled to variance 1. So 16 random bits
    make one value. The largest value is 4.4. Within one sigma neighbours differ by less than 1e-4.
    """
    normal = NormalDist()
    half = 2**15
    borders = np.array([0.0, *(normal.inv_cdf(0.5 + i / 2**16) for i in range(1, half))])
    density = np.append(np.exp(-0.5 * borders**2) / math.sqrt(2 * math.pi), 0)
    positive = -np.diff(density) * 2**16
    values = np.concatenate([-positive[::-1], positive])
    return (values / math.sqrt(np.mean(values**2))).astype(np.float32)


def _photons(levels: np.ndarray) -> int:
    """The photons at full brightness: the number of different levels, rounded up to a power of two."""
    for part in (levels[::16], levels):  # a part of the rows mostly shows that there are more than 128 levels
        histogram = cv2.calcHist([part.reshape(len(part), -1)], [0], None, [256], [0, 256])
        different = int(np.count_nonzero(histogram))
        if different > 128:
            break
    return 1 << (different - 1).bit_length()


@cache
def poisson_table(photons: int) -> tuple[np.ndarray, np.ndarray]:
    """Walker's alias tables for `_poisson`: one per level 0..255, of 256 equally likely bins each.

    The bins of a level are 256 counts around its mean, eight standard deviations to each side. `photons`, at most 256,
    is the mean count of level 255.

    Returns:
        share: (65536,) uint16, at 256 level + bin: how much of the bin is the bin's own count, in 2^-16.
        deviation: (131072,) float32, from the level, in 1/255: at 256 level + bin of the bin's own count, and 65536
            further on of the count that has the remaining share of the bin.
    """
    rate = np.arange(256) * (photons / 255)
    counts = np.maximum(0, np.floor(rate).astype(int) - 127)[:, None] + np.arange(256)
    log_factorial = np.array([math.lgamma(count + 1) for count in range(counts.max() + 1)])
    mass = np.exp(counts * np.log(np.maximum(rate, 1e-300))[:, None] - rate[:, None] - log_factorial[counts])
    mass[0] = counts[0] == 0
    left = mass * (256 / mass.sum(1, keepdims=True))
    level, own, alias = np.arange(256), np.ones((256, 256)), np.tile(np.arange(256), (256, 1))
    for _ in range(255):  # in each level: fill the emptiest bin from the fullest bin, and put it aside
        poor, rich = left.argmin(1), np.where(np.isinf(left), -1, left).argmax(1)
        own[level, poor], alias[level, poor] = left[level, poor], rich
        left[level, rich] -= 1 - left[level, poor]
        left[level, poor] = np.inf
    share = (own.clip(0, 1) * 2**16).round().clip(0, 2**16 - 1).astype(np.uint16)
    deviation = counts * (255 / photons) - level[:, None]
    both = np.stack([deviation, np.take_along_axis(deviation, alias, 1)])
    return share.ravel(), both.astype(np.float32).ravel()


def _poisson(levels: np.ndarray, table: tuple[np.ndarray, np.ndarray], bits: np.random.SFC64) -> np.ndarray:
    """Poisson counts of n uint8 levels, as deviations from the levels: (n,) float32. Each takes 24 random bits."""
    share, deviation = table
    n = levels.size
    drawn = bits.random_raw((3 * n + 7) // 8).view(np.uint16)
    pairs = np.empty((n, 2), np.uint8)  # low byte: bin; high byte: level
    pairs[:, 0] = drawn[n:].view(np.uint8)[:n]
    pairs[:, 1] = levels.ravel()
    entry = pairs.view("<u2").ravel().astype(np.intp)
    entry += (drawn[:n] >= share.take(entry)).astype(np.intp) << 16
    return deviation.take(entry)
