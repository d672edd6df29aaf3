"""Which runtime runs a model, and where its graph is."""

import json
import shutil

import numpy as np
import pytest

import tadisr
from helpers.hub_server import HubServer
from tadisr.loading import graphs
from tadisr.loading.graphs import find_graph, graph_to_run
from tadisr.weights import BUNDLED

TINY = BUNDLED / "tadisr-tiny"
PHOTO = np.full((16, 20, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(graphs, "_may_have_gpu", lambda: False)


@pytest.fixture
def no_torch(monkeypatch):
    monkeypatch.setattr(graphs, "find_spec", lambda package: None)


def test_on_a_cpu_the_fastest(monkeypatch):
    int8, float32 = TINY / "onnx" / "model_int8.onnx", TINY / "onnx" / "model.onnx"
    assert graph_to_run("tadisr-tiny") == graph_to_run("tadisr-tiny", "cpu", "int8") == int8
    assert graph_to_run("tadisr-tiny", "cpu", "float32") == graph_to_run(TINY, dtype="float32") == float32
    assert graph_to_run(float32) == float32
    assert graph_to_run("tadisr-tiny", "cuda") is None and graph_to_run("tadisr-tiny", "cpu", "bfloat16") is None
    assert graph_to_run("tadisr-tiny", runtime="torch") is None and graph_to_run("textdiff-tiny") is None
    monkeypatch.setattr(graphs, "_may_have_gpu", lambda: True)
    assert graph_to_run("tadisr-tiny") is None and graph_to_run("tadisr-tiny", "cpu") == int8


def test_without_torch(no_torch):
    assert graph_to_run("tadisr-tiny") == TINY / "onnx" / "model_int8.onnx"
    with pytest.raises(ImportError, match=r"textdiff-tiny runs by PyTorch alone: pip install 'tadisr\[torch\]'"):
        graph_to_run("textdiff-tiny")
    with pytest.raises(ImportError, match=r"PyTorch's runtime needs torch: pip install 'tadisr\[torch\]'"):
        graph_to_run("tadisr-tiny", runtime="torch")
    with pytest.raises(ValueError, match="ONNX graphs compute in int8, float32, float16, not in bfloat16"):
        graph_to_run("tadisr-tiny", dtype="bfloat16")
    with pytest.raises(FileNotFoundError, match="No model nothing: give tadisr-tiny, a folder or a Hub id"):
        graph_to_run("nothing")


def test_torch_without_diffusers(monkeypatch):
    """As in programs that bring PyTorch themselves."""
    monkeypatch.setattr(graphs, "find_spec", lambda package: None if package == "diffusers" else package)
    monkeypatch.setattr(graphs, "_may_have_gpu", lambda: True)
    assert graph_to_run("tadisr-tiny") == TINY / "onnx" / "model_int8.onnx"
    with pytest.raises(ImportError, match="PyTorch's runtime needs diffusers"):
        graph_to_run("tadisr-tiny", runtime="torch")


def test_folders(tmp_path):
    shutil.copy(TINY / "onnx" / "model.onnx", tmp_path)
    assert find_graph(tmp_path) == find_graph(tmp_path, "float32") == tmp_path / "model.onnx"
    with pytest.raises(FileNotFoundError, match="has no int8 graph: write one with 'tadisr export"):
        find_graph(tmp_path, "int8")
    with pytest.raises(FileNotFoundError, match="No graph"):
        find_graph(tmp_path / "x.onnx")
    (tmp_path / "model.onnx").unlink()
    with pytest.raises(FileNotFoundError, match="holds neither a pipeline"):
        find_graph(tmp_path)


def test_words():
    with pytest.raises(ValueError, match="runtime must be one of auto, torch, onnx"):
        graph_to_run("tadisr-tiny", runtime="tensorrt")
    with pytest.raises(ValueError, match="is an ONNX graph, and PyTorch does not run it"):
        graph_to_run(TINY / "onnx" / "model.onnx", runtime="torch")


def test_loaded():
    restorer = tadisr.load("tadisr-tiny", "cpu", "float32", runtime="onnx")
    assert (restorer.runtime, restorer.dtype, list(restorer.files)) == ("onnx", "float32", ["model.onnx"])
    by_torch = tadisr.load("tadisr-tiny", "cpu", "float32", runtime="torch")
    assert by_torch.runtime == "torch"
    found, wanted = restorer.restore(PHOTO), by_torch.restore(PHOTO)
    assert found.image.shape == (64, 80, 3) and found.mask is not None
    assert np.abs(found.image.astype(int) - wanted.image).max() <= 1
    with pytest.raises(ValueError, match="cannot use device cuda with this ONNX Runtime"):
        tadisr.load("tadisr-tiny", "cuda", runtime="onnx")


PULL = """
import json, sys
from pathlib import Path
from huggingface_hub import HfApi
from tadisr.loading import graphs

HfApi().create_repo("tester/tiny")
HfApi().upload_folder(repo_id="tester/tiny", folder_path=sys.argv[1], allow_patterns=["*.json", "onnx/*int8*", "vae/*"])
path = graphs.graph_to_run("tester/tiny", "cpu")
files = sorted(x.name for x in path.parents[1].rglob("*") if x.is_file())
print(json.dumps([path.name, files, "torch" in sys.modules]))
"""


def test_from_the_hub_nothing_but_the_graph_is_fetched(tmp_path):
    with HubServer(tmp_path) as server:
        name, files, has_torch = json.loads(server.run(PULL, TINY).splitlines()[-1])
    assert name == "model_int8.onnx" and not has_torch
    assert files == ["model_index.json", "model_int8.onnx"]
