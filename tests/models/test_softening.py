"""Less correction on text: where, and how much."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, max_pool2d, pad

from tadisr.models import softening
from tadisr.models.softening import MIDDLE, Softening, at_fidelity, text_doubt


def text_share(logits, *shares):
    """What is left of an even correction."""
    return Softening(*shares)(torch.ones_like(logits), logits)


def test_text_is_softened_by_its_strength_and_nothing_far_from_it():
    logits = torch.full((1, 1, 64, 64), -20.0)
    logits[..., 24:40, 20:44] = 20.0
    gain = text_share(logits, 0.25)
    assert gain.shape == logits.shape
    torch.testing.assert_close(gain[..., 29:35, 25:39], torch.full((1, 1, 6, 14), 0.25), atol=1e-3, rtol=0)
    edges = torch.cat([gain[0, 0, (24, 39), 28:36], gain[0, 0, 28:36, (20, 43)].T])
    assert (edges > 0.25).all() and (edges < 0.25 + 0.75 / 4).all()
    assert (gain[..., :9, :] > 0.999).all() and (gain[..., 55:, :] > 0.999).all()
    steps = gain.diff(dim=-2).abs().max()
    assert 0 < steps < 0.12, "a seam would show"
    for probability in (0.25, 0.6, 1 - 1e-6):
        mask = torch.full((1, 1, 8, 8), probability)
        torch.testing.assert_close(text_share(mask.logit(), 0.5), torch.full((1, 1, 8, 8), 0.5))


@pytest.mark.parametrize("margin", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_margins_are_those_of_pooling(margin, dtype):
    x = torch.rand(2, 3, 40, 33).to(dtype)
    pooling = {"kernel_size": 2 * margin + 1, "stride": 1, "padding": margin}
    assert torch.equal(softening.sliding_reduce(pad(x, [margin] * 4), margin, torch.maximum), max_pool2d(x, **pooling))
    inner = (..., slice(2 * margin, -2 * margin), slice(2 * margin, -2 * margin))  # borders are repeated
    means = avg_pool2d(avg_pool2d(x.float(), **pooling), **pooling)
    blurred = softening._blur(x, margin)
    torch.testing.assert_close(
        blurred[inner].float(), means[inner], atol=1e-6 if dtype == torch.float32 else 0.01, rtol=0
    )
    torch.testing.assert_close(softening._blur(torch.ones_like(x), margin), torch.ones_like(x), atol=0.01, rtol=0)


def test_text_whose_strokes_are_sure_has_a_strength_of_its_own():
    logits = torch.full((1, 1, 96, 203), -20.0)
    logits[..., 32:64:4, 10:90] = 20.0  # strokes that are sure
    logits[..., 32:64, 113:193] = 0.0  # something, but what?
    gain = text_share(logits, 0.2, 0.8)
    assert gain.shape == logits.shape
    sure, doubtful = (..., slice(40, 56), slice(30, 70)), (..., slice(40, 56), slice(133, 173))
    torch.testing.assert_close(gain[sure], text_share(logits, 0.8)[sure], atol=0.01, rtol=0)
    torch.testing.assert_close(gain[doubtful], text_share(logits, 0.2)[doubtful], atol=0.01, rtol=0)
    assert abs(gain[sure] - 0.8).max() < 0.01 and abs(gain[doubtful] - 0.2).max() < 0.01
    assert (gain[..., :16, :] > 0.999).all()
    assert max(gain.diff(dim=axis).abs().max() for axis in (-1, -2)) < 0.12, "a seam would show"


def test_what_varies_slowly_has_a_strength_of_its_own_on_doubtful_text():
    logits = torch.full((1, 1, 96, 203), -20.0)
    logits[..., 32:64:4, 10:90] = 20.0  # sure
    logits[..., 32:64, 113:193] = 0.0  # doubtful
    even, fine = torch.ones_like(logits), torch.ones_like(logits)
    fine[..., ::2, :] = -1.0
    sure, doubtful = ((..., slice(40, 56), slice(*ends)) for ends in ((30, 70), (133, 173)))
    left = {name: Softening(0.2, 0.8, 0.6)(x, logits) / x for name, x in (("even", even), ("fine", fine))}
    for name, strength in (("even", 0.6), ("fine", 0.2)):
        torch.testing.assert_close(left[name][doubtful], strength * even[doubtful], atol=0.02, rtol=0)
        torch.testing.assert_close(left[name][sure], 0.8 * even[sure], atol=0.02, rtol=0)
        assert (left[name][..., :16, :] > 0.999).all()
    same = Softening(0.2, 0.8, 0.2)(fine, logits)
    torch.testing.assert_close(same, Softening(0.2, 0.8)(fine, logits))


@pytest.mark.parametrize("middle", [MIDDLE, Softening(0.3), Softening(0.3, 0.7)])
def test_the_dial(middle):
    torch.manual_seed(0)
    logits, correction = 4 * torch.randn(1, 1, 64, 64) - 1, torch.randn(1, 3, 64, 64)
    assert torch.equal(at_fidelity(0.5, middle)(correction, logits), middle(correction, logits)), "as older weights"
    assert at_fidelity(0.0, middle) == Softening(0, 0, 0)
    torch.testing.assert_close(at_fidelity(1.0, middle)(correction, logits), correction)
    points = [at_fidelity(step / 10, middle) for step in range(11)]
    for shares in zip(*((one.text, one.clear, one.coarse) for one in points), strict=True):
        assert list(shares) == sorted(shares)
    kept = [(one(torch.ones_like(logits), logits)).mean() for one in points]
    assert all(low < high for low, high in zip(kept[:-1], kept[1:], strict=True))
    as_tensor = at_fidelity(torch.tensor(0.3), middle)(correction, logits)
    torch.testing.assert_close(as_tensor, at_fidelity(0.3, middle)(correction, logits))


@pytest.mark.parametrize(("probability", "doubt"), [(0.0, 0), (1e-4, 0), (0.5, 1), (0.75, 0.5), (0.95, 0), (1.0, 0)])
@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (33, 70)])
def test_doubt_of_an_even_mask(probability, doubt, shape):
    mask = torch.full((2, 1, *shape), probability)
    torch.testing.assert_close(text_doubt(mask), torch.full_like(mask, doubt), atol=0.05, rtol=0)
