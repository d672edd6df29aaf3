"""The weights that the package carries do what they are for."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from helpers import pages
from helpers.masks import mask_iou
from tadisr import TADiSRPipeline
from tadisr.loading.repositories import bundled_names
from tadisr.metrics.image import psnr
from tadisr.weights import BUNDLED


@pytest.fixture(scope="module")
def pipe():
    return TADiSRPipeline.from_pretrained("tadisr-tiny")


def test_small_and_in_half_precision_on_disk(pipe):
    assert bundled_names() == ["tadisr-tiny", "textdiff-tiny"]
    assert bundled_names("TADiSRPipeline") == ["tadisr-tiny"]
    assert TADiSRPipeline.load_config(BUNDLED / "tadisr-tiny")["native_scale"] == 4
    folder = BUNDLED / "tadisr-tiny"
    sizes = {path: path.stat().st_size for path in folder.rglob("*")}
    graphs = sum(size for path, size in sizes.items() if path.suffix == ".onnx")
    assert graphs < 32e6 and sum(sizes.values()) - graphs < 22e6
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.joint_decoder.dtype == torch.float32


def test_restores_text_that_it_has_never_seen(pipe):
    """Above bicubic on every page, and the mask is the text: Pillow's built-in face is in no training page."""
    gains, overlaps = [], []
    for seed in range(4):
        page = pages.page(seed, 192, font_size=(28, 40), effects=0, min_contrast=0.4)
        lr = Image.fromarray(pages.low_resolution(page.image, seed))
        result = pipe(lr)
        bicubic = np.asarray(lr.resize((192, 192), Image.Resampling.BICUBIC))
        gains.append(psnr(np.asarray(result.images[0]), page.image) - psnr(bicubic, page.image))
        overlaps.append(mask_iou(np.asarray(result.text_masks[0]) > 127, page.mask > 127))
    assert min(gains) > 0.1 and np.mean(gains) > 0.5
    assert np.mean(overlaps) > 0.3


def test_flat_stays_flat(pipe):
    for value in (0, 97, 255):
        flat = np.full((24, 24, 3), value, np.uint8)
        result = pipe(flat, output_type="np")
        error = np.abs(result.images[0] * 255 - value)
        assert error.mean() < 1.5 and error.max() < 12  # convolutions see the border
        assert result.text_masks[0].mean() < 0.2


def test_tiles_agree_with_the_whole(pipe):
    lr = pages.low_resolution(pages.page(0, 512).image)
    whole, tiled = (pipe(lr, tile=tile, output_type="np").images[0] * 255 for tile in (None, 256))
    assert np.abs(whole - tiled).mean() < 0.25


def test_lines_that_a_tile_border_cuts_read_the_same(pipe):
    """A photographed page: borders of tiles cross every line, and most of them twice."""
    pytest.importorskip("rapidocr")
    from tadisr.metrics.text import agreement
    from tadisr.ocr import crop_line
    from tadisr.trust.check import trust_engine

    with Image.open(Path(__file__).parents[2] / "demo/example.png") as photo:
        lr = np.asarray(photo.convert("RGB"))[:96, :240]
    whole, tiled = (pipe(lr, tile=tile, output_type="uint8").images[0] for tile in (None, 256))
    engine = trust_engine()
    quads = [line.quad for line in engine.find(whole)]
    before, after = (engine.read([crop_line(image, quad) for quad in quads]) for image in (whole, tiled))
    assert len(quads) >= 3 and (whole != tiled).any()
    assert min(agreement(one.text, other.text) for one, other in zip(before, after, strict=True)) > 0.9


def test_one_command_restores_a_photo(tmp_path):
    lr = pages.low_resolution(pages.page(1, 128).image)
    Image.fromarray(lr).save(tmp_path / "photo.png")
    command = [sys.executable, "-m", "tadisr", "upscale", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert Image.open(tmp_path / "out" / "photo.png").size == (128, 128)
    assert Image.open(tmp_path / "out" / "photo_mask.png").mode == "L"


def test_the_recogniser_reads():
    from PIL import ImageDraw, ImageFont

    from tadisr.models.textdiff.recognizer import load_crnn

    folder = BUNDLED / "crnn-tiny"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
    words = ["exit2047", "platform", "ticket", "garden", "museum", "16may"]
    crops = []
    for word in words:
        font = ImageFont.load_default(24)
        width = round(font.getlength(word)) + 12
        image = Image.new("RGB", (width, 36), "white")
        ImageDraw.Draw(image).text((6, 18), word, "black", font, anchor="lm")
        crops.append(np.asarray(image.resize((128, 32), Image.Resampling.BICUBIC)))
    reader = load_crnn("crnn-tiny")
    assert next(reader.parameters()).dtype == torch.float32
    read = reader.read(torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 255)
    assert sum(a == b for a, b in zip(read, words, strict=True)) >= 4, read


def test_lines_get_closer_to_the_truth():
    from PIL import ImageDraw, ImageFont

    from tadisr import TextDiffPipeline
    from tadisr.data_synthesis.degrade import degrade
    from tadisr.data_synthesis.rendered_lines import SEVERITIES
    from tadisr.evaluation.text_lines import bicubic

    folder = BUNDLED / "textdiff-tiny"
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 15e6
    rng = np.random.default_rng(0)
    hr, lr, truth = [], [], []
    for word in ["exit2047", "platform", "ticket", "garden", "museum", "16may"]:
        mask = Image.new("L", (128, 32))
        ImageDraw.Draw(mask).text((4, 0), word, 255, ImageFont.load_default(24))
        mask = np.asarray(mask.crop(mask.getbbox()).resize((120, 28)).resize((128, 32)))
        ground, ink = rng.integers(150, 240, 3), rng.integers(0, 90, 3)
        hr.append((ground + (ink - ground) * (mask[..., None] / 255)).astype(np.uint8))
        lr.append(degrade(hr[-1], SEVERITIES["easy"], rng))
        truth.append(mask)
    lr, hr = (torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2) / 255 for x in (lr, hr))
    pipe = TextDiffPipeline.from_pretrained("textdiff-tiny")
    settings = [pipe.config[name] for name in ("temperature", "strength", "residual_strength")]
    assert settings == [0, 0.4, 0.5] and pipe.enhancement.dtype == torch.float32

    def errors(images):
        return (images - hr).square().mean((1, 2, 3))

    base, result = bicubic(lr, hr.shape[-2:]).clamp(0, 1), pipe(lr, output_type="pt")
    assert (errors(result.images) < errors(base)).all() and errors(result.images).mean() < 0.8 * errors(base).mean()
    found = result.text_masks[:, 0].numpy()
    assert mask_iou(found > 0.5, np.stack(truth) > 127) > 0.4
