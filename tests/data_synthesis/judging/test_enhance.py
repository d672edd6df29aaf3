"""Crops restored by small real models: every architecture's own class, with random weights, saved and loaded."""

import os
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.HAT import HAT
from spandrel.architectures.LaMa import LaMa
from spandrel.architectures.SwinIR import SwinIR

from tadisr import TADiSRPipeline
from tadisr.data_synthesis.judging.enhance import Enhancer, load_enhancer

WINDOWS = {"img_size": 16, "patch_size": 1, "in_chans": 3, "embed_dim": 12, "window_size": 4, "mlp_ratio": 2}
ARCHITECTURES = {
    "ESRGAN": (lambda: ESRGAN(in_nc=3, out_nc=3, num_filters=8, num_blocks=1, scale=4), 4),
    "SwinIR": (lambda: SwinIR(**WINDOWS, depths=[1], num_heads=[2], upscale=2, upsampler="pixelshuffledirect"), 2),
    "HAT": (
        lambda: HAT(
            **WINDOWS, depths=(1,), num_heads=(2,), upscale=4, upsampler="pixelshuffle", compress_ratio=3,
            squeeze_factor=4, num_feat=8,
        ),
        4,
    ),
}  # fmt: skip


def made(name):
    """The architecture with random weights whose output has contrast, and its scale."""
    torch.manual_seed(0)
    make, scale = ARCHITECTURES[name]
    model = make().eval()
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point() and tensor.ndim > 1:
                tensor.mul_(2)
    return model, scale


def save(model, path):
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    torch.save(state, path) if path.suffix == ".pth" else save_file(state, path)
    return path


@pytest.fixture(scope="module")
def esrgan(tmp_path_factory):
    return save(made("ESRGAN")[0], tmp_path_factory.mktemp("weights") / "esrgan.safetensors")


def crop(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 RGB."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def direct(model, image):
    """What the network itself makes of an image, uint8."""
    x = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        return (model(x).clamp(0, 1) * 255).round().byte()[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_model_files_give_what_their_network_gives(name, suffix, tmp_path):
    model, scale = made(name)
    path = save(model, tmp_path / f"model{suffix}")
    image = crop(32, 64)  # a multiple of everything: nothing is padded
    [result] = load_enhancer(path).enhance([image])
    assert result.shape == (32 * scale, 64 * scale, 3) and result.dtype == np.uint8 and result.std() > 5
    assert np.abs(result.astype(int) - direct(model, image)).max() <= 1


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (17, 5)])
def test_tiny_crops_are_padded_and_cut_back(name, shape, tmp_path):
    model, scale = made(name)
    enhancer = load_enhancer(save(model, tmp_path / "model.safetensors"))
    image = crop(*shape)
    assert enhancer.enhance([image])[0].shape == (shape[0] * scale, shape[1] * scale, 3)
    flat = np.full((*shape, 3), 90, np.uint8)
    padded = np.full((96, 96, 3), 90, np.uint8)  # what is beside a flat crop is like it
    result, larger = enhancer.enhance([flat, padded])
    assert np.abs(result.astype(int) - larger[: result.shape[0], : result.shape[1]]).max() <= 12


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_crops_restored_together_are_what_each_alone_is(name, tmp_path):
    """Several of one padded size, one that is alone, and two that are tiled, in an order that mixes them."""
    model, _ = made(name)
    sizes, ran = [], model.forward
    model.forward = lambda x: [sizes.append(tuple(x.shape)), ran(x)][1]  # HAT's attention looks at the whole crop
    enhancer = Enhancer(model, ARCHITECTURES[name][1])
    images = [
        crop(*shape, seed) for seed, shape in enumerate([(20, 90), (40, 40), (31, 66), (20, 270), (32, 96), (9, 280)])
    ]
    together = enhancer.enhance(images)
    assert sorted(sizes) == [(1, 3, 64, 64), (2, 3, 32, 256), (2, 3, 32, 256), (3, 3, 32, 96)]
    for image, restored in zip(images, together, strict=True):
        [alone] = enhancer.enhance([image])
        assert restored.shape == alone.shape and np.abs(restored.astype(int) - alone).max() <= 1


def test_no_batch_has_more_pixels_than_a_tile(esrgan):
    enhancer = load_enhancer(esrgan)
    ran, sizes = enhancer._model, []
    enhancer._model = lambda x: [sizes.append(tuple(x.shape)), ran(x)][1]
    images = [crop(30, 60, seed) for seed in range(40)]
    assert len(enhancer.enhance(images)) == 40
    assert [size[0] for size in sizes] == [32, 8]  # of 32 x 64 pixels each: one tile of 256 x 256, and the rest


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["esrgan", "tadisr-tiny"])
def test_a_gpu_gives_what_the_cpu_gives(name, esrgan):
    name = esrgan if name == "esrgan" else name
    images = [np.ascontiguousarray(crop(8, 16, seed).repeat(5, 0).repeat(5, 1)) for seed in range(9)]
    images.append(crop(300, 20))
    found = load_enhancer(name, "cuda").enhance(images)
    for mine, its in zip(load_enhancer(name).enhance(images), found, strict=True):
        assert mine.shape == its.shape and np.abs(mine.astype(int) - its).mean() < 0.5  # TF32's rounding


def test_large_crops_are_tiled(esrgan):
    """Tiles see less around them than the network does that sees the whole."""
    image = np.asarray(Image.fromarray(crop(8, 12)).resize((416, 96), Image.Resampling.BICUBIC))
    tiled, whole = load_enhancer(esrgan).enhance([image])[0].astype(int), direct(made("ESRGAN")[0], image)
    assert tiled.shape == (384, 1664, 3)
    difference = np.abs(tiled - whole)
    assert 0 < difference.mean() < 0.5 and difference[:, : 100 * 4].max() <= 1


# TADiSR itself


@pytest.fixture(scope="module")
def tiny():
    return load_enhancer("tadisr-tiny")


def test_the_bundled_model_gives_what_its_pipeline_gives(tiny):
    image = crop(32, 64)  # nothing is padded
    expected = TADiSRPipeline.from_pretrained("tadisr-tiny")(image, output_type="pil").images[0]
    np.testing.assert_allclose(
        tiny.enhance([image])[0].astype(int), np.asarray(expected).astype(int), atol=1
    )  # rounding
    assert tiny.enhance([crop(5, 9)])[0].shape == (20, 36, 3)


def test_the_bundled_model_restores_text(tiny):
    page = Image.new("RGB", (384, 64), "white")
    ImageDraw.Draw(page).text((10, 8), "North gate 2047", fill=(30, 30, 90), font=ImageFont.load_default(40))
    small = np.asarray(page.resize((96, 16), Image.Resampling.BICUBIC))
    truth = np.asarray(page).astype(float)

    def error(image):
        return np.sqrt(np.mean((np.asarray(image) - truth) ** 2))

    bicubic = Image.fromarray(small).resize(page.size, Image.Resampling.BICUBIC)
    assert error(tiny.enhance([small])[0]) < 0.85 * error(bicubic)  # on text it is careful


# What is refused


def test_pickles_cannot_run_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, write in (("zip.pth", torch.save), ("plain.ckpt", lambda x, path: path.write_bytes(pickle.dumps(x)))):
        write({"conv_first.weight": Bomb()}, tmp_path / name)
        with pytest.raises(ValueError, match=rf"{name} (would call|is no PyTorch checkpoint)"):
            load_enhancer(tmp_path / name)
        assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["torn.pth", "torn.safetensors", "empty.pth", "empty.safetensors"])
def test_damaged_files_are_refused(name, esrgan, tmp_path):
    data = save(made("ESRGAN")[0], tmp_path / f"whole{os.path.splitext(name)[1]}").read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2] if name.startswith("torn") else b"")
    with pytest.raises(ValueError, match=f"{name} is (no PyTorch checkpoint, or )?damaged"):
        load_enhancer(tmp_path / name)


def test_other_weights_are_refused(tmp_path):
    save_file({"a.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors holds no model that spandrel can load"):
        load_enhancer(tmp_path / "other.safetensors")
    gray = ESRGAN(in_nc=1, out_nc=1, num_filters=8, num_blocks=1, scale=4)
    with pytest.raises(ValueError, match=r"holds ESRGAN, a model for SR, 1 channels to 1.*expected an RGB model"):
        load_enhancer(save(gray, tmp_path / "gray.pth"))
    with pytest.raises(ValueError, match=r"holds LaMa, a model for Inpainting"):
        load_enhancer(save(LaMa(), tmp_path / "lama.safetensors"))


def test_missing_models_and_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No model file .*nowhere\.pth"):
        load_enhancer(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="No model tadisr-huge: give tadisr-tiny, a folder or a Hub id"):
        load_enhancer("tadisr-huge")
    (tmp_path / "script.py").write_bytes(b"?")
    with pytest.raises(ValueError, match=r"script\.py is no \.pth, \.pt, \.ckpt or \.safetensors file"):
        load_enhancer(tmp_path / "script.py")


def test_missing_spandrel_says_what_to_install(esrgan, monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[synth\]'"):
        load_enhancer(esrgan)
