"""Documents whose pictures are replaced in place: PDF files, and ZIP archives of pictures, such as comics (CBZ).

A document lists its pictures, always in the same order, and writes a copy of itself in which some of them are others.
All else stays: a PDF's pages, text layer, vector graphics, fonts, bookmarks and links, an archive's other members.
"""

from contextlib import suppress
from pathlib import Path

from tadisr.io import archives
from tadisr.io.pictures import Document

ARCHIVES = (".cbz", ".zip")
DOCUMENTS = (".pdf", *ARCHIVES)
"""Suffixes of the files that `open_document` reads and writes."""


def open_document(path: Path) -> Document:
    """Open a document by its suffix.

    Raises:
        ImageError: it is encrypted, damaged, protected or not there; the message says what to do.
        ImportError: a PDF without the package that reads it.
    """
    if path.suffix.lower() in ARCHIVES:
        return archives.Archive(path)
    from tadisr.io.pdf import PDF  # and pikepdf, which most do without

    return PDF(path)


def read_record(path: Path) -> str | None:
    """What `Document.write` recorded in a file; None where there is nothing."""
    with suppress(Exception):  # whatever a file that is not ours may raise
        if path.suffix.lower() in ARCHIVES:
            return archives.record_of(path)
        from tadisr.io.pdf import record_of

        return record_of(path)
    return None
