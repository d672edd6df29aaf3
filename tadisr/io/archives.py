"""The pictures of ZIP archives, such as comics (CBZ), replaced in place; see `tadisr.io.documents`."""

import copy
import hashlib
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from tadisr.io.atomic import appearing
from tadisr.io.images import IMAGE_SUFFIXES, WRITABLE, ImageError, LoadedImage, check_writable, read_header, read_image
from tadisr.io.messages import one_line
from tadisr.io.pictures import LEAST_SIDE, Document, Picture

_MOST_MEMBERS = 20_000
_LARGEST_MEMBER = 2**30  # bytes of a picture, unpacked
_LARGEST_COMMENT = 65535
_FACTOR = 4  # by which pictures usually grow
_DAMAGE = (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, zlib.error)
_ENCRYPTED, _UTF8 = 1, 0x800  # flags of a member


def record_of(path: Path) -> str | None:
    """What `Archive.write` recorded: the last line of the comment."""
    with zipfile.ZipFile(path) as archive:
        last = archive.comment.rpartition(b"\n")[2].decode()
        return last if last.startswith("tadisr ") else None


class Archive(Document):
    """A ZIP archive of pictures; those in a format that is not written become PNG files.

    Pictures of several pages or frames stay as they are. What is damaged cannot be copied, and is left out.
    """

    def __init__(self, path: Path):
        super().__init__(path)
        try:
            self._archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError):
            raise ImageError(f"{path} is no ZIP archive, or a damaged one: pack it anew") from None
        except OSError as error:
            raise ImageError(f"cannot read {path}: {error.strerror}: check its name and permissions") from None
        self._members: list[zipfile.ZipInfo] = []
        self._damaged: set[int] = set()
        try:
            members = self._archive.infolist()
            if len(members) > _MOST_MEMBERS:
                raise ImageError(f"{path} holds {len(members)} files, more than {_MOST_MEMBERS}: split it")
            if any(member.flag_bits & _ENCRYPTED for member in members):
                raise ImageError(f"{path} is encrypted: unpack it with its password, and pack it without")
            if any(not member.flag_bits & _UTF8 and not member.filename.isascii() for member in members):
                self.remarks.append("some names in it are not marked as UTF-8: they can come out as other letters")
            for member in members:
                self._look_at(member)
        except ImageError:
            self.close()
            raise

    def _look_at(self, member: zipfile.ZipInfo) -> None:
        """Find out whether a member is a picture that can be replaced, or at least be copied."""
        name = PurePosixPath(member.filename)
        hidden = name.name.startswith(".") or "__MACOSX" in name.parts
        try:
            with self._open(member) as file:
                if member.is_dir() or hidden or name.suffix.lower() not in IMAGE_SUFFIXES:
                    while file.read(2**20):  # to its checksum
                        pass
                    return
        except _DAMAGE as error:
            self._damaged.add(id(member))
            self.remarks.append(f"{member.filename} is damaged ({one_line(error, 80)}) and left out")
            return
        try:
            self.pictures.append(self._picture(member, name))
            self._members.append(member)
        except ImageError as error:
            self.left.append(str(error))

    def _open(self, member: zipfile.ZipInfo) -> IO[bytes]:
        return self._archive.open(member)

    def _read(self, member: zipfile.ZipInfo) -> bytes:
        try:
            return self._archive.read(member)
        except _DAMAGE as error:
            self._damaged.add(id(member))
            raise ImageError(f"{member.filename} is damaged ({one_line(error, 80)}) and left out") from None

    def _picture(self, member: zipfile.ZipInfo, name: PurePosixPath) -> Picture:
        if member.file_size > _LARGEST_MEMBER:
            raise ImageError(f"{member.filename} is too large")

        def load(folder: Path) -> LoadedImage:
            with _unpacked(self._read(member), folder, name.suffix) as file:
                try:
                    return read_image(file)
                except ImageError as error:
                    raise ImageError(str(error).replace(str(file), member.filename)) from None

        with tempfile.TemporaryDirectory() as place, _unpacked(self._read(member), Path(place), name.suffix) as file:
            try:
                header = read_header(file)
            except ImageError as error:
                raise ImageError(str(error).replace(str(file), member.filename)) from None
        if min(header.height, header.width) < LEAST_SIDE:
            raise ImageError(f"{member.filename} is {header.width} x {header.height} pixels: too small")
        if header.frames > 1:
            raise ImageError(f"{member.filename} holds {header.frames} pages or frames")
        suffix = name.suffix.lower() if name.suffix.lower() in WRITABLE else ".png"
        try:  # WebP does not hold long strips when they are larger
            check_writable(f"picture{suffix}", _FACTOR * header.height, _FACTOR * header.width)
        except ImageError:
            suffix = ".png"

        def digest() -> str:
            return hashlib.sha256(self._read(member)).hexdigest()

        return Picture(member.filename, header.height, header.width, None, suffix, load, digest)

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def write(self, path: Path, files: Mapping[int, Path], made_by: str) -> None:
        """See `Document.write`."""
        new = {id(self._members[index]): file for index, file in files.items()}
        members = self._archive.infolist()
        taken = {member.filename for member in members}
        own, _, last = self._archive.comment.rpartition(b"\n")
        comment = own if last.startswith(b"tadisr ") else self._archive.comment
        record = made_by.encode()
        kept = comment[: _LARGEST_COMMENT - len(record) - 1]
        try:
            with appearing(path) as part, zipfile.ZipFile(part, "x") as archive:
                archive.comment = kept + b"\n" + record if kept else record
                for member in members:
                    if id(member) in self._damaged:
                        continue
                    info, file = copy.copy(member), new.get(id(member))
                    if file is not None:
                        info.filename = _name(member.filename, file.suffix, taken)
                        info.compress_type = zipfile.ZIP_STORED
                        taken.add(info.filename)
                    source = self._open(member) if file is None else file.open("rb")
                    with source, archive.open(info, "w", force_zip64=True) as target:
                        shutil.copyfileobj(source, target, 2**20)
        except OSError as error:
            reason = error.strerror or one_line(error, 100)
            raise ImageError(f"cannot write {path}: {reason}: make room, or name another place") from error
        except _DAMAGE as error:
            raise ImageError(f"cannot copy {self.path} ({one_line(error, 100)}): pack it anew") from None


def _name(name: str, suffix: str, taken: set[str]) -> str:
    """The name of a picture in a file with that suffix: its own, or one that no other file has."""
    own = PurePosixPath(name)
    if own.suffix.lower() == suffix:
        return name
    new = str(own.with_suffix(suffix))
    return new if new not in taken else f"{name}{suffix}"


@contextmanager
def _unpacked(data: bytes, folder: Path, suffix: str) -> Iterator[Path]:
    file = folder / f"picture{suffix.lower()}"
    file.write_bytes(data)
    try:
        yield file
    finally:
        file.unlink(missing_ok=True)
