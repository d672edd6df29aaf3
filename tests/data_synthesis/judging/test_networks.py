"""The networks of judging: batches that change nothing, devices, and what is said where memory is short."""

import numpy as np
import pytest
import torch

from helpers.source_samples import text_line
from tadisr.data_synthesis.judging import networks
from tadisr.data_synthesis.judging.networks import Networks, find_devices

TEXTS = ("OPEN", "Coffee", "Exit 7", "SALE", "Market", "Tickets")


@pytest.fixture(scope="module")
def crops():
    """Lines of many sizes, some of which pad to the same."""
    return [text_line(text, height, seed)[0] for seed, text in enumerate(TEXTS) for height in (24, 30, 56)]


@pytest.fixture(scope="module")
def bundled():
    return Networks("text-segmenter-tiny", "tadisr-tiny")


def test_crops_together_give_what_each_alone_gives(bundled, crops):
    for mask, image in zip(bundled.segment(crops), crops, strict=True):
        [alone] = bundled.segment([image])
        assert mask.shape == image.shape[:2] and mask.dtype == np.uint8 and mask.max() > 200
        assert np.abs(mask.astype(int) - alone).max() <= 1
    chosen = crops[::3][:3]  # all of them pad to 32 pixels of height, and two to the same width
    assert len({-(-image.shape[1] // 32) for image in chosen}) == 2
    for restored, image in zip(bundled.enhance(chosen, 10_000), chosen, strict=True):
        [alone] = bundled.enhance([image], 10_000)
        assert restored.shape == (4 * image.shape[0], 4 * image.shape[1], 3)
        assert np.abs(restored.astype(int) - alone).max() <= 1
    assert bundled.segment([]) == bundled.enhance([], 100) == []


def test_batches_have_no_more_pixels_than_one_image_of_sam(bundled, crops, monkeypatch):
    sizes, own = [], bundled._segmenter.forward
    monkeypatch.setattr(bundled._segmenter, "forward", lambda x: [sizes.append(x.shape), own(x)][1])
    bundled.segment(crops[:2] * 2)
    assert max(size[0] for size in sizes) > 1
    monkeypatch.setattr(networks, "_BATCH_PIXELS", 1)
    sizes.clear()
    bundled.segment(crops[:2] * 2)
    assert [size[0] for size in sizes] == [1] * 4


def test_devices_are_all_gpus_or_else_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_devices() == find_devices("cpu") == find_devices("auto", "ray") == ["cpu"]
    with pytest.raises(ValueError, match="--device cuda: PyTorch sees no CUDA GPU here"):
        find_devices("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert find_devices() == find_devices("cuda") == ["cuda:0", "cuda:1"]
    assert find_devices("cpu") == find_devices("auto", "ray") == ["cpu"]
    with pytest.raises(ValueError, match="--backend ray judges on CPUs"):
        find_devices("cuda", "ray")


def test_too_little_memory_is_said_in_one_line(bundled, crops, monkeypatch):
    def forward(_):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20 GiB")

    monkeypatch.setattr(bundled._segmenter, "forward", forward)
    with pytest.raises(RuntimeError, match="^Not enough memory on cpu for segmenter and enhancer: free some, or name"):
        bundled.segment(crops[:1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpus_give_what_the_cpu_gives(bundled, crops):
    with networks.serve("text-segmenter-tiny", "tadisr-tiny", find_devices("cuda")) as servers:
        for server in servers:
            for mask, expected in zip(server.segment(crops), bundled.segment(crops), strict=True):
                assert np.abs(mask.astype(int) - expected).mean() < 0.5  # convolutions round to TF32
            for image, expected in zip(server.enhance(crops, 128), bundled.enhance(crops, 128), strict=True):
                assert image.shape == expected.shape and np.abs(image.astype(int) - expected).mean() < 0.5
    assert not torch.cuda.is_initialized()  # the GPU belongs to the servers
