"""Crops of Real-CE, their masks, and their mixture with FTSR's crops."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import training_runs as runs
from helpers.training_runs import same_items
from tadisr.models.losses import LossWeights, tadisr_loss
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops
from tadisr.training.data.realce_crops import MixedCrops, RealCECrops, is_realce, make_masks, read_mask


def test_realce_crops_are_aligned_and_have_no_mask(realce):
    crops = RealCECrops(realce, 64, seed=2)
    item = crops[0]
    assert same_items(item, crops[0])
    assert item["hr"].shape == (3, 64, 64) and item["lr"].shape == (3, 16, 16) and item["mask"].shape == (1, 64, 64)
    assert item["has_mask"] == 0 and item["mask"].sum() == 0 and item["name"].startswith("Real-CE t_")
    errors = []
    for i in range(12):
        item = crops[i]
        small = torch.nn.functional.interpolate(item["hr"][None], size=(16, 16), mode="area")[0]
        errors.append([(torch.roll(item["lr"], s, dims=-1) - small).abs().mean() for s in (-1, 0, 1)])
    left, still, right = torch.tensor(errors).mean(0)
    assert still < left and still < right
    with pytest.raises(ValueError, match="crops of 512 need larger images"):
        RealCECrops(realce, 512)[0]


def test_realce_pseudo_masks(realce, tmp_path):
    folder = tmp_path / "masks"
    made = [make_masks(realce, None, folder, "text-segmenter-tiny", rank, 2) for rank in (0, 1)]
    assert made == [1, 1] and sorted(p.name for p in folder.iterdir()) == ["t_1.png", "t_2.png"]
    before = (folder / "t_1.png").read_bytes()
    (folder / "t_2.png").unlink()
    assert make_masks(realce, None, folder, "text-segmenter-tiny") == 1  # only what is missing
    assert (folder / "t_1.png").read_bytes() == before
    crops = RealCECrops(realce, 64, seed=2, mask_dir=folder)
    items = [crops[i] for i in range(8)]
    assert all(item["has_mask"] == 1 for item in items) and max(item["mask"].max() for item in items) > 0.5
    # the mask is cut where the image is: text is where the image is not flat
    without = RealCECrops(realce, 64, seed=2)
    assert all(torch.equal(a["hr"], without[i]["hr"]) for i, a in enumerate(items))
    cv2.imwrite(str(folder / "t_1.png"), np.zeros((8, 8), np.uint8))
    with pytest.raises(ValueError, match="8x8 and the image 224x160"):
        read_mask(folder, "t_1.jpg", (160, 224))
    (folder / "t_1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="not an image"):
        read_mask(folder, "t_1.jpg", (160, 224))


def test_realce_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="Real-CE"):
        RealCECrops(tmp_path, 64)


def test_mixture_keeps_its_ratio_and_order(data, realce):
    ftsr, real = FTSRCrops(ConcatPages([data]), Cropping(64), 400, 3), RealCECrops(realce, 64, 3)
    mixed = MixedCrops(ftsr, real, 0.25, 3)
    share = np.mean([is_realce(3, i, 0.25) for i in range(4000)])
    assert abs(share - 0.25) < 0.03
    chosen = [is_realce(3, i, 0.25) for i in range(12)]
    assert True in chosen and False in chosen
    assert all(same_items(mixed[i], (real if chosen[i] else ftsr)[i]) for i in range(12))
    batch = next(iter(DataLoader(mixed, 12)))  # different supervision in one batch
    assert batch["has_mask"].tolist() == [float(not real) for real in chosen]


def test_unlabelled_images_teach_the_image_alone():
    """Mask terms of a mixed batch are those of its labelled images alone, counted over all; none alone give zero."""
    batch = runs.crop_batch(batch=4)
    image, logits = batch["hr"] * 1.8 - 0.9, torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    flags = torch.tensor([1.0, 0.0, 1.0, 0.0])
    target, mask = batch["hr"] * 2 - 1, batch["mask"] * flags.view(-1, 1, 1, 1)
    logits.requires_grad_()
    terms = tadisr_loss(image, target, logits, mask, LossWeights(lpips=0), has_mask=flags)
    known = flags.bool()
    alone = tadisr_loss(image[known], target[known], logits[known], mask[known], LossWeights(lpips=0))
    for name in ("modified_focal", "mask_mse", "focal", "dice"):
        assert torch.allclose(terms[name], alone[name] / 2), name
    assert terms["mse"] == ((image - target) ** 2).mean()
    sum(terms.values()).backward()
    assert logits.grad[known].abs().sum() > 0 and logits.grad[~known].abs().sum() == 0
    none = tadisr_loss(image, target, logits, mask * 0, LossWeights(lpips=0), has_mask=flags * 0)
    assert [name for name, value in none.items() if value] == ["mse"]


def test_training_on_both(data, realce, tmp_path):
    out = runs.train(
        data, tmp_path / "run", realce_data_dir=realce, realce_share=0.5, realce_mask_dir=tmp_path / "masks",
        realce_segmenter="text-segmenter-tiny", max_train_steps=2,
    )  # fmt: skip
    assert len(list((tmp_path / "masks").glob("*.png"))) == 2
    assert len(runs.records(out)) == 2
