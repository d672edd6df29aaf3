"""TextDiff's losses against numbers worked out by hand and against the papers' formulas."""

import math
from dataclasses import replace

import pytest
import torch

from helpers.textdiff_parts import noise, tiny_crnn, tiny_network
from tadisr.models.textdiff.network import TextDiffPrediction
from tadisr.models.textdiff.objective import (
    TextDiffLossWeights,
    edge_loss,
    gradient_magnitude,
    gradient_profile_loss,
    joint_loss,
    laplacian,
    mask_dice_loss,
    text_prior_loss,
    textdiff_loss,
)


@pytest.fixture
def recognizer():
    return tiny_crnn().eval().requires_grad_(False)


@pytest.fixture
def output():
    sr, residual, target = (noise(2, 3, 8, 16, seed=seed) / 4 for seed in range(3))
    prior = noise(2, 26, 37, seed=3).softmax(-1)
    return TextDiffPrediction(
        sr, noise(2, 1, 8, 16, seed=4), prior, target + 0.5, target, residual, residual + target / 4
    )


@pytest.fixture
def truth():
    return noise(2, 3, 8, 16, seed=5).sigmoid(), (noise(2, 1, 8, 16, seed=6) > 0).float()


def test_gradient_magnitude_of_a_small_image():
    image = torch.tensor([[[[0.0, 1.0, 4.0], [2.0, 3.0, 7.0], [5.0, 5.0, 5.0]]]])
    magnitude = gradient_magnitude(image)[0, 0]
    assert magnitude[1, 1].item() == pytest.approx(math.hypot((7 - 2) / 2, (5 - 1) / 2), abs=1e-5)
    assert magnitude[0, 0].item() == pytest.approx(math.hypot((1 - 0) / 2, (2 - 0) / 2), abs=1e-5)  # black outside
    assert gradient_magnitude(torch.zeros(1, 1, 2, 2)).flatten().tolist() == pytest.approx([1e-3] * 4)


def test_gradient_profile_loss_by_hand():
    step = torch.zeros(1, 1, 1, 4)
    step[..., 2:] = 1  # differences across: 0, 1/2, 1/2, and -1/2 at the black border; down: none
    expected = 3 / 4 * (math.sqrt(0.25 + 1e-6) - 1e-3)
    assert gradient_profile_loss(torch.zeros_like(step), step).item() == pytest.approx(expected)
    assert gradient_profile_loss(step, step) == 0


def test_mask_dice_loss_is_eq_2_and_3():
    predicted = torch.tensor([0.5, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    target = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    assert mask_dice_loss(predicted, target).item() == pytest.approx(1 - 2 * 1.5 / (1.25 + 2), abs=1e-6)
    both = mask_dice_loss(torch.cat([predicted, target]), torch.cat([target, target]))
    assert both.item() == pytest.approx((1 - 3 / 3.25) / 2, abs=1e-6)  # per image, then averaged
    assert mask_dice_loss(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 0


def test_text_prior_loss_by_hand():
    prior, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.75, 0.25]]])
    expected = 0.25 + (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)) / 2
    assert text_prior_loss(prior, target).item() == pytest.approx(expected)
    certain = torch.tensor([[[1.0, 0.0]]])
    assert text_prior_loss(certain, certain) == 0
    assert text_prior_loss(torch.tensor([[[0.0, 1.0]]]), certain).isfinite()  # the read character had no probability


def test_laplacian_and_edge_loss_by_hand():
    dot = torch.zeros(1, 2, 3, 3)
    dot[:, 1, 1, 1] = 1
    assert laplacian(dot)[0, 1].tolist() == [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]]
    assert laplacian(dot)[0, 0].abs().sum() == 0  # channels do not mix
    assert laplacian(torch.full((1, 3, 4, 5), 0.7)).abs().max() < 1e-5  # also at the borders
    assert edge_loss(dot, torch.zeros_like(dot)).item() == pytest.approx((8 + 64) / 18)


def test_joint_loss_sums_the_layers_means():
    zeros = [torch.zeros(1, 2, 2, 2), torch.zeros(1, 4, 1, 1)]
    assert joint_loss([zeros[0] + 0.5, zeros[1] - 2], zeros).item() == pytest.approx(2.5)


def test_default_weights_are_the_papers_and_terms_add_up(output, truth, recognizer):
    hr, mask = truth
    weights = TextDiffLossWeights()
    assert (weights.gradient, weights.mask, weights.joint, weights.diffusion, weights.edge) == (0.5, 3, 5, 1, 1)
    assert (weights.text_prior, weights.pixel) == (100, 0)
    terms = textdiff_loss(output, hr, mask, weights, recognizer)

    def features(image):
        return recognizer.features(recognizer.prepare(image))

    wanted = recognizer(recognizer.prepare(hr)).softmax(-1)
    expected = {
        "gradient": 0.5 * gradient_profile_loss(output.sr, hr),
        "mask": 3 * mask_dice_loss(output.mask_logits.sigmoid(), mask),
        "text_prior": 100 * text_prior_loss(output.prior, wanted),
        "diffusion": torch.tensor(0.25),
        "edge": edge_loss(output.predicted_residual, output.residual),
        "joint": 5 * joint_loss(features(output.sr + output.predicted_residual), features(hr)),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(terms[name], value, atol=1e-6), name


def test_the_joint_loss_compares_all_seven_activations(output, truth, recognizer):
    """A change that only the last convolution sees must count, and one that only the first sees."""
    hr, mask = truth
    only_joint = TextDiffLossWeights(gradient=0, mask=0, text_prior=0, diffusion=0, edge=0)
    before = textdiff_loss(output, hr, mask, only_joint, recognizer)
    assert before.keys() == {"joint"} and before["joint"] > 0
    for i in range(7):
        weight = recognizer.cnn.get_submodule(f"conv{i}").weight
        kept = weight.clone()
        weight.mul_(2)
        assert textdiff_loss(output, hr, mask, only_joint, recognizer)["joint"] != before["joint"], i
        weight.copy_(kept)


def test_the_joint_loss_is_of_what_was_sharpened(output, truth, recognizer):
    only_joint = TextDiffLossWeights(gradient=0, mask=0, text_prior=0, diffusion=0, edge=0)
    other = replace(output, base=output.sr + 0.25, predicted_residual=output.predicted_residual - 0.25)
    found, wanted = (textdiff_loss(x, *truth, only_joint, recognizer)["joint"] for x in (other, output))
    torch.testing.assert_close(found, wanted)
    assert textdiff_loss(replace(output, base=truth[0]), *truth, only_joint, recognizer)["joint"] != wanted


def test_pixel_term_is_ours_and_off_by_default(output, truth):
    hr, mask = truth
    weights = TextDiffLossWeights(pixel=2, gradient=0, mask=0, text_prior=0, diffusion=0, edge=0, joint=0)
    terms = textdiff_loss(output, hr, mask, weights)
    assert terms.keys() == {"pixel"}
    assert torch.allclose(terms["pixel"], 2 * (output.sr - hr).square().mean())


def test_without_a_mask_branch_there_is_no_mask_term(output, truth, recognizer):
    output.mask_logits = None
    assert "mask" not in textdiff_loss(output, *truth, TextDiffLossWeights(), recognizer)


def test_without_the_joint_loss_but_with_the_prior(output, truth, recognizer):
    terms = textdiff_loss(output, *truth, TextDiffLossWeights(joint=0), recognizer)
    assert "joint" not in terms and "text_prior" in terms


def test_terms_do_not_depend_on_batch_size_and_stay_in_float32(output, truth, recognizer):
    once = textdiff_loss(output, *truth, TextDiffLossWeights(), recognizer)
    given = {name: x for name, x in vars(output).items() if x is not None}
    twice = TextDiffPrediction(**{name: torch.cat([x, x]) for name, x in given.items()})
    doubled = textdiff_loss(twice, *(torch.cat([x, x]) for x in truth), TextDiffLossWeights(), recognizer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = textdiff_loss(output, *truth, TextDiffLossWeights(), recognizer)
        half = TextDiffPrediction(**{name: x.bfloat16() for name, x in given.items()})
        low = textdiff_loss(half, *(x.bfloat16() for x in truth), TextDiffLossWeights(), recognizer)
    for name, value in once.items():
        assert torch.allclose(value, doubled[name], rtol=1e-4), name
        assert torch.equal(value, inside[name]), name
        assert low[name].dtype == torch.float32
        assert torch.allclose(value, low[name], rtol=0.1), name


@pytest.mark.parametrize("weights", [TextDiffLossWeights(text_prior=0), TextDiffLossWeights(joint=0)])
def test_a_missing_recogniser_is_refused(output, truth, weights):
    with pytest.raises(ValueError, match="need a recogniser"):
        textdiff_loss(output, *truth, weights)


def test_a_recogniser_that_is_not_frozen_is_refused(output, truth):
    with pytest.raises(ValueError, match="must be frozen"):
        textdiff_loss(output, *truth, TextDiffLossWeights(), tiny_crnn().eval())
    with pytest.raises(ValueError, match="must be frozen"):
        textdiff_loss(output, *truth, TextDiffLossWeights(), tiny_crnn().train().requires_grad_(False))


@pytest.mark.parametrize("prediction_type", ["sample", "epsilon"])
def test_gradients_of_the_published_loss_reach_every_parameter(recognizer, prediction_type):
    network = tiny_network(prediction_type=prediction_type, trained=True).train()
    hr = noise(2, 3, 8, 24, seed=1).sigmoid()
    output = network(noise(2, 3, 4, 12).sigmoid(), hr, torch.Generator().manual_seed(0))
    terms = textdiff_loss(output, hr, (hr[:, :1] > 0.5).float(), TextDiffLossWeights(), recognizer)
    sum(terms.values()).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without
    assert all(p.grad is None for p in recognizer.parameters())


def test_the_prior_generator_learns_from_the_text_prior_loss_only(recognizer):
    network = tiny_network(trained=True).train()
    hr = noise(2, 3, 8, 24, seed=1).sigmoid()
    output = network(noise(2, 3, 4, 12).sigmoid(), hr, torch.Generator().manual_seed(0))
    terms = textdiff_loss(output, hr, (hr[:, :1] > 0.5).float(), TextDiffLossWeights(), recognizer)
    sum(value for name, value in terms.items() if name != "text_prior").backward(retain_graph=True)
    assert all(p.grad is None for p in network.recognizer.parameters())
    terms["text_prior"].backward()
    assert all(p.grad.abs().sum() > 0 for p in network.recognizer.parameters())
