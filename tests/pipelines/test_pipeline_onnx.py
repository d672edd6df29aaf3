"""The bundled graphs restore as the bundled pipeline does: any size, factor, tile, alpha, colour, a report."""

import numpy as np
import pytest
import torch
from PIL import Image

from tadisr import TADiSRPipeline
from tadisr.pipelines.pipeline_onnx import TADiSROnnxPipeline
from tadisr.runtime.graph import Graph
from tadisr.weights import BUNDLED

ONNX = BUNDLED / "tadisr-tiny" / "onnx"


@pytest.fixture(scope="module")
def torch_pipe():
    return TADiSRPipeline.from_pretrained("tadisr-tiny", dtype=torch.float32)


@pytest.fixture(scope="module")
def pipe():
    return TADiSROnnxPipeline.from_pretrained("tadisr-tiny", "float32", "cpu")


def image(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + 1, width // 4 + 1, channels), np.uint8)
    return np.ascontiguousarray(coarse.repeat(4, 0).repeat(4, 1)[:height, :width])


def assert_same(found, wanted, atol: float = 1e-4):
    for one, other in zip((*found.images, *found.text_masks), (*wanted.images, *wanted.text_masks), strict=True):
        one, other = np.asarray(one), np.asarray(other)
        assert one.shape == other.shape
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize(
    ("size", "options"),
    [
        ((20, 33), {}),
        ((24, 24), {"scale": 2}),
        ((20, 28), {"scale": 2.5}),
        ((20, 28), {"scale": 5}),
        ((40, 56), {"tile": 96, "overlap": 32}),
        ((40, 56), {"tile": 96, "overlap": 32, "tile_batch": 2}),
        ((24, 32), {"color_fix": "wavelet"}),
        ((24, 32), {"color_fix": "adain"}),
    ],
)
def test_as_the_pipeline_of_torch(pipe, torch_pipe, size, options):
    one = image(*size)
    assert_same(pipe(one, output_type="np", **options), torch_pipe(one, output_type="np", **options))


def test_alpha(pipe, torch_pipe):
    one = image(24, 28, 4)
    assert_same(pipe(one, output_type="np"), torch_pipe(one, output_type="np"))
    one[..., 3] = 120
    assert_same(pipe(one, output_type="np"), torch_pipe(one, output_type="np"))


def test_a_list_of_images(pipe, torch_pipe):
    images = [image(18, 20), image(18, 20, seed=1), image(22, 17, 4, seed=2), image(16, 16, seed=3)]
    assert_same(pipe(images, output_type="np"), torch_pipe(images, output_type="np"))


def test_small_images_are_padded(pipe, torch_pipe):
    """Before they are enlarged, where PyTorch pads after it: nearly the same."""
    for size in ((1, 1), (5, 40), (15, 9)):
        found, wanted = (p(image(*size), output_type="np").images[0] for p in (pipe, torch_pipe))
        assert found.shape == wanted.shape and np.abs(found - wanted).mean() < 0.02


def test_types(pipe):
    one = image(16, 16)
    found = pipe(one)
    assert isinstance(found.images[0], Image.Image) and found.images[0].size == (64, 64)
    assert found.text_masks[0].mode == "L" and found.reports is None
    same = [pipe(x, output_type="uint8").images[0] for x in (one, Image.fromarray(one), one / 255)]
    assert all(np.array_equal(x, np.asarray(found.images[0])) for x in same)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": 0}, "scale must be"), ({"tile": 8}, "tile must be"), ({"overlap": -1}, "overlap must be"),
        ({"color_fix": "x"}, "color_fix must be"), ({"output_type": "pt"}, "output_type must be one of pil, uint8, np"),
        ({"tile_batch": 0}, "tile_batch must be"), ({"report": 1}, "report must be"),
        ({"text_mask": image(16, 10, 1)}, "A text_mask of 10x16 pixels does not fit an image of 16x16"),
        ({"text_mask": [image(16, 16, 1)] * 2}, "Expected one text_mask for each of 1 images, got 2"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_work(pipe, options, message):
    with pytest.raises(ValueError, match=message):
        pipe(image(16, 16), **options)


def a_mask(height: int, width: int) -> np.ndarray:
    """Bars of text on the left; on the right the network decides."""
    mask = np.zeros((height, width, 2), np.uint8)
    mask[height // 4 : height // 2, :, 0] = 255
    mask[:, : width // 2, 1] = 255
    return mask


TILES = {"tile": 96, "overlap": 32}


@pytest.mark.parametrize("options", [{}, {"fidelity": 0.2}, {"scale": 2.5}, TILES, {**TILES, "scale": 2}])
def test_a_mask_prompt(pipe, torch_pipe, options):
    one, options = image(40, 56), {"output_type": "np", **options}
    for mask in (a_mask(40, 56), a_mask(160, 224)):
        wanted = torch_pipe(one, text_mask=mask, **options)
        assert_same(pipe(one, text_mask=mask, **options), wanted)
        assert np.abs(pipe(one, **options).images[0] - wanted.images[0]).max() > 0.02, "it changes nothing"


def test_masks_of_several_images(pipe, torch_pipe):
    images, masks = (
        [image(20, 20), image(20, 20, seed=1), image(22, 17)],
        [a_mask(20, 20), a_mask(80, 80), a_mask(22, 17)],
    )
    assert_same(pipe(images, text_mask=masks, output_type="np"), torch_pipe(images, text_mask=masks, output_type="np"))


def test_nothing_said_is_no_prompt(pipe):
    one = image(24, 24)
    said = pipe(one, text_mask=np.zeros((24, 24, 2), np.uint8), output_type="np")
    assert_same(said, pipe(one, output_type="np"), atol=0)


def test_only_tiles_that_a_correction_touches_are_run(pipe, monkeypatch):
    runs, own = [], Graph.__call__
    monkeypatch.setattr(Graph, "__call__", lambda *args: runs.append(1) or own(*args))
    one, mask, tiles = image(40, 60), np.zeros((40, 60, 2), np.uint8), {**TILES, "output_type": "np"}
    first = pipe(one, text_mask=mask, **tiles)
    assert len(runs) == 8
    assert_same(pipe(one, text_mask=mask, **tiles), first, atol=0)
    assert len(runs) == 8
    mask[:4, :4] = 255
    corrected = pipe(one, text_mask=mask, **tiles)
    assert len(runs) == 9 and not np.array_equal(corrected.images, first.images)


def test_masks_that_are_refused(pipe, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="text_mask is for opaque images"):
        pipe(image(20, 20, 4), text_mask=a_mask(20, 20))
    monkeypatch.setattr(pipe.graph, "takes_masks", False)
    with pytest.raises(ValueError, match="The model takes no mask prompt: train one with mask_prompt: true"):
        pipe(image(20, 20), text_mask=a_mask(20, 20))


def test_int8_is_near(torch_pipe):
    pipe = TADiSROnnxPipeline.from_pretrained("tadisr-tiny", device="cpu")
    assert pipe.dtype == "int8" and pipe.device == "cpu"
    one = image(48, 64)
    found, wanted = (np.asarray(p(one, output_type="np").images[0]) for p in (pipe, torch_pipe))
    assert 10 * np.log10(1 / np.square(found - wanted).mean()) > 40


def test_not_enough_memory(pipe, monkeypatch):
    """tile="auto" tries smaller tiles; a given tile says which one may fit."""

    class Small(Graph):
        def __init__(self, graph: Graph):
            self.__dict__ |= graph.__dict__

        def __call__(self, lr: np.ndarray, *_):
            if lr.shape[-1] > 32:
                raise MemoryError
            return super().__call__(lr)

    small = TADiSROnnxPipeline(Small(pipe.graph))
    one = image(60, 60)
    assert_same(small(one, output_type="np", overlap=16), pipe(one, output_type="np", tile=128, overlap=16))
    assert small._largest_tile == 128
    with pytest.raises(MemoryError, match="try tile=128"):
        small(one, tile=240)
