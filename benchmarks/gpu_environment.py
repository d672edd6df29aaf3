"""What an environment lacks for `gpu_quarter_hour.sh`, in one line, and exit status 1 then; needs nothing itself.

python benchmarks/gpu_environment.py
"""

import sys
import sysconfig
import tomllib
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

NEEDED = (
    "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "cv2", "PIL", "yaml", "datasets",
    "pyarrow", "fontTools", "timm", "skimage", "tifffile", "psutil", "rich", "onnxruntime", "pytest",
)  # fmt: skip


def record() -> None:
    """Have `importlib.metadata` find tadisr, which asks for its own version, as an installation does."""
    try:
        version("tadisr")
    except PackageNotFoundError:
        project = Path(__file__).parent.parent / "pyproject.toml"
        number = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        folder = Path(sysconfig.get_path("purelib")) / f"tadisr-{number}.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: tadisr\nVersion: {number}\n")


if __name__ == "__main__":
    record()
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        number = sys.version.split()[0]
        print(f"This Python {number} lacks {', '.join(lacking)}: carry their wheels, or pip install them.")
        sys.exit(1)
