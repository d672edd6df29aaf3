"""What we write, in plain diffusers: from folders. `test_hub.py` has the Hub."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from diffusers import DiffusionPipeline

from helpers import tiny, tiny_textdiff
from tadisr import TADiSRPipeline, TextDiffPipeline
from tadisr.loading.custom_code import add_custom_code, own_index
from tadisr.weights import BUNDLED

KINDS = ["lean", "whole", "unet adapter", "transformer adapter", "lines"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A folder of each kind, as `save_pretrained` writes it."""
    folder = tmp_path_factory.mktemp("saved")
    for name, base in (("unet", tiny.sd(folder)), ("transformer", tiny.cogview4(folder))):
        base.save_pretrained(folder / f"{name} base")
        tiny.on_base(base, base_model=str(folder / f"{name} base")).save_pretrained(folder / f"{name} adapter")
    tiny.lean().save_pretrained(folder / "lean")
    tiny.on_base(tiny.sd(folder), lora=False).save_pretrained(folder / "whole")
    tiny_textdiff.textdiff().save_pretrained(folder / "lines")
    return folder


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """Where diffusers copies the programs to."""
    monkeypatch.setattr("diffusers.utils.dynamic_modules_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])


def restored(pipe):
    return pipe(tiny.photo(32, 16), output_type="pt", return_dict=False)[:2]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def plain(folder, **options):
    return DiffusionPipeline.from_pretrained(folder, trust_remote_code=True, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_plain_diffusers_loads_what_ours_loads(saved, kind):
    cls = TextDiffPipeline if kind == "lines" else TADiSRPipeline
    ours, theirs = cls.from_pretrained(saved / kind), plain(saved / kind)
    assert type(theirs) is cls and theirs.dtype == torch.float32
    assert {name: type(part) for name, part in theirs.components.items()} == {
        name: type(part) for name, part in ours.components.items()
    }
    assert same(restored(theirs), restored(ours))
    half = plain(saved / kind, dtype=torch.bfloat16, device_map="cpu")
    assert {part.dtype for part in half.components.values() if isinstance(part, torch.nn.Module)} == {torch.bfloat16}


@pytest.mark.parametrize("kind", KINDS)
def test_without_trust_diffusers_says_what_to_pass(saved, kind):
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        DiffusionPipeline.from_pretrained(saved / kind)


@pytest.mark.parametrize("kind", KINDS)
def test_ours_runs_no_program(saved, kind, tmp_path):
    folder = shutil.copytree(saved / kind, tmp_path / "copy")
    programs = [*folder.rglob("*.py")]
    assert len(programs) >= 3
    for path in programs:
        path.write_text("raise SystemExit('a program of the repository was run')")
    cls = TextDiffPipeline if kind == "lines" else TADiSRPipeline
    expected = restored(cls.from_pretrained(saved / kind))
    assert same(restored(cls.from_pretrained(folder)), expected)
    with pytest.raises(SystemExit):
        plain(folder)
    for path in programs:
        path.unlink()
    assert same(restored(cls.from_pretrained(folder)), expected)


@pytest.mark.parametrize("kind", ["lean", "whole", "lines"])
def test_older_folders_without_programs_load(saved, kind, tmp_path):
    """Their model_index.json names this package's modules."""
    folder = shutil.copytree(saved / kind, tmp_path / "old", ignore=shutil.ignore_patterns("*.py"))
    index = own_index(json.loads((folder / "model_index.json").read_text()))
    assert isinstance(index["_class_name"], str)
    assert all(value[0] in sys.modules for value in index.values() if isinstance(value, list) and len(value) == 2
               and isinstance(value[0], str))  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))
    cls = TextDiffPipeline if kind == "lines" else TADiSRPipeline
    expected = restored(cls.from_pretrained(saved / kind))
    assert same(restored(cls.from_pretrained(folder)), expected)


def test_an_older_adapter_has_no_model_index(saved, tmp_path):
    old = ("*.py", "model_index.json")
    folder = shutil.copytree(saved / "unet adapter", tmp_path / "old", ignore=shutil.ignore_patterns(*old))
    expected = restored(TADiSRPipeline.from_pretrained(saved / "unet adapter"))
    assert all(
        torch.equal(a, b) for a, b in zip(restored(TADiSRPipeline.from_pretrained(folder)), expected, strict=True)
    )


def test_options_of_an_adapter_in_plain_diffusers(saved, tmp_path):
    folder = shutil.copytree(saved / "unet adapter", tmp_path / "adapter")
    index = json.loads((folder / "tadisr_adapter.json").read_text())
    (folder / "tadisr_adapter.json").write_text(json.dumps(index | {"base_model": str(tmp_path / "gone")}))
    with pytest.raises(FileNotFoundError, match="base .* is missing or incomplete.*base_model=FOLDER"):
        plain(folder)
    assert plain(folder, base_model=str(saved / "unet base")).config["base_model"] == str(saved / "unet base")
    shutil.rmtree(folder / "prompt")  # as of a converted checkpoint that waits for its base
    index = json.loads((folder / "model_index.json").read_text())
    del index["prompt"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match="make it once with the base's text encoder"):
        plain(folder, base_model=str(saved / "unet base"))


@pytest.mark.parametrize("name", ["tadisr-tiny", "textdiff-tiny"])
def test_bundled_weights(name, tmp_path):
    pipe = plain(BUNDLED / name)
    ours = type(pipe).from_pretrained(name)
    assert (
        type(pipe).__name__ == own_index(json.loads((BUNDLED / name / "model_index.json").read_text()))["_class_name"]
    )
    assert same(restored(pipe), restored(ours))
    # What is bundled is what is written today.
    written = shutil.copytree(BUNDLED / name, tmp_path / "again", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    add_custom_code(written, own_index(json.loads((written / "model_index.json").read_text())))
    for path in (*written.rglob("*.py"), written / "model_index.json"):
        assert path.read_bytes() == (BUNDLED / name / path.relative_to(written)).read_bytes()


def test_without_the_package_one_line_says_so(saved, tmp_path):
    code = """
import sys
sys.modules["tadisr"] = None
from diffusers import DiffusionPipeline
DiffusionPipeline.from_pretrained(sys.argv[1], trust_remote_code=True)
"""
    command = [sys.executable, "-c", code, str(saved / "lean")]
    environment = {**os.environ, "HF_HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    last = done.stderr.strip().splitlines()[-1]
    assert last == "ImportError: This model needs the package tadisr: pip install tadisr"
