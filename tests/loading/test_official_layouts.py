"""The released architectures: every key that their checkpoints hold, and that ours computes what they describe."""

import copy
import hashlib
import json
import os

import diffusers
import pytest
import torch
from diffusers import AutoencoderKL

from helpers.official_checkpoints import GROUPS, SMALL, Described, random_checkpoint, saved
from tadisr.loading import official
from tadisr.loading.adapters import load_adapter
from tadisr.loading.official_layouts import COGVIEW4, KOLORS, RELEASES
from tadisr.models.families import predict
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode
from tadisr.models.prompt import TextPrompt

slow = pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="a minute; set TADISR_SLOW=1")
both = pytest.mark.parametrize("release", SMALL, ids=["kolors", "cogview4"])


# ---- the layouts


@pytest.mark.parametrize(
    ("release", "keys", "size", "digest"),
    [
        (KOLORS, 1918, 195_153_812, "b8c3bdaff8ea9a2a3a0eb0c471d2c2829ef246a089b33fbb2ccf17b4f8012089"),
        (COGVIEW4, 720, 785_196_660, "fd29c8b46bb35fe098547ff9bf42990fceb745e143b28dbd62a3ec8d1c3ec5ff"),
    ],
    ids=["kolors", "cogview4"],
)
def test_the_layouts_are_those_of_the_released_files(release, keys, size, digest):
    """The digest is of the files' listing, as sorted JSON rows [group, key, *shape]; the sum is of their tensors."""
    layout = release.layout(GROUPS[release.family.component])
    rows = sorted([group, key, *slot.shape] for group, slots in layout.items() for key, slot in slots.items())
    assert len(rows) == keys and hashlib.sha256(json.dumps(rows).encode()).hexdigest() == digest
    once = {slot.ours or (group, key): slot.shape for group, slots in layout.items() for key, slot in slots.items()}
    assert 4 * sum(torch.Size(shape).numel() for shape in once.values()) == size < release.size


# ---- the decoder, against the description


def check_decoding(release, tmp_path, side, variations):
    checkpoint = random_checkpoint(release)
    out = tmp_path / "adapter"
    official.convert(saved(checkpoint, tmp_path / "official.pkl"), out, releases=[release])
    torch.manual_seed(0)
    vae = AutoencoderKL(**release.vae_config, scaling_factor=0.5).eval()
    groups = vae.config.norm_num_groups
    image = torch.rand(1, 3, side, side + 16, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def described(**variation):
        reference = Described(vae, checkpoint, groups, **variation)
        latents, features = reference.encode(image)
        return reference.decode(latents, features)

    with torch.no_grad():
        expected = described()
        others = [described(**variation) for variation in variations]
        load_adapter(out, {"vae": vae})
        decoder = JointSegmentationDecoder.from_pretrained(out / "joint_decoder").eval()
        latents, features = encode_mode(vae, image)
        found = decoder(vae, latents, {}, features, image)
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.std() > 0.05
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    for other in others:  # what the comparison could not miss
        assert all((a - b).abs().max() > 1e-2 for a, b in zip(other, expected, strict=True))


@both
def test_it_decodes_as_described(release, tmp_path):
    check_decoding(release, tmp_path, 64, [{"scaling": 1.0}, {"skips": False}])


@slow
@pytest.mark.parametrize("release", RELEASES, ids=["kolors", "cogview4"])
def test_it_decodes_as_described_at_full_size(release, tmp_path):
    check_decoding(release, tmp_path, 64, [])


# ---- the backbone


def conditions(release):
    """A random prompt of the widths that the release reads."""
    width, pooled = release.prompt_widths()
    time_ids = None if pooled is None else [64, 64, 0, 0, 64, 64]
    return TextPrompt(num_tokens=16, embed_dim=width, text_positions=[3], pooled_dim=pooled, time_ids=time_ids)


def backbones(release):
    """The bare backbone, and a copy."""
    cls = getattr(diffusers, release.family.backbone_class)
    torch.manual_seed(0)
    one = cls(**release.backbone_config).eval()
    return one, copy.deepcopy(one)


@both
def test_the_backbone_gets_its_lora_and_its_whole_layers(release, tmp_path):
    checkpoint = random_checkpoint(release)
    official.convert(saved(checkpoint, tmp_path / "official.pkl"), tmp_path / "out", releases=[release])
    ours, merged = backbones(release)
    latents = torch.randn(1, release.backbone_config["in_channels"], 8, 8, generator=torch.Generator().manual_seed(1))
    prompt = conditions(release)
    with torch.no_grad():
        bare = predict(merged, latents, 200, prompt, 8)
        stored = checkpoint[release.backbone_group]
        for key, tensor in stored.items():
            if ".lora_A." in key:
                update = 2 * stored[key.replace("lora_A", "lora_B")].flatten(1) @ tensor.flatten(1)
                weight = merged.get_parameter(key.replace("lora_A.default.", ""))
                weight += update.view_as(weight)
            elif ".lora_B." not in key:
                merged.get_parameter(key).copy_(tensor)
        expected = predict(merged, latents, 200, prompt, 8)
        load_adapter(tmp_path / "out", {release.family.component: ours})
        found = predict(ours, latents, 200, prompt, 8)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert (bare - expected).abs().max() > 1e-2
    if release.family.component == "unet":
        assert torch.equal(ours.conv_in.weight, stored["conv_in.weight"])
