"""What a file says beside its pixels: profile, DPI, EXIF, XMP, and what made it. Read once, carried to outputs."""

import math
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

ORIENTATION = 0x0112
_EXIF_IFD, _GPS_IFD = 0x8769, 0x8825
_MADE_BY, _MARK = 0x000B, "tadisr: "  # the tag ProcessingSoftware, and what ours begins with
_X_RESOLUTION, _Y_RESOLUTION, _UNIT, _WIDTH, _HEIGHT = 0x011A, 0x011B, 0x0128, 0xA002, 0xA003

# What describes the picture and not how a file stores it: description, make, model, software, date, artist, host,
# copyright, document's and page's name, rating, and what Windows writes.
_KEPT = {270, 271, 272, 305, 306, 315, 316, 33432, 269, 285, 18246, 18249, *range(40091, 40096)}
_NOT_KEPT = {0x927C, 0xA005, _WIDTH, _HEIGHT}  # a maker's own notes hold addresses within the old file, and previews
# Descriptions that programs wrote for themselves: the shape of the old file.
_TABLES = ('{"shape"', "ImageJ=", "<?xml", "<OME")


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels, and what an output can carry on."""

    icc_profile: bytes | None = None  # describes RGB; None means sRGB
    dpi: tuple[float, float] | None = None  # pixels per inch, across and down
    exif: bytes | None = None  # beginning with "Exif"; of an upright image, without its size, thumbnail, maker's notes
    xmp: bytes | None = None  # likewise

    def scaled(self, factor: float) -> "Metadata":
        """For an image with `factor` times as many pixels a side: it is printed as large as before."""
        return self if self.dpi is None else replace(self, dpi=(self.dpi[0] * factor, self.dpi[1] * factor))


def sensible_dpi(dpi: tuple[float, float] | None) -> tuple[float, float] | None:
    """None for numbers that nobody can mean."""
    with suppress(TypeError, ValueError, ZeroDivisionError, OverflowError):
        across, down = (float(one) for one in dpi or ())
        if all(math.isfinite(one) and 1 <= one <= 100_000 for one in (across, down)):
            return across, down
    return None


def load_exif(data: bytes) -> Image.Exif:
    """An EXIF block, empty if it is damaged beyond reading."""
    exif = Image.Exif()
    with suppress(Exception):  # Pillow raises nearly anything
        exif.load(b"Exif\0\0" + data.removeprefix(b"Exif\0\0"))
    return exif


def orientation_of(exif: Image.Exif, xmp: bytes = b"") -> int:
    """1 to 8; XMP counts where EXIF says nothing; 1 where nothing sensible is said."""
    value: Any = None
    with suppress(Exception):
        value = exif.get(ORIENTATION)
    if value is None and (match := re.search(rb"tiff:Orientation(?:=[\"']|>)([0-9])", xmp)):
        value = int(match[1])
    return value if isinstance(value, int) and value in range(1, 9) else 1


def dpi_of(exif: Image.Exif) -> tuple[float, float] | None:
    """The resolution that EXIF names."""
    with suppress(Exception):
        factor = {2: 1.0, 3: 2.54}.get(exif.get(_UNIT, 2))
        if factor and _X_RESOLUTION in exif:
            across = float(exif[_X_RESOLUTION]) * factor
            return sensible_dpi((across, float(exif.get(_Y_RESOLUTION, exif[_X_RESOLUTION])) * factor))
    return None


def upright_exif(exif: Image.Exif) -> bytes | None:
    """What of it is true of any upright image of the same scene; None where nothing is."""
    kept = Image.Exif()
    for tag in _KEPT:
        with suppress(Exception):
            if tag in exif and not str(exif[tag]).lstrip().startswith(_TABLES):
                _add(kept, tag, exif[tag])
    for ifd in (_EXIF_IFD, _GPS_IFD):
        block: dict[int, Any] = {}
        with suppress(Exception):
            for tag, value in dict(exif.get_ifd(ifd)).items():
                if tag not in _NOT_KEPT:
                    trial = Image.Exif()
                    trial[ifd] = {tag: value}
                    with suppress(Exception):  # a value that cannot be written goes alone
                        trial.tobytes()
                        block[tag] = value
        if block:
            kept[ifd] = block
    with suppress(Exception):
        return kept.tobytes() if len(kept) else None
    return None


def _add(exif: Image.Exif, tag: int, value: Any) -> None:
    trial = Image.Exif()
    trial[tag] = value
    trial.tobytes()
    exif[tag] = value


def upright_xmp(xmp: bytes) -> bytes | None:
    """XMP of an upright image; None where it speaks of parts of the file that an output does not have."""
    if not xmp or any(part in xmp for part in (b"Container:Directory", b"hdrgm:", b"MicroVideo", b"HasExtendedXMP")):
        return None
    for name, value in ((b"Orientation", b"1"), *((name, None) for name in _XMP_SIZES)):
        pattern = rb"(tiff|exif):" + name
        if value is not None:
            xmp = re.sub(rb"(" + pattern + rb"\s*=\s*[\"'])[^\"']*", rb"\g<1>" + value, xmp)
            xmp = re.sub(rb"(<" + pattern + rb"\s*>)[^<]*", rb"\g<1>" + value, xmp)
        else:
            xmp = re.sub(rb"\s" + pattern + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
            xmp = re.sub(rb"<" + pattern + rb"\s*>[^<]*</" + pattern + rb"\s*>", b"", xmp)
    return xmp


_XMP_SIZES = (b"ImageWidth", b"ImageLength", b"PixelXDimension", b"PixelYDimension")


def output_exif(metadata: Metadata, size: tuple[int, int], made_by: str | None, limit: int) -> bytes:
    """The EXIF block of an output of `size` (H, W), of at most `limit` bytes; b"" for none."""
    upright = upright_exif(load_exif(metadata.exif)) if metadata.exif else None
    exif = load_exif(upright) if upright else Image.Exif()
    if _EXIF_IFD in exif:
        block = dict(exif.get_ifd(_EXIF_IFD))
        block[_WIDTH], block[_HEIGHT] = size[1], size[0]
        exif[_EXIF_IFD] = block
    if dpi := sensible_dpi(metadata.dpi):
        exif[_X_RESOLUTION], exif[_Y_RESOLUTION], exif[_UNIT] = dpi[0], dpi[1], 2
    if made_by is not None:
        exif[_MADE_BY] = _MARK + made_by.encode("unicode_escape").decode("ascii")
    drops: list[Callable[[], Any]] = [lambda: exif.pop(_EXIF_IFD, None), lambda: [exif.pop(tag, None) for tag in _KEPT]]
    for drop in (*drops, None):
        with suppress(Exception):
            data = exif.tobytes() if len(exif) else b""
            if len(data) <= limit:
                return data
        if drop:
            drop()
    return b""


def tiff_tags(exif: bytes, icc_profile: bytes | None, xmp: bytes | None) -> dict[int, Any]:
    """All of it as tags of a TIFF file."""
    block = load_exif(exif) if exif else Image.Exif()
    tags = {tag: block.get_ifd(tag) if tag in (_EXIF_IFD, _GPS_IFD) else block[tag] for tag in block}
    return tags | ({34675: icc_profile} if icc_profile else {}) | ({700: xmp} if xmp else {})


def made_by_of(exif: Image.Exif) -> str | None:
    """What `output_exif` wrote."""
    with suppress(Exception):
        value = exif.get(_MADE_BY)
        if isinstance(value, str) and value.startswith(_MARK):
            return value[len(_MARK) :].rstrip("\0").encode("ascii").decode("unicode_escape")
    return None
