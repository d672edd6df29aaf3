"""Photographs that anybody may use: Debian's desktop backgrounds, and scikit-image's photographs."""

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from email import message_from_string
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

from tadisr.data_synthesis.sources.photographs import ImageFiles
from tadisr.data_synthesis.sources.source import PHOTO_SUFFIXES

_ROOTS = ("/usr/share/backgrounds", "/usr/share/wallpapers")
# Photographs are distributed there as JPEG, drawings as PNG, SVG and WebP; these JPEGs are drawings, renderings, logos
# or show letters.
_NOT_PHOTOGRAPHS = {
    *("2004default", "Elephants", "Elephants_3840x2160", "Elephants_5640x3172", "Fossa_by_Jasper_Roks"),
    *("GreenTraditional", "Infinite-Sea_by_Aury88", "Painting-Colors_by__herobrine7gamer", "firstgeneration"),
    *("greentock_by_Peter_Nerlich", "rhythm", "screenshot", "string", "the-mouse", "umang_by_Abhishek_Mudgal"),
    *("Autumn", "Flow", "Honeywave", "Next", "PastelHills", "SafeLanding", "Shell", "Volna"),  # Plasma's folders
}
# Those of scikit-image's files that are photographs (or materials) without letters and free by its documentation.
_SCIKIT_IMAGE = {
    **dict.fromkeys(("brick.png", "camera.png", "chelsea.png", "coffee.png", "grass.png", "gravel.png"), "CC0-1.0"),
    "hubble_deep_field.jpg": "public domain (NASA)",
    "rocket.jpg": "public domain (SpaceX)",
}


class Free(ImageFiles):
    """The photographs that are installed, perhaps none. Licences are stated by the Debian packages, file by file."""

    name = "free photographs"
    home = "Debian's background packages (such as mate-backgrounds) and scikit-image"

    def __init__(self, roots: str | Sequence[str] = _ROOTS, scikit_image: bool = True):
        found = {}
        for root in map(Path, [roots] if isinstance(roots, str) else roots):
            for file in _backgrounds(root):
                found.setdefault(file.resolve(), f"{root.name}/{file.relative_to(root).as_posix()}")
        files = {name: file for file, name in found.items()}
        spec = find_spec("skimage") if scikit_image else None
        for folder in spec.submodule_search_locations or [] if spec else []:
            for name in _SCIKIT_IMAGE:
                if (file := Path(folder, "data", name)).is_file():
                    files[f"scikit-image/{name}"] = file
        names = sorted(files)
        super().__init__([files[name] for name in names], names)

    @cached_property
    def _origins(self) -> list[tuple[str, str]]:
        """Package and licence of each file."""
        ours = [name.startswith("scikit-image/") for name in self._names]
        packages = _packages([file for file, scikit in zip(self._files, ours, strict=True) if not scikit])
        origins = []
        for file, scikit in zip(self._files, ours, strict=True):
            package = "scikit-image" if scikit else packages.get(str(file), "unknown")
            origins.append((package, _SCIKIT_IMAGE[file.name] if scikit else _licence(package, file)))
        return origins

    def licence_of(self, i: int) -> str:
        return self._origins[i][1]

    @property
    def licence(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Every licence, with the number of files under it."""
        counts = Counter(licence for _, licence in self._origins)
        return ", ".join(f"{licence} ({count})" for licence, count in sorted(counts.items())) or "none installed"

    @property
    def version(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The packages, with the number of files from each."""
        counts = Counter(package for package, _ in self._origins)
        return ", ".join(f"{package} ({count})" for package, count in sorted(counts.items())) or "none installed"


def _backgrounds(root: Path) -> list[Path]:
    """JPEG photographs below `root`; of Plasma's wallpapers (NAME/contents/images/WIDTHxHEIGHT.jpg) the largest."""
    largest: dict[Path, tuple[int, Path]] = {}
    photographs = []
    for file in sorted(root.rglob("*.jp*g")):
        parts = {file.stem, *file.relative_to(root).parts}
        drawn = parts & _NOT_PHOTOGRAPHS or "images_dark" in parts
        if drawn or file.suffix.lower() not in PHOTO_SUFFIXES or not file.is_file():
            continue
        if size := re.fullmatch(r"(\d+)x(\d+)", file.stem):
            area = int(size[1]) * int(size[2])
            largest[file.parent] = max(largest.get(file.parent, (0, file)), (area, file))
        else:
            photographs.append(file)
    return sorted(photographs + [file for _, file in largest.values()])


def _packages(files: list[Path]) -> dict[str, str]:
    """The Debian package of each file that has one."""
    if not files or not shutil.which("dpkg"):
        return {}
    found = subprocess.run(["dpkg", "-S", *map(str, files)], capture_output=True, text=True, check=False).stdout
    owners = (line.rsplit(": ", 1) for line in found.splitlines() if ": /" in line)
    return {file: package.split(",")[0].split(":")[0] for package, file in owners}


def _licence(package: str, file: Path, docs: Path = Path("/usr/share/doc")) -> str:
    """What debian/copyright says of a file: its licence's short name, or where to read on."""
    path = docs / package / "copyright"
    if not path.is_file():
        return "unknown"
    licence = None
    for paragraph in re.split(r"\n\s*\n", path.read_text(encoding="utf-8", errors="replace")):
        fields = message_from_string(paragraph.strip())
        if fields["Files"] and any(_matches(pattern, file) for pattern in fields["Files"].split()):
            licence = (fields["License"] or "").split("\n")[0].strip() or licence  # the last match counts
    return licence or f"see {path}"


def _matches(pattern: str, file: Path) -> bool:
    """Whether a pattern of the source package's tree means an installed file, whose folders may differ."""
    tails = ["/".join(file.parts[-n:]) for n in range(1, len(file.parts))]
    name = pattern.rsplit("/", 1)[-1]
    return any(fnmatchcase(tail, pattern) for tail in tails) or (name != "*" and fnmatchcase(file.name, name))
