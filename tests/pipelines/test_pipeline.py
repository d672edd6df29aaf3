"""TADiSRPipeline on every family of base, whole, as an adapter, and tiled."""

import copy
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from diffusers import CMStochasticIterativeScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from PIL import Image

from helpers import tiny
from helpers.signs import quick_engine
from helpers.signs import small_sign as sign
from tadisr import TADiSRPipeline, transparency
from tadisr.models.families import predict
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.one_step import one_step, one_step_coefficients
from tadisr.models.tensors import to_tensors, upsample
from tadisr.pipelines import inputs
from tadisr.trust import check as trust

PHOTO = tiny.photo()


@pytest.fixture(scope="module")
def pipe(base):
    """On each family, whole: no adapters."""
    return tiny.on_base(base, lora=False)


@pytest.fixture(scope="module")
def adapted(base, tmp_path_factory):
    """On each family, with LoRA: (pipeline, the base's folder)."""
    folder = tmp_path_factory.mktemp("base")
    base.save_pretrained(folder)
    return tiny.on_base(base, base_model=str(folder)), folder


@pytest.fixture(scope="module")
def free():
    return tiny.lean()


def run(pipe, image=PHOTO, **kwargs):
    """(images, masks) as tensors."""
    return pipe(image, output_type="pt", return_dict=False, **kwargs)


def same(one, other, atol=0.0):
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(a.shape == b.shape and (a - b).abs().max() <= atol for a, b in pairs)


def reloaded(one, other):
    """The same, though some processors add up in another order where the loaded weights lie otherwise in memory."""
    return same(one, other, atol=1e-5)


# ---- in and out


def test_every_kind_of_input_gives_the_same(pipe):
    array = (PHOTO[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    expected = run(pipe)
    (image,), (mask,) = expected
    assert image.shape == (3, 68, 96) and mask.shape == (1, 68, 96)
    assert image.dtype == mask.dtype == torch.float32 and image.device.type == "cpu"
    assert image.min() >= 0 and image.max() <= 1 and image.std() > 0
    assert mask.min() > 0 and mask.max() < 1 and mask.std() > 0
    for given in (Image.fromarray(array), array, array.astype(np.float32) / 255, PHOTO[0],
                  torch.from_numpy(array).permute(2, 0, 1), [PHOTO], [Image.fromarray(array)]):  # fmt: skip
        assert same(run(pipe, given), expected)


def test_outputs_of_every_kind(pipe):
    (image,), (mask,) = run(pipe)
    arrays = pipe(PHOTO, output_type="np")
    assert np.array_equal(arrays.images[0], image.permute(1, 2, 0).numpy())
    assert np.array_equal(arrays.text_masks[0], mask[0].numpy())
    assert arrays.images.shape == (1, 68, 96, 3) and arrays.text_masks.shape == (1, 68, 96)
    pil = pipe(PHOTO)
    assert (pil.images[0].mode, pil.images[0].size) == ("RGB", (96, 68))
    assert (pil.text_masks[0].mode, pil.text_masks[0].size) == ("L", (96, 68))
    assert np.array_equal(np.asarray(pil.images[0]), np.rint(arrays.images[0] * 255).astype(np.uint8))
    assert np.array_equal(np.asarray(pil.text_masks[0]), np.rint(arrays.text_masks[0] * 255).astype(np.uint8))


def test_what_other_pipelines_take_is_taken(pipe, caplog):
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    for generator in (generators[0], generators):
        assert same(run(pipe, generator=generator), run(pipe))
    assert not caplog.records
    assert same(run(pipe, prompt="Turn this cat into a dog"), run(pipe))
    assert "The prompt is not followed" in caplog.text


def test_lists_and_batches_are_their_images_one_by_one(pipe):
    photos = [tiny.photo(), tiny.photo(9, 30, seed=1), tiny.photo(seed=2)]
    one_by_one = [run(pipe, photo) for photo in photos]
    images, masks = run(pipe, photos)
    assert [tuple(image.shape[1:]) for image in images] == [(68, 96), (120, 36), (68, 96)]
    assert same((images, masks), ([i[0] for i, _ in one_by_one], [m[0] for _, m in one_by_one]))
    batch = run(pipe, torch.cat([photos[0], photos[2]]))
    expected = tuple(torch.stack([parts[0], parts[2]]) for parts in (images, masks))
    torch.testing.assert_close(batch, expected, atol=1e-3, rtol=0)
    arrays = pipe(batch[0].permute(0, 2, 3, 1).numpy()[:, ::4, ::4], output_type="np")
    assert arrays.images.shape == (2, 68, 96, 3) and arrays.text_masks.shape == (2, 68, 96)


def test_small_images_go_through_together(free, monkeypatch):
    photos = [tiny.photo(32, 64, seed=seed) for seed in range(11)] + [tiny.photo(9, 30)]
    one_by_one = [run(free, photo, color_fix="adain") for photo in photos]
    sizes = []
    restore = free.restore_tile
    monkeypatch.setattr(free, "restore_tile", lambda lr, *rest: sizes.append(len(lr)) or restore(lr, *rest))
    images, masks = run(free, photos, color_fix="adain")
    assert sizes == [8, 3, 1]
    for (one, mask), image, text in zip(one_by_one, images, masks, strict=True):
        torch.testing.assert_close(image, one[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(text, mask[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 6])
def test_other_factors_are_made_by_the_native_one(scale):
    pipe, photo = tiny.lean(), tiny.photo(40, 72)
    at_four = pipe.restore_tile(photo, 4)
    pipe.register_to_config(native_scale=4)
    size = [side * scale for side in photo.shape[-2:]]
    for found, large in zip(pipe.restore_tile(photo, scale), at_four, strict=True):
        expected = torch.nn.functional.interpolate(large, size, mode="bicubic", antialias=True)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    image, mask = (maps[0] for maps in run(pipe, photo, scale=scale))
    assert image.shape == (3, *size) and mask.shape == (1, *size)
    tiled = run(pipe, photo, scale=scale, tile=128, overlap=64)[0][0]
    assert 0 < (tiled - image).abs().mean() < 0.02


@pytest.mark.parametrize("native", [None, 4])
@pytest.mark.parametrize("scale", [0.3, 1.25, 2.5, 4.5, np.float32(2.5)])
def test_factors_that_are_not_whole(native, scale):
    pipe, photo = tiny.lean(), tiny.photo(40, 73)
    pipe.register_to_config(native_scale=native)
    size = [round(73 * float(scale)), round(40 * float(scale))]
    (image,), (mask,) = run(pipe, photo, scale=scale)
    assert image.shape == (3, *size) and mask.shape == (1, *size)
    factor = native or int(np.ceil(scale))
    large, logits = pipe.restore_tile(photo, factor)
    expected = torch.nn.functional.interpolate(large, size, mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(image[None], expected, atol=1e-5, rtol=1e-5)
    expected = torch.nn.functional.interpolate(logits, size, mode="bicubic", antialias=True).sigmoid()
    torch.testing.assert_close(mask[None], expected, atol=1e-5, rtol=1e-5)
    (tiled,), _ = run(pipe, photo, scale=scale, tile=128, overlap=64, color_fix="wavelet")
    assert tiled.shape == image.shape and (tiled - image).abs().mean() < 0.1


@pytest.mark.parametrize("scale", [4.0, np.float64(4), np.int64(4), np.uint8(4)])
def test_whole_factors_of_other_types(free, scale):
    assert same(run(free, scale=scale), run(free, scale=4))


def test_an_image_never_vanishes(free):
    assert run(free, tiny.photo(2, 9), scale=0.1)[0][0].shape == (3, 1, 1)


@pytest.mark.parametrize("whole", [True, False])
def test_the_native_factor_is_saved(free, adapted, tmp_path, whole):
    pipe = copy.copy(free if whole else adapted[0])
    pipe.register_to_config(native_scale=3)
    pipe.save_pretrained(tmp_path)
    assert TADiSRPipeline.from_pretrained(tmp_path).config.native_scale == 3
    options = {} if whole else {"base_model": str(adapted[1])}
    assert TADiSRPipeline.from_pretrained(tmp_path, **options).config.native_scale == 3


def test_adapters_and_text_attention_matter(adapted):
    pipe = adapted[0]
    image, mask = (x[0] for x in run(pipe))
    pipe.unet.disable_adapters()
    without_unet = run(pipe)[0][0]
    pipe.unet.enable_adapters()
    pipe.vae.disable_adapters()
    without_vae = run(pipe)[0][0]
    pipe.vae.enable_adapters()
    assert same(run(pipe), ([image], [mask]))
    assert not torch.allclose(without_unet, image, atol=1e-4) and not torch.allclose(without_vae, image, atol=1e-4)
    positions = pipe.prompt.config.text_positions
    other = copy.copy(pipe)
    other.prompt = copy.deepcopy(pipe.prompt)
    other.prompt.register_to_config(text_positions=[positions[0] - 1])
    assert not torch.equal(run(other)[1][0], mask)


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (16, 16), (17, 5)])
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_sizes_are_exact(free, size, scale):
    (image,), (mask,) = run(free, tiny.photo(*size), scale=scale)
    assert image.shape == (3, size[1] * scale, size[0] * scale) and mask.shape[1:] == image.shape[1:]
    assert image.isfinite().all() and mask.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (3, 40)])
def test_tiny_inputs_on_every_base(pipe, size):
    (image,), (mask,) = run(pipe, tiny.photo(*size))
    assert image.shape == (3, size[1] * 4, size[0] * 4) and image.isfinite().all() and mask.isfinite().all()


@pytest.mark.parametrize("tile", [None, 64, "auto"])
@pytest.mark.parametrize("color_fix", ["none", "wavelet", "adain"])
def test_options(free, tile, color_fix):
    (image,), _ = run(free, tiny.photo(40, 30), tile=tile, overlap=16, color_fix=color_fix)
    assert image.shape == (3, 120, 160) and image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *[
            ({"scale": scale}, "scale must be a number above 0 and at most 100, got")
            for scale in (0, -2, 101, float("nan"), float("inf"), "4", None, True, np.zeros(1))
        ],
        ({"tile": 32}, "tile must be"),
        ({"tile": "big"}, "tile must be"),
        ({"tile": 256, "overlap": 129}, "overlap must be an integer from 0 to half a tile"),
        ({"overlap": -1}, "overlap must be an integer"),
        ({"tile": 64, "overlap": 32.0}, "overlap must be an integer"),
        ({"tile_batch": 0}, "tile_batch must be None or an integer of at least 1, got 0"),
        ({"tile_batch": 1.5}, "tile_batch must be"),
        ({"fidelity": 1.5}, "fidelity must be from 0"),
        ({"fidelity": "soft"}, "fidelity must be from 0"),
        ({"color_fix": "histogram"}, "one of none, wavelet, adain"),
        ({"output_type": "latent"}, "output_type must be"),
        ({"image": PHOTO * 2}, r"values in \[0, 1\]"),
        ({"image": PHOTO * float("nan")}, r"values in \[0, 1\]"),
        ({"image": []}, "Expected at least one image, got an empty list"),
        ({"image": torch.zeros(3, 0, 4)}, "Expected a tensor"),
        ({"image": torch.zeros(3, 4, 4, dtype=torch.int64)}, "uint8 tensor or floats"),
        ({"image": np.zeros((4, 4, 5), np.uint8)}, "Expected an array"),
        ({"image": np.zeros((4, 4, 3), np.int32)}, "uint8 array or floats"),
    ],
)
def test_wrong_arguments(free, arguments, message):
    with pytest.raises(ValueError, match=message):
        free(**{"image": PHOTO, **arguments})


def test_arguments_are_checked_without_a_model():
    TADiSRPipeline.check_inputs(scale=2.5, tile=np.int64(128), overlap=np.int64(64), color_fix="none", output_type="pt")
    with pytest.raises(ValueError, match="tile must be"):
        TADiSRPipeline.check_inputs(scale=70.5, tile=70, overlap=0, color_fix="none", output_type="pt")


def test_wrong_type(free):
    with pytest.raises(TypeError, match="got str"):
        free("photo.png")


def test_upsampling_is_pillows():
    soft = tiny.photo(20, 11) * 0.5 + 0.25  # no overshoot, which Pillow would cut off between its two passes
    pil = Image.fromarray((soft[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
    ours = upsample(to_tensors(pil)[0], 4).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    theirs = np.asarray(pil.resize((80, 44), Image.Resampling.BICUBIC), dtype=np.float32)
    assert np.abs(ours - theirs).max() < 1.5  # two roundings


# ---- transparency


def stamp(height=17, width=24, seed=0):
    """(4, height, width): strokes in alpha, of several colours."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(4, height, width, generator=generator)
    image[3] = torch.rand(height, width, generator=generator).gt(0.6).float()
    image[3, :, : width // 3] = 0
    image[3, :, 2 * width // 3 :] = 1
    return (image * 255).round() / 255


def test_four_channels_give_four(free):
    image = stamp()
    array = (image.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    before = image.clone()
    (expected,), (mask,) = run(free, image)
    assert torch.equal(image, before), "what was given is left alone"
    assert expected.shape == (4, 68, 96) and mask.shape == (1, 68, 96)
    for given in (array, array.astype(np.float64) / 255, Image.fromarray(array), image[None]):
        assert same(run(free, given), ([expected], [mask]))
    pixels = np.rint(expected.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
    pil = free(array)
    assert (pil.images[0].mode, pil.images[0].size) == ("RGBA", (96, 68)) and pil.text_masks[0].mode == "L"
    assert np.array_equal(np.asarray(pil.images[0]), pixels)
    assert np.array_equal(free(array, output_type="uint8").images[0], pixels)
    assert np.array_equal(free(array, output_type="np").images[0], expected.permute(1, 2, 0).numpy())


def test_colours_and_alpha_are_each_restored(free):
    image = stamp(40, 40)
    (restored,), (mask,) = run(free, image)
    colors = np.ascontiguousarray(image[:3].permute(1, 2, 0))
    alpha = image[3].numpy()
    (expected,), (of_colors,) = run(free, transparency.bleed(colors, alpha))
    torch.testing.assert_close(restored[:3], expected)
    (dark,), (of_alpha,) = run(free, 1 - alpha)
    varies = slice(60, 100)
    torch.testing.assert_close(restored[3, :, varies], 1 - dark.mean(0)[:, varies], atol=1e-5, rtol=1e-4)
    assert (restored[3, :, :36] == 0).all() and (restored[3, :, 124:] == 1).all(), "flat regions are exact"
    assert torch.equal(mask[:, :, 60:], torch.maximum(of_colors, of_alpha)[:, :, 60:])
    assert torch.equal(mask[:, :, :36], of_alpha[:, :, :36]), "text in invisible colours is none"


def test_the_network_runs_only_where_there_is_something(free, monkeypatch):
    calls = []
    encode = free.encode
    monkeypatch.setattr(free, "encode", lambda x: calls.append(len(x)) or encode(x))

    def cost(image, **options):
        calls.clear()
        return run(free, image, **options), sum(calls)

    image = stamp(16, 16)
    black, opaque, half, nothing, hole = (image.clone() for _ in range(5))
    black[:3] = 0
    opaque[3], half[3], nothing[3] = 1, 0.5, 0
    hole[3] = 1
    hole[3, 3, 3] = 0.5
    assert cost(image)[1] == 2
    assert cost(black)[1] == 1 and cost(nothing)[1] == 0
    (plain, mask), once = cost(opaque[:3])
    for given, alpha in ((opaque, 1), (half, 0.5)):
        (images, masks), count = cost(given)
        assert count == once == 1 and same(([images[0][:3]], masks), (plain, mask))
        assert (images[0][3] == alpha).all()
    assert (cost(nothing)[0][0][0][3] == 0).all() and cost(nothing)[0][1][0].max() < 1e-6
    wide = torch.cat([hole, opaque.repeat(1, 1, 7)], dim=2)
    tiles = cost(wide[:3], tile=128, overlap=0)[1]
    assert cost(wide, tile=128, overlap=0)[1] == tiles + 1 and tiles == 4


def test_lists_of_both_kinds(free):
    photos = [stamp(), tiny.photo()[0], tiny.photo(seed=1)[0], stamp(seed=1), stamp(9, 30)]
    photos[3][3] = 1
    images, masks = run(free, photos)
    assert [len(image) for image in images] == [4, 3, 3, 4, 4]
    for photo, image, mask in zip(photos, images, masks, strict=True):
        (one,), (text,) = run(free, photo)
        torch.testing.assert_close(image, one, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mask, text, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [
    {"tile": 64, "overlap": 16}, {"color_fix": "adain"}, {"color_fix": "wavelet", "scale": 2.5}, {"scale": 1},
    {"tile": 64, "overlap": 16, "tile_batch": 3},
])  # fmt: skip
def test_options_with_alpha(free, options):
    image = stamp(40, 40)
    scale = options.get("scale", 4)
    (restored,), (mask,) = run(free, image, **options)
    side = round(40 * scale)
    assert restored.shape == (4, side, side) and mask.shape == (1, side, side)
    assert restored.min() >= 0 and restored.max() <= 1
    assert (restored[3, :, : round(10 * scale)] == 0).all() and (restored[3, :, side - round(9 * scale) :] == 1).all()
    whole, _ = run(free, image, scale=scale)
    assert (restored[3] - whole[0][3]).abs().mean() < 0.05


def test_alpha_on_every_base(pipe):
    (image,), (mask,) = run(pipe, stamp())
    assert image.shape == (4, 68, 96) and image.isfinite().all() and mask.isfinite().all()
    assert (image[3, :, :20] == 0).all() and (image[3, :, 76:] == 1).all() and 0 < image[3].mean() < 1


# ---- reports


@pytest.fixture
def bicubic(monkeypatch):
    """A pipeline whose image is bicubic, and an engine that searches small photos quickly."""
    pipe = tiny.lean()
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.weight)
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.bias)
    engine = quick_engine()
    monkeypatch.setattr(trust, "trust_engine", lambda: engine)
    monkeypatch.setattr(inputs, "trust_engine", lambda: engine)
    return pipe


def test_reports(bicubic):
    signs = [sign("Exit 12"), sign("")]
    result = bicubic(signs, report=True)
    assert [len(report.lines) for report in result.reports] == [1, 0]
    (line,) = result.reports[0].lines
    assert line.verdict == "agree" and line.input.text.replace(" ", "") == line.output.text.replace(" ", "") == "Exit12"
    assert result.reports[0].size == (160, 400) and np.max(line.quad) > 100, "in pixels of the output"
    assert json.loads(json.dumps(result.reports[0].to_dict()))["counts"] == {
        "lines": 1,
        "check": 0,
        "agree": 1,
        "asserted": 0,
        "kept": 0,
        "retraced": 0,
    }
    plain = bicubic(signs[0], output_type="np")
    assert plain.reports is None and len(bicubic(signs[1], return_dict=False)) == 2
    strict = trust.Thresholds(min_score=1)
    images, masks, (report,) = bicubic(signs[0], report=strict, return_dict=False, output_type="np")
    assert np.array_equal(images[0], plain.images[0]) and np.array_equal(masks[0], plain.text_masks[0])
    assert report.thresholds == strict and report.lines[0].reason == trust.HARDLY_LEGIBLE


def test_reports_read_what_a_person_sees(bicubic):
    ink = np.asarray(sign("Exit 12").convert("L"))
    for color in (0, 255):
        image = np.dstack([np.full((*ink.shape, 3), color, np.uint8), 255 - ink])
        report = bicubic(image, report=True, scale=2.5).reports[0]
        assert report.size == (100, 250)
        assert [line.output.text.replace(" ", "") for line in report.lines] == ["Exit12"]
        assert report.lines[0].input.text.replace(" ", "") == "Exit12"


def test_reports_that_cannot_be_made(bicubic, monkeypatch):
    with pytest.raises(ValueError, match="report must be True, False or Thresholds, got 0.5"):
        bicubic(PHOTO, report=0.5)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    monkeypatch.setattr(TADiSRPipeline, "restore", None)  # not reached
    trust._engine.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[ocr\]'"):
        bicubic(PHOTO, report=True)


# ---- the one step (Eq. 1)


def test_epsilon_and_v_predictions_agree():
    latents, noise = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    scheduler = DDPMScheduler(**tiny.SCHEDULE)
    alpha, beta = one_step_coefficients(scheduler)
    assert alpha**2 + beta**2 == pytest.approx(1)
    assert alpha**2 == pytest.approx(float(scheduler.alphas_cumprod[200]))
    clean = one_step(latents, noise, scheduler)
    torch.testing.assert_close(alpha * clean + beta * noise, latents)  # the noising it undoes
    velocity = alpha * noise - beta * clean
    by_velocity = one_step(latents, velocity, DDPMScheduler(**tiny.SCHEDULE, prediction_type="v_prediction"))
    torch.testing.assert_close(by_velocity, clean)


def test_other_predictions_and_schedules_are_refused():
    latents = torch.zeros(1, 4, 3, 3)
    with pytest.raises(ValueError, match="prediction_type='sample'"):
        one_step(latents, latents, DDPMScheduler(**tiny.SCHEDULE, prediction_type="sample"))
    with pytest.raises(ValueError, match="CMStochasticIterativeScheduler has no DDPM noise schedule"):
        one_step(latents, latents, CMStochasticIterativeScheduler())


# ---- files


def test_whole_pipeline_round_trip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin"))
    assert not list(tmp_path.glob("text_encoder*")) and not list(tmp_path.glob("tokenizer*"))
    again = TADiSRPipeline.from_pretrained(tmp_path)
    assert type(again) is TADiSRPipeline and reloaded(run(again), run(pipe))


def test_lean_round_trip(free, tmp_path):
    free.save_pretrained(tmp_path)
    assert reloaded(run(TADiSRPipeline.from_pretrained(str(tmp_path))), run(free))


def test_adapter_round_trip_without_text_encoders(adapted, tmp_path):
    pipe, base = adapted
    pipe.save_pretrained(tmp_path / "adapter")
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "tadisr_adapter.json", "unet_lora", "vae_lora", "prompt", "joint_decoder",
        "model_index.json", "pipeline_adapter.py", "README.md",
    }  # fmt: skip
    assert not list(tmp_path.rglob("*.bin"))
    for part in ("model_index.json", "vae", "unet", "scheduler"):
        source = base / part
        (shutil.copytree if source.is_dir() else shutil.copy)(source, _made(tmp_path / "base") / part)
    for given in ({}, {"base_model": tmp_path / "base"}):  # as the adapter says, and where there is nothing else
        again = TADiSRPipeline.from_pretrained(tmp_path / "adapter", **given)
        assert {name for name, component in again.components.items() if component is not None} == {
            "vae", "unet", "scheduler", "prompt", "joint_decoder",
        }  # fmt: skip
        assert reloaded(run(again), run(pipe))
    again.save_pretrained(tmp_path / "again")
    index = json.loads((tmp_path / "again" / "tadisr_adapter.json").read_text())
    assert index.pop("base_model") == str(tmp_path / "base") and set(index.values()) == {None}
    assert reloaded(run(TADiSRPipeline.from_pretrained(tmp_path / "again")), run(pipe))


def _made(folder):
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def adapter(tmp_path):
    """(An adapter's folder, its base's folder), on one family."""
    base = tiny.sd(tmp_path)
    base.save_pretrained(tmp_path / "base")
    tiny.on_base(base, base_model=str(tmp_path / "base")).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", tmp_path / "base"


def test_an_adapter_takes_its_bases_schedule(adapter):
    folder, base = adapter
    path = base / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    assert config["_class_name"] == "PNDMScheduler"
    path.write_text(json.dumps({**config, "prediction_type": "v_prediction", "beta_end": 0.02}))
    scheduler = TADiSRPipeline.from_pretrained(folder).scheduler
    assert (scheduler.config.prediction_type, scheduler.config.beta_end) == ("v_prediction", 0.02)
    FlowMatchEulerDiscreteScheduler().save_pretrained(base / "scheduler")
    with pytest.raises(ValueError, match="FlowMatchEulerDiscreteScheduler has no DDPM noise schedule"):
        TADiSRPipeline.from_pretrained(folder)


def test_adapter_without_a_base(tmp_path):
    pipe = tiny.on_base(tiny.sd(tmp_path))
    with pytest.raises(ValueError, match="does not name its base"):
        pipe.save_pretrained(tmp_path / "adapter")


def test_options_that_adapters_do_not_take(adapter):
    with pytest.raises(ValueError, match=r"An adapter is not loaded with device_map, fuse_lore: leave it out"):
        TADiSRPipeline.from_pretrained(adapter[0], device_map="cuda", fuse_lore=True)
    assert TADiSRPipeline.from_pretrained(adapter[0], use_safetensors=True).vae.dtype == torch.float32


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="neither a pipeline"):
        TADiSRPipeline.from_pretrained(tmp_path)
    for name in ("missing", tmp_path / "missing", "./a/b", "a/b/c"):
        with pytest.raises(FileNotFoundError, match="No model .*: give tadisr-tiny, a folder or a Hub id"):
            TADiSRPipeline.from_pretrained(name)


# ---- precision and placement


def test_bfloat16(adapter, free, tmp_path):
    half = TADiSRPipeline.from_pretrained(adapter[0], dtype=torch.bfloat16)
    assert {half.unet.dtype, half.vae.dtype, half.prompt.dtype, half.joint_decoder.dtype} == {torch.bfloat16}
    full = TADiSRPipeline.from_pretrained(adapter[0])
    for one, other in zip(run(half), run(full), strict=True):
        assert one[0].dtype == torch.float32
        assert (one[0] - other[0]).abs().mean() < 0.03
    free.save_pretrained(tmp_path / "free")
    half = TADiSRPipeline.from_pretrained(tmp_path / "free", torch_dtype=torch.bfloat16)  # its older name
    assert half.vae.dtype == torch.bfloat16
    assert (run(half)[0][0] - run(free)[0][0]).abs().mean() < 0.03


def test_model_offload_moves_each_model_before_it_runs(base, adapted):
    """With the CPU as the accelerator, the hooks run as they would with a GPU."""
    pipe = copy.copy(adapted[0])
    expected = run(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    arrivals = []
    for name in ("vae", "prompt", "unet", "joint_decoder"):
        hook = getattr(pipe, name)._hf_hook
        before = hook.pre_forward

        def pre_forward(module, *args, name=name, before=before, **kwargs):
            arrivals.append(name)
            return before(module, *args, **kwargs)

        hook.pre_forward = pre_forward
    try:
        assert same(run(pipe), expected)
    finally:
        pipe.remove_all_hooks()
    assert arrivals == ["vae", "prompt", "unet", "joint_decoder", "vae"], "encode, denoise, decode on the VAE"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_model_offload_on_a_gpu(base):
    pipe = tiny.on_base(base)
    expected = run(pipe)
    pipe.enable_model_cpu_offload()
    for one, other in zip(run(pipe), expected, strict=True):
        torch.testing.assert_close(one[0], other[0], atol=0.02, rtol=0)
    assert {model.device.type for model in (pipe.vae, pipe.unet, pipe.joint_decoder)} == {"cpu"}


def test_attention_processors_and_training_mode_are_left_alone(free):
    before = {name: id(processor) for name, processor in free.unet.attn_processors.items()}
    run(free)
    assert {name: id(processor) for name, processor in free.unet.attn_processors.items()} == before


# ---- tiles


def test_tiled_equals_untiled(free):
    """Without normalisation a tile knows all it needs, up to the reach of its convolutions."""
    photo = tiny.photo(112, 64)
    whole, tiled = (run(free, photo, tile=tile, overlap=overlap) for tile, overlap in ((None, 0), (256, 128)))
    baseline = upsample(photo, 4).clamp(0, 1)[0]
    assert (whole[0][0] - baseline).abs().mean() > 0.01, "there is something to restore"
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(one[0], other[0], atol=0.03, rtol=0)
        assert (one[0] - other[0]).abs().mean() < 3e-3
    assert not same(whole, tiled), "it was tiled"


def test_a_lean_base_is_strictly_local(free):
    """Far from a cut, a part of an image is restored exactly as the whole is."""
    photo = tiny.photo(112, 64)
    with torch.no_grad():
        for whole, part in zip(free.restore_tile(photo), free.restore_tile(photo[..., :64]), strict=True):
            torch.testing.assert_close(part[..., :64], whole[..., :64], atol=1e-5, rtol=1e-4)


def test_progress_counts_tiles(free):
    seen = []

    def progress(tiles):
        seen.extend(tiles)
        return iter(seen)

    run(free, tiny.photo(40, 20), tile=64, overlap=0, tile_progress=progress)
    assert len(seen) == 3 * 2


@pytest.mark.parametrize("size", [(24, 17), (9, 13)])  # the second is padded
def test_a_fresh_decoder_adds_nothing_to_the_base(base, size):
    """Untrained adapters and decoder: the image is the base's own one-step result."""
    pipe = tiny.on_base(base, lora=False)
    pipe.joint_decoder = JointSegmentationDecoder.from_base(pipe.vae, pipe.unet).eval()
    with torch.no_grad():
        photo = tiny.photo(*size)
        x = pipe.prepare_image(photo)
        latents = pipe.vae.encode(x).latent_dist.mode() * pipe.vae.config.scaling_factor
        noise = predict(pipe.unet, latents, 200, pipe.prompt, 4)
        alpha_bar = pipe.scheduler.alphas_cumprod[200]
        latents = (latents - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
        expected = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample / 2 + 0.5
    expected = expected[0, :, : 4 * size[1], : 4 * size[0]].clamp(0, 1)
    torch.testing.assert_close(run(pipe, photo)[0][0], expected, atol=1e-5, rtol=1e-5)
