"""The joint decoder, against the VAE it is built on."""

import pytest
import tiny
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tadisr.models.attention import cross_attention_layers
from tadisr.models.interaction import CrossDecoderInteractionBlock
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode, vae_factor, vae_patch
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel

VAES = {
    "sd": {"scaling_factor": 0.18215},
    "sdxl": {"scaling_factor": 0.13025, "use_quant_conv": True, "mid_block_add_attention": True},
    "no-quant": {"use_quant_conv": False, "use_post_quant_conv": False},
    "no-mid-attention": {"mid_block_add_attention": False, "layers_per_block": 2},
    "shifted": {"scaling_factor": 0.3611, "shift_factor": 0.1159, "latent_channels": 16, "use_quant_conv": False},
    "four-levels": {"levels": 4},
}


@pytest.fixture(params=VAES)
def vae(request):
    torch.manual_seed(0)
    return tiny.vae(**VAES[request.param])


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_unet(vae, cls=None):
    unet = tiny.unet(in_channels=vae.config.latent_channels, out_channels=vae.config.latent_channels)
    return cls.from_config(unet.config) if cls else unet


def maps_for(unet, batch, size):
    """Random attention maps of the right shapes."""
    half = [(side + 1) // 2 for side in size]
    return {
        name: noise(batch, heads, size[0] * size[1] if "down_blocks.0" in name or "up_blocks.1" in name
                    else half[0] * half[1], seed=i)
        for i, (name, heads) in enumerate(cross_attention_layers(unet).items())
    }  # fmt: skip


# ---- the interaction block


def test_an_untrained_interaction_is_the_identity():
    torch.manual_seed(0)
    image, mask = noise(2, 8, 5, 7), noise(2, 8, 5, 7, seed=1)
    image_out, mask_out = CrossDecoderInteractionBlock(8, groups=4)(image, mask)
    assert torch.equal(image_out, image) and torch.equal(mask_out, mask)


def test_a_trained_interaction_links_the_streams_both_ways():
    torch.manual_seed(0)
    block = CrossDecoderInteractionBlock(8, groups=4)
    tiny.shake(block, "scale")
    image, mask = noise(1, 8, 5, 7).requires_grad_(), noise(1, 8, 5, 7, seed=1).requires_grad_()
    for out, own, other in zip(block(image, mask), (image, mask), (mask, image), strict=True):
        from_own, from_other = torch.autograd.grad(out.square().sum(), (own, other), retain_graph=True)
        assert from_own.abs().min() > 0 and from_other.abs().max() > 1e-4


def test_interaction_scales_learn_from_the_first_step():
    torch.manual_seed(0)
    block = CrossDecoderInteractionBlock(8, groups=4)
    image, mask = block(noise(1, 8, 4, 4), noise(1, 8, 4, 4, seed=1))
    (image.square().mean() + mask.square().mean()).backward()
    assert block.image.scale.grad.abs().max() > 0 and block.mask.scale.grad.abs().max() > 0


# ---- encoding


def test_latents_are_the_scaled_posterior_mode(vae):
    image = noise(2, 3, 3 * vae_factor(vae), 2 * vae_factor(vae))
    with torch.no_grad():
        latents, features = encode_mode(vae, image)
        expected = vae.encode(image).latent_dist.mode()
    expected = (expected - (vae.config.shift_factor or 0)) * vae.config.scaling_factor
    assert latents.shape[-2:] == (3, 2)
    torch.testing.assert_close(latents, expected)
    widths = vae.config.block_out_channels
    sides = [3 * vae_factor(vae) // 2**level for level in range(len(widths))]
    assert [f.shape[1:3] for f in features] == list(zip([widths[0], *widths[:-1]], sides, strict=True))


# ---- decoding


def test_an_untrained_decoder_returns_the_vaes_image(vae):
    unet = a_unet(vae)
    torch.manual_seed(1)
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    size = (4, 6)
    latents = noise(2, vae.config.latent_channels, *size)
    with torch.no_grad():
        image, mask = decoder(vae, latents, maps_for(unet, 2, size))
        expected = vae.decode(latents / vae.config.scaling_factor + (vae.config.shift_factor or 0)).sample
    assert image.shape == (2, 3, *(side * vae_factor(vae) for side in size))
    torch.testing.assert_close(image, expected, atol=1e-6, rtol=1e-5)
    assert mask.shape == (2, 1, *image.shape[-2:])


def test_the_mask_depends_on_the_attention_and_the_image_does_not_until_trained():
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    latents, maps = noise(1, 4, 4, 6), maps_for(unet, 1, (4, 6))
    other = {name: value + noise(*value.shape, seed=9) for name, value in maps.items()}
    with torch.no_grad():
        image, mask = decoder(vae, latents, maps)
        image_2, mask_2 = decoder(vae, latents, other)
        assert torch.equal(image, image_2) and not torch.allclose(mask, mask_2, atol=1e-3)
        mask_3 = decoder(vae, -latents, maps)[1]
        assert torch.equal(mask_3, mask)
        tiny.shake(decoder, ".scale")
        assert not torch.allclose(decoder(vae, latents, other)[0], decoder(vae, latents, maps)[0], atol=1e-4)
        assert not torch.allclose(decoder(vae, -latents, maps)[1], decoder(vae, latents, maps)[1], atol=1e-4)


def test_every_attention_layer_is_read():
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    maps = {name: value.requires_grad_() for name, value in maps_for(unet, 1, (4, 6)).items()}
    decoder(vae, noise(1, 4, 4, 6), maps)[1].square().sum().backward()
    assert all(value.grad.abs().amax((0, 2)).min() > 0 for value in maps.values()), "of every layer, every head"


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_patches(patch):
    torch.manual_seed(0)
    vae = tiny.vae(levels=2, in_channels=3 * patch**2, out_channels=3 * patch**2)
    assert (vae_patch(vae), vae_factor(vae)) == (patch, 2 * patch)
    unet = tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    image = noise(1, 3, 4 * vae_factor(vae), 6 * vae_factor(vae))
    with torch.no_grad():
        latents, _ = encode_mode(vae, image)
        torch.testing.assert_close(
            latents, vae.encode(pixel_unshuffle(image, patch)).latent_dist.mode() * vae.config.scaling_factor
        )
        decoded, mask = decoder(vae, latents, maps_for(unet, 1, (4, 6)))
        expected = pixel_shuffle(vae.decode(latents / vae.config.scaling_factor).sample, patch)
    torch.testing.assert_close(decoded, expected, atol=1e-6, rtol=1e-5)
    assert decoded.shape == image.shape and mask.shape == (1, 1, *image.shape[-2:])


def test_skips_and_image_residual():
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet, encoder_skips=True, image_residual=True)
    image = noise(1, 3, 16, 24)
    maps = maps_for(unet, 1, (4, 6))
    with torch.no_grad():
        latents, features = encode_mode(vae, image)
        expected = image + vae.decode(latents / vae.config.scaling_factor).sample
        untrained = decoder(vae, latents, maps, features, image)[0]
        torch.testing.assert_close(untrained, expected, atol=1e-6, rtol=1e-5)
        for level in range(3):  # each level's skip, alone
            nn.init.normal_(decoder.skips[level].weight)
            assert not torch.allclose(decoder(vae, latents, maps, features, image)[0], untrained, atol=1e-3)
            nn.init.zeros_(decoder.skips[level].weight)


def test_gradients_reach_every_new_parameter():
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet, encoder_skips=True)
    tiny.shake(decoder, ".scale")
    latents, features = encode_mode(vae, noise(1, 3, 16, 24))
    image, mask = decoder(vae, latents.detach(), maps_for(unet, 1, (4, 6)), features)
    (image.square().mean() + mask.square().mean()).backward()
    assert not [name for name, parameter in decoder.named_parameters() if parameter.grad is None]


# ---- round trips


def equal(model, again):
    assert type(again) is type(model)
    states = model.state_dict(), again.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("options", [{}, {"encoder_skips": True, "image_residual": True}])
def test_round_trip(vae, options, tmp_path):
    unet = a_unet(vae)
    decoder = JointSegmentationDecoder.from_base(vae, unet, **options)
    tiny.shake(decoder, ".scale")
    decoder.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.bin"))
    again = JointSegmentationDecoder.from_pretrained(tmp_path)
    assert equal(decoder, again)
    image = noise(1, 3, 4 * vae_factor(vae), 6 * vae_factor(vae))
    maps = maps_for(unet, 1, (4, 6))
    with torch.no_grad():
        latents, features = encode_mode(vae, image)
        for one, other in zip(*(d.eval()(vae, latents, maps, features, image) for d in (decoder, again)), strict=True):
            assert torch.equal(one, other)


def norms(model):
    return [name for name, module in model.named_modules() if isinstance(module, nn.GroupNorm)]


def test_lean_classes_and_their_round_trip(tmp_path):
    torch.manual_seed(0)
    vae = LeanAutoencoderKL.from_config(tiny.vae(mid_block_add_attention=False).config)
    unet = a_unet(vae, LeanUNet2DConditionModel)
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    assert decoder.config.lean and any(isinstance(m, ResnetBlock2D) for m in decoder.modules())
    for model in (vae, unet, decoder):
        assert not norms(model)
        folder = tmp_path / type(model).__name__
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder)
        assert equal(model, again) and not norms(again)
    assert norms(JointSegmentationDecoder.from_base(tiny.vae(), tiny.unet()))
