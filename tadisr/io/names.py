"""Names: which files a command reads, and where its outputs go."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tadisr.io.images import IMAGE_SUFFIXES, WRITABLE, ImageError

DEFAULT_FOLDER = Path("tadisr-output")
"""Where outputs go when nobody says: not beside the inputs, or a second run would read them."""


def find_inputs(inputs: Sequence[str | os.PathLike]) -> list[Path]:
    """The files that `inputs` (files, folders, glob patterns with `**`) name, in that order, each once.

    A folder stands for the images directly in it, sorted, without hidden ones; folders and patterns yield only files
    with one of `IMAGE_SUFFIXES`, a file named outright is always taken. Raises ImageError for an input that names none.
    """
    found: dict[str, Path] = {}
    for name in (os.fspath(one) for one in inputs):
        paths = [Path(name)]
        if not os.path.isfile(name):
            pattern = os.path.join(glob.escape(name), "*") if os.path.isdir(name) else name
            matches = sorted(glob.glob(pattern, recursive=True))
            paths = [Path(m) for m in matches if m.lower().endswith(IMAGE_SUFFIXES) and os.path.isfile(m)]
        if not paths:
            raise ImageError(f"no image at '{name}': check the name; for subfolders, use a pattern such as 'photos/**'")
        for path in paths:
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


class OutputPaths(NamedTuple):
    """The files that one input may lead to."""

    image: Path
    mask: Path
    compare: Path


def output_paths(inputs: Sequence[Path], out: str | os.PathLike | None = None) -> list[OutputPaths]:
    """Where each input's outputs go, in the same order; no two are one file, even where letter case does not count.

    `out` is a folder (`DEFAULT_FOLDER` if None), or, for a single input, the image file to write. In a folder an input
    `a.jpg` leads to `a.png`, `a_mask.png` and `a_compare.png`. Inputs that would meet there all get longer names, such
    as `a.jpg.png` and `a.png.png`, or `2023_a.jpg.png`, and the order of the inputs does not matter.
    Raises ImageError if `out` cannot be used, or if an output is the same file as an input.
    """
    out = DEFAULT_FOLDER if out is None else Path(out)
    suffix = "" if os.path.isdir(out) else out.suffix.lower()
    if suffix in WRITABLE:
        if len(inputs) != 1:
            raise ImageError(f"{out} is one file, but there are {len(inputs)} inputs: name a folder instead")
        outputs = [_outputs(out.parent, out.stem)._replace(image=out)]
    elif suffix in IMAGE_SUFFIXES or os.path.isfile(out):
        raise ImageError(f"cannot write {out}: name a folder, or a file ending in {', '.join(WRITABLE)}")
    else:
        outputs = [_outputs(out, name) for name in _base_names(inputs)]

    # Inode and device: the same for every name of a file, through links, relative or in other letter case.
    sources = {os.stat(path)[1:3]: path for path in inputs if os.path.exists(path)}
    for output in (path for paths in outputs for path in paths if os.path.exists(path)):
        if os.stat(output)[1:3] in sources:
            raise ImageError(f"{output} would replace the input {sources[os.stat(output)[1:3]]}: name another output")
    return outputs


def _outputs(folder: Path, name: str) -> OutputPaths:
    return OutputPaths(folder / f"{name}.png", folder / f"{name}_mask.png", folder / f"{name}_compare.png")


def _base_names(inputs: Sequence[Path]) -> list[str]:
    """One name for each input, such that no two of their outputs meet."""
    paths = [Path(os.path.abspath(path)) for path in inputs]
    shared = len(os.path.commonprefix([path.parent.parts for path in paths]))
    uses = Counter(file for path in paths for file in _outputs(Path(), path.stem.casefold()))
    meets = [any(uses[file] > 1 for file in _outputs(Path(), path.stem.casefold())) for path in paths]
    names = ["_".join(path.parts[shared:]) if meet else path.stem for path, meet in zip(paths, meets, strict=True)]
    taken: set[Path] = set()
    for i in sorted(range(len(paths)), key=lambda i: (meets[i], paths[i])):
        name, number = names[i], 1
        while not taken.isdisjoint(_outputs(Path(), names[i].casefold())):  # rare: longer names can meet too
            number += 1
            names[i] = f"{name}-{number}"
        taken.update(_outputs(Path(), names[i].casefold()))
    return names
