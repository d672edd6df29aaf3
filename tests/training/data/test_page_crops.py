"""Crops of FTSR's pages and of their lines."""

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers.training_runs import same_items
from tadisr.datasets.ftsr import open_pages
from tadisr.io.messages import one_line
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops, Triplet


@pytest.mark.parametrize("augmentation", [False, True])
def test_crops_are_aligned_and_repeatable(data, augmentation):
    crops = FTSRCrops(ConcatPages([data]), Cropping(64, augmentation=augmentation), 10, seed=1)
    first = crops[3]
    assert same_items(first, crops[3])
    assert first["hr"].shape == (3, 64, 64) and first["lr"].shape == (3, 16, 16) and first["mask"].shape == (1, 64, 64)
    assert first["has_mask"] == 1 and first["index"] == 3 and "row" in first["name"]
    errors = []
    for i in range(10):
        item = crops[i]
        small = torch.nn.functional.interpolate(item["hr"][None], size=(16, 16), mode="area")[0]
        errors.append([(torch.roll(item["lr"], s, dims=-1) - small).abs().mean() for s in (-2, 0, 2)])
    left, still, right = torch.tensor(errors).mean(0)
    assert still < left and still < right
    with pytest.raises(FileNotFoundError, match="synthesize"):
        ConcatPages([data / "lr"])


def test_stored_crops_are_cut_out_of_the_data_sets_own_lr(data):
    rows = open_pages(data)
    item = FTSRCrops(ConcatPages([data], with_lr=True), Cropping(64, degradation=None), 10, seed=1)[0]
    number = int(item["name"].rsplit(" ", 1)[1])
    lr, hr = rows.lr(number), rows.hr(number)
    wanted = (item["lr"] * 255).round().byte().permute(1, 2, 0).numpy()
    places = [
        (y, x) for y in range(lr.shape[0] - 15) for x in range(lr.shape[1] - 15)
        if np.array_equal(lr[y : y + 16, x : x + 16], wanted)
    ]  # fmt: skip
    [(y, x)] = places
    cut = hr[4 * y : 4 * y + 64, 4 * x : 4 * x + 64]
    assert np.array_equal((item["hr"] * 255).round().byte().permute(1, 2, 0).numpy(), cut)


def test_cached_pages_change_nothing(data):
    plain, cached = (FTSRCrops(ConcatPages([data], cache=cache), Cropping(64), 4) for cache in (False, True))
    assert all(same_items(plain[i], cached[i]) for i in range(4))


def test_pages_that_do_not_fit():
    hr, rng = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0)
    with pytest.raises(ValueError, match="page 7: the mask is 32x64 and the image 64x64"):
        Cropping(32).draw(Triplet("page 7", hr, np.zeros((64, 32), np.uint8)), rng)
    with pytest.raises(ValueError, match="page 7 is 64x64: crops of 128 need larger pages"):
        Cropping(128).draw(Triplet("page 7", hr, hr[..., 0]), rng)
    with pytest.raises(ValueError, match="page 7: the LR image is 20x20, not 16x16"):
        Cropping(32, None).draw(Triplet("page 7", hr, hr[..., 0], np.zeros((20, 20, 3), np.uint8)), rng)


def test_errors_of_data_workers_are_one_line(data, tmp_path):
    broken = tmp_path / "set"
    for kind in ("hr", "mask"):
        (broken / "train" / kind).mkdir(parents=True)
    cv2.imwrite(str(broken / "train" / "hr" / "0.png"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(broken / "train" / "mask" / "0.png"), np.zeros((64, 32), np.uint8))
    with pytest.raises(ValueError) as error:
        next(iter(DataLoader(FTSRCrops(ConcatPages([broken]), Cropping(32), 4), num_workers=1)))
    assert "Traceback" in str(error.value)
    assert one_line(error.value).startswith(str(broken)) and one_line(error.value).endswith("must be of one size.")


def test_line_strips_hold_their_line_at_the_wanted_height(data):
    strips = FTSRLines(ConcatPages([data]), 8, seed=1, size=(32, 128), heights=(14, 22))
    for i in range(8):
        item = strips[i]
        top, bottom, left, right = item["box"].tolist()
        assert item["hr"].shape == (3, 32, 128) and item["lr"].shape == (3, 8, 32)
        assert 14 <= bottom - top <= 22 + 2 * 2 + 1 and 0 <= left < right <= 128
        inside = item["mask"][:, top:bottom, left:right]
        assert inside.amax() > 0.4  # hairline faces never reach 1


def test_line_strips_carry_the_text_of_lines_they_hold_as_a_whole(data):
    pages = ConcatPages([data])
    written = {line["text"] for number in range(len(pages)) for line in pages.lines(number)}
    size, heights = (32, 96), (14, 22)
    strips, whole = (FTSRLines(pages, 40, seed=1, size=size, heights=heights, whole=on) for on in (False, True))
    cut = [strips[i] for i in range(40)]
    assert {item["text"] for item in cut} <= written | {""}
    assert 0 < sum(not item["text"] for item in cut) < 40
    drawn = [whole[i]["text"] for i in range(40)]
    assert set(drawn) <= written | {""} and drawn.count("") <= 4  # some lines leave their page
    for item in cut:
        left, right = item["box"][2:].tolist()
        # a text of n characters at least 14 pixels high is not seen in fewer columns than this
        assert right - left > 2 * len(item["text"])
    batch = next(iter(DataLoader(whole, batch_size=3)))
    assert batch["text"] == drawn[:3]


def test_line_strips_are_the_pages_own_unless_augmented(data):
    pages = ConcatPages([data])
    plain, augmented = (FTSRLines(pages, 6, seed=1, heights=(18, 30), augmentation=on) for on in (False, True))
    page_colors = np.concatenate([pages.triplet(i).hr.reshape(-1, 3) for i in range(len(pages))])
    for i in range(6):
        a, b = plain[i], augmented[i]
        assert torch.equal(a["mask"], b["mask"]) and torch.equal(a["box"], b["box"])
        assert not torch.equal(a["hr"], b["hr"])
        low, high = page_colors.min(0) / 255, page_colors.max(0) / 255
        assert (a["hr"].amin((1, 2)).numpy() >= low).all() and (a["hr"].amax((1, 2)).numpy() <= high).all()


def test_pages_without_lines_of_the_wanted_height_are_an_error(data):
    with pytest.raises(ValueError, match="no horizontal lines of 500 pixels"):
        FTSRLines(ConcatPages([data]), 8, heights=(500, 600))
