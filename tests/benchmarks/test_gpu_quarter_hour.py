"""The quarter of an hour on a GPU, rehearsed on a CPU: every part, in its own time, at toy size."""

import json
import os
import runpy
import subprocess
import sys

import pytest
import yaml

from helpers import pages
from helpers import training_runs as runs
from helpers.training_runs import ROOT

SCRIPT = str(ROOT / "benchmarks" / "gpu_quarter_hour.sh")


def rehearse(folder, *settings, **variables) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    environment = {
        **runs.environment(), "TOY": "1", "WORK": str(folder / "work"), "CARRIED": str(folder / "carried"),
        "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", **variables,
    }  # fmt: skip
    command = ["bash", SCRIPT, str(folder / "out"), *settings]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500)


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> dict[str, str]:
    """Twenty pages of 96 pixels, and the config of a toy network."""
    folder = tmp_path_factory.mktemp("toy")
    runs.flags(folder, folder / "run")
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(yaml.safe_load(config.read_text()) | {"num_validation_images": 2}))
    recipe = folder / "recipe.yaml"
    text = {**pages.DOCUMENT, "vertical": 0, "font_size": [12, 20]}
    values = {"backgrounds": [], "photos": 0, "corpora": {"latin": 1}, "text_free_backgrounds": False, "text": text}
    recipe.write_text(yaml.safe_dump(values | {"degradation": "mild"}))
    return {
        "CONFIG": str(config), "RECIPE": str(recipe), "PAGES": "20", "SIZE": "96", "MINUTES": "0",
        "TESTS": "tests/training/restoration/test_build.py",
        **{f"{part}_LIMIT": "900" for part in ("ENVIRONMENT", "PAGES", "TESTS", "SDXL", "TRAIN", "PARTS", "RELEASE")},
    }  # fmt: skip


@pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="a minute; set TADISR_SLOW=1")
def test_all_parts(toy, tmp_path):
    done = rehearse(tmp_path, **toy)
    said, out = done.stdout, tmp_path / "out"
    for part in ("environment", "pages", "tests", "sdxl", "train", "parts", "release"):
        assert f"{part}: done in " in said, said + (out / f"{part}.log").read_text()[-2000:]
    assert all(file.stat().st_size < 2**24 for file in out.iterdir())
    measured = next(line for line in (out / "train.log").read_text().splitlines() if "seconds a step" in line)
    assert json.loads(measured)["crops a second"] > 0
    assert "psnr" in (out / "log.jsonl").read_text() and "training step" in (out / "sdxl.log").read_text()
    assert "no denoising step" in (out / "parts.log").read_text()
    subprocess.run(f"cat {out}/weights.tar.* | tar x -C {tmp_path}", shell=True, check=True)
    assert (tmp_path / "weights" / "model_index.json").is_file()


def test_a_part_that_fails_or_takes_too_long_stops_no_other(toy, tmp_path):
    variables = toy | {"RECIPE": "nowhere.yaml", "ENVIRONMENT_LIMIT": "0.01", "ONLY": "environment pages parts"}
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    said = rehearse(tmp_path, **variables, PATH=path).stdout.splitlines()
    assert said[0] == "environment: stopped after its 0.01 s"
    assert [line for line in said if line.startswith("pages: FAILED (") and "nowhere.yaml" in line]
    assert [line for line in said if line.startswith("parts: FAILED (")]
    assert said[-1] == f"All is in {tmp_path / 'out'}"


def test_overlapping_kernels_count_once():
    covered = runpy.run_path(str(ROOT / "benchmarks" / "gpu_training.py"))["covered"]
    assert covered([(0, 2), (1, 3), (5, 6), (5, 5.5)]) == 4
