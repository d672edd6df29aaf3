"""Eq. 7-9 against their definitions, written out with NumPy."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.ops import sigmoid_focal_loss

from tadisr.metrics.image import ssim
from tadisr.models.losses import LossWeights, dice_loss, focal_loss, luma_ssim, modified_focal_loss, sobel, tadisr_loss


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image, target = (torch.rand(3, 3, 12, 17, generator=generator) * 2 - 1 for _ in range(2))
    logits = torch.randn(3, 1, 12, 17, generator=generator)
    mask = torch.rand(3, 1, 12, 17, generator=generator)
    return image, target, logits, mask


def test_sobel_is_the_standard_operator(batch):
    gradients = sobel(batch[0])[0].numpy()  # per channel: horizontal, vertical
    for channel, plane in enumerate(batch[0][0].numpy()):
        for axis, order in enumerate(((1, 0), (0, 1))):
            expected = cv2.Sobel(plane, cv2.CV_32F, *order, ksize=3, borderType=cv2.BORDER_REPLICATE)
            np.testing.assert_allclose(gradients[2 * channel + axis], expected, atol=1e-5)


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_modified_focal_loss_is_eq_8(batch, gamma):
    image, target, logits, mask = batch
    predicted = logits.sigmoid()
    wrong = 1 - predicted * mask - (1 - predicted) * (1 - mask)
    expected = (wrong**gamma * (sobel(image) - sobel(target)) ** 2).abs().mean()
    assert torch.allclose(modified_focal_loss(image, target, predicted, mask, gamma), expected)
    assert modified_focal_loss(image, target, mask.round(), mask.round(), gamma) == 0  # segmented without a mistake


def test_focal_loss_of_hard_targets_is_the_published_one(batch):
    logits, mask = batch[2], batch[3].round()
    correct = torch.where(mask == 1, logits.sigmoid(), 1 - logits.sigmoid())
    plain = (1 - correct) ** 2 * -correct.log()
    assert torch.allclose(2 * focal_loss(logits, mask, alpha=0.5), plain.mean(), atol=1e-6)
    expected = (torch.where(mask == 1, 0.25, 0.75) * plain).mean()
    assert torch.allclose(focal_loss(logits, mask), expected, atol=1e-6)
    assert torch.allclose(focal_loss(logits, mask), sigmoid_focal_loss(logits, mask, reduction="mean"), atol=1e-6)


def test_dice_loss(batch):
    mask = batch[3].round()
    assert dice_loss(mask, mask) == 0
    assert dice_loss(torch.zeros_like(mask), torch.zeros_like(mask)) == 0
    assert dice_loss(1 - mask, mask) > 0.98
    halves = torch.full_like(mask, 0.5)
    text, pixels = mask.flatten(1).sum(1), mask[0].numel()
    assert torch.allclose(dice_loss(halves, mask), (1 - (text + 1) / (text + pixels / 2 + 1)).mean())
    assert torch.allclose(dice_loss(halves, mask, squares=True), (1 - (text + 1) / (text + pixels / 4 + 1)).mean())


def test_default_weights_are_the_papers_and_terms_add_up(batch):
    image, target, logits, mask = batch
    weights = LossWeights()
    assert (weights.lpips, weights.modified_focal, weights.focal, weights.dice, weights.gamma) == (5, 10, 10, 1, 2)
    assert (weights.focal_alpha, weights.dice_squares) == (0.25, False)
    terms = tadisr_loss(image, target, logits, mask, weights, lpips=lambda a, b: (a - b).abs().mean((1, 2, 3)))
    probability = logits.sigmoid()
    expected = {
        "mse": ((image - target) ** 2).mean(),
        "lpips": 5 * (image - target).abs().mean(),
        "modified_focal": 10 * modified_focal_loss(image, target, probability, mask),
        "mask_mse": ((probability - mask) ** 2).mean(),
        "focal": 10 * focal_loss(logits, mask),
        "dice": dice_loss(probability, mask),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(terms[name], value), name


def test_the_authors_range_weighs_squared_errors_of_images_and_edges_a_quarter(batch):
    own, theirs = (tadisr_loss(*batch, LossWeights(lpips=0, unit_range=unit)) for unit in (False, True))
    for name, value in own.items():
        share = 0.25 if name in ("mse", "modified_focal") else 1
        assert torch.allclose(theirs[name], share * value), name


def test_terms_do_not_depend_on_batch_size_and_stay_in_float32(batch):
    once = tadisr_loss(*batch, LossWeights(lpips=0))
    twice = tadisr_loss(*(torch.cat([x, x]) for x in batch), LossWeights(lpips=0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = tadisr_loss(*(x.bfloat16() for x in batch), LossWeights(lpips=0))
    for name, value in once.items():
        assert torch.allclose(value, twice[name])
        assert half[name].dtype == torch.float32


def test_terms_of_two_pixels_by_hand():
    """Everything flat but for one pixel of the mask: the sums are short enough to write out."""
    image, target = torch.zeros(1, 3, 1, 2), torch.full((1, 3, 1, 2), 0.5)
    logits, mask = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
    terms = tadisr_loss(image, target, logits, mask, LossWeights(lpips=0, text_l1=2.0, text_mse=3.0, text_weight=3.0))
    expected = {
        "mse": 0.25,
        "text_l1": 2 * (1 + 3) * 0.5,  # both pixels are near text
        "text_mse": 3 * (1 + 3) * 0.25,
        "modified_focal": 0.0,  # neither image has an edge
        "mask_mse": 0.25,
        "focal": 10 * 0.5 * 0.5**2 * np.log(2),  # 0.25 for the pixel of text, 0.75 for the other
        "dice": 1 - (2 * 0.5 + 1) / (1 + 1 + 1),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value), name
    # an edge of height 1 across both pixels: derivatives of 4 in x at every pixel, none in y
    step = torch.zeros(1, 3, 1, 2)
    step[..., 1] = 1
    terms = tadisr_loss(step, target, logits, mask, LossWeights(lpips=0))
    assert terms["modified_focal"].item() == pytest.approx(10 * 0.5**2 * 4**2 / 2)


def test_images_without_a_mask_are_left_out_of_the_terms_that_need_one(batch):
    image, target, logits, mask = batch
    flags = torch.tensor([1.0, 0.0, 1.0])
    terms = tadisr_loss(*batch, LossWeights(lpips=0), has_mask=flags)
    known = [x[[0, 2]] for x in batch]
    alone = tadisr_loss(*known, LossWeights(lpips=0))
    for name in ("modified_focal", "mask_mse", "focal", "dice"):
        assert torch.allclose(terms[name], alone[name] * 2 / 3), name
    assert terms["mse"] == ((image - target) ** 2).mean()
    everyone = tadisr_loss(*batch, LossWeights(lpips=0), has_mask=torch.ones(3))
    assert all(
        torch.allclose(value, everyone[name]) for name, value in tadisr_loss(*batch, LossWeights(lpips=0)).items()
    )


def test_without_a_mask_stream_only_the_image_counts(batch):
    image, target, _, mask = batch
    terms = tadisr_loss(image, target, None, mask, LossWeights(lpips=0, text_l1=1.0))
    assert terms.keys() == {"mse", "text_l1"}


def test_ssim_term_is_the_metric(batch):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 20, 33, 3)).astype(np.uint8)
    target = np.clip(image + rng.normal(0, 30, image.shape), 0, 255).astype(np.uint8)
    tensors = [torch.from_numpy(x).permute(0, 3, 1, 2) / 127.5 - 1 for x in (image, target)]
    measured = np.mean([ssim(*pair) for pair in zip(image, target, strict=True)])
    assert luma_ssim(*tensors).item() == pytest.approx(measured, abs=2e-3)  # the metric rounds lumas
    assert luma_ssim(tensors[0], tensors[0]) == pytest.approx(1)
    mask = torch.zeros(2, 1, 20, 33)
    terms = tadisr_loss(*tensors, None, mask, LossWeights(lpips=0, ssim=2.0))
    assert terms["ssim"].item() == pytest.approx(2 * (1 - luma_ssim(*tensors).item()))
    with pytest.raises(ValueError, match=r"SSIM needs at least 7 x 7 pixels, got \(2, 3, 6, 33\)"):
        luma_ssim(tensors[0][:, :, :6], tensors[1][:, :, :6])


def test_lpips_without_a_network_is_refused(batch):
    with pytest.raises(ValueError, match="LPIPS"):
        tadisr_loss(*batch, LossWeights())


def test_real_lpips_network_gives_gradients(batch):
    lpips = pytest.importorskip("lpips")
    network = lpips.LPIPS(net="alex", pretrained=False, pnet_rand=True, verbose=False).requires_grad_(False)
    image, target, logits, mask = (torch.nn.functional.interpolate(x, (64, 64)) for x in batch)
    image.requires_grad_()
    terms = tadisr_loss(image, target, logits, mask, LossWeights(), network)
    terms["lpips"].backward()
    assert image.grad.abs().sum() > 0
