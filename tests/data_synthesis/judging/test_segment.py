"""Text segmenters: one interface, two networks, the bundled weights, and the scores they are judged by."""

import json
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from helpers.hub_server import HubServer
from helpers.masks import mask_iou
from helpers.segmenters import page, sam
from tadisr.data_synthesis.judging.sam_ts import SamTextSegmenter, SamTSConfig
from tadisr.data_synthesis.judging.segment import BUNDLED_SEGMENTER, TextSegmenter, TinyConfig, TinyTextSegmenter
from tadisr.metrics.segmentation import THRESHOLDS, foreground_scores, mask_counts
from tadisr.weights import BUNDLED


def tiny_segmenter(seed=0):
    torch.manual_seed(seed)
    return TinyTextSegmenter(TinyConfig(widths=[8, 16])).eval()


def sam_segmenter(base="somewhere"):
    segmenter = SamTextSegmenter(sam(), SamTSConfig(str(base)))
    return segmenter.eval()


def stir(segmenter):
    """Move every trained tensor away from where it starts."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in segmenter.trained_state().values():
            if tensor.is_floating_point():
                tensor.add_(0.05 * torch.rand(tensor.shape, generator=generator))
    return segmenter


@pytest.fixture(params=[tiny_segmenter, sam_segmenter], ids=["tiny", "sam"])
def segmenter(request):
    return request.param()


@settings(deadline=None, max_examples=12)
@given(height=st.integers(1, 150), width=st.integers(1, 150))
def test_any_size(height, width):
    for segmenter in (tiny_segmenter(), sam_segmenter()):
        (mask,) = segmenter.segment(np.full((height, width, 3), 90, np.uint8), tile=64, overlap=16)
        assert mask.shape == (height, width) and mask.dtype == np.float32
        assert mask.min() >= 0 and mask.max() <= 1


def test_any_kind_of_image_alone_or_in_a_list(segmenter):
    array, _ = page()
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255
    masks = segmenter.segment([array, Image.fromarray(array), tensor, array / np.float32(255)], overlap=16)
    assert all(np.allclose(mask, masks[0], atol=1e-6) for mask in masks)
    assert np.allclose(segmenter.segment(Image.fromarray(array), overlap=16)[0], masks[0], atol=1e-6)
    assert segmenter.segment([], overlap=16) == []


def test_a_mask_does_not_depend_on_what_else_is_in_the_list(segmenter):
    array, _ = page()
    images = [array, array[:30, :50], array[:30, :49], np.tile(array, (2, 2, 1)), array[:10], array[::-1]]
    together = segmenter.segment(images, tile=64, overlap=16, batch_size=4)
    for image, mask in zip(images, together, strict=True):
        assert mask.shape == image.shape[:2]
        np.testing.assert_allclose(segmenter.segment(image, tile=64, overlap=16)[0], mask, atol=1e-5)


def test_tiles_agree_with_the_whole():
    segmenter = stir(tiny_segmenter())
    image = np.random.default_rng(0).integers(0, 256, (210, 175, 3)).astype(np.uint8)
    (whole,) = segmenter.segment(image, tile=None, overlap=0)
    (tiled,) = segmenter.segment(image, tile=96, overlap=32)
    (hard,) = segmenter.segment(image, tile=96, overlap=0)
    assert np.abs(tiled - whole).max() < 0.05 and np.abs(tiled - whole).mean() < 1e-3
    assert np.abs(hard - whole).max() > 3 * np.abs(tiled - whole).max()


def test_sam_scales_what_is_small_and_tiles_what_is_large():
    segmenter = stir(sam_segmenter())
    small = np.random.default_rng(0).integers(0, 256, (16, 32, 3)).astype(np.uint8)
    seen = []
    segmenter.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    segmenter.segment(small, overlap=16)
    assert seen[0].shape == (1, 3, 64, 64)
    assert torch.allclose(seen[0][0, :, 40], segmenter.mean[:, 0].expand(3, 64))  # padded with SAM's mean below
    large = np.tile(small, (6, 3, 1))
    seen.clear()
    segmenter.segment(large, overlap=16)
    assert len(seen) == 4 and all(x.shape == (1, 3, 64, 64) for x in seen)
    seen.clear()
    segmenter.segment(large, tile=None, overlap=0)
    assert len(seen) == 1


def test_segmenting_gives_the_mode_back(segmenter):
    segmenter.train()
    segmenter.segment(page()[0], overlap=16)
    assert segmenter.training
    segmenter.eval()
    segmenter.segment(page()[0], overlap=16)
    assert not segmenter.training


@pytest.mark.parametrize(("make", "steps", "rate"), [(tiny_segmenter, 60, 0.02), (sam_segmenter, 120, 0.01)])
def test_learns_one_picture(make, steps, rate):
    segmenter = make()
    array, mask = page()
    image = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255
    truth = torch.from_numpy(mask)[None, None]
    optimizer = torch.optim.Adam([p for p in segmenter.parameters() if p.requires_grad], rate)
    segmenter.train()
    losses = []
    for _ in range(steps):
        levels = segmenter(image)
        truths = [F.interpolate(truth, size=level.shape[-2:], mode="area") for level in levels]
        loss = sum(map(F.binary_cross_entropy_with_logits, levels, truths))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert mask_iou(levels[-1].detach().numpy()[0, 0] > 0, mask > 0.5) > 0.7


def test_saved_and_loaded_bit_for_bit(segmenter, tmp_path):
    if isinstance(segmenter, SamTextSegmenter):
        sam().save_pretrained(tmp_path / "base")
        segmenter.config.base_model = str(tmp_path / "base")
    stir(segmenter).save_pretrained(tmp_path / "model")
    again = TextSegmenter.from_pretrained(tmp_path / "model")
    assert type(again) is type(segmenter) and again.config == segmenter.config and not again.training
    state = again.state_dict()
    assert state.keys() == segmenter.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in segmenter.state_dict().items())
    array, _ = page()
    assert np.array_equal(again.segment(array, overlap=16)[0], segmenter.segment(array, overlap=16)[0])
    segmenter.save_pretrained(tmp_path / "half", torch.float16)
    half = load_file(tmp_path / "half" / "model.safetensors")
    assert {x.dtype for x in half.values() if x.is_floating_point()} == {torch.float16}
    assert {p.dtype for p in TextSegmenter.from_pretrained(tmp_path / "half").parameters()} == {torch.float32}


class TestSamTS:
    def test_untrained_adapters_change_nothing(self):
        pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        plain = sam().vision_encoder(pixels).last_hidden_state
        assert torch.equal(sam_segmenter().sam.vision_encoder(pixels).last_hidden_state, plain)

    def test_the_low_resolution_mask_is_sams_own(self):
        segmenter, base = sam_segmenter(), sam()
        generator = torch.Generator().manual_seed(0)
        embedding, prompt = (torch.randn(2, *shape, generator=generator) for shape in ((64, 4, 4), (12, 64)))
        low, high = segmenter.decode(embedding, prompt, torch.zeros(2, 3, 64, 64))
        expected, _ = base.mask_decoder(
            image_embeddings=embedding,
            image_positional_embeddings=base.get_image_wide_positional_embeddings().repeat(2, 1, 1, 1),
            sparse_prompt_embeddings=prompt[:, None],
            dense_prompt_embeddings=base.prompt_encoder(None, None, None, None)[1],
            multimask_output=False,
        )
        torch.testing.assert_close(low, expected[:, 0])
        assert low.shape == (2, 1, 16, 16) and high.shape == (2, 1, 64, 64)

    def test_gradients_reach_what_is_trained_and_nothing_else(self):
        segmenter = stir(sam_segmenter())
        sum(level.square().mean() for level in segmenter(torch.rand(1, 3, 64, 64))).backward()
        trained = segmenter.trained_state()
        without = [name for name, p in trained.items() if p.grad is None or not p.grad.abs().sum()]
        assert without == []
        assert sum("adapter" in name for name in trained) == 2 * 2 * 4
        assert all(p.grad is None for name, p in segmenter.named_parameters() if name not in trained)
        assert not [name for name in trained if "vision_encoder" in name and "adapter" not in name]

    def test_training_leaves_the_base_alone_and_out_of_the_file(self, tmp_path):
        segmenter = sam_segmenter()
        base = {name: p.clone() for name, p in sam().named_parameters() if not name.startswith("mask_decoder")}
        optimizer = torch.optim.AdamW(segmenter.parameters(), 0.01)
        for _ in range(2):
            segmenter(torch.rand(1, 3, 64, 64))[-1].mean().backward()
            optimizer.step()
        now = {name.replace(".base.", "."): p for name, p in segmenter.sam.named_parameters()}
        assert base and all(torch.equal(tensor, now[name]) for name, tensor in base.items())
        segmenter.save_pretrained(tmp_path)
        saved = load_file(tmp_path / "model.safetensors")
        assert not [name for name in saved if ".base." in name or "patch_embed" in name or "prompt_encoder" in name]
        config = json.loads((tmp_path / "text_segmenter.json").read_text())
        assert config["base_model"] == "somewhere" and config["_class_name"] == "SamTextSegmenter"

    def test_gradient_checkpointing_changes_no_gradient(self):
        gradients = []
        for checkpointing in (False, True):
            segmenter = stir(sam_segmenter()).train()
            if checkpointing:
                segmenter.enable_gradient_checkpointing()
            image = torch.linspace(0, 1, 3 * 64 * 64).reshape(1, 3, 64, 64)
            segmenter(image)[-1].square().mean().backward()
            gradients.append([p.grad for p in segmenter.trained_state().values()])
        for one, other in zip(*gradients, strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                torch.testing.assert_close(one, other)

    def test_without_image_detail_the_head_sees_features_only(self):
        torch.manual_seed(0)
        segmenter = SamTextSegmenter(sam(), SamTSConfig("x", image_detail=False))
        generator = torch.Generator().manual_seed(0)
        embedding, prompt = (torch.randn(1, *shape, generator=generator) for shape in ((64, 4, 4), (12, 64)))
        black, white = (segmenter.decode(embedding, prompt, value * torch.ones(1, 3, 64, 64))[1] for value in (0, 1))
        assert torch.equal(black, white)

    def test_the_base_may_have_moved(self, tmp_path):
        sam().save_pretrained(tmp_path / "base")
        stir(sam_segmenter("user/gone")).save_pretrained(tmp_path / "model")
        segmenter = TextSegmenter.from_pretrained(tmp_path / "model", base_model=tmp_path / "base")
        assert segmenter.config.base_model == str(tmp_path / "base")

    def test_from_the_hub_with_its_base_at_a_revision(self, tmp_path):
        sam().save_pretrained(tmp_path / "base")
        stir(sam_segmenter("tester/sam")).save_pretrained(tmp_path / "model")
        script = """
import sys
from huggingface_hub import HfApi
from tadisr.data_synthesis.judging.segment import TextSegmenter
api = HfApi()
for name in ("sam", "sam-ts"):
    api.create_repo(f"tester/{name}")
revision = api.upload_folder(repo_id="tester/sam", folder_path=f"{sys.argv[1]}/base").oid
config = f"{sys.argv[1]}/model/text_segmenter.json"
text = open(config).read().replace('"base_revision": null', f'"base_revision": "{revision}"')
open(config, "w").write(text)
api.upload_folder(repo_id="tester/sam-ts", folder_path=f"{sys.argv[1]}/model")
api.delete_file("model.safetensors", "tester/sam")  # main moves on
TextSegmenter.from_pretrained("tester/sam-ts")
again = TextSegmenter.from_pretrained("tester/sam-ts", local_files_only=True)
print(type(again).__name__, again.config.base_model, again.config.base_revision == revision)
"""
        with HubServer(tmp_path / "hub") as server:
            assert server.run(script, tmp_path).splitlines()[-1] == "SamTextSegmenter tester/sam True"


class TestMistakes:
    def test_no_such_model(self, tmp_path):
        for name in ("text-segmenter-huge", str(tmp_path / "nowhere")):
            with pytest.raises(
                FileNotFoundError, match="^No model .*: give text-segmenter-tiny, a folder, or a Hub id"
            ):
                TextSegmenter.from_pretrained(name)

    def test_a_folder_of_something_else(self, tmp_path):
        with pytest.raises(ValueError, match="holds no text segmenter"):
            TextSegmenter.from_pretrained(tmp_path)
        shutil.copytree(BUNDLED / BUNDLED_SEGMENTER, tmp_path / "model")
        (tmp_path / "model" / "text_segmenter.json").write_text('{"_class_name": "GiantSegmenter"}')
        with pytest.raises(ValueError, match="names the class GiantSegmenter: known are TinyTextSegmenter"):
            TextSegmenter.from_pretrained(tmp_path / "model")

    def test_a_base_that_is_missing_or_wrong(self, tmp_path):
        sam_segmenter(tmp_path / "base").save_pretrained(tmp_path / "model")
        with pytest.raises(FileNotFoundError, match="No model .*base"):
            TextSegmenter.from_pretrained(tmp_path / "model")
        (tmp_path / "base").mkdir()
        with pytest.raises(ValueError, match="is no SAM: its config.json has the model_type None"):
            TextSegmenter.from_pretrained(tmp_path / "model")
        (tmp_path / "base" / "config.json").write_text('{"model_type": "bert"}')
        with pytest.raises(ValueError, match="model_type bert"):
            TextSegmenter.from_pretrained(tmp_path / "model")
        sam(hidden_size=32).save_pretrained(tmp_path / "base")
        with pytest.raises(ValueError, match="do not fit: 16 tensors differ, such as sam.vision_encoder.*adapter"):
            TextSegmenter.from_pretrained(tmp_path / "model")

    def test_arguments_that_cannot_work(self):
        segmenter, image = tiny_segmenter(), page()[0]
        for arguments, message in (
            ({"tile": 32}, "at least 64 pixels"),
            ({"tile": 66}, "a multiple of 4"),
            ({"tile": "large"}, 'must be "auto"'),
            ({"tile": 64, "overlap": 40}, "at most half a tile"),
            ({"overlap": -4}, "overlap must be"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
        ):
            with pytest.raises(ValueError, match=message):
                segmenter.segment(image, **arguments)
        with pytest.raises(TypeError, match="Expected a PIL image"):
            segmenter.segment("photo.png")

    def test_the_interface_is_no_model(self):
        with pytest.raises(TypeError, match="use TextSegmenter.from_pretrained"):
            TextSegmenter()(torch.zeros(1))
        with pytest.raises(TypeError, match="use TextSegmenter.from_pretrained"):
            TextSegmenter.build({})


class TestScores:
    def test_known_answers(self):
        truth = np.array([[True, True, False, False]])
        counts = mask_counts(np.array([[0.9, 0.4, 0.6, 0.1]], np.float32), truth)
        at_half = int(np.argmin(np.abs(THRESHOLDS - 0.5)))
        assert counts[:, at_half].tolist() == [1, 2, 2]
        scores = foreground_scores([counts])
        assert scores["iou"][at_half] == pytest.approx(1 / 3)
        assert scores["precision"][at_half] == scores["recall"][at_half] == scores["f"][at_half] == 0.5

    def test_precision_and_recall_are_means_over_images_with_text(self):
        found, missed = np.ones((2, 2), np.float32), np.zeros((2, 2), np.float32)
        all_text, none = np.ones((2, 2), bool), np.zeros((2, 2), bool)
        pairs = [(found, all_text), (missed, all_text), (found, none)]
        scores = foreground_scores([mask_counts(*pair) for pair in pairs])
        assert scores["precision"][9] == scores["recall"][9] == scores["f"][9] == 0.5
        assert scores["iou"][9] == pytest.approx(4 / 12)

    def test_nothing_to_find_and_nothing_found(self):
        scores = foreground_scores([mask_counts(np.zeros((2, 2), np.float32), np.zeros((2, 2), bool))])
        assert (scores["iou"] == 1).all() and (scores["f"] == 0).all()

    @settings(deadline=None, max_examples=30)
    @given(seed=st.integers(0, 10**6), coarse=st.booleans())
    def test_counts_are_what_thresholding_gives(self, seed, coarse):
        rng = np.random.default_rng(seed)
        mask = rng.random((5, 7), np.float32)
        if coarse:  # values on the thresholds themselves
            mask = (np.round(mask * 20) / 20).astype(np.float32)
        truth = rng.random((5, 7)) < 0.4
        both, predicted, true = mask_counts(mask, truth)
        for k, threshold in enumerate(THRESHOLDS.astype(np.float32)):
            assert predicted[k] == (mask > threshold).sum() and both[k] == ((mask > threshold) & truth).sum()
            assert true[k] == truth.sum()

    def test_masks_that_do_not_match(self):
        with pytest.raises(ValueError, match="Expected masks of one size"):
            mask_counts(np.zeros((2, 2), np.float32), np.zeros((2, 3), bool))
        with pytest.raises(ValueError, match="the second boolean"):
            mask_counts(np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint8))


class TestBundled:
    @pytest.fixture(scope="class")
    def bundled(self):
        return TextSegmenter.from_pretrained()

    def test_small_and_documented(self, bundled):
        folder = BUNDLED / BUNDLED_SEGMENTER
        assert sum(path.stat().st_size for path in folder.iterdir()) < 5e6
        assert "train_segmenter.py" in (folder / "README.md").read_text(encoding="utf-8")
        weights = load_file(folder / "model.safetensors").values()
        assert {x.dtype for x in weights if x.is_floating_point()} == {torch.float16}

    @pytest.mark.parametrize("inverted", [False, True])
    def test_finds_strokes_of_a_face_it_has_never_seen(self, bundled, inverted):
        """Pillow's built-in face is in no training page."""
        image, mask = page("Quick brown\nfoxes jump\n0123 (45%)", 224, 34)
        (found,) = bundled.segment(255 - image if inverted else image)
        assert mask_iou(found > 0.5, mask > 0.5) > 0.85

    def test_finds_nothing_where_nothing_is(self, bundled):
        gradient = np.repeat(np.linspace(0, 255, 200).astype(np.uint8)[None, :, None], 3, 2).repeat(150, 0)
        for image in (np.full((150, 200, 3), 128, np.uint8), gradient):
            assert (bundled.segment(image)[0] > 0.5).mean() < 0.005

    def test_tiles_agree_with_the_whole(self, bundled):
        image = page("Quick brown\nfoxes jump\n0123 (45%)", 320, 44)[0]
        (whole,), (tiled,) = bundled.segment(image), bundled.segment(image, tile=192)
        assert np.abs(whole - tiled).mean() < 0.005
