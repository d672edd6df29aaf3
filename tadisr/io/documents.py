"""Documents whose pictures are replaced in place: PDF files, and ZIP archives of pictures, such as comics (CBZ).

A document lists its pictures, always in the same order, and writes a copy of itself in which some of them are others.
All else stays: a PDF's pages, text layer, vector graphics, fonts, bookmarks and links, an archive's other members.
"""

import hashlib
import io
import os
import secrets
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from tadisr.io.images import IMAGE_SUFFIXES, WRITABLE, ImageError, LoadedImage, read_header, read_image
from tadisr.io.messages import one_line

ARCHIVES = (".cbz", ".zip")
DOCUMENTS = (".pdf", *ARCHIVES)
"""Suffixes of the files that `open_document` reads and writes."""

LEAST_SIDE = 16  # pixels: what is smaller is a rule, a bullet, a pixel that is stretched
_MOST_MEMBERS = 20_000  # of an archive
_LARGEST_MEMBER = 2**30  # bytes of a picture, unpacked
_MOST_HELD = 2**28  # bytes of new pictures that a PDF keeps in memory before they are written
_DEEPEST = 8  # of forms within forms
_RECORD = "/TADiSR"  # in a PDF's information dictionary


@dataclass(frozen=True)
class Picture:
    """A picture of a document, from its headers."""

    name: str
    """What messages call it."""
    height: int
    width: int
    dpi: float | None
    """Pixels per inch where it is printed largest; None where the document does not say."""
    suffix: str
    """Of the file that can replace it."""
    load: Callable[[Path], LoadedImage]
    """Read it; a folder for temporary files is given. Raises ImageError."""
    digest: Callable[[], str]
    """Of what is stored."""


class Document(ABC):
    """An open document; close it, or use it as a context manager.

    Attributes:
        pictures: that can be replaced.
        left: those that cannot, and why, one line each.
        remarks: what a person should know of the result.
    """

    def __init__(self, path: Path):
        self.path = path
        self.pictures: list[Picture] = []
        self.left: list[str] = []
        self.remarks: list[str] = []

    def __enter__(self) -> "Document":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """Write a copy with the pictures of those indices replaced by the files' contents, and say what made it.

        The copy appears whole or not at all. Raises ImageError where it cannot be written.
        """


def open_document(path: Path) -> Document:
    """Open a document by its suffix.

    Raises:
        ImageError: it is encrypted, damaged, protected or not there; the message says what to do.
        ImportError: a PDF without the package that reads it.
    """
    return Archive(path) if path.suffix.lower() in ARCHIVES else PDF(path)


def read_record(path: Path) -> str | None:
    """What `Document.write` recorded in a file; None where there is nothing."""
    with suppress(Exception):  # whatever a file that is not ours may raise
        if path.suffix.lower() in ARCHIVES:
            with zipfile.ZipFile(path) as archive:
                comment = archive.comment.decode()
                return comment if comment.startswith("tadisr ") else None
        with _pikepdf().open(path) as pdf:
            record = pdf.docinfo.get(_RECORD)
            return None if record is None else str(record)
    return None


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it after the block; gone after an exception."""
    part = path.with_name(f".tadisr-{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror or error}: make room, or name another place") from error
    finally:
        part.unlink(missing_ok=True)


# PDF


def _pikepdf() -> Any:
    try:
        import pikepdf
    except ImportError:
        raise ImportError("PDF files need pikepdf: pip install 'tadisr[documents]'.") from None
    return pikepdf


class PDF(Document):
    """The pictures that a PDF's pages show: image XObjects, also within forms, each once.

    Inline images, stencils, and pictures in CMYK, Lab or spot colours stay as they are. A transparency mask keeps its
    own size, as PDF allows.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        pikepdf = _pikepdf()
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
            if int(self._pdf.Root.get("/AcroForm", {}).get("/SigFlags", 0)) & 1:
                self.remarks.append("its signature will not hold: the pictures are others")
            for found in _found(self._pdf):
                picture = _picture(found, path)
                if isinstance(picture, str):
                    self.left.append(picture)
                else:
                    self.pictures.append(picture)
        except ImageError:
            self.close()
            raise
        except Exception as error:  # a tree of pages with a hole, an object of another kind
            self.close()
            raise ImageError(f"{path} is damaged ({one_line(error, 100)}): save it anew") from None

    def close(self) -> None:
        """Close the file."""
        self._pdf.close()

    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """See `Document.write`. At most `_MOST_HELD` bytes of new pictures are in memory at a time."""
        pikepdf, pdf, between, held = _pikepdf(), self._pdf, None, 0
        with _appearing(path) as part:
            try:
                found = _replaceable(pdf)
                for index, file in files.items():
                    if held > _MOST_HELD:
                        following = part.with_name(f"{part.name}{index}")
                        pdf.save(following)
                        pdf.close()
                        if between is not None:
                            between.unlink()
                        pdf, between, held = pikepdf.open(following), following, 0
                        found = _replaceable(pdf)
                    data = file.read_bytes()
                    _replace(found[index], data)
                    held += len(data)
                pdf.docinfo[_RECORD] = made_by
                pdf.save(part)
            finally:
                pdf.close()
                if between is not None:
                    between.unlink(missing_ok=True)


@dataclass
class _Found:
    """An image XObject and where it is shown first."""

    image: Any
    page: int
    number: int
    inches: tuple[float, float]
    """Its height and width where it is printed largest."""


def _found(pdf: Any) -> list[_Found]:
    """The pictures that pages show, in the order of the pages, each once."""
    found: dict[Any, _Found] = {}
    for number, page in enumerate(pdf.pages):
        unit = float(page.obj.get("/UserUnit", 1)) / 72  # inches
        count = 0
        for image, (a, b, c, d) in _shown(page, page.obj.get("/Resources"), None, 0):
            inches = unit * float(np.hypot(c, d)), unit * float(np.hypot(a, b))
            key = image.objgen if image.is_indirect else id(image)
            if key not in found:
                count += 1
                found[key] = _Found(image, number, count, inches)
            else:
                known = found[key]
                known.inches = max(known.inches[0], inches[0]), max(known.inches[1], inches[1])
    return list(found.values())


def _shown(part: Any, resources: Any, matrix: Any, depth: int) -> Iterator[tuple[Any, tuple[float, ...]]]:
    """The pictures that a page or a form draws, with the matrix (a, b, c, d) that each is drawn by."""
    pikepdf = _pikepdf()
    named = {} if resources is None else resources.get("/XObject", {})
    if not named:
        return
    current = pikepdf.Matrix() if matrix is None else matrix
    stack = []
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
            if drawn is None:
                continue
            subtype = drawn.get("/Subtype")
            if subtype == "/Image":
                yield drawn, (current.a, current.b, current.c, current.d)
            elif subtype == "/Form" and depth < _DEEPEST:
                own = pikepdf.Matrix(*map(float, drawn.get("/Matrix", (1, 0, 0, 1, 0, 0))))
                yield from _shown(drawn, drawn.get("/Resources", resources), own @ current, depth + 1)


def _picture(found: _Found, path: Path) -> Picture | str:
    """What is known of a picture, or why it stays as it is."""
    image, name = found.image, f"page {found.page + 1}, picture {found.number}"
    height, width = int(image.get("/Height", 0)), int(image.get("/Width", 0))
    if min(height, width) < LEAST_SIDE:
        return f"{name} is {width} x {height} pixels: too small"
    if why := _why_not(image):
        return f"{name} {why}"
    inches = found.inches
    dpi = None if min(inches) <= 0 else min(height / inches[0], width / inches[1])

    def load(_: Path) -> LoadedImage:
        pikepdf = _pikepdf()
        try:
            pixels = pikepdf.PdfImage(image).as_pil_image()
            gray = pixels.mode in ("1", "L")
            rgb = np.array(pixels.convert("RGB"))
        except Exception as error:  # of pikepdf, of Pillow, of a decoder that is not there
            raise ImageError(f"{path}, {name} cannot be read ({one_line(error, 100)})") from None
        if rgb.shape[:2] != (height, width):
            raise ImageError(f"{path}, {name} holds other pixels than it says")
        return LoadedImage(path, rgb, None, 1, gray)

    def digest() -> str:
        return hashlib.sha256(image.read_raw_bytes()).hexdigest()

    return Picture(name, height, width, dpi, ".jpg", load, digest)


def _replaceable(pdf: Any) -> list[Any]:
    """The image XObjects of `Document.pictures`, in the same order."""
    chosen = (found.image for found in _found(pdf) if not isinstance(_picture(found, Path()), str))
    return list(chosen)


def _why_not(image: Any) -> str | None:
    """Why a picture stays as it is; None where it can be replaced."""
    if image.get("/ImageMask", False):
        return "is a stencil"
    if "/Decode" in image and [float(x) for x in image.Decode] != [0, 1] * (len(image.Decode) // 2):
        return "has a /Decode array"
    if "/Mask" in image and not isinstance(image.Mask, _pikepdf().Stream):
        return "makes a colour transparent"
    if "/Matte" in image.get("/SMask", {}):
        return "is blended with its transparency"
    return None if _base(image.get("/ColorSpace")) is not None else "has colours that are neither gray nor RGB"


def _base(space: Any) -> tuple[Any, bool] | None:
    """The colour space of the numbers that Pillow gives, and whether it is gray; None for any but gray and RGB."""
    if space is None:
        return None
    array = None if str(space).startswith("/") else list(space)
    kind = str(space) if array is None else str(array[0])
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
    pikepdf = _pikepdf()
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


# ZIP


class Archive(Document):
    """A ZIP archive of pictures; those in a format that is not written become PNG files."""

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from None
        except zipfile.BadZipFile:
            raise ImageError(f"{path} is no ZIP archive, or a damaged one: pack it anew") from None
        self._members: list[zipfile.ZipInfo] = []
        try:
            members = self._archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise ImageError(f"{path} holds {len(members)} files, more than {_MOST_MEMBERS}: split it")
            for member in members:
                name = PurePosixPath(member.filename)
                hidden = name.name.startswith(".") or "__MACOSX" in name.parts
                if member.is_dir() or hidden or name.suffix.lower() not in IMAGE_SUFFIXES:
                    continue
                if member.flag_bits & 1:
                    raise ImageError(f"{path} is encrypted: unpack it with its password, and pack it without")
                try:
                    self.pictures.append(self._picture(member, name))
                    self._members.append(member)
                except ImageError as error:
                    self.left.append(str(error))
        except ImageError:
            self.close()
            raise

    def _picture(self, member: zipfile.ZipInfo, name: PurePosixPath) -> Picture:
        if member.file_size > _LARGEST_MEMBER:
            raise ImageError(f"{member.filename} is too large")

        def unpacked() -> bytes:
            try:
                return self._archive.read(member)
            except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error) as error:
                raise ImageError(f"{self.path}, {member.filename} is damaged ({one_line(error, 80)})") from None

        def load(folder: Path) -> LoadedImage:
            with _unpacked(unpacked(), folder, name.suffix) as file:
                return read_image(file)

        with tempfile.TemporaryDirectory() as folder, _unpacked(unpacked(), Path(folder), name.suffix) as file:
            try:
                header = read_header(file)
            except ImageError as error:
                raise ImageError(str(error).replace(str(file), member.filename)) from None
        if min(header.height, header.width) < LEAST_SIDE:
            raise ImageError(f"{member.filename} is {header.width} x {header.height} pixels: too small")
        suffix = name.suffix.lower() if name.suffix.lower() in WRITABLE else ".png"
        return Picture(
            member.filename, header.height, header.width, None, suffix, load,
            lambda: hashlib.sha256(unpacked()).hexdigest(),
        )  # fmt: skip

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """See `Document.write`."""
        new = {self._members[index].filename: file for index, file in files.items()}
        taken = {member.filename for member in self._archive.infolist()}
        with _appearing(path) as part, zipfile.ZipFile(part, "x") as archive:
            archive.comment = made_by.encode()
            for member in self._archive.infolist():
                file = new.get(member.filename)
                if file is None:
                    archive.writestr(member, self._archive.read(member))
                    continue
                name = str(PurePosixPath(member.filename).with_suffix(file.suffix))
                if file.suffix == PurePosixPath(member.filename).suffix.lower():
                    name = member.filename
                elif name in taken:
                    name = f"{member.filename}{file.suffix}"
                info = zipfile.ZipInfo(name, member.date_time)
                info.external_attr, info.compress_type = member.external_attr, zipfile.ZIP_STORED
                archive.writestr(info, file.read_bytes())


@contextmanager
def _unpacked(data: bytes, folder: Path, suffix: str) -> Iterator[Path]:
    file = folder / f"picture{suffix.lower()}"
    file.write_bytes(data)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
