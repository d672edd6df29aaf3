"""TextDiffPipeline: crops of any size in and out, the cascade, files, and what it refuses."""

import copy
import json
from itertools import groupby

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import tiny, tiny_textdiff
from helpers.hub_server import HubServer
from tadisr.models.tensors import upsample
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline

CROP = tiny.photo(64, 16)


@pytest.fixture(scope="module")
def pipe():
    return tiny_textdiff.textdiff()


@pytest.fixture(scope="module")
def plain():
    """Without masks."""
    return tiny_textdiff.textdiff(mask=False)


def run(pipe, image=CROP, **kwargs):
    """(images, masks, coarse images) as tensors."""
    return pipe(image, output_type="pt", return_dict=False, **kwargs)


def close(one, other, atol=2e-5):
    """Convolutions of another batch size add in another order."""
    return all(
        len(x) == len(y) and all(torch.allclose(a, b, atol=atol) for a, b in zip(x, y, strict=True))
        for x, y in zip(one, other, strict=True)
    )


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# ---- in and out


def test_a_crop_of_the_trained_size_is_the_networks_own_result(pipe):
    (image,), (mask,), (coarse,) = run(pipe)
    assert image.shape == coarse.shape == (3, 32, 128) and mask.shape == (1, 32, 128)
    sr, probability, _ = pipe.network.enhance(CROP)
    expected = pipe.network.refine(sr, probability, 5, seeded(0))
    torch.testing.assert_close(image, expected[0].clamp(0, 1))
    torch.testing.assert_close(coarse, sr[0].clamp(0, 1))
    torch.testing.assert_close(mask, probability[0])
    bicubic = upsample(CROP, 2)[0].clamp(0, 1)
    for one, other in ((image, coarse), (coarse, bicubic)):
        assert (one - other).abs().mean() > 0.01, "every stage does something"


def test_the_steps_make_up_the_whole(pipe):
    coarse, mask = pipe.enhance(CROP)
    (image,), (text,), (first,) = run(pipe, num_inference_steps=3)
    assert close([coarse.clamp(0, 1), mask, pipe.sharpen(coarse, mask, 3).clamp(0, 1)], [[first], [text], [image]])
    refined = pipe.refine(image, 3, output_type="pt")
    assert close([pipe.find_text(image[None])], [refined.text_masks])


def test_every_kind_of_input_gives_the_same(pipe):
    array = (CROP[0].permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    expected = run(pipe)
    for kind in (Image.fromarray(array), array, array.astype(np.float32) / 255, CROP[0],
                  torch.from_numpy(array).permute(2, 0, 1), [CROP], [Image.fromarray(array)]):  # fmt: skip
        assert close(run(pipe, kind), expected, 1e-6)
    grey = Image.fromarray(array).convert("L")
    assert close(run(pipe, grey), run(pipe, grey.convert("RGB")), 0)


def test_outputs_of_every_kind(pipe):
    (image,), (mask,), (coarse,) = run(pipe)
    arrays = pipe(CROP, output_type="np")
    assert np.array_equal(arrays.images[0], image.permute(1, 2, 0).numpy())
    assert np.array_equal(arrays.coarse_images[0], coarse.permute(1, 2, 0).numpy())
    assert np.array_equal(arrays.text_masks[0], mask[0].numpy())
    pil = pipe(CROP)
    for picture, mode in ((pil.images[0], "RGB"), (pil.coarse_images[0], "RGB"), (pil.text_masks[0], "L")):
        assert (picture.mode, picture.size) == (mode, (128, 32))
    assert np.array_equal(np.asarray(pil.images[0]), np.rint(arrays.images[0] * 255).astype(np.uint8))
    assert np.array_equal(np.asarray(pil.text_masks[0]), np.rint(arrays.text_masks[0] * 255).astype(np.uint8))


SIZES = [(64, 16), (1, 1), (1, 20), (20, 1), (200, 11), (12, 150), (90, 40), (3, 3), (30, 29), (300, 30)]


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_exact(pipe, size):
    (image,), (mask,), (coarse,) = run(pipe, tiny.photo(*size), num_inference_steps=1)
    assert image.shape == coarse.shape == (3, size[1] * 2, size[0] * 2) and mask.shape[1:] == image.shape[1:]
    for result in (image, mask, coarse):
        assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    (refined,), (mask,) = pipe.refine(tiny.photo(*size), 1, output_type="pt", return_dict=False)
    assert refined.shape == (3, size[1], size[0]) and mask.shape == (1, size[1], size[0]) and refined.isfinite().all()


def test_results_do_not_depend_on_the_batch(pipe):
    crops = [tiny.photo(*size, seed=seed) for seed, size in enumerate(SIZES[:6])]
    together = run(pipe, crops, num_inference_steps=2)
    one_by_one = [run(pipe, crop, num_inference_steps=2) for crop in crops]
    assert close(together, [[crop[part][0] for crop in one_by_one] for part in range(3)])
    assert close(run(pipe, crops, num_inference_steps=2, batch_size=3), together)
    forwards, backwards = (
        run(pipe, order, num_inference_steps=2, generator=seeded(1)) for order in (crops, crops[::-1])
    )
    assert close(forwards, [part[::-1] for part in backwards]) and not close(forwards[:1], together[:1], 1e-3)
    refined = pipe.refine(crops, 2, output_type="pt").images
    assert close([refined], [[pipe.refine(crop, 2, output_type="pt").images[0] for crop in crops]])


def test_temperature_is_how_much_noise_there_is(pipe, tmp_path):
    def sampled(pipe, temperature=None, seed=0, method="__call__"):
        generator = torch.Generator().manual_seed(seed)
        return getattr(pipe, method)(CROP, generator=generator, output_type="pt", temperature=temperature).images[0]

    for method in ("__call__", "refine"):
        still, warm, hot = (sampled(pipe, t, method=method) for t in (0.0, 0.3, 1.0))
        assert torch.equal(still, sampled(pipe, 0.0, seed=1, method=method))
        assert 0 < (warm - still).abs().mean() < (hot - still).abs().mean()
        assert torch.equal(hot, sampled(pipe, method=method)) and not torch.equal(hot, sampled(pipe, 1.0, 1, method))
    cold = TextDiffPipeline(**pipe.components, temperature=0.0)
    cold.save_pretrained(tmp_path)
    # not to the bit: a loaded weight of one pixel may lie otherwise in memory, and is added up in another order
    torch.testing.assert_close(
        sampled(TextDiffPipeline.from_pretrained(tmp_path)), sampled(pipe, 0.0), atol=1e-5, rtol=0
    )
    with pytest.raises(ValueError, match="temperature must be from 0 to 1, got 1.5"):
        pipe(CROP, temperature=1.5)
    with pytest.raises(ValueError, match="temperature must be from 0 to 1, got -1"):
        TextDiffPipeline(**pipe.components, temperature=-1)


def test_strength_is_the_share_of_what_is_added(pipe, tmp_path):
    for method, start in (("__call__", upsample(CROP, 2)[0]), ("refine", CROP[0])):
        make = getattr(pipe, method)
        whole, half = (make(CROP, output_type="pt", strength=s).images[0] for s in (None, 0.5))
        unclipped = ((whole > 0) & (whole < 1) & (half > 0) & (half < 1)).all(0)
        assert unclipped.float().mean() > 0.1 and (whole - start).abs().mean() > 1e-3
        torch.testing.assert_close((half - start)[:, unclipped], (whole - start)[:, unclipped] / 2, atol=1e-5, rtol=0)
    soft = TextDiffPipeline(**pipe.components, strength=0.5)
    soft.save_pretrained(tmp_path)
    again = TextDiffPipeline.from_pretrained(tmp_path)
    images = [p(CROP, output_type="pt", **o).images[0] for p, o in ((again, {}), (pipe, {"strength": 0.5}))]
    torch.testing.assert_close(*images, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="strength must be from 0 to 1, got 1.5"):
        pipe(CROP, strength=1.5)
    with pytest.raises(ValueError, match="strength must be from 0 to 1, got -1"):
        TextDiffPipeline(**pipe.components, strength=-1)


def test_residual_strength_is_the_share_of_the_diffusion(pipe, tmp_path):
    whole = pipe(CROP, output_type="pt")
    image, coarse = whole.images[0], whole.coarse_images[0]
    none, half = (pipe(CROP, output_type="pt", residual_strength=s).images[0] for s in (0.0, 0.5))
    torch.testing.assert_close(none, coarse, atol=1e-5, rtol=0)
    unclipped = ((image > 0) & (image < 1) & (coarse > 0) & (coarse < 1)).all(0)
    assert unclipped.float().mean() > 0.1 and (image - coarse).abs().mean() > 1e-3
    torch.testing.assert_close(half[:, unclipped], (image + coarse)[:, unclipped] / 2, atol=1e-5, rtol=0)
    TextDiffPipeline(**pipe.components, residual_strength=0.5).save_pretrained(tmp_path)
    again = TextDiffPipeline.from_pretrained(tmp_path)
    torch.testing.assert_close(again(CROP, output_type="pt").images[0], half, atol=1e-5, rtol=0)
    sharpened = [pipe.refine(CROP, output_type="pt", strength=s).images[0] for s in (0.5, 0.25)]
    torch.testing.assert_close(again.refine(CROP, output_type="pt").images[0], sharpened[0], atol=1e-5, rtol=0)
    half_of_half = pipe.refine(CROP, output_type="pt", strength=0.5, residual_strength=0.5).images[0]
    torch.testing.assert_close(half_of_half, sharpened[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="residual_strength must be from 0 to 1, got 1.5"):
        pipe(CROP, residual_strength=1.5)


def test_noise_comes_from_the_generators(pipe):
    pair = [CROP, CROP]
    default, again = run(pipe, pair), run(pipe, pair)
    assert close(default, again, 0) and close([default[0][:1]], [default[0][1:]], 1e-5), "a fixed seed for all"
    generator = seeded(1)
    first, second = run(pipe, pair, generator=generator), run(pipe, pair, generator=generator)
    assert close(first, run(pipe, pair, generator=seeded(1)), 0)
    assert not close(first[:1], second[:1], 1e-3) and not close(first[:1], default[:1], 1e-3)
    assert close(first[1:], second[1:], 0), "TEM draws no noise"
    images, *_ = run(pipe, pair, generator=[seeded(1), seeded(2)])
    assert close([images[:1]], [first[0][:1]], 1e-6) and not torch.allclose(images[0], images[1], atol=1e-3)
    state = torch.random.get_rng_state()
    run(pipe)
    assert torch.equal(torch.random.get_rng_state(), state), "never from the global one"


def test_steps_matter(pipe):
    images = [run(pipe, num_inference_steps=steps)[0][0] for steps in (1, 5, 20)]
    assert all((one - other).abs().mean() > 1e-4 for one, other in zip(images, images[1:], strict=False))


def test_vertical_lines_are_turned(pipe):
    line = tiny.photo(64, 16)
    turned = run(pipe, line.rot90(-1, dims=(2, 3)))
    assert close(turned, [[part[0].rot90(-1, dims=(1, 2))] for part in run(pipe, line)], 1e-6)


# ---- the cascade


def test_refining_the_coarse_image_is_the_whole_model(pipe):
    """As in the paper: MRD stands behind TEM or behind any other method."""
    sr, mask, _ = pipe.network.enhance(CROP)
    coarse = sr.clamp(0, 1)
    refined = pipe.refine(coarse, masks=mask, output_type="pt")
    torch.testing.assert_close(refined.images[0], pipe.network.refine(coarse, mask, 5, seeded(0))[0].clamp(0, 1))
    torch.testing.assert_close(refined.text_masks[0], mask[0])
    assert refined.coarse_images is None


def test_the_mask_comes_from_the_image_reduced_by_two(pipe):
    image = tiny.photo(128, 32)
    refined = pipe.refine(image, output_type="pt")
    lr = torch.nn.functional.interpolate(image, (16, 64), mode="bicubic", antialias=True).clamp(0, 1)
    mask = pipe.network.enhance(lr)[1]
    torch.testing.assert_close(refined.text_masks[0], mask[0])
    given = pipe.refine(image, masks=mask[0], output_type="pt")
    torch.testing.assert_close(given.images[0], refined.images[0])
    inverse = pipe.refine(image, masks=1 - mask[0], output_type="pt")
    assert (inverse.images[0] - refined.images[0]).abs().mean() > 1e-4, "the mask matters"


def test_masks_of_every_kind(pipe):
    image = tiny.photo(60, 20)
    mask = tiny.photo(60, 20, seed=1)[0, :1]
    array = mask[0].numpy()
    expected = pipe.refine(image, masks=mask, output_type="pt").images
    picture = Image.fromarray(np.rint(array * 255).astype(np.uint8))
    for kind in (mask[None], [mask], array, [array], array[None], picture):
        assert close([pipe.refine(image, masks=kind, output_type="pt").images], [expected])
    batch = pipe.refine(image.repeat(2, 1, 1, 1), masks=mask.repeat(2, 1, 1, 1), output_type="pt").images
    assert close([batch], [[*expected, *expected]])


def test_what_is_not_changed_stays_bit_identical(pipe):
    """An untrained U-Net changes nothing, whatever the crop is cut into and resized to."""
    idle = tiny_textdiff.textdiff()
    torch.nn.init.zeros_(idle.residual.conv_out[2].weight)
    torch.nn.init.zeros_(idle.residual.conv_out[2].bias)
    for size in SIZES:
        crop = tiny.photo(*size)
        assert torch.equal(idle.refine(crop, 1, output_type="pt").images[0], crop[0])


# ---- without a mask branch, and other ablations


def test_without_masks(plain):
    images, masks, coarse = run(plain, [CROP, tiny.photo(9, 30)])
    assert masks is None and images[0].shape == coarse[0].shape == (3, 32, 128)
    refined = plain.refine(CROP)
    assert refined.text_masks is None and refined.images[0].size == (64, 16)
    with pytest.raises(ValueError, match="trained without text masks and reads none"):
        plain.refine(CROP, masks=CROP[:, :1])


def test_noise_prediction_and_direct_residuals():
    noise = tiny_textdiff.textdiff(prediction_type="epsilon")
    sr, mask, _ = noise.network.enhance(CROP)
    torch.testing.assert_close(run(noise)[0][0], noise.network.refine(sr, mask, 5, [seeded(0)])[0].clamp(0, 1))
    direct = tiny_textdiff.textdiff(diffusion=False)
    assert close(run(direct, generator=seeded(1)), run(direct, generator=seeded(2)), 0), "no noise"
    assert (run(direct)[0][0] - run(direct)[2][0]).abs().mean() > 1e-3


# ---- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": []}, "at least one image"),
        ({"image": torch.zeros(0, 3, 16, 64)}, "Expected a tensor"),
        ({"image": torch.zeros(3, 16, 0)}, "Expected a tensor"),
        ({"image": CROP * 2}, r"values in \[0, 1\]"),
        ({"image": CROP - 0.5}, r"values in \[0, 1\]"),
        ({"image": CROP * float("nan")}, r"values in \[0, 1\]"),
        ({"image": torch.cat([CROP, CROP[:, :2]], 1)}, "Expected a tensor"),
        ({"image": np.zeros((3, 16, 64), np.uint8)}, "its channels come first"),
        ({"image": np.zeros((16, 64, 3), np.uint16)}, "got uint16"),
        ({"num_inference_steps": 0}, "num_inference_steps must be an integer from 1 to 200, got 0"),
        ({"num_inference_steps": 201}, "num_inference_steps must be an integer from 1 to 200, got 201"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be an integer"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1"),
        ({"output_type": "latent"}, "output_type must be"),
        ({"generator": [seeded(0), seeded(1)]}, "one for each of 1 crops, got a list of 2"),
    ],
)
def test_wrong_arguments(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**{"image": CROP, **arguments})
    arguments["images"] = arguments.pop("image", CROP)
    with pytest.raises(ValueError, match=message):
        pipe.refine(**arguments)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (CROP[..., 1:], "of its size"),
        ([CROP[0, :1]] * 2, "for each image"),
        (CROP[:, :1] * 3, r"values in \[0, 1\]"),
        ([], "at least one image"),
        (np.ones((16, 64), bool), "got bool: multiply by 255"),
    ],
)
def test_wrong_masks(pipe, masks, message):
    with pytest.raises(ValueError, match=message):
        pipe.refine(CROP, masks=masks)


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_lines_are_laid_on_the_ground_that_shows_them(pipe, ink):
    alpha = np.random.default_rng(0).integers(0, 2, (16, 64), np.uint8) * 255
    image = np.dstack([np.full((16, 64, 3), ink, np.uint8), alpha])
    seen = np.repeat((255 - alpha if ink == 0 else alpha)[..., None], 3, 2)
    assert close(run(pipe, image), run(pipe, seen)) and close(run(pipe, Image.fromarray(image)), run(pipe, seen))
    assert run(pipe, image)[0][0].shape == (3, 32, 128)


def test_wrong_types(pipe):
    with pytest.raises(TypeError, match="got str"):
        pipe("line.png")
    with pytest.raises(TypeError, match="got int"):
        pipe(CROP, generator=0)


def test_components_that_do_not_fit():
    parts = dict(tiny_textdiff.textdiff().components)
    with pytest.raises(ValueError, match="has 11 classes, the enhancement module expects 37"):
        TextDiffPipeline(**{**parts, "prior": tiny_textdiff.recognizer(num_classes=11)})
    with pytest.raises(ValueError, match="reads a mask, but the enhancement module has no mask branch"):
        TextDiffPipeline(**{**parts, "enhancement": tiny_textdiff.enhancement(mask_branch=False)})
    for crop_size in ((64, 16), (16, 16), (0, 4), (16,)):
        with pytest.raises(ValueError, match="crop_size must be a height and a greater width"):
            TextDiffPipeline(**parts, crop_size=crop_size)


@pytest.mark.parametrize("name", ["enhancement", "prior", "residual"])
def test_training_mode_is_refused(name):
    pipe = tiny_textdiff.textdiff()
    getattr(pipe, name).train()
    with pytest.raises(ValueError, match=f"{name} is in training mode"):
        pipe(CROP)


# ---- files


@pytest.mark.parametrize("mask", [True, False])
def test_round_trip(mask, tmp_path):
    pipe = tiny_textdiff.textdiff(mask=mask, corrected=True)
    pipe.register_to_config(crop_size=[8, 32])
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.rglob("*.bin")) and len(list(tmp_path.rglob("*.safetensors"))) == 3
    again = TextDiffPipeline.from_pretrained(str(tmp_path))
    assert type(again) is TextDiffPipeline and again.config.crop_size == [8, 32]
    assert torch.equal(again.scheduler.betas, pipe.scheduler.betas)
    crops = [CROP, tiny.photo(100, 9)]
    for one, other in zip(run(again, crops), run(pipe, crops), strict=True):
        assert (one is other is None) or close([one], [other], 1e-5)


def test_half_precision(pipe, tmp_path):
    pipe.to(torch.float16).save_pretrained(tmp_path / "half")
    pipe.to(torch.float32)
    assert TextDiffPipeline.from_pretrained(tmp_path / "half").enhancement.dtype == torch.float32
    half = TextDiffPipeline.from_pretrained(tmp_path / "half", torch_dtype=torch.bfloat16)  # dtype's older name
    assert {half.enhancement.dtype, half.prior.dtype, half.residual.dtype} == {torch.bfloat16}
    for name, weight in half.enhancement.named_parameters():
        assert weight.dtype == (torch.float32 if ".gru." in name else torch.bfloat16), name
    for one, other in zip(run(half), run(pipe), strict=True):
        assert one[0].dtype == torch.float32 and (one[0] - other[0]).abs().mean() < 0.03
    refined = half.refine(CROP, output_type="pt").images[0]
    assert (refined - pipe.refine(CROP, output_type="pt").images[0]).abs().mean() < 0.03


def test_folders_that_hold_no_model(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds neither a pipeline .* nor an adapter"):
        TextDiffPipeline.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="No model missing"):
        TextDiffPipeline.from_pretrained("missing")
    with pytest.raises(ValueError, match="holds a TADiSRPipeline, not a TextDiffPipeline"):
        TextDiffPipeline.from_pretrained("tadisr-tiny")


def test_a_checkpoint_whose_mask_branch_is_gone(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    path = tmp_path / "enhancement" / "diffusion_pytorch_model.safetensors"
    weights = {name: value for name, value in load_file(path).items() if not name.startswith("mask.")}
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="enhancement are incomplete .*: mask.0.weight is missing; .*; and .* more"):
        TextDiffPipeline.from_pretrained(tmp_path)
    config = tmp_path / "enhancement" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "mask_branch": False}))
    with pytest.raises(ValueError, match="reads a mask, but the enhancement module has no mask branch"):
        TextDiffPipeline.from_pretrained(tmp_path)


def test_another_alphabet_in_a_checkpoint(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    tiny_textdiff.recognizer(num_classes=11).save_pretrained(tmp_path / "prior")
    with pytest.raises(ValueError, match="has 11 classes, the enhancement module expects 37"):
        TextDiffPipeline.from_pretrained(tmp_path)


HUB = """
import json, sys, torch
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
local = TextDiffPipeline.from_pretrained(sys.argv[1])
local.push_to_hub("tester/textdiff")
remote = TextDiffPipeline.from_pretrained("tester/textdiff")
crop = torch.linspace(0, 1, 3 * 16 * 64).reshape(3, 16, 64)
images = [pipe(crop, output_type="pt").images[0] for pipe in (local, remote)]
print(json.dumps([torch.equal(*images), type(remote).__name__]))
"""


def test_to_the_hub_and_back(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "model")
    with HubServer(tmp_path / "hub") as server:
        printed = server.run(HUB, tmp_path / "model").splitlines()[-1]
    assert json.loads(printed) == [True, "TextDiffPipeline"]


def test_other_offloading_is_refused():
    pipe = tiny_textdiff.textdiff()
    for offload in (pipe.enable_sequential_cpu_offload, pipe.enable_group_offload):
        with pytest.raises(ValueError, match=r"not offloaded part by part: use pipe.to\(DEVICE\)"):
            offload(torch.device("cpu"))


def test_model_offload_moves_each_model_before_it_runs():
    """With the CPU as the accelerator, the hooks run as they would with a GPU."""
    pipe = tiny_textdiff.textdiff()
    expected = run(pipe)
    pipe.enable_model_cpu_offload(device="cpu")
    arrivals = []
    for name in ("prior", "enhancement", "residual"):
        hook = getattr(pipe, name)._hf_hook
        before = hook.pre_forward

        def pre_forward(module, *args, name=name, before=before, **kwargs):
            arrivals.append(name)
            return before(module, *args, **kwargs)

        hook.pre_forward = pre_forward
    assert close(run(pipe, num_inference_steps=5), expected, 0)
    assert [name for name, _ in groupby(arrivals)] == ["prior", "enhancement", "residual"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_on_a_gpu():
    pipe = tiny_textdiff.textdiff()
    crops = [tiny.photo(*size) for size in SIZES]
    expected = run(pipe, crops)
    assert close(run(pipe.to("cuda"), crops), expected, 0.02)


def test_values_that_overflow_are_an_error(pipe):
    broken = copy.deepcopy(pipe)
    with torch.no_grad():
        next(iter(broken.enhancement.parameters())).fill_(3e38)
    with pytest.raises(FloatingPointError, match="gives values that are not finite, in float32 too"):
        run(broken)
