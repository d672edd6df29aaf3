"""Words for the user: mistakes and failures in one line each."""

import re
import sys
import textwrap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Controls, breaks of lines, and marks that reorder the text around them; joiners belong to letters and emojis.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class UserError(Exception):
    """A mistake of the user's, in one line; printed without a traceback."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


def say(message: str) -> None:
    """One line for the user. Results are files, so all words go to stderr, which also takes any file name."""
    print(f"tadisr: {visible(message)}", file=sys.stderr)  # noqa: T201


def visible(text: str) -> str:
    """`text` with escapes for all that is not seen but changes how the text around it is shown.

    >>> visible("a\\u202egpj.exe\\n")
    'a\\\\u202egpj.exe\\\\n'
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def show(text: str) -> None:
    """A result on stdout; letters that the terminal does not know, and file names that are no text, as escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201


def one_line(error: BaseException, limit: int | None = 300) -> str:
    """What went wrong, in one line of at most `limit` characters; the error's class where it has no message.

    Of an error that a data loader's worker passed on, only the original error's message.

    >>> one_line(ValueError("two\\nlines"))
    'two lines'
    """
    text = str(error).strip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].split(": ", 1)[-1]
    text = " ".join(text.split()) or type(error).__name__
    return text if limit is None else textwrap.shorten(text, limit, placeholder=" ...")


def shortened(items: Iterable[str], shown: int = 3) -> str:
    """The first few of a list of mistakes, and how many more there are.

    >>> shortened(["a", "b", "c", "d", "e"])
    'a; b; c; and 2 more'
    """
    items = list(items)
    more = [f"and {len(items) - shown} more"] if len(items) > shown else []
    return "; ".join(items[:shown] + more)


class _Quiet:
    """How many want quiet, and how the libraries were set before the first of them."""

    def __init__(self) -> None:
        self.lock, self.count = threading.Lock(), 0
        self.before: list[tuple[int, bool]] = []


_QUIET = _Quiet()


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bars and warnings of diffusers and transformers, which a user of ours can do nothing about.

    These are settings of the whole process. They come back when the last of those who want quiet is done.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    with _QUIET.lock:
        if not _QUIET.count:
            _QUIET.before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
        _QUIET.count += 1
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.count -= 1
            for library, (verbosity, bars) in zip(libraries, [] if _QUIET.count else _QUIET.before, strict=False):
                library.set_verbosity(verbosity)
                if bars:
                    library.enable_progress_bar()
