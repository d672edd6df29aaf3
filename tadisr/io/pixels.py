"""From the numbers in an image file to 8-bit RGB: ranges, gray, CMYK, Lab, profiles, gamma, alpha."""

import io
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageCms

_D65 = (0.3127, 0.3290)
_SRGB = (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x and y of white, red, green, blue
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_RANGES = (1, 255, 65535)  # what floats and 32-bit integers are usually out of
_BLOCK = 2**20  # pixels converted at once: floats take four times the memory of bytes


@dataclass(frozen=True)
class Encoding:
    """How a file's numbers become light, where it says so other than by a profile."""

    gamma: float | None = None  # light is value ** gamma; None: as in sRGB
    primaries: tuple[float, ...] | None = None  # x and y of white, red, green, blue; None: those of sRGB

    def is_srgb(self) -> bool:
        """Whether nobody could see a difference to sRGB, whose gamma is written as 0.45455, 1 / 2.2."""
        same = self.primaries is None or np.abs(np.subtract(self.primaries, _SRGB)).max() < 0.002
        return same and (self.gamma is None or abs(self.gamma - 2.2) < 0.03)


@dataclass
class Samples:
    """Decoded numbers, as the file holds them, and what they mean."""

    values: np.ndarray  # (H, W) of "gray"; else (H, W, channels)
    model: str  # "gray", "rgb", "cmyk" (0 is no ink), "lab" (8 bits as in TIFF: a and b signed)
    white: float | None = 255  # the number that stands for full light; None: whatever usual range holds the values
    alpha: np.ndarray | None = None  # (H, W) of the same kind, `white` is opaque
    premultiplied: bool = False
    icc_profile: bytes = b""
    encoding: Encoding | None = None
    remarks: list[str] = field(default_factory=list)

    def size(self) -> tuple[int, int]:
        return self.values.shape[0], self.values.shape[1]


@dataclass
class Pixels:
    """What `to_8bit` gives."""

    rgb: np.ndarray  # (H, W, 3) uint8, writable
    alpha: np.ndarray | None  # (H, W) uint8
    icc_profile: bytes | None  # describes `rgb`; None means sRGB
    gray: bool


def to_8bit(samples: Samples) -> Pixels:
    """RGB in 8 bits: in the embedded profile of RGB, else in sRGB. Appends to `samples.remarks`.

    Raises ValueError for values of no usual range.
    """
    profile = samples.icc_profile
    kind = profile[16:20] if profile[36:40] == b"acsp" else b""  # two fields of a profile's header
    if profile and not kind:
        samples.remarks.append("its colour profile is damaged and was left out")
    alpha, alpha_white = samples.alpha, samples.white
    if samples.model in ("gray", "rgb") and samples.white is None:
        samples.white = _range(samples)
    white = samples.white or 255
    if alpha is not None and alpha.dtype.kind == "f" and not np.isfinite(alpha).all():
        raise ValueError("its alpha holds values that are no numbers")
    if alpha is not None and alpha_white is None:  # colours of 0 to 255 may have an alpha of 0 to 1, if both are floats
        alpha_white = next((top for top in _ranges(alpha) if alpha.max() <= 1.1 * top), white)
        alpha_white = alpha_white if alpha.dtype.kind == "f" else max(alpha_white, white)
    if white > 255 and samples.model in ("gray", "rgb"):
        _remark_if_dark(float(samples.values.max()), white, samples.remarks)

    if samples.model in ("cmyk", "lab"):
        ink = _scaled(samples.values, white, None) if samples.model == "cmyk" else samples.values
        rgb, icc_profile = _through_cms(ink, samples, profile if kind == b"CMYK" else b""), None
    else:
        curve = _gray_curve(profile, kind, samples.remarks) if samples.model == "gray" and kind else None
        encoding = None if kind == b"RGB " or (kind and samples.model == "gray") else samples.encoding
        rgb = _convert(samples, white, alpha_white or white, curve, encoding)
        if samples.model == "gray":
            gray = rgb
            rgb = np.empty((*gray.shape, 3), np.uint8)
            rgb[...] = gray[..., None]
        icc_profile = profile if kind == b"RGB " and samples.model == "rgb" else None
    if alpha is not None:
        alpha = _scaled(alpha, alpha_white or white, None)
    return Pixels(rgb, alpha, icc_profile, samples.model == "gray")


def _ranges(values: np.ndarray) -> tuple[int, ...]:
    return _RANGES if values.dtype.kind == "f" else (*_RANGES, int(np.iinfo(values.dtype).max))


def _range(samples: Samples) -> float:
    """The smallest of the usual ranges that holds all values."""
    low, high = float(samples.values.min()), float(samples.values.max())  # NaN and infinity fit nowhere
    for top in _ranges(samples.values):
        if low >= -0.1 * high and high <= 1.1 * top:  # resampling overshoots
            return top
    raise ValueError(f"values from {low:g} to {high:g} fit none of the ranges 0 to 1, 255 or 65535")


def _remark_if_dark(high: float, white: float, remarks: list[str]) -> None:
    if 0 < high <= white / 4:
        remarks.append(
            f"its largest value is {high:g} of {white:g}: if it is not meant to be dark, scale its values first"
        )


def _blocks(height: int, width: int) -> Iterator[slice]:
    rows = max(1, _BLOCK // max(1, width))
    return (slice(start, start + rows) for start in range(0, height, rows))


def _scaled(values: np.ndarray, white: float, out: np.ndarray | None) -> np.ndarray:
    """`values`, of which `white` is full, as uint8."""
    if values.dtype == np.uint8 and white == 255:
        return values
    out = np.empty(values.shape, np.uint8) if out is None else out
    for rows in _blocks(*values.shape[:2]):
        block = values[rows].astype(np.float64 if white > 2**24 else np.float32)
        out[rows] = np.rint(block.clip(0, white) * (255 / white))
    return out


def _convert(
    samples: Samples, white: float, alpha_white: float, curve: np.ndarray | None, encoding: Encoding | None
) -> np.ndarray:
    """Gray or RGB as uint8 of the same shape."""
    values = samples.values
    encoding = None if encoding is None or encoding.is_srgb() else encoding
    premultiplied = samples.premultiplied and samples.alpha is not None
    if curve is None and encoding is None and not premultiplied:
        pixels = _scaled(values, white, None)
        return pixels if pixels.flags.writeable and pixels.flags.c_contiguous else pixels.copy()
    matrix = None
    if encoding is not None and encoding.primaries is not None and values.ndim == 3:
        matrix = _to_srgb_primaries(encoding.primaries).T.astype(np.float32)
    out = np.empty(values.shape, np.uint8)
    for rows in _blocks(*values.shape[:2]):
        block = (values[rows].astype(np.float64) / white).astype(np.float32)
        if premultiplied and samples.alpha is not None:
            alpha = (samples.alpha[rows].astype(np.float64) / alpha_white).astype(np.float32)
            alpha = np.where(alpha > 0, alpha, 1)
            block /= alpha[..., None] if block.ndim == 3 else alpha
        block = block.clip(0, 1)
        if encoding is not None:
            light = _srgb_to_light(block) if encoding.gamma is None else block**encoding.gamma
            block = _light_to_srgb(light if matrix is None else (light @ matrix).clip(0, 1))
        block = block * 255 if curve is None else np.interp(block * 255, np.arange(256), curve)
        out[rows] = np.rint(block)
    return out


def _srgb_to_light(values: np.ndarray) -> np.ndarray:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _light_to_srgb(light: np.ndarray) -> np.ndarray:
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def _to_xyz(primaries: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The matrix from RGB light to XYZ, and the XYZ of white."""
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in zip(primaries[::2], primaries[1::2], strict=True)])
    white, corners = xyz[0], xyz[1:].T
    return corners * np.linalg.solve(corners, white), white


def _to_srgb_primaries(primaries: tuple[float, ...]) -> np.ndarray:
    """The matrix from RGB light of other primaries to that of sRGB; white stays white (Bradford)."""
    there, white = _to_xyz(primaries)
    here, d65 = _to_xyz(_SRGB)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag((_BRADFORD @ d65) / (_BRADFORD @ white)) @ _BRADFORD
    return np.linalg.inv(here) @ adapt @ there


def _profile(data: bytes) -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(io.BytesIO(data))


def _gray_curve(profile: bytes, kind: bytes, remarks: list[str]) -> np.ndarray | None:
    """What the profile makes of the 256 grays, in sRGB; None where it changes nothing."""
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        ramp = ramp.convert("RGB") if kind == b"RGB " else ramp
        # without LittleCMS's shortcuts, which are far off in dark gray
        transform = ImageCms.buildTransform(
            _profile(profile), ImageCms.createProfile("sRGB"), ramp.mode, "RGB", flags=ImageCms.Flags.NOOPTIMIZE
        )
        shown = ImageCms.applyTransform(ramp, transform)
        curve = np.asarray(shown)[0].mean(axis=1)
    except Exception:  # a damaged profile, one of CMYK, or a Pillow without LittleCMS
        remarks.append("its gray profile could not be applied and was left out")
        return None
    return None if np.abs(curve - np.arange(256)).max() <= 1 else curve


def _through_cms(values: np.ndarray, samples: Samples, profile: bytes) -> np.ndarray:
    """CMYK or Lab, (H, W, 3 or 4) uint8, as sRGB."""
    size = values.shape[1::-1]
    image = Image.frombytes(samples.model.upper(), size, np.ascontiguousarray(values).tobytes())
    if samples.model == "lab":
        source = ImageCms.createProfile("LAB")
        return np.array(ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"))
    with suppress(Exception):  # no profile, a damaged one, or a Pillow without LittleCMS
        shown = ImageCms.profileToProfile(image, _profile(profile), ImageCms.createProfile("sRGB"), outputMode="RGB")
        return np.array(shown)
    samples.remarks.append("CMYK without a profile: its colours are approximate")
    return np.array(image.convert("RGB"))


def rgb_to_srgb(pixels: np.ndarray, profile: bytes) -> np.ndarray | None:
    """(H, W, 3) uint8 in the space of `profile`, as sRGB; None where that cannot be done."""
    with suppress(Exception):
        image = ImageCms.profileToProfile(Image.fromarray(pixels), _profile(profile), ImageCms.createProfile("sRGB"))
        return np.asarray(image)
    return None
