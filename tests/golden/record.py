"""Record what the golden test compares with: `python tests/golden/record.py [SECTION ...]`.

Each section is made in a process of its own. Its environment pins the instructions that libraries choose by the
processor, so that other processors give the same bits wherever the libraries let them. Recording is for a change of
behaviour that is wanted; its reason belongs in the commit.

    python tests/golden/record.py --models

writes the saved models anew. That is hardly ever right: they show that models saved before still load.
"""

import json
import math
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

SHOWN = 4  # of the numbers that differ
FOLDER = Path(__file__).resolve().parent
SECTIONS = ("restore", "load", "train_tadisr", "train_others", "synthesize", "evaluate")
PACKAGES = (
    "torch", "numpy", "scipy", "opencv-python-headless", "pillow", "pyarrow", "datasets", "diffusers", "transformers",
    "accelerate", "peft", "safetensors", "timm", "scikit-image", "onnxruntime", "rapidocr", "fonttools", "torchvision",
)  # fmt: skip
PINNED = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_CBWR": "COMPATIBLE",  # the one mode that is the same on every vendor's processors
    "OPENBLAS_CORETYPE": "Haswell",
    # NumPy's names for everything above AVX2, the older ones first; those that it does not know it passes over.
    "NPY_DISABLE_CPU_FEATURES": "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4",
    "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX512-ICL",
    "OPENCV_IPP": "disabled",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
}


def environment() -> dict[str, Any]:
    """What a recording is valid for, to the bit."""
    versions = {"python": ".".join(platform.python_version_tuple()[:2]), "libc": " ".join(platform.libc_ver())}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "none"
    from PIL import features

    for name in ("raqm", "fribidi"):  # the latter is the system's, and without it text is laid out in another way
        versions[name] = features.version(name) or "none"
    return {"versions": versions, "pinned": PINNED, "processor": processor()}


def processor() -> str:
    """Vendor and model, as far as the system tells."""
    wanted = ("vendor_id", "cpu family", "model", "model name")
    try:
        first = Path("/proc/cpuinfo").read_text().split("\n\n", 1)[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    values = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    return ", ".join(f"{key} {values[key]}" for key in wanted if key in values)


def make(section: str, thorough: bool = False) -> dict[str, Any]:
    """The items of a section; `thorough`: every data set by one worker and by two, which takes longer.

    Raises:
        RuntimeError: the process failed; its last lines are in the message.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "items.json"
        # Not as a script: worker processes would import a script's modules all over again.
        command = [sys.executable, "-c", f"import sections; sections.main({section!r}, {str(out)!r}, {thorough})"]
        options = {"cwd": FOLDER, "capture_output": True, "text": True, "timeout": 900}
        done = subprocess.run(command, env={**os.environ, **PINNED}, **options)
        if done.returncode:
            raise RuntimeError(f"{section} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")
        return json.loads(out.read_text())


def read(section: str) -> dict[str, Any]:
    """A recording: its environment and its items."""
    return json.loads((FOLDER / f"{section}.json").read_text())


def differences(recorded: Any, made: Any, tolerance: float, place: str = "") -> list[str]:
    """Where two tolerant forms differ by more than `tolerance`, relative and absolute."""
    if isinstance(recorded, dict) and isinstance(made, dict):
        missing = [f"{place}: {key} is in one only" for key in sorted(recorded.keys() ^ made.keys())]
        common = [key for key in recorded if key in made]
        parts = [differences(recorded[key], made[key], tolerance, f"{place}/{key}") for key in common]
        return [*missing, *(line for part in parts for line in part)]
    if isinstance(recorded, list) and isinstance(made, list):
        if len(recorded) != len(made):
            return [f"{place}: {len(made)} instead of {len(recorded)}"]
        pairs = enumerate(zip(recorded, made, strict=True))
        return [line for i, (a, b) in pairs for line in differences(a, b, tolerance, f"{place}/{i}")]
    if isinstance(recorded, float) and isinstance(made, (float, int)):
        same = math.isclose(recorded, made, rel_tol=tolerance, abs_tol=tolerance)
    else:
        same = recorded == made
    return [] if same else [f"{place}: {made!r} instead of {recorded!r}"]


def compare(recording: dict[str, Any], made: dict[str, Any]) -> list[str]:
    """What of `made` does not hold, a line each; by the rule that test_golden.py states."""
    exactly = recording["environment"] == environment()
    wrong = [f"{name}: missing" for name in recording["items"] if name not in made]
    for name, item in made.items():
        if (old := recording["items"].get(name)) is None:
            wrong.append(f"{name}: not recorded")
        elif old["sha256"] != item["sha256"]:
            apart = differences(old["tolerant"], item["tolerant"], old["tolerance"])
            if apart or exactly:
                seen = "; ".join(apart[:SHOWN]) or "the same within the tolerance"
                more = f"; and {len(apart) - SHOWN} more" if len(apart) > SHOWN else ""
                wrong.append(f"{name}: other bits: {seen}{more}")
    return wrong


def assert_as_recorded(section: str) -> None:
    """Make a section, and compare it with its recording."""
    made = make(section)
    wrong = compare(read(section), made)
    assert not wrong, "\n".join([f"{section}: {len(wrong)} of {len(made)} results differ", *wrong])


def main() -> None:
    chosen = sys.argv[1:] or SECTIONS
    if chosen == ["--models"]:
        command = [sys.executable, "-c", "import sections; sections.save_models()"]
        subprocess.run(command, env={**os.environ, **PINNED}, cwd=FOLDER, check=True)
        return
    for section in chosen:
        recording = {"environment": environment(), "items": make(section, thorough=True)}
        (FOLDER / f"{section}.json").write_text(json.dumps(recording, indent=1, ensure_ascii=False) + "\n")
        print(f"{section}: {len(recording['items'])} items")


if __name__ == "__main__":
    main()
