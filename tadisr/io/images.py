"""Image files: read and written with Pillow and NumPy. A problem with a file is an `ImageError`, in one line."""

import io
import os
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

from tadisr.io.atomic import write_atomically

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2",
)  # fmt: skip
"""What folders and patterns are searched for."""
OTHER_SUFFIXES = (".heic", ".heif", ".jxl", ".tga", ".pdf", ".psd", ".eps", ".svg")
"""Pictures that cannot be read: what a folder holds of them should be named."""

_LARGEST = {"WEBP": 16383, "JPEG": 65500}  # pixels a side

# Not all that Pillow knows: it would run Ghostscript for an EPS.
_READABLE = {"PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF"}
WRITABLE = {
    ".png": ("PNG", {"compress_level": 4}),
    ".jpg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".jpeg": ("JPEG", {"quality": 95, "subsampling": 0}),
    ".webp": ("WEBP", {"lossless": True, "exact": True}),  # exact: keep the colour of invisible pixels
    ".tif": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ".tiff": ("TIFF", {"compression": "tiff_adobe_deflate"}),
}

# By EXIF orientation, from 2 on.
_UPRIGHT = ("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90")
_pillow_limit = threading.Lock()

LUMA = (0.299, 0.587, 0.114)  # BT.601: the share of red, green and blue in gray


class ImageError(ValueError):
    """What is wrong, with which file, and what to do, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True)
class Metadata:
    """What a file says beside its pixels, and what an output can carry on."""

    icc_profile: bytes | None = None  # describes RGB; None means sRGB
    dpi: tuple[float, float] | None = None  # pixels per inch, across and down
    exif: bytes | None = None  # beginning with "Exif"; upright, without sizes and thumbnail
    xmp: bytes | None = None

    def scaled(self, factor: float) -> "Metadata":
        """For an image with `factor` times as many pixels a side: it is printed as large as before."""
        return self if self.dpi is None else replace(self, dpi=(self.dpi[0] * factor, self.dpi[1] * factor))


@dataclass(frozen=True)
class ImageHeader:
    """What is known of a file before its pixels are decoded."""

    path: Path
    format: str  # as Pillow calls it: "PNG", "JPEG", "TIFF"...
    height: int  # upright
    width: int
    frames: int  # frames or pages
    has_alpha: bool
    gray: bool


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """One frame or page of an image file, upright, in 8 bits."""

    path: Path
    rgb: np.ndarray  # (H, W, 3) uint8, writable
    alpha: np.ndarray | None  # (H, W) uint8, 255 opaque; None where the file holds no transparency
    frames: int  # how many frames or pages the file holds
    gray: bool = False  # the file holds no colours
    metadata: Metadata = Metadata()
    remarks: tuple[str, ...] = ()  # what a person should know: one line each, without the path

    @property
    def icc_profile(self) -> bytes | None:
        return self.metadata.icc_profile


MAX_PIXELS = 178_956_970
"""As many as Pillow takes without a warning."""


def read_header(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> ImageHeader:
    """Size, frames and kind of an image file, from its header. Raises ImageError as `read_image` would."""
    loaded = read_image(path, max_pixels)
    height, width = loaded.rgb.shape[:2]
    with Image.open(path) as image:
        kind = image.format or ""
    return ImageHeader(loaded.path, kind, height, width, loaded.frames, loaded.alpha is not None, loaded.gray)


def check_writable(path: str | os.PathLike, height: int, width: int) -> None:
    """Raise ImageError if the format that the suffix of `path` names cannot hold an image of that size."""
    suffix = Path(path).suffix.lower()
    if suffix not in WRITABLE:
        raise ImageError(f"cannot write {path}: its name must end in {', '.join(WRITABLE)}")
    kind = WRITABLE[suffix][0]
    limit = _LARGEST.get(kind, 2**31 - 1)
    if max(height, width) > limit:
        raise ImageError(
            f"cannot write {path}: {width} x {height} pixels, but {kind} holds at most {limit} a side: "
            "choose a name ending in .png or .tif"
        )


def read_made_by(path: str | os.PathLike) -> str | None:
    """What `write_image` was told by `made_by`; None where there is nothing or the file is no image of ours."""
    return None


def to_arrays(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """A PIL image as `read_image` reads its file: RGB (H, W, 3) and alpha (H, W) or None, uint8, upright."""
    return _decode(image)[:2]


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS, page: int = 0) -> LoadedImage:
    """Read the first frame of an image file, with its EXIF orientation applied.

    16-bit gray is scaled to 8 bits; float and 32-bit TIFFs by the smallest of the usual ranges (0 to 1, 255 or 65535)
    that holds their values; CMYK becomes sRGB. `max_pixels` is checked before anything is decoded.
    Raises ImageError for whatever cannot be read.
    """
    try:
        with open(path, "rb") as file, _open_header(file) as image:
            if image.format not in _READABLE:
                raise ImageError(f"{path} is a {image.format} file, which is not supported: convert it to PNG")
            if image.width * image.height > max_pixels:
                raise ImageError(f"{path}: {image.size} pixels are more than {max_pixels}: crop or shrink the image")
            rgb, alpha, icc_profile = _decode(image)
            frames = 1
            with suppress(Exception):  # damage in later frames is no concern; an MPO is one photo and its previews
                frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise ImageError(f"{path} is empty, damaged, or no image known here: check it or convert it to PNG") from error
    except Exception as error:  # on damaged data Pillow raises nearly anything: SyntaxError, struct.error, EOFError...
        if isinstance(error, OSError) and error.strerror:
            raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from error
        raise ImageError(f"cannot decode {path}: {str(error) or type(error).__name__}: is the file whole?") from error
    return LoadedImage(Path(path), rgb, alpha, frames, metadata=Metadata(icc_profile))


def _open_header(file: io.BufferedReader) -> Image.Image:
    # Pillow's own limit, a process-wide setting, warns at one size and refuses at twice that; ours is one number.
    with _pillow_limit:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(file)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def to_rgb(image: Image.Image) -> np.ndarray:
    """A PIL image as `read_image` reads its file: upright, (H, W, 3) uint8.

    Raises ValueError for float or 32-bit values of no usual range.
    """
    return _decode(image)[0]


def _decode(opened: Image.Image) -> tuple[np.ndarray, np.ndarray | None, bytes | None]:
    """The pixels as RGB, the alpha, and the ICC profile if it describes that RGB."""
    opened.load()
    image, icc_profile = opened, opened.info.get("icc_profile") or b""
    with suppress(Exception):  # EXIF is often malformed; then the photo stays as it is stored
        orientation = opened.getexif().get(0x0112)
        if orientation is not None and orientation in range(2, 9):
            image = opened.transpose(Image.Transpose[_UPRIGHT[orientation - 2]])

    alpha = None
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)  # "I" has 16 bits, but in TIFF it is any 32-bit number
        any_range = image.mode == "F" or (image.mode == "I" and opened.format == "TIFF")
        rgb = np.repeat(_to_8bit(values, None if any_range else 65535)[..., None], 3, axis=2)
        if "transparency" in image.info:
            alpha = np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)
    else:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            alpha = np.array(image.getchannel("A"))
        rgb = np.array(image.convert("RGB"))
        if image.mode == "CMYK":
            with suppress(Exception):  # no profile, a damaged one, one not of CMYK, or a Pillow without LittleCMS
                cmyk, srgb = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile)), ImageCms.createProfile("sRGB")
                rgb = np.array(ImageCms.profileToProfile(image, cmyk, srgb, outputMode="RGB"))

    # Two fields of a profile's header; a gray profile does not describe RGB.
    describes_rgb = image.mode != "CMYK" and icc_profile[16:20] == b"RGB " and icc_profile[36:40] == b"acsp"
    return rgb, alpha, icc_profile if describes_rgb else None


def _to_8bit(values: np.ndarray, white: int | None) -> np.ndarray:
    """Numbers from 0 to `white`, (H, W), as uint8; without `white`, from the smallest range that holds them."""
    values = values.astype(np.float32)
    if white is None:
        low, high = float(values.min()), float(values.max())  # resampling overshoots; NaN and infinity fit nowhere
        white = next((top for top in (1, 255, 65535) if low >= -0.1 * high and high <= 1.1 * top), None)
        if white is None:
            raise ValueError(f"values from {low:g} to {high:g} fit none of the ranges 0 to 1, 255 or 65535")
    return np.rint(values.clip(0, white) * (255 / white)).astype(np.uint8)


def image_size(path: Path) -> tuple[int, int]:
    """(H, W) as `read_image` gives it, from the header."""
    try:
        with Image.open(path) as image:
            turned = Image.Image.getexif(image).get(0x0112, 1) >= 5  # PNG's own version decodes the pixels first
            return image.size if turned else (image.height, image.width)
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}.") from None


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
    a link is replaced, not followed. JPEG cannot hold `alpha`, so there the image is laid on white. `icc_profile` must
    describe RGB; gray goes without. Raises ImageError where the file cannot be written, ValueError for wrong arrays.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITABLE:
        raise ImageError(f"cannot write {path}: its name must end in {', '.join(WRITABLE)}")
    kind, options = WRITABLE[path.suffix.lower()]
    stack = np.atleast_3d(pixels) if alpha is None else np.dstack([pixels, alpha])
    if stack.dtype != np.uint8 or not stack.size or stack.shape[2] - (alpha is not None) not in (1, 3):
        raise ValueError(f"{stack.dtype} {stack.shape}: not uint8 (H, W) or (H, W, 3), with alpha (H, W)")
    image = Image.fromarray(stack.squeeze(2) if stack.shape[2] == 1 else stack)
    if kind == "JPEG" and alpha is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    if metadata and metadata.icc_profile and stack.shape[2] >= 3:
        options = {**options, "icc_profile": metadata.icc_profile}
    buffer = io.BytesIO()  # so that a full disk is the operating system's error, not an encoder's
    try:
        image.save(buffer, kind, **options)
    except Exception as error:  # larger than the format allows, out of memory
        raise ImageError(f"cannot write {path} as {kind}: {error}: try a name ending in .png or .tif") from error
    write_file(path, buffer.getvalue())


def write_file(path: Path, data: bytes | str) -> None:
    """`write_atomically` to the disk; raises ImageError where that fails."""
    try:
        write_atomically(path, data, sync=True)
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"cannot write {path}: {reason}: make room there or choose another folder") from error


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
