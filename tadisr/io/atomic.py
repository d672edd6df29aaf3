"""Files and folders that appear whole or not at all: written under another name, then renamed into place.

A temporary name begins with a dot and ends in `.part`. A folder's is `.NAME.part`, so the next attempt finds what an
interrupted one left; a file's is random, so two writers never meet.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(path: Path, data: bytes | str, sync: bool = True) -> None:
    """Write `data` to `path`, whose missing folders are made. After an exception `path` is as it was.

    Text is written as UTF-8, lone surrogates of file names as backslash escapes. A link is replaced, not followed. A
    file that is replaced hands on its permissions; a new one has those that the umask leaves.
    `sync`: the data are on the disk before the renaming, so that a power failure cannot leave an empty file. Without,
    many small files are written several times as fast.
    Of an OSError (no space, no permission) the `filename` is set.
    """
    if isinstance(data, str):
        data = data.encode("utf-8", errors="backslashreplace")
    temporary = path.with_name(f".tadisr-{secrets.token_hex(8)}.part")
    try:
        if not os.path.exists(path.parent):  # mkdir would call a file in its place "File exists"
            path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "xb") as file:  # not tempfile, which ignores the umask
            if path.is_file() and not path.is_symlink():
                os.chmod(temporary, stat.S_IMODE(path.stat().st_mode))
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # "no space left" does not say where
        raise


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file too large for `write_atomically`. After the block it is renamed to it.

    After an exception the temporary file is gone, and `path` is as it was.
    """
    temporary = path.with_name(f".tadisr-{secrets.token_hex(8)}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """An empty temporary folder beside `folder`. After the block it takes `folder`'s place; see `replace_folder`.

    After an exception the temporary folder is gone, and `folder` is as it was.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        replace_folder(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def replace_folder(new: Path, place: Path) -> None:
    """Put the finished folder `new` where `place` is. Killed in between, the old one lies in `.<name>.old`."""
    old = place.with_name(f".{place.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def mend_folders(parent: Path, *names: str) -> None:
    """Undo what an interrupted `replacing_folder` left of the folders in `parent` with these names or glob patterns.

    If the process was killed between the two renames of `replace_folder`, the old folder goes back to its place.
    """
    for name in names:
        for old in parent.glob(f".{name}.old"):
            place = old.with_name(old.name[1 : -len(".old")])
            if not place.exists():
                old.rename(place)
        for folder in (*parent.glob(f".{name}.part"), *parent.glob(f".{name}.old")):
            shutil.rmtree(folder, ignore_errors=True)


def flush(folder: Path) -> None:
    """Have the disk hold what was written below `folder`."""
    for path in filter(Path.is_file, folder.rglob("*")):
        with path.open("rb") as file:
            os.fsync(file.fileno())
