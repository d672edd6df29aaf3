"""The models that the package carries, each in a folder of its own."""

from pathlib import Path

BUNDLED = Path(__file__).parent
