"""TextDiff's sampling and whole: known answers, independent references, every option, every error."""

import pytest
import torch
import torch.nn.functional as F

from helpers.textdiff_parts import noise, prior, tiny_crnn, tiny_network, tiny_tem, tiny_unet, wake
from tadisr.models.textdiff.network import TextDiffNetwork, clean_residual, textdiff_scheduler

# ---- the schedule and sampling


def alpha_bars(first, last):
    return torch.cumprod(1 - torch.linspace(first, last, 200, dtype=torch.float64), 0)


def test_the_published_and_the_corrected_schedule():
    published, corrected = textdiff_scheduler(), textdiff_scheduler(corrected=True)
    assert torch.allclose(published.alphas_cumprod.double(), alpha_bars(1e-6, 1e-2), rtol=1e-4)
    assert torch.allclose(corrected.alphas_cumprod.double(), alpha_bars(5e-6, 5e-2), rtol=1e-4)
    assert published.alphas_cumprod[-1].item() == pytest.approx(0.367, abs=5e-4)
    assert corrected.alphas_cumprod[-1].item() == pytest.approx(0.0062, abs=5e-5)
    for scheduler in (published, corrected):
        config = scheduler.config
        assert (config.prediction_type, config.clip_sample, config.set_alpha_to_one) == ("sample", False, True)
        for steps in (1, 5, 20, 50, 110, 200):
            scheduler.set_timesteps(steps)
            assert scheduler.timesteps[0] == 199


def refine(unet, scheduler, *arguments):
    return TextDiffNetwork(tiny_tem(), tiny_crnn(), unet, scheduler).refine(*arguments)


def sample_by_eq_9(unet, image, mask, timesteps, seed):
    """Algorithm 2, in float64 but for the network, for `timesteps` from 199 down."""
    alpha_bar = alpha_bars(1e-6, 1e-2).tolist()
    x = noise(*image.shape, seed=seed).double()
    for i, t in enumerate(timesteps):
        x0 = unet(x.float(), t, image, mask).double()
        previous = alpha_bar[timesteps[i + 1]] if i + 1 < len(timesteps) else 1.0
        x = previous**0.5 * x0 + (1 - previous) ** 0.5 * (x - alpha_bar[t] ** 0.5 * x0) / (1 - alpha_bar[t]) ** 0.5
    return image + x


@pytest.mark.parametrize(
    ("steps", "timesteps"),
    [
        (1, [199]),
        (5, [199, 159, 119, 79, 39]),
        (7, [199, 170, 142, 113, 85, 56, 28]),  # 200 is not a multiple of 7
        (200, list(range(199, -1, -1))),
    ],
)
@torch.no_grad()
def test_refine_is_eq_9(steps, timesteps):
    unet = wake(tiny_unet()).eval()
    image, mask = noise(1, 3, 4, 8, seed=1).sigmoid(), noise(1, 1, 4, 8, seed=2).sigmoid()
    got = refine(unet, textdiff_scheduler(), image, mask, steps, torch.Generator().manual_seed(3))
    expected = sample_by_eq_9(unet, image, mask, timesteps, seed=3)
    assert torch.allclose(got.double(), expected, atol=1e-3)
    assert not torch.allclose(got, image, atol=1e-2)


@pytest.mark.parametrize(
    ("prediction_type", "eta"), [("sample", 0.0), ("sample", 1.0), ("epsilon", 0.0), ("epsilon", 1.0)]
)
@torch.no_grad()
def test_refine_is_ddim_where_the_steps_divide_t(prediction_type, eta):
    unet, scheduler = wake(tiny_unet()).eval(), textdiff_scheduler(corrected=True, prediction_type=prediction_type)
    image, mask = noise(2, 3, 4, 8, seed=1).sigmoid(), noise(2, 1, 4, 8, seed=2).sigmoid()
    got = refine(unet, scheduler, image, mask, 5, torch.Generator().manual_seed(3), eta)
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(image.shape, generator=generator)
    scheduler.set_timesteps(5)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t, image, mask), t, x, eta=eta, generator=generator).prev_sample
    assert torch.allclose(got, image + x, atol=1e-4)


@pytest.mark.parametrize("steps", [29, 110, 200])  # diffusers' rounding gives 30 timesteps for 29
@torch.no_grad()
def test_refine_calls_the_unet_once_a_step(steps):
    unet, seen = tiny_unet().eval(), []
    unet.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    image = noise(1, 3, 2, 2).sigmoid()
    refine(unet, textdiff_scheduler(), image, image[:, :1], steps)
    assert len(seen) == steps and seen[0] == 199 and sorted(set(seen), reverse=True) == seen and seen[-1] >= 0


@torch.no_grad()
def test_noise_prediction_samples_stochastically_by_default():
    image, mask = noise(1, 3, 4, 8).sigmoid(), noise(1, 1, 4, 8).sigmoid()
    unet = wake(tiny_unet()).eval()
    for kind, eta in (("epsilon", 1.0), ("sample", 0.0)):
        scheduler = textdiff_scheduler(prediction_type=kind)
        default, named = (
            refine(unet, scheduler, image, mask, 5, torch.Generator().manual_seed(0), choice) for choice in (None, eta)
        )
        assert torch.equal(default, named)


@torch.no_grad()
def test_refining_is_repeatable_image_by_image():
    network = tiny_network(trained=True)
    images, masks = noise(2, 3, 5, 9).sigmoid(), noise(2, 1, 5, 9).sigmoid()
    together = network.refine(images, masks, 3, [torch.Generator().manual_seed(seed) for seed in (4, 5)])
    alone = network.refine(images[1:], masks[1:], 3, torch.Generator().manual_seed(5))
    assert torch.allclose(together[1:], alone, atol=1e-5)
    other = network.refine(images[1:], masks[1:], 3, torch.Generator().manual_seed(6))
    assert not torch.allclose(alone, other, atol=1e-4)


@torch.no_grad()
def test_an_untrained_mrd_changes_nothing():
    images = noise(2, 3, 6, 10).sigmoid()
    assert torch.allclose(tiny_network().refine(images, images[:, :1]), images, atol=1e-6)


def test_noise_and_residual_convert_into_each_other():
    scheduler, residual, z = (
        textdiff_scheduler(prediction_type="epsilon"),
        noise(4, 3, 2, 2) / 8,
        noise(4, 3, 2, 2, seed=1),
    )
    timesteps = torch.tensor([0, 50, 120, 199])
    noisy = scheduler.add_noise(residual, z, timesteps)
    assert torch.allclose(clean_residual(scheduler, z, noisy, timesteps), residual, atol=1e-5)
    scheduler.register_to_config(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="'sample' or 'epsilon', not 'v_prediction'"):
        clean_residual(scheduler, z, noisy, timesteps)


@pytest.mark.parametrize("steps", [0, 201])
def test_refine_refuses_step_counts_outside_the_schedule(steps):
    image = torch.zeros(1, 3, 4, 4)
    with pytest.raises(ValueError, match=f"Expected 1 to 200 sampling steps, got num_inference_steps={steps}"):
        refine(tiny_unet(), textdiff_scheduler(), image, image[:, :1], steps)


# ---- the network


def unet_inputs(network, lr, hr, seed=0):
    """What the U-Net is called with in one training forward, and what comes out of it."""
    seen = []
    handle = network.unet.register_forward_pre_hook(lambda module, args: seen.append(args))
    output = network(lr, hr, torch.Generator().manual_seed(seed))
    handle.remove()
    return seen[0], output


@pytest.fixture
def pair():
    return noise(3, 3, 4, 12).sigmoid(), noise(3, 3, 8, 24, seed=1).sigmoid()


def test_training_forward_is_algorithm_1(pair):
    network = tiny_network(trained=True)
    lr, hr = pair
    (noisy, timesteps, sr, mask), output = unet_inputs(network, lr, hr)
    coarse, mask_probability, text = network.enhance(lr)
    assert torch.allclose(output.sr, coarse, atol=1e-6) and torch.equal(sr, output.sr)
    assert torch.allclose(mask, mask_probability, atol=1e-6) and torch.allclose(output.prior, text)
    assert torch.allclose(text.sum(-1), torch.ones(3, 26))
    assert torch.allclose(output.residual, hr - output.sr)
    assert output.target is output.residual and output.prediction is output.predicted_residual
    alpha_bar = alpha_bars(1e-6, 1e-2).float()[timesteps].view(3, 1, 1, 1)
    z = (noisy - alpha_bar.sqrt() * output.residual) / (1 - alpha_bar).sqrt()  # Eq. 7 solved for the noise
    assert z.mean().abs() < 0.1 and abs(z.std() - 1) < 0.1
    again = network(lr, hr, torch.Generator().manual_seed(0))
    assert torch.equal(again.prediction, output.prediction)


def test_timesteps_are_spread_over_the_whole_schedule():
    lr, hr = torch.zeros(400, 3, 1, 1), torch.zeros(400, 3, 2, 2)
    (_, timesteps, _, _), _ = unet_inputs(tiny_network(), lr, hr)
    counts = torch.histc(timesteps.float(), bins=4, min=0, max=200)
    assert timesteps.min() >= 0 and timesteps.max() <= 199 and timesteps.max() > 190 and timesteps.min() < 10
    assert ((counts > 60) & (counts < 140)).all()


@pytest.mark.parametrize("diffusion", [True, False])
def test_first_estimate_is_what_one_step_without_noise_adds(pair, diffusion):
    network = tiny_network(trained=True, diffusion=diffusion).eval()
    output = network(*pair, torch.Generator().manual_seed(0), first_lines=1)
    mask = output.mask_logits.sigmoid()
    whole = network.refine(output.sr.detach(), mask.detach(), 1, temperature=0.0)
    assert output.first_estimate.shape == (1, *output.sr.shape[1:])
    torch.testing.assert_close(output.sr[:1] + output.first_estimate, whole[:1])
    assert network(*pair).first_estimate is None


def test_foreign_lines_are_sharpened_from_between_tem_and_bicubic(pair):
    network, (lr, hr) = tiny_network(trained=True).eval(), pair
    output = network(lr, hr, torch.Generator().manual_seed(3), first_lines=3, foreign=1.0)
    assert torch.equal(output.sr, network(lr, hr).sr)
    way = torch.nn.functional.interpolate(lr, (8, 24), mode="bicubic", antialias=True) - output.sr
    moved = output.sharpened - output.sr
    weight = (moved * way).sum((1, 2, 3)) / way.square().sum((1, 2, 3))
    torch.testing.assert_close(moved, weight[:, None, None, None] * way)
    assert ((weight > 0) & (weight < 1)).all() and weight.std() > 0.05
    assert torch.equal(output.residual, hr - output.sharpened)
    mask = output.mask_logits.sigmoid().detach()
    whole = network.refine(output.sharpened.detach(), mask, 1, temperature=0.0)
    torch.testing.assert_close(output.sharpened + output.first_estimate, whole)
    many = network(lr[:1].expand(400, 3, 4, 12), hr[:1].expand(400, 3, 8, 24), foreign=0.3)
    assert 80 < (many.sharpened != many.sr).flatten(1).any(1).sum() < 160


@pytest.mark.parametrize("detach", [False, True])
def test_detached_conditions_carry_no_gradient_into_tem(pair, detach):
    network = tiny_network(trained=True, detach_condition=detach)
    (_, _, sr, mask), output = unet_inputs(network, *pair)
    assert sr.requires_grad != detach and mask.requires_grad != detach
    assert torch.equal(sr, output.sr)
    (output.prediction - output.target).square().mean().backward()
    assert network.enhancement.to_image[2].weight.grad.abs().sum() > 0  # hr - sr still depends on TEM
    mask_weight = network.enhancement.mask[0].weight.grad
    assert mask_weight is None if detach else mask_weight.abs().sum() > 0


def test_ablation_noise_prediction(pair):
    network = tiny_network(prediction_type="epsilon", trained=True)
    (noisy, timesteps, _, _), output = unet_inputs(network, *pair)
    alpha_bar = alpha_bars(1e-6, 1e-2).float()[timesteps].view(3, 1, 1, 1)
    expected = alpha_bar.sqrt() * output.residual + (1 - alpha_bar).sqrt() * output.target
    assert torch.allclose(noisy, expected, atol=1e-5)  # the target is the noise that was added
    estimate = (noisy - (1 - alpha_bar).sqrt() * output.prediction) / alpha_bar.sqrt()
    assert torch.allclose(output.predicted_residual, estimate, atol=1e-4)
    assert network.refine(*(x.detach() for x in network.enhance(pair[0])[:2]), 3).shape == pair[1].shape


def test_ablation_without_a_mask(pair):
    network = tiny_network(mask=False, trained=True)
    (_, _, _, mask), output = unet_inputs(network, *pair)
    assert mask is None and output.mask_logits is None
    sr, mask, _ = network.enhance(pair[0])
    assert mask is None
    assert torch.equal(
        network.refine(sr, None, 2, torch.Generator().manual_seed(0)),
        network.refine(sr, sr[:, :1], 2, torch.Generator().manual_seed(0)),  # a mask that is not read is not missed
    )


def test_ablation_a_plain_unet(pair):
    network = tiny_network(diffusion=False, trained=True)
    (noisy, timestep, sr, mask), output = unet_inputs(network, *pair)
    assert noisy.abs().max() == 0 and timestep == 0
    assert torch.allclose(output.target, pair[1] - output.sr)
    with torch.no_grad():
        refined = network.refine(sr, mask, 5)
        assert torch.equal(refined, network.refine(sr, mask, 1))  # one pass, no noise
        assert torch.allclose(refined, sr + output.prediction, atol=1e-6)


def test_a_few_steps_of_training_learn():
    network, lr = tiny_network().train(), noise(2, 3, 4, 8).sigmoid()
    hr = F.interpolate(lr, scale_factor=2, mode="nearest")
    optimizer = torch.optim.AdamW([*network.unet.parameters(), *network.enhancement.parameters()], 1e-2)
    generator, errors = torch.Generator().manual_seed(0), []
    for _ in range(20):
        output = network(lr, hr, generator)
        final = (output.sr + output.predicted_residual - hr).square().mean()
        optimizer.zero_grad()
        final.backward()
        optimizer.step()
        errors.append(final.item())
    assert sum(errors[-4:]) < 0.5 * sum(errors[:4])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_whole_runs_in_half_precision(pair, dtype):
    full = tiny_network(trained=True)
    sr, mask, text = full.enhance(pair[0])
    final = full.refine(sr, mask, 3, torch.Generator().manual_seed(0))
    half = full.to(dtype)
    sr_half, mask_half, text_half = half.enhance(pair[0].to(dtype))
    final_half = half.refine(sr_half, mask_half, 3, torch.Generator().manual_seed(0))
    assert sr_half.dtype == dtype and text_half.dtype == final_half.dtype == torch.float32
    for got, expected in ((sr_half, sr), (mask_half, mask), (text_half, text), (final_half, final)):
        assert (got.float() - expected).abs().mean() < 0.03
    assert half.recognizer.prepare(torch.zeros(1, 3, 80, 300, dtype=dtype)).dtype == dtype


def test_modules_that_do_not_fit_are_refused(pair):
    with pytest.raises(ValueError, match="no mask branch"):
        TextDiffNetwork(tiny_tem(mask_branch=False), tiny_crnn(), tiny_unet(), textdiff_scheduler())
    with pytest.raises(ValueError, match="recogniser has 63 classes, the enhancement module expects 37"):
        TextDiffNetwork(tiny_tem(), tiny_crnn(num_classes=63), tiny_unet(), textdiff_scheduler())
    with pytest.raises(ValueError, match=r"Expected HR images \(3, 3, 8, 24\)"):
        tiny_network()(pair[0], pair[0])


@pytest.mark.parametrize("build", [tiny_crnn, tiny_tem, tiny_unet])
def test_save_and_load_round_trip(tmp_path, build):
    model = wake(build()).eval()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = type(model).from_pretrained(tmp_path)
    assert {k: v for k, v in loaded.config.items() if k[0] != "_"} == {
        k: list(v) if isinstance(v, tuple) else v for k, v in model.config.items() if k[0] != "_"
    }
    image = noise(1, 3, 6, 10).sigmoid()
    call = {
        tiny_crnn: lambda m: m(m.prepare(image)),
        tiny_tem: lambda m: torch.cat(m(image, prior(1)), 1),
        tiny_unet: lambda m: m(image, 7, image, image[:, :1]),
    }[build]
    torch.testing.assert_close(call(loaded), call(model), atol=1e-5, rtol=1e-5)  # weights may lie otherwise in memory
    low = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert low.dtype == torch.bfloat16
