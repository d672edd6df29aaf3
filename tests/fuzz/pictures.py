"""Small files of every image format that is read, and of many of their kinds."""

import io
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

import numpy as np
from PIL import Image, ImageCms

NUMBERS = {"I;16": "u2", "I": "i4", "F": "f4"}  # modes that Pillow makes of no other one


def drawn(chance: Random, height: int = 0, width: int = 0) -> np.ndarray:
    """A picture (H, W, 3) uint8: an edge, a gradient and noise."""
    height, width = height or chance.choice([1, 5, 16, 33]), width or chance.choice([1, 7, 16, 40])
    rng = np.random.default_rng(chance.randrange(1 << 30))
    ramp = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)[..., None] % 256
    image = ramp + rng.integers(0, 30, (height, width, 3))
    image[height // 3 :, width // 3 : width // 2 + 1] = chance.randrange(256)
    return image.clip(0, 255).astype(np.uint8)


def picture_files() -> list[tuple[str, bytes]]:
    """(suffix, bytes) of files that are whole; formats that a Pillow or a package has not are left out."""
    chance, found = Random(0), []
    for suffix, name, mode, options in _kinds():
        image = Image.fromarray(drawn(chance)).convert("L" if mode in NUMBERS else mode)
        image = Image.fromarray(np.asarray(image).astype(NUMBERS[mode])) if mode in NUMBERS else image
        with suppress(OSError, KeyError):
            image.save(buffer := io.BytesIO(), name, **options)
            found.append((suffix, buffer.getvalue()))
    frames = [Image.fromarray(drawn(chance, 9, 12)) for _ in range(3)]
    for suffix, name in ((".gif", "GIF"), (".png", "PNG"), (".webp", "WEBP"), (".tif", "TIFF"), (".mpo", "MPO")):
        frames[0].save(buffer := io.BytesIO(), name, save_all=True, append_images=frames[1:])
        found.append((suffix, buffer.getvalue()))
    with suppress(ImportError):
        import tifffile

        for array, options in (
            (drawn(chance), {"planarconfig": "separate", "photometric": "rgb"}),
            (drawn(chance).astype("u2") * 257, {"photometric": "rgb"}),
            (drawn(chance, 40, 40), {"tile": (16, 16), "photometric": "rgb"}),
            (drawn(chance)[..., 0], {"photometric": "miniswhite"}),
            (drawn(chance)[..., 0].astype("i2"), {}),
            (drawn(chance), {"bigtiff": True, "photometric": "rgb"}),
        ):
            tifffile.imwrite(buffer := io.BytesIO(), array, **options)
            found.append((".tif", buffer.getvalue()))
    with suppress(ImportError):
        import pillow_heif

        pillow_heif.from_pillow(Image.fromarray(drawn(chance, 16, 40))).save(buffer := io.BytesIO(), quality=80)
        found.append((".heic", buffer.getvalue()))
    return found


def _kinds() -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Suffix, Pillow's format, mode, and how to save."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    beside = {"exif": exif, "icc_profile": icc}
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        yield ".png", "PNG", mode, {}
    yield ".png", "PNG", "RGB", {**beside, "dpi": (300, 300)}
    yield ".png", "PNG", "P", {"transparency": 3}
    for mode, options in (("L", {}), ("CMYK", {}), ("RGB", {"progressive": True}), ("RGB", {**beside, "comment": "a"})):
        yield ".jpg", "JPEG", mode, options
    for mode, options in (("RGB", {}), ("RGBA", {"lossless": True, **beside})):
        yield ".webp", "WEBP", mode, options
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield ".bmp", "BMP", mode, {}
        for way in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield ".tif", "TIFF", mode, {"compression": way}
    for mode in ("CMYK", *NUMBERS):
        yield ".tif", "TIFF", mode, {"compression": "tiff_lzw"}
    yield ".tif", "TIFF", "1", {"compression": "group4"}
    yield ".tif", "TIFF", "RGB", {"compression": "jpeg"}
    yield ".tif", "TIFF", "RGB", {**beside, "dpi": (200, 200)}
    for mode in ("P", "L"):
        yield ".gif", "GIF", mode, {}
    yield ".ppm", "PPM", "RGB", {}
    yield ".pgm", "PPM", "L", {}
    for mode in ("RGB", "RGBA"):
        yield ".jp2", "JPEG2000", mode, {}
        yield ".avif", "AVIF", mode, {"exif": exif}
