"""The joint decoder, against the VAE it is built on."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from helpers import tiny
from tadisr.models.attention import cross_attention_layers
from tadisr.models.interaction import INTERACTIONS, interaction_block
from tadisr.models.joint_decoder import (
    JointSegmentationDecoder,
    encode_mode,
    vae_factor,
    vae_patch,
)
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel
from tadisr.models.softening import Softening

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


@pytest.mark.parametrize("kind", INTERACTIONS)
def test_an_untrained_interaction_is_the_identity(kind):
    torch.manual_seed(0)
    image, mask = noise(2, 8, 5, 7), noise(2, 8, 5, 7, seed=1)
    image_out, mask_out = interaction_block(kind, 8, groups=4)(image, mask)
    assert torch.equal(image_out, image) and torch.equal(mask_out, mask)


@pytest.mark.parametrize("kind", INTERACTIONS)
def test_a_trained_interaction_links_the_streams(kind):
    """Both ways; in the Kolors release from the image to the mask alone."""
    torch.manual_seed(0)
    block = interaction_block(kind, 8, groups=4)
    tiny.shake(block, "scale")
    image, mask = noise(1, 8, 5, 7).requires_grad_(), noise(1, 8, 5, 7, seed=1).requires_grad_()
    for out, own, other in zip(block(image, mask), (image, mask), (mask, image), strict=True):
        if kind == "mugi_shared" and own is image:
            assert out is image
            continue
        from_own, from_other = torch.autograd.grad(out.square().sum(), (own, other), retain_graph=True)
        assert from_own.abs().min() > 0 and from_other.abs().max() > 1e-4


@pytest.mark.parametrize("kind", INTERACTIONS)
def test_interaction_scales_learn_from_the_first_step(kind):
    torch.manual_seed(0)
    block = interaction_block(kind, 8, groups=4)
    image, mask = block(noise(1, 8, 4, 4), noise(1, 8, 4, 4, seed=1))
    (image.square().mean() + mask.square().mean()).backward()
    scales = [parameter for name, parameter in block.named_parameters() if name.endswith(".scale")]
    assert len(scales) == 2 and all(scale.grad.abs().max() > 0 for scale in scales)


def test_shared_weights_are_kept_once():
    """Twice the same stream gives twice the same update; only the scales are each stream's own."""
    torch.manual_seed(0)
    block = interaction_block("cdib_ca_shared", 8, groups=4)
    tiny.shake(block, "image.scale")
    x = noise(1, 8, 5, 7)
    image, mask = block(x, x)
    assert not torch.allclose(image, x) and torch.equal(mask, x)
    with torch.no_grad():
        block.image.scale.fill_(0.5)
        block.mask.scale.fill_(0.5)
        image, mask = block(x, x)
    assert torch.equal(image, mask) and not torch.allclose(image, x)
    assert [name for name in block.state_dict() if name.startswith("mask")] == ["mask.scale"]
    assert block.image.out[0].eps == 1e-5 and interaction_block("cdib", 8, groups=4).image.out[0].eps == 1e-6


def test_resblocks_of_an_interaction():
    torch.manual_seed(0)
    one, two = (interaction_block("cdib", 8, 4, resblocks=count) for count in (1, 2))
    assert {name.split(".more_resnets.0")[0] for name in set(two.state_dict()) - set(one.state_dict())} == {
        "image", "mask",
    }  # fmt: skip
    image, mask = noise(1, 8, 5, 7), noise(1, 8, 5, 7, seed=1)
    assert torch.equal(two(image, mask)[0], image)
    tiny.shake(two, "scale")
    by_hand = two.image.more_resnets[0](two.image.resnet(image, None), None)
    assert torch.equal(torch.cat(two.image.value_and_gate(image), 1), two.image.split(by_hand))


def test_unknown_interactions():
    with pytest.raises(ValueError, match="interaction must be one of cdib, cdib_ca_shared, mugi_shared, got 'cdi'"):
        interaction_block("cdi", 8)


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
            nn.init.normal_(decoder.skips[str(level)].weight)
            assert not torch.allclose(decoder(vae, latents, maps, features, image)[0], untrained, atol=1e-3)
            nn.init.zeros_(decoder.skips[str(level)].weight)


def test_gradients_reach_every_new_parameter():
    torch.manual_seed(0)
    vae, unet = tiny.vae(), tiny.unet()
    decoder = JointSegmentationDecoder.from_base(vae, unet, encoder_skips=True)
    tiny.shake(decoder, ".scale")
    latents, features = encode_mode(vae, noise(1, 3, 16, 24))
    image, mask = decoder(vae, latents.detach(), maps_for(unet, 1, (4, 6)), features)
    (image.square().mean() + mask.square().mean()).backward()
    assert not [name for name, parameter in decoder.named_parameters() if parameter.grad is None]


# ---- the released configurations (their decoding is checked in test_official_layouts.py)

RELEASED = {"mask_source": "mid_block", "encoder_skips": [1, 2], "interaction": "mugi_shared",
            "mask_block_out_channels": [4, 8, 16], "mask_layers_per_block": 2}  # fmt: skip


def configured(vae, **options):
    torch.manual_seed(0)
    config = vae.config
    return JointSegmentationDecoder(
        attention_layers=[], attention_heads=[], latent_channels=config.latent_channels, norm_num_groups=4,
        block_out_channels=list(config.block_out_channels), layers_per_block=config.layers_per_block, **options,
    )  # fmt: skip


def test_the_mask_stream_starts_from_the_image_decoders_mid_block():
    torch.manual_seed(0)
    vae = tiny.vae()
    decoder = configured(vae, **RELEASED)
    keys = decoder.state_dict().keys()
    assert not [key for key in keys if key.startswith(("attention", "mask_decoder.conv_in", "mask_decoder.mid_block"))]
    assert [key for key in keys if key.startswith("skips")] == ["skips.1.weight", "skips.2.weight"]
    assert len(decoder.mask_decoder.up_blocks[0].resnets) == 3 and decoder.mask_decoder.conv_out.in_channels == 4
    latents = noise(1, 4, 4, 6)
    with torch.no_grad():
        image, mask = decoder(vae, latents, {}, encode_mode(vae, noise(1, 3, 16, 24))[1])
        torch.testing.assert_close(image, vae.decode(latents / vae.config.scaling_factor).sample, atol=1e-6, rtol=1e-5)
        x = vae.decoder.mid_block(vae.decoder.conv_in(vae.post_quant_conv(latents / vae.config.scaling_factor)))
        stream = decoder.mask_decoder
        for block in stream.up_blocks:
            x = block(x)
        expected = stream.conv_out(torch.nn.functional.silu(stream.conv_norm_out(x)))
    torch.testing.assert_close(mask, expected)


@pytest.mark.parametrize("levels", [[0], [1, 2], []])
def test_skips_at_some_levels(levels):
    torch.manual_seed(0)
    vae = tiny.vae()
    decoder, plain = configured(vae, encoder_skips=levels), configured(vae)
    latents, features = noise(1, 4, 4, 6), encode_mode(vae, noise(1, 3, 16, 24))[1]
    assert sorted(decoder.skips) == [str(level) for level in levels]
    with torch.no_grad():
        untrained = plain(vae, latents, {})[0]
        assert torch.equal(decoder(vae, latents, {}, features)[0], untrained)
        for level in levels:
            nn.init.normal_(decoder.skips[str(level)].weight)
            assert not torch.allclose(decoder(vae, latents, {}, features)[0], untrained, atol=1e-3)
            nn.init.zeros_(decoder.skips[str(level)].weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mask_source": "image"}, "mask_source must be one of attention, latents, mid_block, got 'image'"),
        ({"mask_source": "attention"}, "mask_source='attention' contradicts 0 attention_layers"),
        ({"mask_source": "mid_block", "attention_layers": ["a"], "attention_heads": [2]},
         "mask_source='mid_block' contradicts 1 attention_layers"),
        ({"mask_block_out_channels": [8, 8, 8], "interaction": "mugi_shared"},
         r"may differ from \[8, 16, 16\] in the first, got \[8, 8, 8\]"),
        ({"mask_block_out_channels": [8, 8, 8], "mask_source": "mid_block"}, "but in the last, got"),
        ({"mask_block_out_channels": [16, 16]}, r"must be 3 multiples of norm_num_groups=4, got \[16, 16\]"),
        ({"mask_block_out_channels": [8, 16, 18]}, "must be 3 multiples of norm_num_groups=4"),
        ({"encoder_skips": [1, 3]}, r"encoder_skips are up blocks from 0 to 2, got \[1, 3\]"),
        ({"interaction": "none"}, "interaction must be one of"),
    ],
)  # fmt: skip
def test_options_that_cannot_be(options, said):
    options = {"attention_layers": [], "attention_heads": [], "norm_num_groups": 4, "block_out_channels": [8, 16, 16],
               **options}  # fmt: skip
    with pytest.raises(ValueError, match=said):
        JointSegmentationDecoder(**options)


@pytest.mark.parametrize("layers", [[], ["down_blocks.0.attn2"]])
def test_configs_without_the_newer_options_load(layers):
    old = {"_class_name": "JointSegmentationDecoder", "attention_layers": layers, "attention_heads": [2] * len(layers),
           "block_out_channels": [8, 16], "norm_num_groups": 4, "encoder_skips": True}  # fmt: skip
    decoder = JointSegmentationDecoder.from_config(old)
    assert decoder.config.mask_source == ("attention" if layers else "latents")
    assert sorted(decoder.skips) == ["0", "1"] and hasattr(decoder.interactions[0].mask, "resnet")
    assert decoder.attention.weights[0].in_channels == (2 if layers else 4)


@pytest.mark.parametrize("source", ["attention", "latents", "mid_block"])
def test_a_narrower_mask_stream(source, tmp_path):
    """It starts as the VAE's image, every part of it learns, and it can be saved."""
    torch.manual_seed(0)
    vae = tiny.vae()
    widths = [4, 8, 16 if source == "mid_block" else 8]
    unet = a_unet(vae)
    if source == "attention":
        decoder = JointSegmentationDecoder.from_base(vae, unet, mask_block_out_channels=widths)
    else:
        decoder = configured(vae, mask_source=source, mask_block_out_channels=widths)
    splits = [(block.mask.split.in_channels, block.image.split.out_channels) for block in decoder.interactions]
    assert splits == [(widths[2], 16 + widths[2]), (widths[2], 16 + widths[2]), (widths[1], 8 + widths[1])]
    latents, maps = noise(1, 4, 4, 6), maps_for(unet, 1, (4, 6))
    with torch.no_grad():
        image = decoder(vae, latents, maps)[0]
        torch.testing.assert_close(image, vae.decode(latents / vae.config.scaling_factor).sample, atol=1e-6, rtol=1e-5)
    tiny.shake(decoder, ".scale")
    decoder.save_pretrained(tmp_path)
    again = JointSegmentationDecoder.from_pretrained(tmp_path)
    assert equal(decoder, again)
    image, mask = decoder(vae, latents, maps)
    assert mask.shape == (1, 1, 16, 24)
    (image.square().mean() + mask.square().mean()).backward()
    assert not [name for name, parameter in decoder.named_parameters() if parameter.grad is None]


# ---- round trips


def equal(model, again):
    assert type(again) is type(model)
    states = model.state_dict(), again.state_dict()
    return states[0].keys() == states[1].keys() and all(torch.equal(v, states[1][k]) for k, v in states[0].items())


@pytest.mark.parametrize("kind", INTERACTIONS)
def test_round_trip_of_the_released_configurations(kind, tmp_path):
    torch.manual_seed(0)
    vae = tiny.vae()
    decoder = configured(vae, **RELEASED | {"interaction": kind})
    tiny.shake(decoder, ".scale")
    tiny.shake(decoder, "skips")
    decoder.save_pretrained(tmp_path)
    again = JointSegmentationDecoder.from_pretrained(tmp_path)
    assert equal(decoder, again) and again.config.encoder_skips == [1, 2]
    with torch.no_grad():
        latents, features = encode_mode(vae, noise(1, 3, 16, 24))
    (image, mask), other = decoder(vae, latents, {}, features), again.eval()(vae, latents, {}, features)
    for made, wanted in zip((image, mask), other, strict=True):  # not to the bit: weights may lie otherwise in memory
        torch.testing.assert_close(made, wanted, atol=1e-5, rtol=0)
    (image.square().mean() + mask.square().mean()).backward()
    assert not [name for name, parameter in decoder.named_parameters() if parameter.grad is None]
    gradients = {name: parameter.grad.clone() for name, parameter in decoder.named_parameters()}
    decoder.zero_grad()
    decoder.train().enable_gradient_checkpointing()
    image, mask = decoder(vae, latents, {}, features)
    (image.square().mean() + mask.square().mean()).backward()
    for name, parameter in decoder.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name])


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


def test_text_strength_scales_the_correction_on_text_alone():
    pipe = tiny.lean()
    torch.manual_seed(0)
    for parameter in (*pipe.vae.decoder.parameters(), *pipe.joint_decoder.parameters()):
        parameter.data += 0.05 * torch.randn_like(parameter)
    lr = tiny.photo(24, 16)
    with torch.no_grad():
        pipe.joint_decoder.mask_decoder.conv_out.bias -= 2  # what is half text counts wholly
        start = pipe.prepare_image(lr)[..., :64, :96] / 2 + 0.5
        whole, logits = pipe.restore_tile(lr)
        pipe.joint_decoder.register_to_config(text_strength=0.3)
        gated, same_logits = pipe.restore_tile(lr)
        pipe.joint_decoder.mask_decoder.conv_out.bias += 12  # text everywhere, and sure of it
        pipe.joint_decoder.register_to_config(text_strength=1.0, clear_text_strength=0.0)
        torch.testing.assert_close(pipe.restore_tile(lr)[0], start, atol=1e-3, rtol=0)
    torch.testing.assert_close(same_logits, logits)
    assert pipe.default_fidelity == 0.5, "older weights' strengths are the middle of the dial"
    gain = Softening(0.3)(torch.ones_like(logits), logits)
    assert gain.amax() - gain.amin() > 0.05 and (whole - start).abs().mean() > 1e-3
    inside = (..., slice(8, 56), slice(8, 88))  # the padding outside the image has logits, too
    torch.testing.assert_close((gated - start)[inside], ((whole - start) * gain)[inside], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "strengths", [{"text_strength": 0.5}, {"clear_text_strength": 0.0}, {"coarse_text_strength": 0.5}]
)
def test_text_strength_without_image_residual_is_refused(strengths):
    with pytest.raises(ValueError, match="text_strength is of what image_residual adds"):
        JointSegmentationDecoder([], [], block_out_channels=[8], norm_num_groups=4, **strengths)
