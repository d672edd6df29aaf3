"""ONNX files of strangers: nothing outside them is read, and every tensor is checked."""

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from helpers.reader_graph import write_graph
from tadisr.training.recognizer.onnx_graph import graph_file, load_onnx, save_adapted

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # onnx2torch's own


@pytest.fixture
def graph(tmp_path):
    return write_graph(tmp_path / "recogniser.onnx", np.random.default_rng(0))


def refused(load, said):
    with pytest.raises(ValueError) as caught:
        load()
    assert said in str(caught.value) and "\n" not in str(caught.value)


def constants(model):
    return [node.attribute[0].t for node in model.graph.node if node.op_type == "Constant"]


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "beside", "../../../../etc/passwd"])
@pytest.mark.parametrize("where", ["a node", "the graph", "a sub-graph"])
def test_tensors_in_other_files(graph, tmp_path, location, where):
    (tmp_path / "beside").write_bytes(bytes(4096))
    model = onnx.load(graph)
    tensor = constants(model)[0]
    if where != "a node":
        copy = onnx.TensorProto()
        copy.CopyFrom(tensor)
        copy.name = "extra"
        if where == "the graph":
            model.graph.initializer.append(copy)
            tensor = model.graph.initializer[0]
        else:
            inner = onnx.helper.make_graph([], "inner", [], [], [copy])
            model.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner))
            tensor = model.graph.node[-1].attribute[0].g.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    graph.write_bytes(model.SerializeToString())
    refused(lambda: load_onnx(graph), "keeps tensors in other files: save it as one file.")


def test_operators_of_others(graph):
    model = onnx.load(graph)
    model.graph.node[-1].domain = "com.evil"
    graph.write_bytes(model.SerializeToString())
    refused(lambda: load_onnx(graph), "has the operator com.evil.Softmax, which is not ONNX's.")


def test_values_that_are_not_finite(graph):
    model = onnx.load(graph)
    values = onnx.numpy_helper.to_array(constants(model)[0]).copy()
    values.flat[0] = np.nan
    constants(model)[0].raw_data = values.tobytes()
    graph.write_bytes(model.SerializeToString())
    refused(lambda: load_onnx(graph), "is not finite")


@pytest.mark.parametrize("data", [b"", b"no graph", bytes(1000)])
def test_what_is_no_graph(tmp_path, data):
    (tmp_path / "a.onnx").write_bytes(data)
    refused(lambda: load_onnx(tmp_path / "a.onnx"), "is no ONNX recogniser")


@pytest.mark.parametrize("name", ["../recogniser.onnx", "/etc/passwd", "recogniser.pth", "a/b.onnx", ".onnx", ""])
def test_weights_that_name_another_folders_graph(tmp_path, name):
    save_file({}, tmp_path / "a.safetensors", {"onnx": name})
    refused(lambda: graph_file(tmp_path / "a.safetensors"), "which is no ONNX file beside it")


def test_adapted_weights(graph, tmp_path):
    path = tmp_path / "adapted.safetensors"
    module = load_onnx(graph)
    save_adapted(module, graph, path)
    load_onnx(path)
    tensors = load_file(path)
    name = sorted(tensors)[0]
    for changed, said in (
        ({key: value for key, value in tensors.items() if key != name}, f"{name} is missing"),
        (tensors | {name: tensors[name][None].clone()}, f"{name} is (1, "),
        (tensors | {name: tensors[name].int()}, f"{name} holds integers"),
        (tensors | {name: tensors[name] * float("nan")}, f"{name} is not finite"),
    ):
        save_file(changed, path, {"onnx": graph.name})
        refused(lambda: load_onnx(path), said)
