"""`tadisr.load`: the one way from a name to something that restores."""

import logging

import numpy as np
import pytest
import torch
from diffusers.utils import logging as diffusers_logging

import tadisr
from helpers import tiny
from helpers.hub_server import HubServer
from tadisr.io.hashing import sha256
from tadisr.loading.load import choose_device
from tadisr.loading.memory import fast_dtype

PHOTO = np.random.default_rng(0).integers(0, 256, (17, 24, 3), np.uint8)


def test_a_photo_is_restored_as_the_pipeline_restores_it():
    restorer = tadisr.load("tadisr-tiny", "cpu", "float32")
    restored = restorer.restore(PHOTO, scale=2, color_fix="adain")
    pipe = tadisr.TADiSRPipeline.from_pretrained("tadisr-tiny")
    expected = pipe(PHOTO, scale=2, color_fix="adain")
    assert restored.image.dtype == restored.mask.dtype == np.uint8 and restored.report is None
    assert np.array_equal(restored.image, np.asarray(expected.images[0]))
    assert np.array_equal(restored.mask, np.asarray(expected.text_masks[0]))


def test_alpha_is_restored():
    restorer = tadisr.load("tadisr-tiny", "cpu", "float32")
    image = np.dstack([np.zeros_like(PHOTO), PHOTO[..., 0]])
    image[:, :6, 3], image[:, 18:, 3] = 0, 255
    restored = restorer.restore(image, scale=2.5)
    assert restored.image.shape == (42, 60, 4) and restored.mask.shape == (42, 60)
    assert (restored.image[:, :8, 3] == 0).all() and (restored.image[:, 52:, 3] == 255).all()
    assert (restored.image[..., :3] == 0).all(), "black text stays black"
    assert restored.image[:, 20:40, 3].std() > 10
    line = tadisr.load("textdiff-tiny").restore(image, num_inference_steps=1)
    assert line.image.shape == (34, 48, 3) and line.image.std() > 10


@pytest.mark.parametrize(
    ("image", "options", "error", "message"),
    [
        ([], {}, ValueError, "takes one image"),
        ([PHOTO, PHOTO], {}, ValueError, "takes one image"),
        (torch.zeros(2, 3, 8, 8), {}, ValueError, "takes one image"),
        (PHOTO, {"output_type": "pil"}, TypeError, "gives uint8 arrays: leave out output_type"),
        (PHOTO, {"return_dict": False}, TypeError, "leave out return_dict"),
        (PHOTO.astype(np.uint16), {}, ValueError, "got uint16: divide by"),
        ("photo.png", {}, TypeError, "got str: open the file first"),
    ],
)
@pytest.mark.parametrize("model", ["tadisr-tiny", "textdiff-tiny"])
def test_what_is_not_one_image_is_refused(image, options, error, message, model):
    with pytest.raises(error, match=message):
        tadisr.load(model).restore(image, **options)


def test_a_line_of_text_is_restored():
    restored = tadisr.load("textdiff-tiny").restore(PHOTO, num_inference_steps=1)
    assert restored.image.shape == (34, 48, 3) and restored.mask.shape == (34, 48)


def test_it_says_what_it_is():
    restorer = tadisr.load("tadisr-tiny", runtime="torch")
    assert restorer.name == "tadisr-tiny" and "unet/diffusion_pytorch_model.safetensors" in restorer.files
    for name, digest in restorer.files.items():
        assert sha256(restorer.folder / name) == digest
    assert restorer.dtype == str(fast_dtype("cpu")).removeprefix("torch.")
    assert tadisr.load("tadisr-tiny", dtype=torch.bfloat16).dtype == "bfloat16"


def test_an_adapter_takes_its_base_from_elsewhere(tmp_path):
    base = tiny.sd(tmp_path)
    base.save_pretrained(tmp_path / "base")
    tiny.on_base(base, base_model="nowhere/base").save_pretrained(tmp_path / "adapter")
    pipe = tadisr.TADiSRPipeline.from_pretrained(tmp_path / "adapter", base_model=tmp_path / "base")
    restorer = tadisr.load(tmp_path / "adapter", "cpu", "float32", base_model=tmp_path / "base")
    assert np.array_equal(restorer.restore(PHOTO).image, np.asarray(pipe(PHOTO).images[0]))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_adapter_is_fused_on_a_gpu(tmp_path):
    base = tiny.sd(tmp_path)
    base.save_pretrained(tmp_path / "base")
    tiny.on_base(base, base_model=str(tmp_path / "base")).save_pretrained(tmp_path / "adapter")
    pipe = tadisr.load(tmp_path / "adapter").pipe
    assert pipe.device.type == "cuda" and not any("lora" in name for name, _ in pipe.unet.named_parameters())


def test_it_is_quiet_and_gives_the_verbosity_back(capfd):
    diffusers_logging.set_verbosity_info()
    try:
        tadisr.load("tadisr-tiny").restore(PHOTO)
        assert diffusers_logging.get_verbosity() == logging.INFO
    finally:
        diffusers_logging.set_verbosity_warning()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "kind", "error", "message"),
    [
        ("nothing", "", FileNotFoundError, "No model nothing: give tadisr-tiny, textdiff-tiny, a folder or a Hub id"),
        ("textdiff-tiny", "TADiSRPipeline", ValueError, "holds a TextDiffPipeline, not a TADiSRPipeline"),
    ],
)
def test_models_that_are_not_there_or_of_another_kind(name, kind, error, message):
    with pytest.raises(error, match=message):
        tadisr.load(name, pipeline=kind)


def test_devices():
    assert choose_device("cpu") == "cpu" and choose_device() in ("cpu", "cuda", "mps")
    with pytest.raises(ValueError, match="cannot use device nonsense: "):
        tadisr.load("tadisr-tiny", device="nonsense")


FOREIGN = """
import sys, tadisr
from huggingface_hub import HfApi
HfApi().create_repo("tester/base")
HfApi().upload_folder(repo_id="tester/base", folder_path=sys.argv[1])
try:
    tadisr.load("tester/base")
except ValueError as error:
    print(error)
"""


def test_of_a_foreign_pipeline_no_weights_are_fetched(tmp_path):
    tiny.sd(tmp_path).save_pretrained(tmp_path / "base")
    with HubServer(tmp_path / "hub") as server:
        said = server.run(FOREIGN, tmp_path / "base", home=tmp_path / "home")
    assert "holds a StableDiffusionPipeline, not a TADiSRPipeline or a TextDiffPipeline" in said
    assert not list((tmp_path / "home").rglob("*.safetensors"))
