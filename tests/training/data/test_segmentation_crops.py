"""Crops for segmenters: aligned with their masks, repeatable, worn, from any layout."""

import cv2
import numpy as np
import pytest
import torch

from helpers.segmenters import page, training_pages
from tadisr.training.data.segmentation_crops import (
    MaskedImages,
    SegmentationCrops,
    draw_behind,
    photo_list,
    validation_images,
    wear,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_pages(tmp_path_factory.mktemp("ftsr"))


def test_crops_are_aligned_and_repeatable(data):
    crops = SegmentationCrops([str(data)], 64, 20, seed=1)
    for i in (0, 3):
        first, again = crops[i], SegmentationCrops([str(data)], 64, 40, seed=1)[i]
        assert all(torch.equal(first[key], again[key]) for key in ("image", "mask"))
        assert first["image"].shape == (3, 64, 64) and first["mask"].shape == (1, 64, 64)
    edges = []
    for i in range(20):  # the mask's own pixels differ more from what is beside them than shifted ones do
        gray, mask = crops[i]["image"].mean(0), crops[i]["mask"][0] > 0.5
        outside = torch.nn.functional.max_pool2d(mask[None].float(), 5, 1, 2)[0].bool() & ~mask
        contrast = [
            (gray.roll(s, -1)[mask].mean() - gray.roll(s, -1)[outside].mean()).abs() if mask.any() else 0.0
            for s in (-4, 0, 4)
        ]
        edges.append(torch.tensor(contrast))
    left, still, right = torch.stack(edges).mean(0)
    assert still > 1.2 * left and still > 1.2 * right


def test_smaller_images_are_enlarged_or_mirrored(tmp_path):
    for part in ("hr", "mask"):
        (tmp_path / part).mkdir()
    image, mask = page("Ag", 40, 26)
    cv2.imwrite(str(tmp_path / "hr" / "0.png"), image[:20])
    cv2.imwrite(str(tmp_path / "mask" / "0.png"), (mask[:20] * 255).astype(np.uint8))
    crops = SegmentationCrops([str(tmp_path)], 96, 8)
    assert all(crops[i]["image"].shape == (3, 96, 96) and crops[i]["mask"].amax() > 0.5 for i in range(8))


def test_photographs_have_no_text(data):
    crops = SegmentationCrops([str(data)], 64, 40, photos=photo_list(data / "photos.txt"), photo_share=1.0)
    assert all(crops[i]["mask"].sum() == 0 for i in range(10))
    crops = SegmentationCrops([str(data)], 64, 40, text_share=1.0, cache=True)
    assert sum(float(crops[i]["mask"].amax() > 0.5) for i in range(20)) >= 18
    assert photo_list(None) == []


def test_what_is_drawn_never_covers_text():
    image, mask = page()
    mask = np.round(mask * 255).astype(np.uint8)
    changed = 0
    for seed in range(10):
        drawn = draw_behind(image, mask, np.random.default_rng(seed))
        assert np.array_equal(drawn[mask > 0], image[mask > 0])
        changed += not np.array_equal(drawn, image)
    assert changed >= 9


def test_worn_images_keep_their_place_size_and_seed():
    image, _ = page("Ag 24", 70, 24)
    image = image[:61]
    errors = []
    for seed in range(20):
        worn = wear(image, np.random.default_rng(seed))
        assert worn.shape == image.shape and worn.dtype == np.uint8
        assert np.array_equal(worn, wear(image, np.random.default_rng(seed)))
        errors.append([np.abs(np.roll(worn, s, 1) - image.astype(float)).mean() for s in (-3, 0, 3)])
    left, still, right = np.mean(errors, axis=0)
    assert 0 < still < 0.7 * min(left, right)


def test_other_layouts(tmp_path):
    image, mask = page()
    for folder in ("image", "semantic_label"):
        (tmp_path / folder).mkdir()
    for name in ("a00001", "a00002"):
        cv2.imwrite(str(tmp_path / "image" / f"{name}.jpg"), image)
        codes = np.where(mask > 0.5, 100, 0).astype(np.uint8)  # TextSeg's code for strokes
        cv2.imwrite(str(tmp_path / "semantic_label" / f"{name}_maskfg.png"), codes)
    (tmp_path / "split.json").write_text('{"train": ["a00001"], "val": [], "test": ["a00002"]}')
    images = MaskedImages(f"textseg:{tmp_path}")
    assert len(images) == 1 and np.array_equal(images[0][1] > 127, mask > 0.5)
    assert images[0][0].shape == image.shape
    ((_, truth),) = validation_images(f"textseg:{tmp_path}", 5, worn=True)
    assert np.array_equal(truth, mask > 0.5)
    with pytest.raises(ValueError, match="has no masks to train on"):
        MaskedImages(f"folder:{tmp_path / 'image'}")[0]
    with pytest.raises(ValueError, match="Unknown kind of source"):
        MaskedImages(f"textsegg:{tmp_path}")


def test_photographs_that_cannot_be_read(data, tmp_path):
    (tmp_path / "list.txt").write_text("nowhere.png\n")
    with pytest.raises(FileNotFoundError, match="nowhere.png is missing or not an image"):
        SegmentationCrops([str(data)], 64, 4, photos=photo_list(tmp_path / "list.txt"))
