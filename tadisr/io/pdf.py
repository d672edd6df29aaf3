"""The pictures of PDF files, replaced in place; see `tadisr.io.documents`."""

import hashlib
import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tadisr.io.atomic import appearing
from tadisr.io.images import ImageError, LoadedImage
from tadisr.io.messages import one_line
from tadisr.io.pictures import LEAST_SIDE, Document, Picture

try:
    import pikepdf
except ImportError:
    raise ImportError("PDF files need pikepdf: pip install 'tadisr[documents]'.") from None

_MOST_HELD = 2**28  # bytes of new pictures that are in memory before they are written
_DEEPEST = 8  # of forms within forms
_RECORD = "/TADiSR"  # in the information dictionary

Shown = list[tuple[Any, Any]]
"""Image XObjects, each with the matrix that it is drawn by."""


def record_of(path: Path) -> str | None:
    """What `PDF.write` recorded."""
    with pikepdf.open(path) as pdf:
        record = pdf.docinfo.get(_RECORD)
        return None if record is None else str(record)


class PDF(Document):
    """The pictures that a PDF's pages show: image XObjects, also within forms, each once.

    Inline images, stencils, pictures of annotations, and those in CMYK, Lab or spot colours stay as they are. A
    transparency mask keeps its own size, as PDF allows.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self._pdf = pikepdf.open(path)
        except pikepdf.PasswordError:
            raise ImageError(f"{path} is encrypted: remove its password first, for example by qpdf --decrypt") from None
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from None
        except pikepdf.PdfError as error:
            raise ImageError(f"{path} is no PDF, or a damaged one ({one_line(error, 100)}): save it anew") from None
        try:
            if self._pdf.is_encrypted and not self._pdf.allow.modify_other:
                raise ImageError(f"{path} is protected against changes: remove the protection first")
            with suppress(Exception):  # a form that is none
                if int(self._pdf.Root.get("/AcroForm", {}).get("/SigFlags", 0)) & 1:
                    self.remarks.append("its signature will not hold: the pictures are others")
            found, self.left = _found(self._pdf)
            for one in found:
                picture = _picture(one, path)
                (self.left if isinstance(picture, str) else self.pictures).append(picture)  # pyright: ignore[reportArgumentType]
        except ImageError:
            self.close()
            raise
        except Exception as error:  # a tree of pages with a hole
            self.close()
            raise ImageError(f"{path} is damaged ({one_line(error, 100)}): save it anew") from None

    def close(self) -> None:
        """Close the file."""
        self._pdf.close()

    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """See `Document.write`. At most `_MOST_HELD` bytes of new pictures are in memory at a time."""
        pdf, held, protection = self._pdf, 0, self._pdf.is_encrypted
        between: list[Path] = []
        try:
            with appearing(path) as part:
                found = _replaceable(pdf)
                for index, file in files.items():
                    if held > _MOST_HELD:
                        between.append(part.with_name(f"{part.name}{index}"))
                        pdf.save(between[-1], encryption=protection)
                        pdf.close()
                        pdf, held = pikepdf.open(between[-1]), 0
                        for earlier in between[:-1]:
                            earlier.unlink(missing_ok=True)
                        found = _replaceable(pdf)
                    data = file.read_bytes()
                    _replace(found[index], data)
                    held += len(data)
                pdf.docinfo[_RECORD] = made_by
                pdf.save(part, encryption=protection)
        except OSError as error:
            reason = error.strerror or one_line(error, 100)
            raise ImageError(f"cannot write {path}: {reason}: make room, or name another place") from error
        except (pikepdf.PdfError, pikepdf.PikepdfError) as error:
            raise ImageError(f"cannot write {path} ({one_line(error, 100)}): save {self.path} anew first") from None
        finally:
            pdf.close()
            for file in between:
                file.unlink(missing_ok=True)


@dataclass
class _Found:
    """An image XObject and where it is shown first."""

    image: Any
    page: int
    number: int
    inches: tuple[float, float]
    """Its height and width where it is printed largest."""


def _found(pdf: Any) -> tuple[list[_Found], list[str]]:
    """The pictures that pages show, in the order of the pages, each once; and which pages cannot be searched."""
    found: dict[Any, _Found] = {}
    problems, forms = [], {}
    for number, page in enumerate(pdf.pages):
        count = 0
        try:
            unit = float(page.obj.get("/UserUnit", 1)) / 72  # inches
            for image, matrix in _shown(page, page.obj.get("/Resources"), forms, 0):
                inches = unit * float(np.hypot(matrix.c, matrix.d)), unit * float(np.hypot(matrix.a, matrix.b))
                known = found.get(image.objgen)
                if known is None:
                    count += 1
                    found[image.objgen] = _Found(image, number, count, inches)
                else:
                    known.inches = max(known.inches[0], inches[0]), max(known.inches[1], inches[1])
        except Exception as error:  # an operand of another kind, a dictionary where a stream should be
            problems.append(f"page {number + 1} cannot be searched ({one_line(error, 80)})")
    return list(found.values()), problems


def _shown(part: Any, resources: Any, forms: dict[Any, Shown], depth: int) -> Shown:
    """The pictures that a page or a form draws. `forms` holds what is known already."""
    named = {} if resources is None else resources.get("/XObject", {})
    shown: Shown = []
    if not named:
        return shown
    current, stack = pikepdf.Matrix(), []
    for operands, operator in pikepdf.parse_content_stream(part, "q Q cm Do"):
        kind = str(operator)
        if kind == "q":
            stack.append(current)
        elif kind == "Q" and stack:
            current = stack.pop()
        elif kind == "cm" and len(operands) == 6:
            current = pikepdf.Matrix(*map(float, operands)) @ current
        elif kind == "Do" and operands:
            drawn = named.get(str(operands[0]))
            if not isinstance(drawn, pikepdf.Stream):
                continue
            subtype = drawn.get("/Subtype")
            if subtype == "/Image" and drawn.is_indirect:
                shown.append((drawn, current))
            elif subtype == "/Form" and depth < _DEEPEST:
                key = drawn.objgen
                if key not in forms:
                    forms[key] = []  # a form that draws itself draws nothing there
                    own = pikepdf.Matrix(*map(float, drawn.get("/Matrix", (1, 0, 0, 1, 0, 0))))
                    inner = _shown(drawn, drawn.get("/Resources", resources), forms, depth + 1)
                    forms[key] = [(image, matrix @ own) for image, matrix in inner]
                shown += [(image, matrix @ current) for image, matrix in forms[key]]
    return shown


def _picture(found: _Found, path: Path) -> Picture | str:
    """What is known of a picture, or why it stays as it is."""
    image, name = found.image, f"page {found.page + 1}, picture {found.number}"
    try:
        height, width = int(image.get("/Height", 0)), int(image.get("/Width", 0))
        why = _why_not(image)
    except Exception as error:  # an object of another kind
        return f"{name} is damaged ({one_line(error, 80)})"
    if min(height, width) < LEAST_SIDE:
        return f"{name} is {width} x {height} pixels: too small"
    if why:
        return f"{name} {why}"
    inches = found.inches
    dpi = None if min(inches) <= 0 else min(height / inches[0], width / inches[1])

    def load(_: Path) -> LoadedImage:
        try:
            pixels = pikepdf.PdfImage(image).as_pil_image(apply_mask=False)
            if pixels.mode == "I;16":
                pixels = Image.fromarray((np.asarray(pixels) >> 8).astype(np.uint8))
            gray = pixels.mode in ("1", "L")
            rgb = np.array(pixels.convert("RGB"))
        except Exception as error:  # of pikepdf, of Pillow, of a decoder that is not there
            raise ImageError(f"{path}, {name} cannot be read ({one_line(error, 100)})") from None
        if rgb.shape[:2] != (height, width):
            raise ImageError(f"{path}, {name} holds other pixels than it says")
        return LoadedImage(path, rgb, None, 1, gray)

    def digest() -> str:
        try:
            return hashlib.sha256(image.read_raw_bytes()).hexdigest()
        except Exception as error:  # a stream that is none
            raise ImageError(f"{path}, {name} cannot be read ({one_line(error, 100)})") from None

    return Picture(name, height, width, dpi, ".jpg", load, digest)


def _replaceable(pdf: Any) -> list[Any]:
    """The image XObjects of `Document.pictures`, in the same order."""
    found, _ = _found(pdf)
    return [one.image for one in found if not isinstance(_picture(one, Path()), str)]


def _why_not(image: Any) -> str | None:
    """Why a picture stays as it is; None where it can be replaced."""
    space, filters = image.get("/ColorSpace"), str(image.get("/Filter", ""))
    if image.get("/ImageMask", False):
        return "is a stencil"
    if "/Decode" in image:
        values, bits = [float(x) for x in image.Decode], int(image.get("/BitsPerComponent", 8))
        inverted = values == [1, 0] and bits == 1  # fax scans: pikepdf turns them
        palette = "/Indexed" in str(space) and values == [0, 2**bits - 1]
        if not (inverted or palette or values == [0, 1] * (len(values) // 2)):
            return "has its colours remapped"
    if isinstance(image.get("/Mask"), pikepdf.Array):
        return "makes a colour transparent"
    mask = image.get("/SMask")
    if isinstance(mask, pikepdf.Stream) and "/Matte" in mask:
        return "is blended with its transparency"
    if image.get("/SMaskInData", 0):
        return "holds its own transparency"
    if "/JPXDecode" in filters and "/Indexed" in str(space):
        return "is a JPEG 2000 with a palette"
    return None if _base(space) is not None else "has colours that are neither gray nor RGB"


def _base(space: Any) -> tuple[Any, bool] | None:
    """The colour space of the numbers that Pillow gives, and whether it is gray; None for any but gray and RGB."""
    if space is None:
        return None
    array = list(space) if isinstance(space, pikepdf.Array) else None
    kind = str(space if array is None else array[0])
    if kind in ("/DeviceGray", "/CalGray", "/G"):
        return space, True
    if kind in ("/DeviceRGB", "/CalRGB", "/RGB"):
        return space, False
    if kind == "/ICCBased" and array and int(array[1].get("/N", 0)) in (1, 3):
        return space, int(array[1].N) == 1
    if kind == "/Indexed" and array and (inner := _base(array[1])) is not None and not inner[1]:
        return inner
    return None


def _replace(image: Any, jpeg: bytes) -> None:
    """Give an image XObject other pixels."""
    base = _base(image.get("/ColorSpace"))
    assert base is not None
    space, gray = base
    with Image.open(io.BytesIO(jpeg)) as opened:
        size, mode = opened.size, opened.mode
    if (mode == "L") != gray:  # a colour space of three numbers, of a picture that has no colours; or the reverse
        space = pikepdf.Name.DeviceGray if mode == "L" else pikepdf.Name.DeviceRGB
    image.write(jpeg, filter=pikepdf.Name.DCTDecode)
    image.Width, image.Height = size
    image.BitsPerComponent, image.ColorSpace = 8, space
    if "/Decode" in image:
        del image.Decode
