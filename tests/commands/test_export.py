"""`tadisr export` on a toy model, and `tadisr upscale` with what it wrote."""

import json

import numpy as np
import pytest
from PIL import Image

from helpers import tiny
from helpers.command_line import noise, opened, tree
from tadisr.cli import main
from tadisr.commands import export as exporting


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    pipe = tiny.lean()
    pipe.save_pretrained(folder / "model")
    (folder / "model" / "README.md").write_text("---\nlicense: mit\n---\n# Toy\n", encoding="utf-8")
    assert main(["export", str(folder / "model"), "-o", str(folder / "model" / "onnx")]) == 0
    return folder / "model"


def test_what_is_written(exported):
    assert tree(exported / "onnx") == ["model.onnx", "model_int8.onnx"]
    from tadisr.runtime.graph import Graph

    info = Graph(exported / "onnx" / "model.onnx", "cpu").info
    assert info.license == "mit" and "# Toy" in info.card and info.name == "model" and len(info.weights) == 64


def test_where_the_dial_stands(exported, tmp_path):
    from tadisr.runtime.graph import Graph

    arguments = ["export", str(exported), "-o", str(tmp_path), "--precision", "float32", "--fidelity", "0.25"]
    assert main(arguments) == 0
    lr = noise(16, 20).transpose(2, 0, 1)[None] / np.float32(255)
    own, set_anew = (Graph(folder / "model.onnx", "cpu") for folder in (exported / "onnx", tmp_path))
    assert set_anew.info.fidelity == 0.25
    assert np.array_equal(set_anew(lr)[0], own(lr, 0.25)[0])


def test_upscaling_with_it(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(16, 20)).save("in.png")
    results = {}
    for name, arguments in {
        "folder": ["--model", str(exported), "--dtype", "float32", "--device", "cpu"],
        "file": ["--model", str(exported / "onnx" / "model.onnx")],
        "torch": ["--model", str(exported), "--dtype", "float32", "--runtime", "torch"],
    }.items():
        assert main(["upscale", "in.png", "-o", name, "--json", *arguments]) == 0
        results[name] = json.loads(capsys.readouterr().out)
    assert [results[name]["model"]["runtime"] for name in results] == ["onnx", "onnx", "torch"]
    assert results["folder"]["model"]["sha256"] == results["torch"]["model"]["sha256"]
    images = [opened(f"{name}/in.png") for name in results]
    assert np.array_equal(images[0], images[1]) and np.abs(images[0] - images[2]).max() <= 1
    # What one runtime made the other one need not make again.
    skipped = ["upscale", "in.png", "-o", "torch", "--model", str(exported), "--dtype", "float32", "--skip-existing"]
    assert main([*skipped, "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["skipped"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["textdiff-tiny"], "holds a TextDiffPipeline, not a TADiSRPipeline"),
        (["nothing"], "No model nothing"),
        (["tadisr-tiny", "--tile", "130"], "--tile must be a multiple of the model's factor, 4, not 130"),
        (["tadisr-tiny", "--fidelity", "2"], "--fidelity must be from 0, faithful and soft, to 1"),
        (["tadisr-tiny", "--calibration", "none.png"], "none.png"),
    ],
)
def test_mistakes(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(exporting, "load_model", None)  # all of these are found out before
    assert main(["export", *arguments, "-o", "out"]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not tree()


def test_a_graph_that_is_too_far_off(exported, tmp_path, monkeypatch, capsys):
    from tadisr.runtime import export

    monkeypatch.setitem(export.LEAST_PSNR, "int8", 999.0)
    monkeypatch.setattr(export, "_to_onnx", lambda module, path, *_: path.write_bytes(raw))
    import onnx

    raw = onnx.load(exported / "onnx" / "model.onnx")
    del raw.metadata_props[:]
    assert raw.graph.initializer.pop().name == "fidelity"  # it is written last
    raw = raw.SerializeToString()
    assert main(["export", str(exported), "-o", str(tmp_path / "out"), "--precision", "int8"]) == 2
    assert "dB from PyTorch's result, and at least 999 are wanted: take another precision" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))
