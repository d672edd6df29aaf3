"""TIFF files, read by tifffile, which knows every kind of number; by Pillow if a codec is missing or JPEG is inside.

Pillow decodes many kinds wrong without a word: packed 12 bits, signed and planar 16 bits, white as zero. So it gets
only those in `_PILLOW_IS_RIGHT`, each of which a test compares with tifffile's values.
"""

import io
import logging
import math
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin, TiffTags

from tadisr.io.containers import MAX_FRAMES, DamagedError, Parts, UnsupportedError
from tadisr.io.pixels import Samples

if TYPE_CHECKING:
    import tifffile

_CHANNELS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # by photometric interpretation
_WHITE_IS_ZERO, _PALETTE, _CMYK, _YCBCR, _CIELAB, _RAW = 0, 3, 5, 6, 8, (32803, 34892)
_NONE, _OLD_JPEG, _JPEG = 1, 6, 7
_FAX = (2, 3, 4)
_FULL_RANGE = (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1)  # ReferenceBlackWhite as in JPEG, numbers over 1
_FOR_PILLOW_FIRST = (*_FAX, _OLD_JPEG, _JPEG)
_PILLOW_IS_RIGHT = {  # (photometric, bits, samples) of unsigned integers
    (0, 1, 1), (1, 1, 1), (0, 8, 1), (1, 8, 1), (1, 16, 1), (1, 8, 2), (2, 8, 3), (2, 8, 4), (2, 16, 3), (2, 16, 4),
    (3, 8, 1), (5, 8, 4), (6, 8, 3),
}  # fmt: skip
_EXTRA = "pip install 'tadisr[files]', or convert it to PNG"

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what is wrong with a file is our error's to say


@dataclass
class TiffParts(Parts):
    """A page of a TIFF file, before its pixels are decoded; the file must stay open."""

    file: Any = None
    page: Any = None  # tifffile.TiffPage
    index: int = 0  # of the page among all, thumbnails too
    orientation: int = 1
    is_upright: bool = False  # after decoding: whether the decoder has turned it already


def open_tiff(file: BinaryIO, page: int = 0) -> TiffParts:
    """The tags of a page, counted from 0 without thumbnails and masks. Raises DamagedError or UnsupportedError."""
    import tifffile

    tiff = tifffile.TiffFile(file, is_lsm=False, is_scanimage=False, is_ndpi=False)
    pages = _pages(file, tiff)
    index = pages[min(page, len(pages) - 1)]  # the caller compares `page` with the number of pages
    one: Any = tiff.pages[index]
    tags = one.tags
    photometric, samples = int(tags.valueof(262, 1)), one.samplesperpixel
    if 50706 in tags or photometric in _RAW or (index == 0 and tags.valueof(254, 0) == 1 and 330 in tags):
        raise UnsupportedError("a camera raw file", "develop it to TIFF, PNG or JPEG")
    if photometric not in _CHANNELS:
        raise UnsupportedError(f"a TIFF of photometric interpretation {photometric}")
    if photometric == _CMYK and tags.valueof(332, 1) != 1:
        raise UnsupportedError("a TIFF of inks other than CMYK")
    extra = samples - _CHANNELS[photometric]
    if extra < 0 or one.imagewidth < 1 or one.imagelength < 1:
        raise DamagedError("its header makes no sense")
    if extra > 4 or one.imagedepth != 1 or one.tiledepth > 1:
        raise UnsupportedError(f"a TIFF of {samples} channels and depth {one.imagedepth}")
    if one.is_tiled and one.tilewidth * one.tilelength > max(2**22, 4 * one.imagewidth * one.imagelength):
        raise DamagedError("its tiles are larger than the picture")
    bits = one.bitspersample
    if not isinstance(bits, int) or one.sampleformat not in (1, 2, 3, 4):
        raise UnsupportedError("a TIFF of complex numbers or of channels with different bits")
    if bits == 24 and one.sampleformat != 3:  # tifffile does not unpack them
        raise UnsupportedError("a TIFF of 24-bit numbers")
    needed = one.imagewidth * one.imagelength * samples * bits // 8
    if one.compression == _NONE and photometric != _YCBCR and needed > file.seek(0, io.SEEK_END):
        raise DamagedError("it ends too early")
    kinds, orientation = _extra_kinds(one, photometric), tags.valueof(274, 1)
    return TiffParts(
        "TIFF", one.imagewidth, one.imagelength, bytes, len(pages), any(kind in (1, 2) for kind in kinds),
        photometric in (0, 1), bits, dpi=_dpi(tags), xmp=_bytes(tags, 700), icc_profile=_bytes(tags, 34675),
        file=file, page=one, index=index, orientation=orientation if orientation in range(1, 9) else 1,
    )  # fmt: skip


def _pages(file: BinaryIO, tiff: "tifffile.TiffFile") -> list[int]:
    """The numbers of the pages that are no thumbnails or masks."""
    kind = tiff.tiff
    found, seen, index = [], set(), 0
    file.seek(4 if kind.version == 42 else 8)
    while index < MAX_FRAMES:
        raw = file.read(kind.offsetsize)
        offset = struct.unpack(kind.offsetformat, raw)[0] if len(raw) == kind.offsetsize else 0
        if not offset or offset in seen:
            return found or [0]
        seen.add(offset)
        file.seek(offset)
        raw = file.read(kind.tagnosize)
        if len(raw) < kind.tagnosize:
            return found or [0]
        count = struct.unpack(kind.tagnoformat, raw)[0]
        first = file.read(kind.tagsize)  # tags are sorted; the kind of a page, 254, comes before all others
        reduced = len(first) == kind.tagsize and struct.unpack(kind.byteorder + "H", first[:2])[0] == 254
        flags = struct.unpack(kind.byteorder + "I", first[-kind.offsetsize :][:4])[0] if reduced else 0
        if not flags & 0b101 or index == 0:
            found.append(index)
        index += 1
        file.seek(offset + kind.tagnosize + count * kind.tagsize)
    return found or [0]


def _extra_kinds(page: Any, photometric: int) -> tuple[int, ...]:
    """Of each extra channel: 0 nobody knows, 1 alpha by which the colours are multiplied, 2 plain alpha."""
    extra = page.samplesperpixel - _CHANNELS[photometric]
    kinds = tuple(int(kind) for kind in page.extrasamples)
    if not kinds and extra == 1 and photometric == 2:
        return (2,)  # RGBA by a program that does not say so, as Pillow reads it
    return (kinds + (0,) * extra)[:extra]


def _bytes(tags: Any, code: int) -> bytes:
    value = tags.valueof(code, b"")
    return value.encode() if isinstance(value, str) else bytes(value) if isinstance(value, (bytes, tuple)) else b""


def _dpi(tags: Any) -> tuple[float, float] | None:
    factor = {2: 1.0, 3: 2.54}.get(int(tags.valueof(296, 2)))
    across, down = tags.valueof(282), tags.valueof(283)
    try:
        dpi = (across[0] / across[1], down[0] / down[1])
    except (TypeError, ZeroDivisionError, IndexError):
        return None
    return (dpi[0] * factor, dpi[1] * factor) if factor else None


def decode_tiff(parts: TiffParts) -> Samples:
    """The numbers of the page, not upright. Raises DamagedError, UnsupportedError, or whatever a decoder raises."""
    page = parts.page
    photometric, compression = int(page.tags.valueof(262, 1)), int(page.compression)
    if photometric == _YCBCR and compression not in (_OLD_JPEG, _JPEG):
        usual = page.tags.valueof(532, _FULL_RANGE) in (_FULL_RANGE, _FULL_RANGE[::2])
        if page.tags.valueof(530, (2, 2)) != (1, 1) or parts.bits != 8 or not usual:
            raise UnsupportedError("a TIFF of YCbCr with fewer colours than pixels and without JPEG compression")
    premultiplied = 1 in _extra_kinds(page, photometric)
    allowed = not (premultiplied and parts.bits == 16) and (page.planarconfig == 1 or page.samplesperpixel != 2)
    allowed = (
        allowed and page.sampleformat in (1, 4) and (photometric, parts.bits, page.samplesperpixel) in _PILLOW_IS_RIGHT
    )
    if compression in _FOR_PILLOW_FIRST and allowed:
        samples = _by_pillow(parts, photometric)
    else:
        try:
            values = page.asarray(squeeze=False, maxworkers=1)
        except Exception as error:
            if not _lacks_codec(error):
                raise
            samples = _without_codec(parts, photometric, allowed, error)
        else:
            samples = _samples(parts, values, photometric)
    return samples


def _lacks_codec(error: Exception) -> bool:
    return isinstance(error, ImportError) or "imagecodecs" in str(error)


def _without_codec(parts: TiffParts, photometric: int, allowed: bool, error: Exception) -> Samples:
    page = parts.page
    name = getattr(page.compression, "name", page.compression)
    if allowed:
        with suppress(Exception):  # not every Pillow has every codec
            samples = _by_pillow(parts, photometric)
            if parts.bits < 16 or samples.values.max() > 63:  # of 16 bits, Pillow gives the upper 8
                return samples
    elif page.compression == _NONE and page.sampleformat == 1 and not page.is_tiled:
        return _samples(parts, _unpacked(parts), photometric)
    what = f"a TIFF with {name} compression and {parts.bits} bits"
    raise UnsupportedError(what, _EXTRA, "which needs more packages") from error


def _unpacked(parts: TiffParts) -> np.ndarray:
    """Numbers of any few bits, packed in uncompressed strips, as tifffile shapes them: (planes, 1, H, W, channels)."""
    page, bits = parts.page, parts.bits
    planes, _, height, width, channels = page.shaped
    row = math.ceil(width * channels * bits / 8)
    values = np.empty((planes * height, width * channels), np.uint16 if bits <= 16 else np.uint32)
    done = 0
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        parts.file.seek(offset)
        rows = np.frombuffer(parts.file.read(count), np.uint8)
        rows = rows[: len(rows) // row * row].reshape(-1, row)[: len(values) - done]
        for line in rows:
            digits = np.unpackbits(line)[: width * channels * bits].reshape(-1, bits)
            values[done] = digits @ (1 << np.arange(bits - 1, -1, -1))
            done += 1
    if done < len(values):
        raise DamagedError("it ends too early")
    return values.reshape(planes, 1, height, width, channels)


def _samples(parts: TiffParts, values: np.ndarray, photometric: int) -> Samples:
    """What tifffile decoded, (planes, 1, H, W, channels)."""
    page, remarks = parts.page, parts.remarks
    values = np.moveaxis(values[:, 0], 0, 2).reshape(*values.shape[2:4], -1)
    channels, kinds = _CHANNELS[photometric], _extra_kinds(page, photometric)
    alphas = [i for i, kind in enumerate(kinds) if kind in (1, 2)]
    if len(kinds) > len(alphas[:1]):
        remarks.append("a channel that is neither colour nor alpha was left out")
    alpha = values[..., channels + alphas[0]] if alphas else None
    white: float | None = None
    kind = values.dtype.kind
    if kind == "c":
        raise UnsupportedError("a TIFF of complex numbers")
    if kind in "ub" and parts.bits < 32:
        white = _stated_white(page, values, 2**parts.bits - 1)
    elif kind == "i" and parts.bits < 32:
        white = 2 ** (parts.bits - 1) - 1
    colours = values[..., :channels] if channels > 1 else values[..., 0]
    if kind == "i" and photometric != _CIELAB and colours.min() < 0:
        raise UnsupportedError("a TIFF of numbers below zero")
    if kind == "b":
        colours = colours.astype(np.uint8)
        alpha = None if alpha is None else alpha.astype(np.uint8)
    if photometric == _WHITE_IS_ZERO:
        if kind == "f":
            raise UnsupportedError("a TIFF of floats in which zero is white")
        colours = np.asarray(white or np.iinfo(colours.dtype).max, colours.dtype) - colours
    if photometric == _PALETTE:
        return _palette(parts, colours, alpha, white)
    if photometric in (_CMYK, _CIELAB):
        if kind == "f":
            raise UnsupportedError("a TIFF of floats in CMYK or Lab")
        white = white or int(np.iinfo(colours.dtype).max)
    if photometric == _CIELAB:
        if parts.bits not in (8, 16):
            raise UnsupportedError(f"a TIFF of Lab in {parts.bits} bits")
        if parts.bits == 16:
            colours = _lab_to_8bit(colours)
        colours = colours.astype(np.uint8, copy=False)
    if photometric == _YCBCR:
        image = Image.frombytes("YCbCr", colours.shape[1::-1], np.ascontiguousarray(colours).tobytes())
        colours = np.array(image.convert("RGB"))
    model = {_CMYK: "cmyk", _CIELAB: "lab", 0: "gray", 1: "gray"}.get(photometric, "rgb")
    premultiplied = bool(alphas) and kinds[alphas[0]] == 1
    return Samples(colours, model, white, alpha, premultiplied, parts.icc_profile, remarks=remarks)


def _stated_white(page: Any, values: np.ndarray, white: int) -> int:
    """The largest number that MaxSampleValue names, where that is all ones, such as 1023 of 65535, and holds."""
    stated: Any = page.tags.valueof(281, white)
    stated = max(stated) if isinstance(stated, tuple) and stated else stated
    ones = isinstance(stated, int) and 1 < stated < white and stated & (stated + 1) == 0
    return int(stated) if ones and values.max() <= stated else white


def _palette(parts: TiffParts, indices: np.ndarray, alpha: np.ndarray | None, white: float | None) -> Samples:
    table = np.asarray(parts.page.colormap).reshape(3, -1)
    table = table if table.max() < 256 else np.rint(table / 257)  # some programs write 8 bits where 16 belong
    rgb = table.astype(np.uint8).T[np.minimum(indices, table.shape[1] - 1)]
    if alpha is not None:
        alpha = np.rint(alpha.astype(np.float32) * (255 / (white or 255))).astype(np.uint8)
    return Samples(rgb, "rgb", 255, alpha, icc_profile=parts.icc_profile, remarks=parts.remarks)


def _lab_to_8bit(values: np.ndarray) -> np.ndarray:
    """L of 0 to 65535, a and b of -32768 to 32767 as bits of the same type."""
    light = np.rint(values[..., 0].astype(np.uint16) / 257).astype(np.uint8)
    colour = values[..., 1:].astype(np.uint16).view(np.int16) / 256
    return np.dstack([light, np.rint(colour).clip(-128, 127).astype(np.int8).view(np.uint8)])


def _by_pillow(parts: TiffParts, photometric: int) -> Samples:
    parts.file.seek(0)
    image = TiffImagePlugin.TiffImageFile(parts.file)
    if parts.index:
        image.seek(parts.index)
    image.load()  # turns the image upright
    parts.is_upright = True
    alpha = None
    if photometric == _PALETTE:
        return _palette(parts, np.asarray(image), None, None)
    if image.mode == "I;16" or image.mode == "I;16B":
        values = np.asarray(image)
        white = _stated_white(parts.page, values, 65535)
        return Samples(values, "gray", white, icc_profile=parts.icc_profile, remarks=parts.remarks)
    if image.mode in ("LA", "RGBA"):
        alpha = np.array(image.getchannel("A"))
        image = image.convert("L" if image.mode == "LA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("YCbCr", "RGBX"):
        image = image.convert("RGB")
    model = {"L": "gray", "RGB": "rgb", "CMYK": "cmyk"}.get(image.mode)
    if model is None:
        raise UnsupportedError(f"a TIFF of Pillow's mode {image.mode}")
    if _extra_kinds(parts.page, photometric) and alpha is None:
        parts.remarks.append("a channel that is neither colour nor alpha was left out")
    return Samples(np.array(image), model, 255, alpha, icc_profile=parts.icc_profile, remarks=parts.remarks)


def tiff_exif(parts: TiffParts) -> Image.Exif:
    """The tags of the page as Pillow's EXIF; of a TIFF they are one and the same."""
    exif = Image.Exif()
    with suppress(Exception):  # Pillow raises nearly anything
        exif.endian, exif.bigtiff = parts.page.parent.byteorder, parts.page.parent.is_bigtiff
        exif.load_from_fp(parts.file, parts.page.offset)
    return exif


class TiffWriter:
    """Writes pages into an empty file, one after the other. After each page the file is a whole TIFF.

    `file` must be open for writing, and can be moved in. `big`: as a BigTIFF, for files of more than 4 GiB.
    """

    def __init__(self, file: BinaryIO, big: bool = False):
        self._file, self._big = file, big
        self._header = b"II+\0\x08\0\0\0" + bytes(8) if big else b"II*\0" + bytes(4)
        self._entry, self._number = (20, "<Q") if big else (12, "<I")  # bytes of a tag; form of a position
        self._link = file.write(self._header) - struct.calcsize(self._number)  # where the next page's position belongs

    def add(self, stack: np.ndarray, beside: Mapping[int, Any]) -> None:
        """Append a page of `stack`, (H, W, 1 to 4) uint8, gray or RGB, perhaps with alpha; deflated.

        `beside` are further tags; a dict is a directory below, such as EXIF's, which a BigTIFF goes without: Pillow
        cannot lay out its position beyond 4 GiB. Pillow itself cannot write both those and compressed pixels, but lays
        out the tags.
        """
        height, width, channels = stack.shape
        rows = max(1, 2**20 // (width * channels))
        strips = [zlib.compress(np.ascontiguousarray(stack[i : i + rows]).data, 6) for i in range(0, height, rows)]
        tags = TiffImagePlugin.ImageFileDirectory_v2(self._header)
        for tag, value in beside.items():
            if self._big and isinstance(value, dict):
                continue
            tags[tag] = value
            if isinstance(value, bytes):
                tags.tagtype[tag] = TiffTags.BYTE if tag == 700 else TiffTags.UNDEFINED
        tags.update({256: width, 257: height, 258: (8,) * channels, 259: 8, 262: 1 if channels < 3 else 2})
        tags.update({277: channels, 278: min(rows, height), 284: 1, 279: tuple(len(strip) for strip in strips)})
        if channels in (2, 4):
            tags[338] = 2
        tags[273] = tuple(accumulate(map(len, strips[:-1]), initial=0))  # Pillow adds what is before
        tags.tagtype[273] = tags.tagtype[279] = TiffTags.LONG8 if self._big else TiffTags.LONG
        start = self._file.seek(0, io.SEEK_END)
        start += self._file.write(bytes(start % 2))  # directories begin at even positions
        self._file.writelines([tags.tobytes(start), *strips])
        self._file.seek(self._link)
        self._file.write(struct.pack(self._number, start))
        self._link = start + (8 if self._big else 2) + self._entry * len(tags)


def encode_tiff(stack: np.ndarray, beside: Mapping[int, Any]) -> bytes:
    """A TIFF file of one page, see `TiffWriter.add`."""
    file = io.BytesIO()
    TiffWriter(file).add(stack, beside)
    return file.getvalue()
