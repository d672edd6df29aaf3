"""Names: which files a command reads, and where its outputs go."""

import fnmatch
import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tadisr.io.images import IMAGE_SUFFIXES, OTHER_SUFFIXES, WRITABLE, ImageError, read_header

DEFAULT_FOLDER = Path("tadisr-output")
"""Where outputs go when nobody says: not beside the inputs, or a second run would read them."""


class Input(NamedTuple):
    """An image file to read, and what decides the names of its outputs."""

    path: Path
    folder: Path = Path()
    """Below the output folder: where the file lies below the fixed part of the pattern that found it."""
    pages: int = 1
    """More than one: each page has outputs of its own."""
    suffix: str = ".png"
    """Of the restored image."""

    @property
    def is_joined(self) -> bool:
        """Whether the restored images of all pages go into one file."""
        return self.pages > 1 and self.suffix in (".tif", ".tiff")


class FoundInputs(NamedTuple):
    """What the arguments of a command name."""

    inputs: list[Input]
    left_out: list[tuple[Path, str]]
    """What was found but cannot be read, and why: one line, with the path."""
    twins: list[tuple[Path, Path]]
    """A second name of a file, and the name that is among the inputs."""


def find_inputs(names: Iterable[str | os.PathLike], skip: Path | None = None) -> FoundInputs:
    """The files that `names` (files, folders, glob patterns with `**`) name, in that order, each once.

    A folder stands for the images directly in it, sorted, without hidden ones; folders and patterns yield only files
    with one of `IMAGE_SUFFIXES`, a file named outright is always taken. A file that has several names (links) is taken
    once, and so is a folder, so that links in a circle do no harm. `skip`: a folder that patterns do not enter, because
    outputs lie there. Raises ImageError for names where nothing is.
    """
    inputs: dict[tuple, Input] = {}
    left_out: dict[Path, str] = {}
    twins, nothing = [], []
    for name in [os.fspath(name) for name in names]:
        before = len(left_out)
        one = [Input(Path(name))] if os.path.isfile(name) else _search(name, skip, left_out)
        if not one and len(left_out) == before:
            nothing.append(name)
        for new in one:
            known = inputs.setdefault(_identity(new.path), new)
            if os.path.abspath(known.path) != os.path.abspath(new.path):
                twins.append((new.path, known.path))
    if nothing:
        names = "', '".join(nothing)
        raise ImageError(f"no image at '{names}': check the name; for subfolders, use a pattern such as 'photos/**'")
    return FoundInputs(list(inputs.values()), list(left_out.items()), twins)


def _search(name: str, skip: Path | None, left_out: dict[Path, str]) -> list[Input]:
    """The images that a folder or a pattern names, sorted; of a file's names in it one, a link only if it is alone."""
    if name and os.path.isdir(name):
        root, parts = Path(name), ("*",)
    elif glob.has_magic(name):
        every = Path(name).parts
        fixed = next(i for i, part in enumerate(every) if glob.has_magic(part))
        root, parts = Path(*every[:fixed]), every[fixed:]
    else:
        return []
    found: dict[tuple, Path] = {}
    for path in sorted(_matches(root, parts, skip, left_out), key=lambda path: (os.path.islink(path), str(path))):
        suffix = path.suffix.lower()
        if suffix in OTHER_SUFFIXES:
            left_out[path] = _why_not(path)
        elif suffix in IMAGE_SUFFIXES and not os.path.isfile(path):
            left_out[path] = f"{path} is a link to nothing"
        elif suffix in IMAGE_SUFFIXES:
            found.setdefault(_identity(path), path)
    return [Input(path, _below(path, root)) for path in sorted(found.values(), key=str)]


def _matches(root: Path, parts: Sequence[str], skip: Path | None, left_out: dict[Path, str]) -> Iterator[Path]:
    """What is no folder and matches the pattern `parts` below `root`; each folder is entered once for each part."""
    avoided = None if skip is None or _same(skip, root) or not skip.is_dir() else _identity(skip)
    ordinary, links = deque([(root, 0)]), deque()  # a folder's own name comes before its links
    entered = set()
    while ordinary or links:
        folder, i = (ordinary or links).popleft()
        try:
            identity = _identity(folder)
            if identity == avoided or (identity, i) in entered:
                continue
            entered.add((identity, i))
            part, last = parts[i], i + 1 == len(parts)
            if part == "**" and not last:
                ordinary.appendleft((folder, i + 1))
            pattern = "*" if part == "**" else part
            if glob.has_magic(pattern):
                names = fnmatch.filter((entry.name for entry in os.scandir(folder)), pattern)
                paths = [folder / name for name in names if pattern.startswith(".") or not name.startswith(".")]
            else:
                paths = [folder / part] if os.path.lexists(folder / part) else []
            for path in sorted(paths):
                if not os.path.isdir(path):
                    if last:
                        yield path
                elif part == "**" or not last:
                    place = links if os.path.islink(path) else ordinary
                    place.append((path, i if part == "**" else i + 1))
        except OSError as error:
            if i or os.path.exists(folder):
                left_out[folder] = f"{folder} cannot be searched: {error.strerror}"
        except ValueError:  # a name with a NUL
            return


def _why_not(path: Path) -> str:
    """Why a picture of another kind is not read."""
    try:
        kind = read_header(path).format
    except ImageError as error:
        return str(error)
    return f"{path} is a {kind} file, and not read where a folder or a pattern names it: name it itself"


def _identity(path: str | os.PathLike) -> tuple:
    """The same for every name of a file: through links, relative or in other letter case."""
    status = os.stat(path)
    return (status.st_dev, status.st_ino) if status.st_ino else (os.path.abspath(path),)


def _same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and _identity(one) == _identity(other)


def _below(path: Path, root: Path) -> Path:
    folder = path.parent.relative_to(root)
    return Path() if ".." in folder.parts else folder


class OutputPaths(NamedTuple):
    """The files that one input may lead to."""

    image: Path
    mask: Path
    compare: Path

    def of_page(self, page: int, is_joined: bool = False) -> "OutputPaths":
        """The files of one page, counted from 0: `a_001.png`, `a_001_mask.png`, ...

        `is_joined`: the image, `a.tif`, holds all pages.
        """
        name = self.mask.name.removesuffix("_mask.png")
        paged = _outputs(self.mask.parent, f"{name}_{page + 1:03}")
        if is_joined:
            return paged._replace(image=self.image)
        return paged._replace(image=paged.image.with_name(f"{self.image.stem}_{page + 1:03}{self.image.suffix}"))


def output_paths(inputs: Sequence[Path | Input], out: str | os.PathLike | None = None) -> list[OutputPaths]:
    """Where each input's outputs go, in the same order; no two are one file, even where letter case does not count.

    `out` is a folder (`DEFAULT_FOLDER` if None), or, for a single input, the image file to write. In a folder an input
    `a.jpg` leads to `a.png`, `a_mask.png` and `a_compare.png`, below the input's `folder`. Inputs that would meet there
    all get longer names, such as `a.jpg.png` and `a.png.png`, or `2023_a.jpg.png`, and the order of the inputs does not
    matter. Of an input with pages see `OutputPaths.of_page`.
    Raises ImageError if `out` cannot be used, or if an output is the same file as an input.
    """
    inputs = [one if isinstance(one, Input) else Input(one) for one in inputs]
    out = DEFAULT_FOLDER if out is None else Path(out)
    if output_is_file(out):
        if len(inputs) != 1:
            raise ImageError(f"{out} is one file, but there are {len(inputs)} inputs: name a folder instead")
        outputs = [_outputs(out.parent, out.stem)._replace(image=out)]
    else:
        outputs = [
            _outputs(out / one.folder, name, one.suffix) for one, name in zip(inputs, _base_names(inputs), strict=True)
        ]
    sources = {_identity(one.path): one.path for one in inputs if os.path.exists(one.path)}
    for one, paths in zip(inputs, outputs, strict=True):
        for output in (path for page in _pages(paths, one) for path in page if os.path.exists(path)):
            if _identity(output) in sources:
                raise ImageError(f"{output} would replace the input {sources[_identity(output)]}: name another output")
    return outputs


def output_is_file(out: Path) -> bool:
    """Whether `out` names an image file to write, not a folder; raises ImageError where it can be neither."""
    suffix = "" if os.path.isdir(out) else out.suffix.lower()
    if suffix not in WRITABLE and (suffix in (*IMAGE_SUFFIXES, *OTHER_SUFFIXES) or os.path.isfile(out)):
        raise ImageError(f"cannot write {out}: name a folder, or a file ending in {', '.join(WRITABLE)}")
    return suffix in WRITABLE


def _outputs(folder: Path, name: str, suffix: str = ".png") -> OutputPaths:
    return OutputPaths(folder / f"{name}{suffix}", folder / f"{name}_mask.png", folder / f"{name}_compare.png")


def _pages(output: OutputPaths, one: Input) -> list[OutputPaths]:
    return [output] if one.pages == 1 else [output.of_page(page, one.is_joined) for page in range(one.pages)]


def _base_names(inputs: Sequence[Input]) -> list[str]:
    """One name for each input, such that no two of their outputs meet, whatever the suffix of the images."""

    def files(one: Input, name: str) -> set[Path]:
        folder = Path(str(one.folder).casefold())
        return {path for page in _pages(_outputs(folder, name.casefold()), one) for path in page}

    paths = [Path(os.path.abspath(one.path)) for one in inputs]
    shared = len(os.path.commonprefix([path.parent.parts for path in paths]))
    uses = Counter(file for one, path in zip(inputs, paths, strict=True) for file in files(one, path.stem))
    meets = [any(uses[file] > 1 for file in files(one, path.stem)) for one, path in zip(inputs, paths, strict=True)]
    names = ["_".join(path.parts[shared:]) if meet else path.stem for path, meet in zip(paths, meets, strict=True)]
    taken: set[Path] = set()
    for i in sorted(range(len(paths)), key=lambda i: (meets[i], paths[i])):
        name, number = names[i], 1
        while not taken.isdisjoint(files(inputs[i], names[i])):  # rare: longer names can meet too
            number += 1
            names[i] = f"{name}-{number}"
        taken.update(files(inputs[i], names[i]))
    return names
