"""Image files: read and written. A problem with a file is an `ImageError`, in one line.

`read_image` gives 8-bit RGB whatever the file holds, and `write_image` writes what can be read back: docs/images.md has
the whole table. Pillow decodes most formats, tifffile most TIFFs, OpenCV 16-bit PNGs, pillow-heif HEIC. What stands
beside the pixels is read in `containers`; numbers become colours in `pixels`. No setting of Pillow is changed, so
threads do not meet.
"""

import errno
import io
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageChops,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    WebPImagePlugin,
    features,
)

from tadisr.io import containers, metadata, tiff
from tadisr.io.atomic import appearing, write_atomically
from tadisr.io.containers import DamagedError, Parts, UnsupportedError
from tadisr.io.metadata import Metadata
from tadisr.io.pixels import Encoding, Samples, rgb_to_srgb, to_8bit

IMAGE_SUFFIXES = (
    ".png", ".apng", ".jpg", ".jpeg", ".jfif", ".jpe", ".mpo", ".webp", ".avif", ".heic", ".heif", ".bmp", ".dib",
    ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".jp2", ".j2k",
)  # fmt: skip
"""What folders and patterns are searched for."""

OTHER_SUFFIXES = (
    ".jxl", ".tga", ".pdf", ".psd", ".eps", ".svg", ".ico", ".exr", ".hdr", ".dds", ".xcf", ".djvu", ".jxr", ".qoi",
    ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pcx", ".dcm", ".icns",
)  # fmt: skip
"""Pictures that are not read: what a folder holds of them should be named."""

_JPEG = ("JPEG", {"quality": 95, "subsampling": 0})
_TIFF = ("TIFF", {})
_QUALITY = ("JPEG", "WEBP", "AVIF")
WRITABLE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {"compress_level": 4}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # exact: keep the colour of invisible pixels
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".avif": ("AVIF", {"quality": 90, "subsampling": "4:4:4"}),
}
_LARGEST_SIDE = {"WEBP": 16_383, "JPEG": 65_500, "AVIF": 32_768}
_LARGEST_AVIF = 2**28  # pixels: decoders open no more
_LARGEST_TIFF = 2**32 - 2**24  # bytes of pixels: its addresses have 32 bits
# Pillow reads a PNG's profile up to 1 MiB, and JPEG's segments hold 64 KiB each, a profile up to 255 of them.
_LARGEST_PROFILE = {"PNG": 2**20 - 1, "JPEG": 255 * 65_519, "WEBP": 2**24, "TIFF": 2**24, "AVIF": 2**24}
_LARGEST_EXIF = {"PNG": 2**20, "JPEG": 65_533 - 6, "WEBP": 2**20, "TIFF": 2**20, "AVIF": 2**20}
_LARGEST_XMP = {"PNG": 2**20, "JPEG": 65_533 - 29, "WEBP": 2**20, "TIFF": 2**20, "AVIF": 2**20}
_WITHOUT_AVIF = "which the Pillow that is installed was built without"
_WITH_AVIF = "install one from PyPI (pip install --force-reinstall pillow)"
_LARGEST_FILE = 2**31  # TIFFs may be larger: they are read page by page

LUMA = (0.299, 0.587, 0.114)  # BT.601: the share of red, green and blue in gray

MAX_PIXELS = 178_956_970
"""As many as Pillow takes without a warning."""


class ImageError(ValueError):
    """What is wrong, with which file, and what to do, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class ImageHeader:
    """What is known of a file before its pixels are decoded."""

    path: Path
    format: str  # "PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG2000", "AVIF" or "HEIF"
    height: int  # upright
    width: int
    frames: int  # frames or pages, counted up to `containers.MAX_FRAMES`
    has_alpha: bool
    gray: bool


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One frame or page of an image file, upright, in 8 bits."""

    path: Path
    rgb: np.ndarray  # (H, W, 3) uint8, writable
    alpha: np.ndarray | None  # (H, W) uint8, 255 opaque; None where the file holds no transparency
    frames: int  # frames or pages of the file, counted up to `containers.MAX_FRAMES`
    gray: bool = False  # the file holds no colours: all channels of `rgb` are alike
    metadata: Metadata = Metadata()
    remarks: tuple[str, ...] = ()  # what a person should know of it: one line each, without the path

    @property
    def icc_profile(self) -> bytes | None:
        """The embedded profile if it describes `rgb`; None means sRGB."""
        return self.metadata.icc_profile

    @property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, or (H, W, 4) with alpha."""
        return self.rgb if self.alpha is None else np.dstack([self.rgb, self.alpha])

    def layers(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Colours and alpha, as `write_image` takes them, of what was made of it, (H, W, 3 or 4). Gray stays gray."""
        colours = pixels[..., :3]
        if self.gray:
            colours = np.asarray(Image.fromarray(np.ascontiguousarray(colours)).convert("L"))
        return colours, pixels[..., 3] if pixels.shape[2] == 4 else None


def read_header(path: str | os.PathLike, max_pixels: int = MAX_PIXELS, page: int = 0) -> ImageHeader:
    """Upright size, frames and kind of an image file, from its header. No pixel is decoded.

    Raises ImageError as `read_image` would where the header shows the reason.
    """
    with _opened(path, max_pixels, page) as image:
        parts = image.parts
        height, width = (parts.width, parts.height) if image.orientation >= 5 else (parts.height, parts.width)
        return ImageHeader(Path(path), parts.format, height, width, parts.frames, parts.has_alpha, parts.gray)


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS, page: int = 0) -> LoadedImage:
    """Read one frame or page of an image file, upright, in 8 bits: in its profile of RGB, else in sRGB.

    `page` counts from 0; thumbnails and masks within a file do not count. `max_pixels` is checked before anything is
    decoded. What was mended or is doubtful is in `remarks`. Raises ImageError for whatever cannot be read.
    """
    with _opened(path, max_pixels, page) as image:
        samples = image.decode()
        stored = (image.parts.height, image.parts.width)
        if samples.size() not in ((stored,) if image.orientation == image.turned else (stored, stored[::-1])):
            raise DamagedError(f"its header says {stored} pixels, and it has {samples.size()}")
        pixels = to_8bit(samples)
        turn = _turn(image.orientation)
        alpha = None if pixels.alpha is None else turn(pixels.alpha)
        dpi = metadata.sensible_dpi(image.parts.dpi) or metadata.dpi_of(image.exif)
        if dpi and image.turned >= 5:
            dpi = (dpi[1], dpi[0])
        beside = Metadata(
            pixels.icc_profile, dpi, metadata.upright_exif(image.exif), metadata.upright_xmp(image.parts.xmp)
        )
        most = containers.MAX_FRAMES
        bounded = [f"only its first {most} frames were counted"] if image.parts.frames == most else []
        remarks = tuple(dict.fromkeys((*image.parts.remarks, *samples.remarks, *bounded)))
        return LoadedImage(Path(path), turn(pixels.rgb), alpha, image.parts.frames, pixels.gray, beside, remarks)


def read_made_by(path: str | os.PathLike, page: int = 0) -> str | None:
    """What `write_image` was told by `made_by`; None where there is nothing, or the file is no image of ours."""
    with suppress(ImageError), _opened(path, 2**62, page) as image:
        return metadata.made_by_of(image.exif)
    return None


def image_size(path: str | os.PathLike) -> tuple[int, int]:
    """(H, W) as `read_image` gives it, from the header. Raises ImageError, which is a ValueError."""
    header = read_header(path)
    return header.height, header.width


def to_arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """A PIL image as `read_image` reads its file: RGB (H, W, 3) and alpha (H, W) or None, uint8, upright.

    Raises ValueError for float or 32-bit values of no usual range.
    """
    image.load()
    orientation = 1
    with suppress(Exception):  # EXIF is often malformed; then the photo stays as it is stored
        orientation = metadata.orientation_of(image.getexif())
    samples = _from_pillow(image, image.info.get("icc_profile") or b"")
    gamma = image.info.get("gamma")
    if image.format == "PNG" and gamma and "srgb" not in image.info:
        samples.encoding = Encoding(1 / gamma)
    pixels, turn = to_8bit(samples), _turn(orientation)
    return turn(pixels.rgb), None if pixels.alpha is None else turn(pixels.alpha)


# Opening


@dataclass
class _Opened:
    """A file whose header was read."""

    parts: Parts
    decode: Callable[[], Samples]
    exif: Image.Exif
    orientation: int = 1  # of what `decode` gives
    turned: int = 1  # of the file: `decode` may have turned it already


@contextmanager
def _opened(path: str | os.PathLike, max_pixels: int, page: int) -> Iterator[_Opened]:
    """Every error, also of the block, becomes an ImageError."""
    try:
        with suppress(OSError):  # opening a pipe would wait for somebody to write
            if not (stat.S_ISREG(mode := os.stat(path).st_mode) or stat.S_ISDIR(mode)):
                raise ImageError(f"{path} is no file but a device or pipe: copy it to a file")
        with open(path, "rb") as file:
            image = _open(file, page, os.fspath(path))
            parts = image.parts
            if parts.width < 1 or parts.height < 1:
                raise DamagedError("its header says that it has no pixels")
            if parts.width * parts.height > max_pixels:
                size = (parts.width, parts.height)
                raise ImageError(f"{path}: {size} pixels are more than {max_pixels}: crop or shrink the image")
            if not 0 <= page < max(1, parts.frames):
                raise ImageError(f"{path} has no page {page + 1}: it has {parts.frames}")
            yield image
    except ImageError:
        raise
    except UnsupportedError as error:
        raise ImageError(f"{path} is {error}") from error
    except MemoryError as error:
        raise ImageError(f"cannot decode {path}: there is not enough memory: crop or shrink the image") from error
    except Exception as error:  # on damaged data decoders raise nearly anything: SyntaxError, struct.error, EOFError...
        if isinstance(error, OSError) and error.strerror and error.errno not in (errno.EINVAL, errno.EOVERFLOW):
            raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from error
        raise ImageError(f"cannot decode {path}: {str(error) or type(error).__name__}: is the file whole?") from error


def _open(file: BinaryIO, page: int, path: str) -> _Opened:
    head = file.read(256)
    kind = containers.sniff(head)
    if not kind:
        if path.lower().endswith(OTHER_SUFFIXES) and head:
            raise UnsupportedError(f"a {os.path.splitext(path)[1][1:].upper()} file")
        raise ImageError(f"{path} is empty, damaged, or no image known here: check it or convert it to PNG")
    size = file.seek(0, io.SEEK_END)
    if kind != "TIFF" and size > _LARGEST_FILE:
        raise ImageError(f"{path}: {size} bytes are more than {_LARGEST_FILE}: crop or shrink the image")
    file.seek(0)
    if kind == "TIFF":
        parts = tiff.open_tiff(file, page)

        def decode() -> Samples:
            samples = tiff.decode_tiff(parts)
            image.orientation = 1 if parts.is_upright else image.turned
            return samples

        image = _Opened(parts, decode, tiff.tiff_exif(parts), parts.orientation, parts.orientation)
        return image
    if kind in _TAKEN_APART:
        take_apart, decoder = _TAKEN_APART[kind]
        parts = take_apart(file)
        exif = metadata.load_exif(parts.exif)
        turned = metadata.orientation_of(exif, parts.xmp)
        return _Opened(parts, partial(decoder, parts, page), exif, turned, turned)
    return _open_heif(file, page) if kind == "HEIF" else _open_by_pillow(file, kind, page)


def _open_by_pillow(file: BinaryIO, kind: str, page: int) -> _Opened:
    frames = containers.gif_frames(file) if kind == "GIF" else 0
    file.seek(0)
    image = _plugin(kind)(file)
    frames = frames or min(containers.MAX_FRAMES, getattr(image, "n_frames", 1))
    parts = _parts_of(image, kind, frames)
    encoding = _nclx(file) if kind == "AVIF" else None
    if kind == "JPEG2000":
        parts.bits = containers.jp2_bits(file)
    exif = Image.Exif()
    with suppress(Exception):  # Pillow raises nearly anything
        exif = image.getexif()
    turned = metadata.orientation_of(exif, parts.xmp)

    def decode() -> Samples:
        if kind == "JPEG2000" and parts.bits > 8:
            return _decode_deep_jp2(file, parts)
        if page:
            image.seek(page)
        image.load()
        samples = _from_pillow(image, parts.icc_profile)
        samples.encoding = encoding
        return samples

    return _Opened(parts, decode, exif, turned, turned)


def _open_heif(file: BinaryIO, page: int) -> _Opened:
    try:
        import pillow_heif
    except ImportError:
        remedy = "pip install 'tadisr[files]', or convert it to PNG or JPEG"
        raise UnsupportedError("a HEIC file", remedy, "which needs more packages") from None
    heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=True)
    order = [heif.primary_index, *(i for i in range(len(heif)) if i != heif.primary_index)]
    one = heif[order[page] if page < len(order) else order[0]]
    nclx = one.info.get("nclx_profile") or {}
    encoding = containers.cicp(nclx.get("color_primaries", 2), nclx.get("transfer_characteristics", 2))
    parts = _parts_of(one, "HEIF", len(heif))
    exif = metadata.load_exif(one.info.get("exif") or b"")  # its orientation is not meant: the file has another field

    def decode() -> Samples:
        samples = _from_pillow(one.to_pillow(), parts.icc_profile)
        samples.encoding = None if parts.icc_profile else encoding
        return samples

    return _Opened(parts, decode, exif)


def _parts_of(image: Any, kind: str, frames: int) -> Parts:
    """What a library's image says in its attributes `size`, `mode` and `info`."""
    info, mode = image.info, image.mode
    xmp = info.get("xmp") or b""
    parts = Parts(kind, int(image.size[0]), int(image.size[1]), bytes, frames, dpi=info.get("dpi"))
    parts.has_alpha = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in info
    parts.gray = mode in ("1", "L", "LA", "La", "F") or mode.startswith("I")
    parts.xmp, parts.icc_profile = xmp if isinstance(xmp, bytes) else b"", info.get("icc_profile") or b""
    return parts


def _nclx(file: BinaryIO) -> Encoding | None:
    """The colours that an AVIF names by numbers."""
    file.seek(0)
    head = file.read(2**16)
    at = head.find(b"colrnclx")
    code = head[at + 8 : at + 12]
    return containers.cicp(code[1], code[3]) if at > 0 and len(code) == 4 and b"colrprof" not in head else None


def _plugin(kind: str) -> Callable[[Any], Image.Image]:
    """The class of Pillow's that reads this format. Image.open would ask all others too, and warn by its own limit."""
    if kind == "AVIF":
        if not features.check("avif"):
            raise UnsupportedError("an AVIF file", f"{_WITH_AVIF}, or convert it to PNG", _WITHOUT_AVIF)
        return AvifImagePlugin.AvifImageFile
    return {
        "GIF": GifImagePlugin.GifImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "PPM": PpmImagePlugin.PpmImageFile,
        "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
    }[kind]


# Decoding


def _decode_png(parts: Parts, page: int) -> Samples:
    if parts.bits == 16 and not page:
        samples = _decode_png16(parts)
    else:
        image = PngImagePlugin.PngImageFile(io.BytesIO(parts.animation() if page and parts.animation else parts.bare()))
        image.seek(page)
        image.load()
        samples = _from_pillow(image, parts.icc_profile)
    if parts.transparent is not None and not page:
        _make_clear(samples, parts)
    samples.encoding = parts.encoding
    return samples


def _make_clear(samples: Samples, parts: Parts) -> None:
    """The one colour that a PNG calls transparent."""
    scale = 255 // (2**parts.bits - 1) if parts.bits < 8 else 1  # as the decoder scaled the others
    clear = np.atleast_3d(samples.values) == [number * scale for number in parts.transparent or ()]
    samples.alpha = np.where(clear.all(axis=2), 0, samples.white or 255).astype(samples.values.dtype)


def _opencv(what: str) -> Any:
    try:
        import cv2
    except ImportError:
        remedy = "pip install 'tadisr[files]', or convert it to 8 bits"
        raise UnsupportedError(what, remedy, "which needs more packages") from None
    return cv2


def _decode_png16(parts: Parts) -> Samples:
    """By OpenCV: of 16-bit colours Pillow keeps 8."""
    cv2 = _opencv("a PNG of 16 bits")
    values = cv2.imdecode(np.frombuffer(parts.bare(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise DamagedError("its pixels are damaged")
    alpha = None
    if values.ndim == 3:
        alpha = values[..., 3] if values.shape[2] == 4 else None
        values = values[..., 0] if parts.gray else values[..., 2::-1]
    white = parts.white if parts.white and values.max() <= parts.white else 65535
    if alpha is not None and white != 65535:
        alpha = (alpha // (65536 // (white + 1))).astype(np.uint16) if alpha.max() > white else alpha
    return Samples(values, "gray" if parts.gray else "rgb", white, alpha, icc_profile=parts.icc_profile)


def _decode_deep_jp2(file: BinaryIO, parts: Parts) -> Samples:
    """By OpenCV: when Pillow makes 8 bits of more, white becomes black."""
    cv2 = _opencv("a JPEG 2000 file of more than 8 bits")
    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise UnsupportedError(f"a {parts.bits}-bit JPEG 2000 file of channels that are not gray or RGB")
    alpha = values[..., 3] if values.ndim == 3 and values.shape[2] == 4 else None
    values = values[..., 2::-1] if values.ndim == 3 else values
    kind = "rgb" if values.ndim == 3 else "gray"
    return Samples(values, kind, 2**parts.bits - 1, alpha, icc_profile=parts.icc_profile)


def _decode_jpeg(parts: Parts, page: int) -> Samples:
    """Decoded twice, with different bytes after its last: where the pictures differ, something is missing.

    Decoders fill up what is missing with gray, and Pillow has no way to say so.
    """
    data, ended, all_scans = containers.split_jpeg(parts.bare())
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data + b"\xff\xd9"))
    image.load()
    other = JpegImagePlugin.JpegImageFile(io.BytesIO(data + _FILLER + b"\xff\xd9"))
    other.load()
    difference = ImageChops.difference(image, other)
    missing = 0.0 if difference.getbbox() is None else _missing(np.asarray(difference))
    del other, difference
    if not all_scans or missing > containers.MISSING:
        share = f"about {max(1, round(100 * missing))} % of the picture" if all_scans else "detail everywhere"
        raise DamagedError(f"it ends too early: {share} is missing")
    if missing:
        parts.remarks.append(f"its end is missing: about {max(0.1, 100 * missing):.1f} % of the picture is made up")
    elif not ended:
        parts.remarks.append("its last bytes are missing, but no pixel is")
    return _from_pillow(image, parts.icc_profile)


_FILLER = bytes((37 * i * i + 91 * i) % 251 for i in range(4096))  # anything without 0xFF


def _missing(difference: np.ndarray) -> float:
    """From where two decoded pictures first differ to their ends: as a share of the picture."""
    differ = np.atleast_3d(difference).max(axis=2) > 0
    height, width = differ.shape
    row = int(differ.max(axis=1).argmax())
    blocks = differ[row : row + 16]  # a JPEG stores rows of blocks of up to 16 lines
    column = int(blocks.max(axis=0).argmax())
    return (max(0, height - row - 16) * width + len(blocks) * (width - column)) / (height * width)


def _decode_webp(parts: Parts, page: int) -> Samples:
    image = WebPImagePlugin.WebPImageFile(io.BytesIO(parts.bare()))
    image.seek(page)
    image.load()
    return _from_pillow(image, parts.icc_profile)


_TAKEN_APART: dict[str, tuple[Callable[[BinaryIO], Parts], Callable[[Parts, int], Samples]]] = {
    "PNG": (containers.open_png, _decode_png),
    "JPEG": (containers.open_jpeg, _decode_jpeg),
    "WEBP": (containers.open_webp, _decode_webp),
}


def _from_pillow(image: Image.Image, icc_profile: bytes) -> Samples:
    """The numbers of a loaded image, not turned."""
    alpha = None
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # "I" has 16 bits, but in TIFF it is any 32-bit number
        any_range = image.mode == "F" or (image.mode == "I" and image.format == "TIFF")
        if "transparency" in image.info:
            alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
        samples = Samples(values, "gray", None if any_range else 65535, icc_profile=icc_profile)
        if alpha is not None:
            samples.alpha = alpha.astype(np.uint16) * 257
        return samples
    gray = image.mode in ("1", "L", "LA", "La")
    image = image.convert("LA") if image.mode == "La" else image  # which Pillow turns into nothing else
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = np.array(image.getchannel("A"))
        image = image.getchannel("R") if gray else image
    if image.mode in ("CMYK", "LAB"):
        return Samples(np.array(image), image.mode.lower(), icc_profile=icc_profile)
    values = np.array(image.convert("L" if gray else "RGB"))
    return Samples(values, "gray" if gray else "rgb", 255, alpha, icc_profile=icc_profile)


def _turn(orientation: int) -> Callable[[np.ndarray], np.ndarray]:
    """What turns an image of that EXIF orientation upright."""
    if orientation not in range(2, 9):
        return lambda array: array
    turn = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a),
    }[orientation]
    return lambda array: np.ascontiguousarray(turn(array))


# Writing


def check_writable(path: str | os.PathLike, height: int, width: int) -> None:
    """Raise ImageError if the format that the suffix of `path` names cannot hold an image of that size."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"cannot write {path}: its name must end in {', '.join(WRITABLE)}")
    kind = WRITABLE[suffix][0]
    check_encoder(suffix)
    limit, one = _LARGEST_SIDE.get(kind, 2**31 - 1), f"{'an' if kind == 'AVIF' else 'a'} {kind}"
    if max(height, width) > limit:
        raise ImageError(
            f"cannot write {path}: {width} x {height} pixels, but {one} has at most {limit} a side: "
            f"try a name ending in {'.png' if kind == 'TIFF' else '.png or .tif'}"
        )
    if (kind == "TIFF" and 4 * height * width > _LARGEST_TIFF) or (kind == "AVIF" and height * width > _LARGEST_AVIF):
        raise ImageError(
            f"cannot write {path}: {width} x {height} pixels are too many for {one}: try a name ending in .png"
        )


def check_encoder(suffix: str) -> None:
    """Raise ImageError if the Pillow that is installed cannot write the format that this suffix names."""
    if WRITABLE[suffix][0] == "AVIF" and not features.check("avif"):
        raise ImageError(f"cannot write AVIF files, {_WITHOUT_AVIF}: {_WITH_AVIF}, or write PNG files")


def write_image(
    path: str | os.PathLike,
    pixels: np.ndarray,
    alpha: np.ndarray | None = None,
    metadata: Metadata | None = None,
    quality: int | None = None,
    made_by: str | None = None,
) -> None:
    """Write `pixels`, (H, W) or (H, W, 3) uint8, with `alpha`, (H, W) uint8, in the format that the suffix names.

    A missing folder is made. The file appears whole or not at all: until then one already there stays as it was, and
    a link is replaced, not followed. JPEG cannot hold `alpha`, so there the image is laid on white.

    `metadata` is written as it is, but what the format cannot hold: gray goes without a profile, as sRGB; of a profile
    that readers of the format refuse for its size, the colours are converted to sRGB; EXIF loses its least important
    parts. `quality`, 1 to 100, is that of JPEG (95 if None), AVIF (90 if None) and WebP (lossless if None). PNG and
    TIFF are lossless.
    `made_by` is recorded in the EXIF data, for `read_made_by`.
    Raises ImageError where the file cannot be written, ValueError for wrong arrays.
    """
    path = Path(path)
    stack = np.atleast_3d(pixels) if alpha is None else np.dstack([pixels, alpha])
    if stack.dtype != np.uint8 or not stack.size or stack.shape[2] - (alpha is not None) not in (1, 3):
        raise ValueError(f"{stack.dtype} {stack.shape}: not uint8 (H, W) or (H, W, 3), with alpha (H, W)")
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality {quality}: choose 1 to 100")
    check_writable(path, *stack.shape[:2])
    kind, defaults = WRITABLE[path.suffix.lower()]
    options = dict(defaults)
    if quality is not None and kind in _QUALITY:
        options.update(quality=quality, lossless=False)
    if kind == "AVIF" and stack.shape[2] == 1:
        options.update(subsampling="4:0:0")
    beside = metadata or Metadata()
    profile = beside.icc_profile if stack.shape[2] >= 3 else None
    if profile and len(profile) > _LARGEST_PROFILE[kind]:
        converted = rgb_to_srgb(np.ascontiguousarray(stack[..., :3]), profile)
        stack = stack if converted is None else np.dstack([converted, stack[..., 3:]])
        profile = None
    if kind == "JPEG" and alpha is not None:
        opaque = stack[..., -1:].astype(np.uint16)
        stack = ((stack[..., :-1] * opaque + 255 * (255 - opaque) + 127) // 255).astype(np.uint8)
    try:
        data = _encode(stack, kind, options, profile, beside, made_by)
    except Exception as error:  # larger than the format allows, out of memory
        raise ImageError(f"cannot write {path} as {kind}: {error}: try a name ending in .png or .tif") from error
    write_file(path, data)


def _encode(
    stack: np.ndarray, kind: str, options: dict[str, Any], profile: bytes | None, beside: Metadata, made_by: str | None
) -> bytes:
    dpi = metadata.sensible_dpi(beside.dpi)
    exif = metadata.output_exif(beside, stack.shape[:2], made_by, _LARGEST_EXIF[kind])
    xmp = metadata.upright_xmp(beside.xmp or b"")
    if xmp and len(xmp) > _LARGEST_XMP[kind]:
        xmp = None
    if kind == "TIFF":
        return tiff.encode_tiff(stack, metadata.tiff_tags(exif, profile, xmp))
    if dpi and kind not in ("WEBP", "AVIF"):  # which have it in EXIF only
        options["dpi"] = dpi
    if exif:
        options["exif"] = exif
    if profile:
        options["icc_profile"] = profile
    if xmp and kind == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    elif xmp and kind in ("WEBP", "AVIF"):
        options["xmp"] = xmp
    buffer = io.BytesIO()  # so that a full disk is the operating system's error, not an encoder's
    Image.fromarray(stack.squeeze(2) if stack.shape[2] == 1 else stack).save(buffer, kind, **options)
    data = buffer.getvalue()
    if xmp and kind == "JPEG":  # older versions of Pillow cannot write it
        segment, at = b"http://ns.adobe.com/xap/1.0/\0" + xmp, _after_jfif_and_exif(data)
        data = data[:at] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + data[at:]
    return data


def _after_jfif_and_exif(jpeg: bytes) -> int:
    at = 2
    while jpeg[at : at + 2] in (b"\xff\xe0", b"\xff\xe1"):
        at += 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
    return at


def join_pages(path: str | os.PathLike, pages: Sequence[tuple[Path, int]]) -> None:
    """Write one TIFF of pages that `write_image` or this function wrote: (TIFF file, page from 0) each, in that order.

    Pixels are the same, and so is what stands beside them. One page is in memory at a time. The file appears whole or
    not at all; it may be one of those in `pages`. What is larger than 4 GiB becomes a BigTIFF, without directories of
    EXIF. Raises ImageError where a page cannot be read or the file not be written.
    """
    path = Path(path)
    try:
        size = sum(file.stat().st_size for file in {file for file, _ in pages} if file.exists())
        with appearing(path) as part, open(part, "xb") as file:
            writer = tiff.TiffWriter(file, size > _LARGEST_TIFF)
            for source, page in pages:
                image = read_image(source, 2**62, page)
                stack = np.dstack([one for one in image.layers(image.pixels) if one is not None])
                made_by, beside = read_made_by(source, page), image.metadata
                exif = metadata.output_exif(beside, stack.shape[:2], made_by, _LARGEST_EXIF["TIFF"])
                writer.add(stack, metadata.tiff_tags(exif, beside.icc_profile, beside.xmp))
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> ImageError:
    return ImageError(f"cannot write {path}: {error.strerror or error}: make room there or choose another folder")


def write_file(path: Path, data: bytes | str) -> None:
    """`write_atomically` to the disk; raises ImageError where that fails."""
    try:
        write_atomically(path, data, sync=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def decode(data: bytes | np.ndarray, flags: int) -> np.ndarray:
    """The image in the bytes of a file, by OpenCV, as `flags` (`cv2.IMREAD_...`) say; else a ValueError."""
    import cv2

    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ValueError("not an image")
    return image


def encode_png(image: np.ndarray) -> bytes:
    """PNG of a uint8 image, (H, W, 3) RGB or (H, W) gray, by OpenCV: several times as fast as Pillow."""
    import cv2

    ok, data = cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    if not ok:
        raise RuntimeError("OpenCV could not write a PNG.")
    return data.tobytes()
