"""Mask prompts in the joint decoder."""

import pytest
import torch
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from helpers import tiny
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode, vae_factor
from tadisr.models.mask_prompt import MaskPromptFollower

KINDS = {
    "sd": {},
    "latents": {"layers": False},
    "mid_block": {"layers": False, "mask_source": "mid_block"},
    "narrow": {"mask_block_out_channels": [4, 8, 8]},
}


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompt(height, width, batch=1, seed=0):
    mask, given = torch.rand(2, batch, height, width, generator=torch.Generator().manual_seed(seed)).round()
    return torch.stack([mask * given, given], 1)


def parts(kind="sd", mask_prompt=True, **options):
    """A VAE, a joint decoder on it that is at work, and the rest of its inputs for an image of 16 x 24 pixels."""
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    options = {**KINDS[kind], **options}
    has_layers = options.pop("layers", True)
    decoder = JointSegmentationDecoder.from_base(vae, unet, text_attention=has_layers)
    config = {**decoder.config, "mask_source": None, **options, "mask_prompt": mask_prompt}
    decoder = JointSegmentationDecoder.from_config(config).eval()
    tiny.shake(decoder, ".scale")
    return vae, decoder, (noise(1, 4, 4, 6), maps_for(decoder, 24, 6))


def maps_for(decoder, large, small):
    """Random attention maps, of so many positions at the U-Net's first level and its second."""
    layers = zip(decoder.config.attention_layers, decoder.config.attention_heads, strict=True)
    return {
        name: noise(1, heads, large if "down_blocks.0" in name or "up_blocks.1" in name else small, seed=seed)
        for seed, (name, heads) in enumerate(layers)
    }


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_an_untrained_encoder_and_an_empty_prompt_change_nothing(kind):
    vae, decoder, inputs = parts(kind)
    without = decoder(vae, *inputs)
    assert vae_factor(vae) == decoder.prompt_encoder.factor
    for trained, given in ((False, prompt(16, 24)), (True, torch.zeros(1, 2, 16, 24))):
        if trained:
            tiny.shake(decoder.prompt_encoder, "to_")
        for made, plain in zip(decoder(vae, *inputs, text_mask=given), without, strict=True):
            assert torch.equal(made, plain)
    image, mask = decoder(vae, *inputs, text_mask=prompt(16, 24))
    assert not torch.allclose(image, without[0]) and not torch.allclose(mask, without[1])


def test_a_decoder_without_one_refuses_a_prompt():
    vae, decoder, inputs = parts(mask_prompt=False)
    assert decoder.prompt_encoder is None and not any("prompt" in name for name in decoder.state_dict())
    with pytest.raises(ValueError, match="takes no mask prompt: train one with mask_prompt: true"):
        decoder(vae, *inputs, text_mask=prompt(16, 24))


@pytest.mark.parametrize("kind", KINDS)
def test_its_encoder_learns(kind):
    """The last layers from the first step, the first layer from the second."""
    vae, decoder, inputs = parts(kind)
    vae.requires_grad_(False)
    optimizer = torch.optim.SGD(decoder.prompt_encoder.parameters(), 0.1)
    for step in range(2):
        image, mask = decoder(vae, *inputs, text_mask=prompt(16, 24))
        ((image - 1).square().mean() + (mask - 1).square().mean()).backward()
        learns = {name: bool(p.grad.abs().max() > 0) for name, p in decoder.prompt_encoder.named_parameters()}
        assert learns == {name: step == 1 or name != "conv_in.weight" for name in learns}
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(("patch", "mask_width"), [(1, 6), (2, 8)])
@torch.no_grad()
def test_a_follower_acts_where_a_prompt_is_given_alone(patch, mask_width):
    torch.manual_seed(0)
    follower = MaskPromptFollower(4, patch, 8, mask_width, 2, 4)
    image, mask = noise(2, 8, 16 // patch, 24 // patch), noise(2, mask_width, 16 // patch, 24 // patch, seed=1)
    given = torch.zeros(2, 2, 16, 24)
    given[0, :, 4:8, 6:20] = 1
    assert torch.equal(follower(image, mask, given), image)
    tiny.shake(follower, "to_image")
    drawn = follower(image, mask, given)
    changed = pixel_shuffle((drawn != image).any(1, keepdim=True).float().repeat(1, patch**2, 1, 1), patch)
    assert torch.equal(changed, given[:, 1:])
    assert torch.equal(drawn, follower(image, mask, pixel_unshuffle(given, 4)))
    other = given.clone()
    other[:, 0] = 0  # no text there
    assert not torch.equal(follower(image, mask, other), drawn)


def test_a_follower_of_its_own_learns():
    vae, decoder, inputs = parts(mask_prompt_blocks=1)
    for part in (vae, decoder):
        part.requires_grad_(False)
    optimizer = torch.optim.SGD(decoder.prompt_follower.requires_grad_().parameters(), 0.1)
    losses = []
    for _ in range(3):
        image, _ = decoder(vae, *inputs, text_mask=prompt(16, 24))
        losses.append((image - 1).square().mean())
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[2] < losses[1] < losses[0]
    assert all(parameter.grad is None or parameter.requires_grad for parameter in decoder.parameters())


def test_a_follower_needs_prompts():
    with pytest.raises(ValueError, match="mask_prompt_blocks draw what mask_prompt takes: set mask_prompt"):
        parts(mask_prompt=False, mask_prompt_blocks=1)


def test_in_half_precision_and_saved(tmp_path):
    vae, decoder, (latents, maps) = parts(mask_prompt_blocks=1)
    tiny.shake(decoder.prompt_encoder, "to_")
    tiny.shake(decoder.prompt_follower, "to_image")
    decoder.save_pretrained(tmp_path)
    again = JointSegmentationDecoder.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        made, remade = (d(vae, latents, maps, text_mask=prompt(16, 24)) for d in (decoder, again))
        assert all(torch.equal(one, other) for one, other in zip(made, remade, strict=True))
        half = (latents.bfloat16(), {name: x.bfloat16() for name, x in maps.items()})
        decoder.image_in_float32(vae)
        image, mask = again.bfloat16()(vae.bfloat16(), *half, text_mask=prompt(16, 24))
    assert image.dtype == mask.dtype == torch.float32


@torch.no_grad()
def test_without_normalisation_a_prompt_acts_nearby_alone():
    """Two latents by its encoder, and as far as the decoders' 3x3 convolutions reach."""
    pipe = tiny.lean(mask_prompt=True)
    decoder = pipe.joint_decoder
    given = torch.zeros(1, 2, 256, 256)
    given[..., 128:132, 128:132] = 1  # one latent's pixels
    image = noise(1, 3, 256, 256)
    latents, features = encode_mode(pipe.vae, image)
    maps = maps_for(decoder, 0, 32 * 32)
    plain, prompted = (decoder(pipe.vae, latents, maps, features, image, x) for x in (None, given))
    # The encoder has 2 convolutions of 3x3, the interaction 2, the up block's two ResBlocks 4, the last layer 1.
    reach = 4 * (2 + 2 + 4 + 1)
    for made, before in zip(prompted, plain, strict=True):
        rows, columns = ((made != before).any(1)[0].any(side).nonzero()[:, 0] for side in (1, 0))
        for touched in (rows, columns):
            assert 128 - reach <= touched.min() < 128 - reach + 4 and 132 + reach - 4 <= touched.max() < 132 + reach
