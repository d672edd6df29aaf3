"""One file of a model, through spandrel's own loader, restores as the pipeline does."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from spandrel import ImageModelDescriptor, ModelLoader, UnsupportedModelError

import tadisr.apps.spandrel  # noqa: F401  it registers itself
from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.cli import main
from tadisr.loading.packed import CONFIGS, pack
from tadisr.weights import BUNDLED


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "tadisr-tiny.safetensors"
    assert main(["export", "tadisr-tiny", "--spandrel", str(path)]) == 0
    return path


@pytest.fixture(scope="module")
def pipe():
    return TADiSRPipeline.from_pretrained("tadisr-tiny")


def test_the_file_is_as_small_as_the_model(file):
    assert file.stat().st_size < 1.02 * sum(x.stat().st_size for x in (BUNDLED / "tadisr-tiny").glob("*/*.safetensors"))


def test_as_the_pipeline(file, pipe):
    model = ModelLoader().load_from_file(file)
    assert isinstance(model, ImageModelDescriptor) and (model.purpose, model.scale) == ("SR", 4)
    for size in ((24, 17), (5, 40)):
        lr = tiny.photo(*size)
        with torch.inference_mode():
            wanted = pipe.restore_tile(lr)[0].clamp(0, 1)
        found = model(lr)
        assert found.dtype == lr.dtype
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)  # where weights lie in memory decides roundings


def test_where_the_dial_stands(file, pipe, tmp_path):
    path, lr = tmp_path / "sharp.safetensors", tiny.photo(24, 17)
    assert main(["export", "tadisr-tiny", "--spandrel", str(path), "--fidelity", "1"]) == 0
    found, own = (ModelLoader().load_from_file(x)(lr) for x in (path, file))
    with torch.inference_mode():
        wanted = pipe.restore_tile(lr, fidelity=1.0)[0].clamp(0, 1)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0)
    assert not torch.equal(found, own)


def test_bfloat16(file):
    lr = tiny.photo().bfloat16()
    pipe = TADiSRPipeline.from_pretrained("tadisr-tiny", dtype=torch.bfloat16)
    found = ModelLoader().load_from_file(file).to(torch.bfloat16)(lr)
    with torch.inference_mode():
        wanted = pipe.restore_tile(lr)[0].clamp(0, 1)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted.bfloat16(), atol=0.02, rtol=0)


def test_other_pipelines(tmp_path):
    pipe = tiny.lean()
    pipe.register_to_config(native_scale=2)
    pack(pipe, tmp_path / "toy.safetensors")
    model, lr = ModelLoader().load_from_file(tmp_path / "toy.safetensors"), tiny.photo()
    assert model.scale == 2 and model(lr).shape == (1, 3, 2 * lr.shape[2], 2 * lr.shape[3])


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        ({"../model_index.json": {}, "model_index.json": {}}, "holds no configurations of a TADiSR pipeline"),
        ([], "holds no configurations of a TADiSR pipeline"),
        ({"model_index.json": {"_class_name": "TADiSRPipeline", "vae": ["os", "system"]}}, "is not loaded"),
    ],
)
def test_files_that_are_not_what_they_say(configs, message, tmp_path):
    path = tmp_path / "models" / "x.safetensors"
    path.parent.mkdir()
    data = json.dumps(configs).encode()
    save_file({CONFIGS: torch.frombuffer(bytearray(data), dtype=torch.uint8)}, path)
    with pytest.raises(ValueError, match=message):
        ModelLoader().load_from_file(path)
    assert list(tmp_path.rglob("*.*")) == [path]


def test_damaged_tensors(file, tmp_path):
    tensors = load_file(file)
    name = next(name for name in tensors if name.startswith("vae."))
    save_file(tensors | {name: tensors[name] * float("nan")}, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="not finite"):
        ModelLoader().load_from_file(tmp_path / "nan.safetensors")
    del tensors[CONFIGS]
    save_file(tensors, tmp_path / "none.safetensors")
    with pytest.raises(UnsupportedModelError):
        ModelLoader().load_from_file(tmp_path / "none.safetensors")


def test_an_adapter_is_no_whole_pipeline(tmp_path):
    pipe = tiny.on_base(tiny.sd(tmp_path / "base"), base_model=str(tmp_path / "base"))
    with pytest.raises(ValueError, match="one file holds whole pipelines alone"):
        pack(pipe, tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


def test_nowhere_to_write(capsys):
    assert main(["export", "tadisr-tiny"]) == 2
    assert "give -o DIR for ONNX files, or --spandrel FILE" in capsys.readouterr().err
