"""Crops that the device makes by itself: the same as the processor's, but for rounding and the noise."""

import numpy as np
import pytest
import torch

from helpers.training_runs import same_items
from tadisr.data_synthesis.degrade import Degradation
from tadisr.data_synthesis.tones import Tones, photographic_tones
from tadisr.training.data.device_crops import DeviceCrops, toned
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops, Triplet


def quiet() -> Degradation:
    """The mild degradation without what differs on purpose."""
    config = Degradation.preset("mild")
    for order in (config.first, config.second):
        order.noise_sigma, order.jpeg_prob = (0.0, 0.0), 0.0
    return config


def test_a_crop_is_what_the_processor_cuts(data):
    """By the same generator."""
    pages, cropping = ConcatPages([data]), Cropping(64, quiet(), augmentation=True)
    crops = DeviceCrops(pages, cropping, 12, seed=1, device="cpu")
    batch = crops[3]
    assert same_items(batch, crops[3])
    assert batch["hr"].shape == (12, 3, 64, 64) and batch["lr"].shape == (12, 3, 16, 16)
    assert batch["mask"].shape == (12, 1, 64, 64) and batch["has_mask"].tolist() == [1.0] * 12
    assert batch["index"].tolist() == list(range(36, 48))
    same = 0
    for i, index in enumerate(batch["index"].tolist()):
        rng = np.random.default_rng([1, 6, index])
        page = pages.triplet(int(rng.integers(len(pages))))
        assert batch["name"][i] == page.name
        item = cropping.draw(page, rng)
        if (item["mask"] - batch["mask"][i]).abs().max() < 2 / 255:  # else a crop at 1 % of text was judged otherwise
            same += 1
            differences = [255 * (item[key] - batch[key][i]).abs() for key in ("hr", "lr")]
            assert all(x.max() < 9 and x.mean() < 1 for x in differences)
    assert same >= 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_makes_the_same(data):
    made = (Cropping(64, quiet(), augmentation=True), 12, 1)
    one, other = (DeviceCrops(ConcatPages([data]), *made, device=device)[3] for device in ("cpu", "cuda"))
    for key in ("hr", "lr", "mask"):
        difference = 255 * (one[key] - other[key].cpu()).abs()
        assert difference.max() < 6 and difference.mean() < 0.3


def test_statistics_are_those_of_the_processors_crops(data):
    """Of whole crops by another generator: levels, text, damage, noise."""
    pages, cropping = ConcatPages([data]), Cropping(64, augmentation=True)
    theirs = FTSRCrops(pages, cropping, 200, seed=5)
    items = [theirs[i] for i in range(200)]
    batches = list(DeviceCrops(pages, cropping, 50, seed=6, device="cpu").batches(iter(range(4))))

    def moments(hr: torch.Tensor, lr: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        small = torch.nn.functional.avg_pool2d(hr, 4)
        edges = [(x[..., 1:] - x[..., :-1]).abs().mean() for x in (hr, lr)]
        return torch.stack([hr.mean(), hr.std(), lr.std(), mask.mean(), (lr - small).square().mean().sqrt(), *edges])

    one, other = (
        moments(*(join([item[key] for item in found]) for key in ("hr", "lr", "mask")))
        for found, join in ((items, torch.stack), (batches, torch.cat))
    )
    torch.testing.assert_close(one, other, rtol=0.12, atol=0.01)


def test_the_draws_of_the_next_batch_change_nothing(data):
    crops = DeviceCrops(ConcatPages([data]), Cropping(32), 2, seed=0, device="cpu")
    for number, batch in zip((4, 2, 9), crops.batches(iter((4, 2, 9))), strict=True):
        assert same_items(batch, crops[number])


@pytest.mark.parametrize("tones", [Tones(0.5, None), Tones(0.0, (20.0, 230.0)), Tones(0.7, (60.0, 180.0))])
def test_tones(data, tones):
    page = ConcatPages([data]).triplet(0).hr[:64, :64]
    wanted = photographic_tones(page, tones)
    found = toned(torch.from_numpy(page.copy()).permute(2, 0, 1)[None].float(), [tones])[0]
    assert np.abs(found.permute(1, 2, 0).numpy() - wanted).max() <= 2


def test_pages_that_cannot_be_kept(data):
    class Mixed(ConcatPages):
        def triplet(self, i: int) -> Triplet:
            page = super().triplet(i)
            return page if i < 2 else Triplet(page.name, page.hr[:128], page.mask[:128])

    with pytest.raises(ValueError, match="pages of one size: .* is 256x128, not 256x256"):
        DeviceCrops(Mixed([data]), Cropping(64), 2, seed=0, device="cpu")
    with pytest.raises(ValueError, match="crops of 512 need larger pages"):
        DeviceCrops(ConcatPages([data]), Cropping(512), 2, seed=0, device="cpu")
    with pytest.raises(ValueError, match="set degradation to real-esrgan, mild or wide"):
        DeviceCrops(ConcatPages([data]), Cropping(64, None), 2, seed=0, device="cpu")


def test_mask_prompts(data):
    pages = ConcatPages([data])
    plain, prompted = (
        DeviceCrops(pages, Cropping(64, prompt_share=x), 32, seed=1, device="cpu")[3] for x in (None, 0.5)
    )
    assert "mask_prompt" not in plain and prompted["mask_prompt"].shape == (32, 2, 64, 64)
    assert torch.equal(plain["hr"], prompted["hr"]) and torch.equal(plain["lr"], prompted["lr"])
    drawn, given = prompted["mask_prompt"].unbind(1)
    chosen = given.flatten(1).any(1)
    assert 8 < chosen.sum() < 24 and not drawn[~chosen].any() and not drawn[given == 0].any()
    changed = (plain["mask"] != prompted["mask"]).flatten(1).any(1)
    assert not changed[~chosen].any()
    as_true = chosen & ~changed & (given.flatten(1).all(1))  # of whole drawings
    assert as_true.any()
    overlap = (drawn * plain["mask"][:, 0])[as_true].sum() / drawn[as_true].sum()
    assert overlap > 2 * plain["mask"][as_true].mean() and overlap > 0.4  # bold ones are twice as wide
