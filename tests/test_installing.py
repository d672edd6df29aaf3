"""What an installation holds, and that Python finds the whole package wherever it is started.

Both kinds of installation are built from a copy of the tree, by setuptools alone: no pip, no network. Python runs
without `site`, so that the installation of this environment stays out of it.
"""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("tadisr", "pipelines", "training", "data_synthesis")
LEFT_OUT = {"training/README.md"}  # a map of the repository's folder
NAMES = ("tadisr.pipelines.pipeline_tadisr", "tadisr.training.engine", "tadisr.data_synthesis.text", "tadisr.io.images")
FIND = """
import importlib.util, json, sys
import tadisr
found = {name: importlib.util.find_spec(name) for name in sys.argv[1:]}
print(json.dumps({"tadisr": tadisr.__file__} | {name: spec and spec.origin for name, spec in found.items()}))
"""


def files_of(folder: Path) -> list[Path]:
    """All files of the package's four folders, as paths below `folder`; without what Python or an editor left there."""
    files = (path for part in PARTS for path in (folder / part).rglob("*") if path.is_file())
    below = (path.relative_to(folder) for path in files)
    return sorted(path for path in below if not any(name.startswith((".", "__pycache__")) for name in path.parts))


def build(kind: str, clone: Path, out: Path) -> Path:
    """Build a wheel of `kind` (wheel or editable) from `clone`, and unpack it in `out`."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(out.parent)!r})"
    command = [sys.executable, "-W", "ignore:Editable installation", "-c", code]
    done = subprocess.run(command, cwd=clone, capture_output=True, text=True)
    assert not done.returncode, done.stderr[-3000:]
    assert "!!" not in done.stdout + done.stderr, "setuptools warns in a box"
    (wheel,) = out.parent.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out)
    wheel.unlink()
    return out


class Installed(NamedTuple):
    clone: Path
    site: dict[str, Path]  # by kind: what would lie in site-packages


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    """A clone called `tadisr`, whose weights are empty files, and its two kinds of installation."""
    folder = tmp_path_factory.mktemp("parent")
    clone = folder / "tadisr"
    for file in [*files_of(ROOT), *map(Path, ("__init__.py", "pyproject.toml", "README.md", "LICENSE"))]:
        (clone / file).parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".safetensors":
            (clone / file).touch()
        else:
            shutil.copy(ROOT / file, clone / file)
    kinds = ("wheel", "editable")
    return Installed(clone, {kind: build(kind, clone, tmp_path_factory.mktemp(kind) / "site") for kind in kinds})


def test_a_wheel_holds_all_files(installed):
    site = installed.site["wheel"]
    in_tree = {file.as_posix() for file in files_of(installed.clone)} - LEFT_OUT
    in_wheel = {file.relative_to(site).as_posix() for file in site.rglob("*") if file.is_file()}
    assert {name if name.startswith("tadisr/") else f"tadisr/{name}" for name in in_tree} == {
        name for name in in_wheel if ".dist-info/" not in name
    }


def test_no_other_package_is_installed(installed):
    for site in installed.site.values():
        tops = [path.name for path in site.iterdir() if not path.name.startswith("__editable__")]
        assert sorted(name.partition("-")[0] for name in tops) in (["tadisr", "tadisr"], ["tadisr"])


@pytest.mark.parametrize("kind", ["wheel", "editable"])
@pytest.mark.parametrize("place", ["elsewhere", "in the clone", "above the clone"])
def test_python_finds_the_whole_package(installed, tmp_path, kind, place):
    """Above a clone called tadisr, Python finds the clone first; in it, the folder tadisr, without its other parts."""
    clone, site = installed.clone, installed.site[kind]
    cwd = {"elsewhere": tmp_path, "in the clone": clone, "above the clone": clone.parent}[place]
    code = f"import site; site.addsitedir({str(site)!r})\n{FIND}"
    others = () if place == "in the clone" else ("training", "pipelines")
    command = [sys.executable, "-S", "-c", code, *NAMES, *others]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert not any(found.pop(name) for name in others), "a package of a common name is installed"
    home = site if kind == "wheel" and place != "in the clone" else clone
    assert found.pop("tadisr") == str(home / "tadisr" / "__init__.py")
    assert len(found) == len(NAMES) and all(Path(file).is_relative_to(home) for file in found.values())


def test_the_clone_stands_for_nothing_else(installed, tmp_path):
    """A clone of another name is no copy of the package."""
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(ROOT / "__init__.py", other)
    code = "import other, sys; assert 'tadisr' not in sys.modules and not hasattr(other, 'load')"
    subprocess.run([sys.executable, "-S", "-c", code], cwd=tmp_path, check=True)


def extras_in_messages() -> set[str]:
    """Every `tadisr[...]` that a message tells a user to install."""
    found = re.findall(
        r"tadisr\[([\w,]+)\]", "".join((ROOT / file).read_text() for file in files_of(ROOT) if file.suffix == ".py")
    )
    return {extra for names in found for extra in names.split(",")}


def test_messages_name_extras_that_are_there():
    assert extras_in_messages() >= {"ocr", "metrics", "synth", "train"}
    assert extras_in_messages() <= set(metadata("tadisr").get_all("Provides-Extra", []))


def test_the_line_of_a_message_asks_no_index_for_tadisr():
    """tadisr is on none: pip takes the installed one, and adds to it."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-index", "--no-deps", "tadisr[ocr,metrics]"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "already satisfied: tadisr[metrics,ocr]" in done.stdout
