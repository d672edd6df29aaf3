"""Pages of a file as pictures: those of a PDF, which are drawn, those of a TIFF, or the one of any other picture.

PDFium draws. It runs no JavaScript here, and one thread at a time: it is not made for more.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tadisr.io.images import MAX_PIXELS, ImageError, LoadedImage, read_header, read_image
from tadisr.io.messages import one_line
from tadisr.io.metadata import Metadata

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument, PdfPage

USUAL_DPI = 150
"""Of pages that show no scan."""
LEAST_DPI, MOST_DPI = 72, 300
"""Of pages that show one: its own resolution, within these bounds."""

_SCAN = 0.5  # the share of a page that its largest picture covers, where it is a scan
_ONE_AT_A_TIME = threading.Lock()


def count_pages(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> int:
    """How many pages a file has; 1 for an animation, whose frames are no pages.

    Raises ImageError for what cannot be read, ImportError for a PDF without the package that draws it.
    """
    if _is_pdf(path):
        with _opened(path) as pdf:
            return len(pdf)
    header = read_header(path, max_pixels)
    return header.frames if header.format == "TIFF" else 1


def read_page(path: str | os.PathLike, page: int = 0, max_pixels: int = MAX_PIXELS) -> LoadedImage:
    """Read a page, counted from 0, as `read_image` reads a picture.

    A PDF's page is drawn as it is printed, form fields included: at the resolution of the scan that it shows, or at
    `USUAL_DPI`, but never with more than `max_pixels`. Errors are those of `count_pages`.
    """
    if not _is_pdf(path):
        return read_image(path, max_pixels, page)
    with _opened(path) as pdf:
        if not 0 <= page < len(pdf):
            raise ImageError(f"{path} has no page {page + 1}: it has {len(pdf)}")
        pdf.init_forms()
        sheet = pdf[page]
        width, height = (side / 72 for side in sheet.get_size())  # inches
        dpi = min(_resolution(sheet), (max_pixels / (width * height)) ** 0.5 - 1 / min(width, height))
        if dpi <= 0:
            raise ImageError(f"{path}, page {page + 1} is {width:.0f} x {height:.0f} inches: crop it")
        scale = dpi / 72 * (1 - 1e-5)  # PDFium rounds up: a scan's own size is not to grow by rounding errors
        drawn = sheet.render(scale, rev_byteorder=True)  # pyright: ignore[reportArgumentType]
        rgb = np.array(drawn.to_numpy()[..., :3])
        gray = bool((rgb == rgb[..., :1]).all())
        return LoadedImage(Path(path), rgb, None, len(pdf), gray, Metadata(dpi=(dpi, dpi)))


def _resolution(sheet: "PdfPage") -> float:
    """Dots per inch that show all that a page holds."""
    import pypdfium2

    largest, dpi = 0.0, USUAL_DPI
    for picture in sheet.get_objects([pypdfium2.raw.FPDF_PAGEOBJ_IMAGE]):
        left, bottom, right, top = picture.get_bounds()
        covered = (right - left) * (top - bottom)
        if isinstance(picture, pypdfium2.PdfImage) and covered > largest:
            largest, pixels = covered, picture.get_px_size()
            dpi = 72 * (pixels[0] * pixels[1] / covered) ** 0.5
    width, height = sheet.get_size()
    return min(max(dpi, LEAST_DPI), MOST_DPI) if largest >= _SCAN * width * height else USUAL_DPI


def _is_pdf(path: str | os.PathLike) -> bool:
    """By its name, or by what it holds, for a download may be called anything."""
    if os.fspath(path).lower().endswith(".pdf"):
        return True
    with suppress(OSError):
        if Path(path).is_file():  # and no pipe
            with open(path, "rb") as file:
                return file.read(1024).lstrip().startswith(b"%PDF-")
    return False


@contextmanager
def _opened(path: str | os.PathLike) -> "Iterator[PdfDocument]":
    """Every error of PDFium's, also of the block, becomes an ImageError."""
    try:
        import pypdfium2
    except ImportError:
        raise ImportError("PDF pages need pypdfium2: pip install 'tadisr[documents]'.") from None
    try:
        with _ONE_AT_A_TIME, open(path, "rb") as file, closing(pypdfium2.PdfDocument(file)) as pdf:
            yield pdf
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from None
    except MemoryError:
        raise ImageError(f"cannot decode {path}: there is not enough memory: crop or shrink the image") from None
    except Exception as error:
        if getattr(error, "err_code", None) == pypdfium2.raw.FPDF_ERR_PASSWORD:
            raise ImageError(f"{path} is encrypted: remove its password first, for example by qpdf --decrypt") from None
        raise ImageError(f"{path} is no PDF, or a damaged one ({one_line(error, 100)}): save it anew") from None
