"""Crops: FTSR's, Real-CE's, both in one, and as a stream."""

import io
import shutil

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from helpers import pages, source_samples
from helpers import training_runs as runs
from tadisr.datasets.ftsr import open_pages
from tadisr.io.messages import one_line
from tadisr.models.losses import LossWeights, tadisr_loss
from tadisr.training.data.ftsr_stream import FTSRStream, open_stream
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages, Cropping, FTSRCrops, Triplet
from tadisr.training.data.realce_crops import MixedCrops, RealCECrops, is_realce, make_masks, read_mask
from tadisr.training.engine.command_line import parse
from tadisr.training.engine.processes import start_accelerator
from tadisr.training.restoration.batches import Batches
from tadisr.training.restoration.train_config import TrainConfig

SIZE = (160, 224)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


@pytest.fixture(scope="module")
def realce(tmp_path_factory):
    return source_samples.write_realce(tmp_path_factory.mktemp("realce"), SIZE)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` waits five seconds for its threads after every pass."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1)


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[k], other[k]) if torch.is_tensor(one[k]) else one[k] == other[k] for k in one)


@pytest.mark.parametrize("augmentation", [False, True])
def test_crops_are_aligned_and_repeatable(data, augmentation):
    crops = FTSRCrops(ConcatPages([data]), Cropping(64, augmentation=augmentation), 10, seed=1)
    first = crops[3]
    assert same(first, crops[3])
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
    assert all(same(plain[i], cached[i]) for i in range(4))


def test_pages_that_do_not_fit():
    hr, rng = np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0)
    with pytest.raises(ValueError, match="page 7: the mask is 32x64 and the image 64x64"):
        Cropping(32).draw(Triplet("page 7", hr, np.zeros((64, 32), np.uint8)), rng)
    with pytest.raises(ValueError, match="page 7 is 64x64: crops of 128 need larger pages"):
        Cropping(128).draw(Triplet("page 7", hr, hr[..., 0]), rng)
    with pytest.raises(ValueError, match="page 7: the LR image is 20x20, not 16x16"):
        Cropping(32, None).draw(Triplet("page 7", hr, hr[..., 0], np.zeros((20, 20, 3), np.uint8)), rng)


def drop_column(data, out, name):
    """A copy of the data set without one column."""
    import pyarrow.parquet as pq

    (out / "data").mkdir(parents=True)
    for file in (data / "data").glob("*.parquet"):
        pq.write_table(pq.read_table(file).drop_columns([name]), out / "data" / file.name)
    return out


def test_a_missing_column_is_named(data, tmp_path):
    broken = drop_column(data, tmp_path / "set", "mask")
    with pytest.raises(ValueError, match="lr, hr, mask, text, boxes: there is no column mask") as error:
        open_pages(broken)
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="no column mask"):
        open_stream([broken])


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


def test_realce_crops_are_aligned_and_have_no_mask(realce):
    crops = RealCECrops(realce, 64, seed=2)
    item = crops[0]
    assert same(item, crops[0])
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
        read_mask(folder, "t_1.jpg", SIZE)
    (folder / "t_1.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="not an image"):
        read_mask(folder, "t_1.jpg", SIZE)


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
    assert all(same(mixed[i], (real if chosen[i] else ftsr)[i]) for i in range(12))
    batch = next(iter(DataLoader(mixed, 12)))  # different supervision in one batch
    assert batch["has_mask"].tolist() == [float(not real) for real in chosen]


def test_unlabelled_images_teach_the_image_alone(data, realce):
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


# Streams.


def take(stream, count):
    return [item for item, _ in zip(iter(stream), range(count), strict=False)]


def test_streams_go_on_where_they_were(data, realce):
    real = RealCECrops(realce, 32, 3)
    options = {"seed": 3, "shuffle_buffer": 4, "realce": real, "realce_share": 0.3, "batch_size": 2}
    whole = take(FTSRStream([data], Cropping(32), **options), 24)  # more than the 9 pages: several passes
    later = take(FTSRStream([data], Cropping(32), skip=5, **options), 14)
    assert all(same(a, b) for a, b in zip(whole[10:], later, strict=True))
    kinds = {item["name"].split()[0] for item in whole}
    assert kinds == {"Real-CE", "page"}
    first, second = (torch.stack([item["hr"] for item in whole[i : i + 9]]) for i in (0, 9))
    assert not torch.equal(first, second)


@pytest.fixture(scope="module")
def two_shards(data, tmp_path_factory):
    """Eight pages in two shards."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("shards") / "data"
    folder.mkdir()
    table = pa.concat_tables([pq.read_table(file) for file in sorted((data / "data").glob("train-*.parquet"))])
    for i in range(2):
        pq.write_table(table.slice(4 * i, 4), folder / f"train-0000{i}-of-00002.parquet")
    return folder.parent


def test_streams_of_processes_share_the_pages(two_shards):
    cropping = Cropping(256, degradation=None, text_share=0)  # whole pages, to tell them apart
    seen = [
        {item["hr"].numpy().tobytes() for item in take(FTSRStream([two_shards], cropping, rank=rank, processes=2), 4)}
        for rank in (0, 1)
    ]
    assert len(seen[0]) == len(seen[1]) == 4 and not seen[0] & seen[1]


@pytest.mark.parametrize("step", [2, 3])
def test_streams_through_data_workers_resume(two_shards, tmp_path, step):
    """From a step at which the first worker's turn has come, and from one at which it has not."""
    runs.fresh()
    settings = {"streaming": True, "dataloader_num_workers": 2, "shuffle_buffer": 2}
    config = parse(runs.flags(two_shards, tmp_path / "run", **settings), TrainConfig)
    accelerator = start_accelerator(config)
    whole, later = (
        [batch["hr"] for batch, _ in zip(Batches(config, accelerator, at), range(count), strict=False)]
        for at, count in ((0, 6), (step, 6 - step))
    )
    assert all(torch.equal(a, b) for a, b in zip(whole[step:], later, strict=True))


def test_training_on_a_stream_resumes_exactly(data, tmp_path):
    whole = runs.train(data, tmp_path / "whole", streaming=True)
    shutil.copytree(whole, resumed := tmp_path / "resumed")
    shutil.rmtree(resumed / "checkpoint-6")
    runs.train(data, resumed, streaming=True, resume_from_checkpoint="latest")
    runs.assert_same(whole, resumed)


def test_what_cannot_be_streamed(tmp_path, data):
    with pytest.raises(FileNotFoundError, match="cannot be streamed"):
        open_stream([tmp_path / "nothing"])
    (tmp_path / "folders" / "train" / "hr").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="Parquet"):
        open_stream([tmp_path / "folders"])
    broken = FTSRStream([data], Cropping(32))
    with pytest.raises(ValueError, match="hr is not an image"):
        broken._crop({"hr": {"bytes": io.BytesIO(b"no").getvalue()}, "mask": {"bytes": b"no"}}, 0)
