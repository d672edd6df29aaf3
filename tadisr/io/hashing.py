"""SHA-256 of files: by what a result can be traced to its weights."""

import hashlib
from collections.abc import Iterable
from pathlib import Path


def sha256(file: Path | bytes) -> str:
    """The digest of a file, read in blocks, or of bytes; in hexadecimal."""
    if isinstance(file, bytes):
        return hashlib.sha256(file).hexdigest()
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hashes(files: Iterable[Path], folder: Path | None = None) -> dict[str, str]:
    """{name: digest}; names are relative to `folder`, or without any folder."""
    return {str(path.relative_to(folder) if folder else path.name): sha256(path) for path in files}
