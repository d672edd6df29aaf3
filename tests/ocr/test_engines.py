"""Engines by name: which there are, on how many cores they read, and what is said of those that cannot be loaded."""

import subprocess
import sys

import pytest

from tadisr.ocr import ENGINES, load_engine


def test_unknown_engines_are_refused():
    with pytest.raises(ValueError, match="No OCR engine 'ocrad': choose one of rapidocr, ppocr-v5, .*, tesseract"):
        load_engine("ocrad")


@pytest.mark.parametrize("missing", ["paddle", "paddleocr"])
def test_missing_paddleocr_says_what_to_install(monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[paddle\]', in an environment of its own"):
        load_engine("paddleocr")


def test_an_engine_reads_on_the_cores_it_is_given():
    assert {name: entry.on_cores(6) for name, entry in ENGINES.items()} == {
        **dict.fromkeys(("rapidocr", "ppocr-v5", "ppocr-v4", "ppocr-v3"), {"threads": 1, "workers": 6}),
        "paddleocr": {"threads": 6},
        "tesseract": {"workers": 6},
    }
    with pytest.raises(ValueError, match="workers must be at least 1, not 0"):
        load_engine("tesseract", cores=0)
    with pytest.raises(ImportError, match="There is no program tesseract-9"):
        load_engine("tesseract", cores=0, workers=2, program="tesseract-9")  # what is named counts


def test_importing_the_package_imports_no_framework():
    code = "import sys, tadisr.ocr; print([m for m in ('torch', 'cv2', 'onnxruntime', 'rapidocr') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
