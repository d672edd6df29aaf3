"""Opening graphs: the bundled ones, and files that are none, of another version, damaged or changed."""

import json
import os
import signal
import sys
import threading

import numpy as np
import pytest

from tadisr.runtime.graph import Graph, GraphError, choose_provider, sealed
from tadisr.weights import BUNDLED

INT8 = BUNDLED / "tadisr-tiny" / "onnx" / "model_int8.onnx"


@pytest.fixture(scope="module")
def bundled():
    return Graph(INT8, "cpu", threads=1)


def changed(old: bytes, new: bytes) -> bytes:
    data = INT8.read_bytes()
    assert data.count(old) == 1
    return data.replace(old, new)


def write(path, data: bytes):
    path.write_bytes(data)
    return path


def test_it_runs(bundled):
    image, mask_logits = bundled(np.full((2, 3, 16, 20), 0.5, np.float32))
    assert image.shape == (2, 3, 64, 80) and mask_logits.shape == (2, 1, 64, 80)
    assert image.dtype == mask_logits.dtype == np.float32


def test_many_threads_at_once(bundled):
    inputs = np.random.default_rng(0).random((4, 1, 3, 16, 16), np.float32)
    wanted, found = [bundled(one) for one in inputs], [None] * len(inputs)

    def run(index: int) -> None:
        found[index] = bundled(inputs[index])

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(
        np.array_equal(a, b) for one, two in zip(found, wanted, strict=True) for a, b in zip(one, two, strict=True)
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no forks")
def test_in_a_forked_process(bundled):
    """The session's threads are the parent's alone: without a session of its own the child would wait for ever."""
    lr = np.full((1, 3, 96, 96), 0.5, np.float32)
    graph = Graph(INT8, "cpu", threads=2)
    wanted = graph(lr)
    code = os.fork()
    if not code:
        signal.alarm(60)
        same = all(map(np.array_equal, graph(lr), wanted))
        os._exit(0 if same else 1)
    assert os.waitpid(code, 0)[1] == 0


def test_another_version(tmp_path):
    data = changed(b'"format": 1}', b'"format": 2}')
    with pytest.raises(GraphError, match="is of format 2, and this tadisr reads format 1: write it anew"):
        Graph(write(tmp_path / "x.onnx", data), "cpu")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_truncated(tmp_path, share):
    data = INT8.read_bytes()
    with pytest.raises(GraphError, match="x.onnx"):
        Graph(write(tmp_path / "x.onnx", data[: int(len(data) * share)]), "cpu")


def test_changed_weights(tmp_path):
    data = bytearray(INT8.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(8) if any(data[middle : middle + 8]) else b"\x01" * 8
    with pytest.raises(GraphError, match="damaged or changed after it was written|cannot be used"):
        Graph(write(tmp_path / "x.onnx", bytes(data)), "cpu")


def test_changed_words(tmp_path):
    with pytest.raises(GraphError, match="damaged or changed after it was written"):
        Graph(write(tmp_path / "x.onnx", changed(b'"scale": 4', b'"scale": 8')), "cpu")


def test_not_there_or_no_graph(tmp_path):
    with pytest.raises(GraphError, match="No graph"):
        Graph(tmp_path / "none.onnx", "cpu")
    with pytest.raises(GraphError, match="cannot be used"):
        Graph(write(tmp_path / "x.onnx", b"no protobuf at all"), "cpu")


def test_graphs_of_others(tmp_path):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 8, 8])
    model = helper.make_model(
        helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [out]),
        opset_imports=[helper.make_opsetid("", 20)], ir_version=9,
    )  # fmt: skip
    path = tmp_path / "x.onnx"
    onnx.save(model, path)
    with pytest.raises(GraphError, match="is no graph of a TADiSR pipeline: write one with 'tadisr export'"):
        Graph(path, "cpu")
    info = json.loads('{"format": 1, "precision": "float32", "scale": 4, "least_side": 16}')
    helper.set_model_props(model, {"tadisr": json.dumps(info), "tadisr_sha256": "0" * 64})
    path.write_bytes(sealed(model.SerializeToString()))
    with pytest.raises(GraphError, match="is no graph of a TADiSR pipeline"):
        Graph(path, "cpu")
    helper.set_model_props(model, {"tadisr": json.dumps(info | {"scale": 0}), "tadisr_sha256": "0" * 64})
    path.write_bytes(sealed(model.SerializeToString()))
    with pytest.raises(GraphError, match="says of itself what cannot be"):
        Graph(path, "cpu")


def test_devices_that_are_not_there():
    assert choose_provider("cpu") == "cpu"
    for device in ("cuda", "directml", "coreml", "abacus"):
        with pytest.raises(ValueError, match=f"cannot use device {device} with this ONNX Runtime"):
            choose_provider(device)


def test_without_onnxruntime(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match="ONNX graphs need ONNX Runtime: pip install onnxruntime"):
        choose_provider("auto")


def test_not_enough_memory(bundled, monkeypatch):
    class Session:
        def run(self, *_: object) -> None:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 99")

    monkeypatch.setattr(bundled, "_session", Session())
    with pytest.raises(MemoryError, match="Failed to allocate"):
        bundled(np.zeros((1, 3, 16, 16), np.float32))
