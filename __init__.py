"""Stands for the package where Python is started in the folder above a clone called `tadisr`.

Python then finds the clone before anything that is installed. This file, which is part of no installation, puts the
installed package in its own place, or the clone's where the installation is an editable one.
"""

# ruff: noqa: N999 (a clone may have any name)

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

if __name__ == "tadisr":
    _clone = Path(__file__).resolve().parent
    _spec = PathFinder.find_spec("tadisr", [path for path in sys.path if Path(path).resolve() != _clone.parent])
    if _spec is None or _spec.loader is None:
        _spec = spec_from_file_location("tadisr", _clone / "tadisr" / "__init__.py")
    assert _spec is not None and _spec.loader is not None
    sys.modules["tadisr"] = _package = module_from_spec(_spec)
    _spec.loader.exec_module(_package)
