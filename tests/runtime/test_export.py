"""Exporting: graphs of toy pipelines agree with PyTorch; what cannot be exported is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import tiny
from tadisr.runtime import export as exporting
from tadisr.runtime.export import CROP, calibration_images, export
from tadisr.runtime.graph import Graph

SIZES = [(1, 3, 16, 16), (2, 3, 17, 31), (1, 3, 40, 24)]


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).random(shape, np.float32)


def restored(pipe, lr: np.ndarray, scale: int = 4) -> list[np.ndarray]:
    with torch.no_grad():
        return [x.numpy() for x in pipe.restore_tile(torch.from_numpy(lr), scale)]


@pytest.fixture(scope="module")
def lean(tmp_path_factory):
    """A pipeline from scratch, and its graphs in float32 and int8."""
    pipe, folder = tiny.lean(mask_prompt=True), tmp_path_factory.mktemp("graphs")
    tiny.shake(pipe.joint_decoder, ".to_image.weight")
    tiny.shake(pipe.joint_decoder, ".to_mask.weight")
    paths = {"float32": folder / "model.onnx", "int8": folder / "model_int8.onnx"}
    infos = export(pipe, paths, name="lean", license="apache-2.0", card="# Lean", weights="ab" * 32)
    return pipe, {precision: Graph(path, "cpu") for precision, path in paths.items()}, infos


@pytest.mark.parametrize("shape", SIZES)
def test_any_size_and_batch(lean, shape):
    pipe, graphs, _ = lean
    lr = pixels(*shape)
    for found, wanted in zip(graphs["float32"](lr), restored(pipe, lr), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize("fidelity", [0.0, 0.3, 1.0])
def test_the_dial(lean, fidelity):
    pipe, graphs, infos = lean
    assert infos["float32"].fidelity == pipe.default_fidelity == 1 and graphs["int8"].has_dial
    lr = pixels(1, 3, 24, 32)
    with torch.no_grad():
        wanted = pipe.restore_tile(torch.from_numpy(lr), 4, fidelity)
    for found, one in zip(graphs["float32"](lr, fidelity), wanted, strict=True):
        np.testing.assert_allclose(found, one.numpy(), atol=2e-5)


@pytest.mark.parametrize("shape", SIZES[1:])
def test_a_mask_prompt(lean, shape):
    """A prompt left out is one that says nothing."""
    pipe, graphs, _ = lean
    assert graphs["float32"].takes_masks and graphs["int8"].takes_masks
    lr, (batch, _, height, width) = pixels(*shape), shape
    prompt = np.round(pixels(batch, 2, 4 * height, 4 * width))
    prompt[:, 0] *= prompt[:, 1]
    for given, plain in ((prompt, False), (0 * prompt, True)):
        with torch.no_grad():
            wanted = pipe.restore_tile(torch.from_numpy(lr), 4, 0.5, torch.from_numpy(given))
        found = graphs["float32"](lr, 0.5, given)
        for one, other, without in zip(found, wanted, graphs["float32"](lr, 0.5), strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=2e-5)
            assert np.allclose(one, without, atol=1e-6) == plain


def test_what_is_quantized(lean, tmp_path):
    """All convolutions but the last ones of image and mask, and those that read a prompt; no activation."""
    onnx = pytest.importorskip("onnx")
    nodes = onnx.load(lean[1]["float32"].path).graph.node
    chosen = set(exporting._to_quantize(lean[1]["float32"].path))
    convolutions = [node.name in chosen for node in nodes if node.op_type == "Conv"]
    assert convolutions.count(False) == 2 + 3 and len(convolutions) > 2
    assert {node.op_type for node in nodes if node.name in chosen} <= {"Conv", "MatMul"}
    assert not {"Sin", "Cos", "Gemm"} & {node.op_type for node in nodes}, "the time embedding was not folded"


def test_int8_is_near_and_smaller(lean):
    pipe, graphs, infos = lean
    lr = pixels(1, 3, 32, 32)
    error = np.square(graphs["int8"](lr)[0] - restored(pipe, lr)[0]).mean()
    assert error > 0, "nothing was quantised"
    assert 10 * np.log10(1 / error) > 35
    assert infos["int8"].psnr < infos["float32"].psnr


def test_what_a_graph_says_of_itself(lean):
    pipe, graphs, infos = lean
    for precision, graph in graphs.items():
        assert graph.info == infos[precision]
        info = graph.info
        assert (info.name, info.license, info.card, info.weights) == ("lean", "apache-2.0", "# Lean", "ab" * 32)
        assert (info.precision, info.scale, info.least_side, info.tile) == (precision, 4, 16, None)
        assert info.widest == max(pipe.vae.config.block_out_channels)


@pytest.mark.parametrize("base", ["sd", "sdxl", "cogview4"])
def test_tiles_of_one_size_on_bases(base, tmp_path):
    pipe = tiny.on_base(getattr(tiny, base)(tmp_path / "base")).fuse_lora()
    path = tmp_path / "model.onnx"
    (info,) = export(pipe, {"float32": path}, tile=24).values()
    graph, lr = Graph(path, "cpu"), pixels(1, 3, 24, 24)
    assert info.tile == graph.info.tile == 24 and not graph.takes_masks
    for found, wanted in zip(graph(lr), restored(pipe, lr), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_what_cannot_be(monkeypatch, tmp_path):
    pipe, path = tiny.lean(), tmp_path / "model.onnx"
    with pytest.raises(ValueError, match="precision must be one of"):
        export(pipe, {"int4": path})
    with pytest.raises(ValueError, match="A tile of 9 LR pixels does not fit the model: take 16 or more"):
        export(pipe, {"float32": path}, tile=9)
    monkeypatch.setattr(exporting, "_LARGEST", 1000)
    with pytest.raises(ValueError, match="too large to export: 0.0 GB"):
        export(pipe, {"float32": path})
    monkeypatch.undo()
    monkeypatch.setitem(exporting.LEAST_PSNR, "float32", 999.0)
    with pytest.raises(ValueError, match="dB from PyTorch's result, and at least 999 are wanted"):
        export(pipe, {"float32": path}, tile=16)
    monkeypatch.undo()
    monkeypatch.setattr(exporting, "find_spec", lambda package: None)
    with pytest.raises(ImportError, match=r"Exporting needs onnx: pip install 'tadisr\[export\]'"):
        export(pipe, {"float32": path})
    assert not path.exists()


def test_the_bundled_calibration_images():
    images = calibration_images()
    assert len(images) == 12 and {image.shape for image in images} == {(CROP, CROP, 3)}
    assert min(image.std() for image in images) > 10, "flat crops show no ranges"


def test_planes_of_any_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 200, 3), np.uint8)
    planes = exporting._planes(image, 96)
    assert planes.shape == (1, 3, 96, 96) and planes.dtype == np.float32 and 0 <= planes.min() < planes.max() <= 1


def test_files_are_whole_or_not_there(monkeypatch, tmp_path):
    path = tmp_path / "model.onnx"

    def fail(source: Path, target: Path, crops: object) -> None:
        raise ValueError("no ranges")

    monkeypatch.setattr(exporting, "_quantize", fail)
    with pytest.raises(ValueError, match="no ranges"):
        export(tiny.lean(), {"int8": path}, tile=16)
    assert not list(tmp_path.iterdir())
