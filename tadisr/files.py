"""Image files: find, read, name and write them, with Pillow and NumPy; what goes wrong outside is an `ImageError`. And
other files, written whole or not at all."""

import glob
import io
import os
import secrets
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageCms, UnidentifiedImageError

IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".jp2",
)  # fmt: skip
"""What folders and patterns are searched for."""
DEFAULT_FOLDER = Path("tadisr-output")
"""Where outputs go when nobody says: not beside the inputs, or a second run would read them."""

# Not all that Pillow knows: it would run Ghostscript for an EPS.
_READABLE = {"PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF"}
_WRITABLE = {
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


class ImageError(ValueError):
    """What is wrong, with which file, and what to do, on one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))


@dataclass(frozen=True, eq=False)
class LoadedImage:
    """An image file's first frame, upright, in 8 bits."""

    path: Path
    rgb: np.ndarray  # (H, W, 3) uint8, writable
    alpha: np.ndarray | None  # (H, W) uint8, 255 opaque; None where the file holds no transparency
    icc_profile: bytes | None  # the embedded profile if it describes `rgb`; None means sRGB
    frames: int  # how many frames or pages the file holds; only the first was read


def read_image(path: str | os.PathLike, max_pixels: int = 178_956_970) -> LoadedImage:
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
    return LoadedImage(Path(path), rgb, alpha, icc_profile, frames)


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

    Raises:
        ValueError: float or 32-bit values of no usual range.
    """
    return _decode(image)[0]


def _decode(opened: Image.Image) -> tuple[np.ndarray, np.ndarray | None, bytes | None]:
    """The pixels as RGB, the alpha, and the ICC profile if it describes that RGB."""
    opened.load()
    image, icc_profile = opened, opened.info.get("icc_profile") or b""
    with suppress(Exception):  # EXIF is often malformed; then the photo stays as it is stored
        orientation = opened.getexif().get(0x0112)
        if orientation in range(2, 9):
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


def write_atomically(path: Path, data: bytes) -> None:
    """Nothing half-written ever stands under `path`.

    Raises:
        OSError: no space, no permission; the temporary file is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(data)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # "no space left" does not say where
        raise


def write_image(
    path: str | os.PathLike, pixels: np.ndarray, alpha: np.ndarray | None = None, icc_profile: bytes | None = None
) -> None:
    """Write `pixels`, (H, W) or (H, W, 3) uint8, with `alpha`, (H, W) uint8, in the format that the suffix names.

    A missing folder is made. The file appears whole or not at all: until then one already there stays as it was, and
    a link is replaced, not followed. JPEG cannot hold `alpha`, so there the image is laid on white. `icc_profile` must
    describe RGB; gray goes without. Raises ImageError where the file cannot be written, ValueError for wrong arrays.
    """
    path = Path(path)
    data = _encode(path, pixels, alpha, icc_profile)
    temporary = path.with_name(f".tadisr-{secrets.token_hex(8)}.part")
    try:
        if not os.path.exists(path.parent):  # mkdir would call a file in its place "File exists"
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:  # not tempfile, whose files ignore the umask
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        reason = error.strerror or error
        raise ImageError(f"cannot write {path}: {reason}: make room there or choose another folder") from error


def _encode(path: Path, pixels: np.ndarray, alpha: np.ndarray | None, icc_profile: bytes | None) -> bytes:
    if path.suffix.lower() not in _WRITABLE:
        raise ImageError(f"cannot write {path}: its name must end in {', '.join(_WRITABLE)}")
    kind, options = _WRITABLE[path.suffix.lower()]
    stack = np.atleast_3d(pixels) if alpha is None else np.dstack([pixels, alpha])
    if stack.dtype != np.uint8 or not stack.size or stack.shape[2] - (alpha is not None) not in (1, 3):
        raise ValueError(f"{stack.dtype} {stack.shape}: not uint8 (H, W) or (H, W, 3), with alpha (H, W)")
    image = Image.fromarray(stack.squeeze(2) if stack.shape[2] == 1 else stack)
    if kind == "JPEG" and alpha is not None:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")
    if icc_profile and stack.shape[2] >= 3:
        options = {**options, "icc_profile": icc_profile}
    buffer = io.BytesIO()  # so that a full disk is the operating system's error, not an encoder's
    try:
        image.save(buffer, kind, **options)
    except Exception as error:  # larger than the format allows, out of memory
        raise ImageError(f"cannot write {path} as {kind}: {error}: try a name ending in .png or .tif") from error
    return buffer.getvalue()


def find_inputs(inputs: Sequence[str | os.PathLike]) -> list[Path]:
    """The files that `inputs` (files, folders, glob patterns with `**`) name, in that order, each once.

    A folder stands for the images directly in it, sorted, without hidden ones; folders and patterns yield only files
    with one of `IMAGE_SUFFIXES`, a file named outright is always taken. Raises ImageError for an input that names none.
    """
    found: dict[str, Path] = {}
    for name in map(os.fspath, inputs):
        paths = [Path(name)]
        if not os.path.isfile(name):
            pattern = os.path.join(glob.escape(name), "*") if os.path.isdir(name) else name
            matches = sorted(glob.glob(pattern, recursive=True))
            paths = [Path(m) for m in matches if m.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(m)]
        if not paths:
            raise ImageError(f"no image at '{name}': check the name; for subfolders, use a pattern such as 'photos/**'")
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


class OutputPaths(NamedTuple):
    """The files that one input may lead to."""

    image: Path
    mask: Path
    compare: Path


def output_paths(inputs: Sequence[Path], out: str | os.PathLike | None = None) -> list[OutputPaths]:
    """Where each input's outputs go, in the same order; no two are one file, even where letter case does not count.

    `out` is a folder (`DEFAULT_FOLDER` if None), or, for a single input, the image file to write. In a folder an input
    `a.jpg` leads to `a.png`, `a_mask.png` and `a_compare.png`. Inputs that would meet there all get longer names, such
    as `a.jpg.png` and `a.png.png`, or `2023_a.jpg.png`, and the order of the inputs does not matter.
    Raises ImageError if `out` cannot be used, or if an output is the same file as an input.
    """
    out = DEFAULT_FOLDER if out is None else Path(out)
    suffix = "" if os.path.isdir(out) else out.suffix.lower()
    if suffix in _WRITABLE:
        if len(inputs) != 1:
            raise ImageError(f"{out} is one file, but there are {len(inputs)} inputs: name a folder instead")
        outputs = [_outputs(out.parent, out.stem)._replace(image=out)]
    elif suffix in IMAGE_SUFFIXES or os.path.isfile(out):
        raise ImageError(f"cannot write {out}: name a folder, or a file ending in {', '.join(_WRITABLE)}")
    else:
        outputs = [_outputs(out, name) for name in _base_names(inputs)]

    # Inode and device: the same for every name of a file, through links, relative or in other letter case.
    sources = {os.stat(path)[1:3]: path for path in inputs if os.path.exists(path)}
    for output in (path for paths in outputs for path in paths if os.path.exists(path)):
        if os.stat(output)[1:3] in sources:
            raise ImageError(f"{output} would replace the input {sources[os.stat(output)[1:3]]}: name another output")
    return outputs


def _outputs(folder: Path, name: str) -> OutputPaths:
    return OutputPaths(folder / f"{name}.png", folder / f"{name}_mask.png", folder / f"{name}_compare.png")


def _base_names(inputs: Sequence[Path]) -> list[str]:
    """One name for each input, such that no two of their outputs meet."""
    paths = [Path(os.path.abspath(path)) for path in inputs]
    shared = len(os.path.commonprefix([path.parent.parts for path in paths]))
    uses = Counter(file for path in paths for file in _outputs(Path(), path.stem.casefold()))
    meets = [any(uses[file] > 1 for file in _outputs(Path(), path.stem.casefold())) for path in paths]
    names = ["_".join(path.parts[shared:]) if meet else path.stem for path, meet in zip(paths, meets, strict=True)]
    taken: set[Path] = set()
    for i in sorted(range(len(paths)), key=lambda i: (meets[i], paths[i])):
        name, number = names[i], 1
        while not taken.isdisjoint(_outputs(Path(), names[i].casefold())):  # rare: longer names can meet too
            number += 1
            names[i] = f"{name}-{number}"
        taken.update(_outputs(Path(), names[i].casefold()))
    return names
