"""Masks drawn badly, as training prompts."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers.training_runs import same_items
from tadisr.training.data.mask_prompts import draw_prompt, plan_drawing
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops
from tadisr.training.data.realce_crops import MixedCrops, RealCECrops


def a_mask(side=96):
    mask = np.zeros((side, side), np.uint8)
    for row, word in enumerate(("Exit 4", "gate", "PLATZ")):
        cv2.putText(mask, word, (8, 28 + 28 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2, cv2.LINE_AA)
    return np.float32(mask) / 255


def drawn_by(mask, *seed):
    prompt, wanted = draw_prompt(torch.from_numpy(mask)[None], plan_drawing(mask.shape, np.random.default_rng(seed)))
    return prompt.numpy(), wanted[0].numpy()


def test_drawings_are_near_the_mask_and_of_every_kind():
    true, pixels = a_mask(), 96 * 96
    drawn = [drawn_by(true, 1, i) for i in range(300)]
    inner = cv2.dilate(true, np.ones((17, 17))) > 0
    shares, denied, heavier, gray = [], [], [], []
    for i, (prompt, wanted) in enumerate(drawn):
        again = drawn_by(true, 1, i)
        assert np.array_equal(prompt, again[0]) and np.array_equal(wanted, again[1])
        assert prompt.shape == (2, 96, 96) and prompt.dtype == wanted.dtype == np.float32
        mask, given = prompt
        assert set(np.unique(given)) <= {0, 1} and mask.min() >= 0 and mask.max() <= 1
        assert not mask[given == 0].any() and not mask[~inner].max() > 0.05  # within 8 pixels of strokes
        assert ((wanted == true) | (wanted == 0)).all()
        shares.append(given.mean())
        denied.append((wanted != true).sum() > 0)
        whole = given == 1
        if whole.all() and not denied[-1]:
            heavier.append(mask.sum() / true.sum())
        gray.append(((mask > 0.05) & (mask < 0.95)).sum() / pixels)
    shares, heavier = np.array(shares), np.array(heavier)
    assert 0.3 < (shares == 1).mean() < 0.5 and (shares < 0.5).mean() > 0.15 and shares.min() > 0
    assert 0.04 < np.mean(denied) < 0.16
    assert heavier.min() < 0.95 and heavier.max() > 1.5 and heavier.min() > 0.3
    assert min(gray) == 0 and max(gray) > 0.1


def test_a_mask_without_text_stays_empty():
    for i in range(20):
        prompt, wanted = drawn_by(np.zeros((40, 56), np.float32), i)
        assert not prompt[0].any() and not wanted.any() and prompt[1].any()


@pytest.mark.parametrize("augmentation", [False, True])
def test_crops_with_prompts_are_the_same_crops(data, augmentation):
    """A prompt is drawn last, from the crop's own numbers."""
    pages = ConcatPages([data])
    plain, some, every = (
        FTSRCrops(pages, Cropping(64, augmentation=augmentation, prompt_share=share), 40, seed=1)
        for share in (None, 0.3, 1.0)
    )
    prompted = changed = 0
    for i in range(40):
        without, item, always = plain[i], some[i], every[i]
        assert same_items(item, some[i])
        assert "mask_prompt" not in without and item["mask_prompt"].shape == always["mask_prompt"].shape == (2, 64, 64)
        assert torch.equal(without["hr"], item["hr"]) and torch.equal(without["lr"], always["lr"])
        assert always["mask_prompt"][1].any()
        prompted += bool(item["mask_prompt"][1].any())
        changed += not torch.equal(without["mask"], always["mask"])
    assert 5 <= prompted <= 19 and 0 < changed < 12


def test_photographs_without_masks_have_no_prompts(data, realce):
    crops = FTSRCrops(ConcatPages([data]), Cropping(64, prompt_share=1.0), 40, seed=1)
    mixed = MixedCrops(crops, RealCECrops(realce, 64, prompt_share=1.0), 0.5)
    batch = next(iter(DataLoader(mixed, 16)))
    given = batch["mask_prompt"][:, 1].flatten(1).any(1)
    assert torch.equal(given, batch["has_mask"] == 1) and 0 < given.sum() < 16
