"""The training scripts, and what they are made of."""

import sys
from importlib.util import find_spec

# `python -m tadisr.training...` without PyTorch: Python calls itself so until it has found the script.
if sys.argv[:1] == ["-m"] and find_spec("torch") is None:
    sys.exit("tadisr: PyTorch is missing: pip install 'tadisr[train]'")
