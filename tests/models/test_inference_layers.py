"""The decoders' layers for inference, against diffusers' own."""

import copy
import io

import pytest
import torch
from accelerate import cpu_offload
from accelerate.hooks import remove_hook_from_module
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_2d_blocks import UpDecoderBlock2D
from diffusers.models.upsampling import Upsample2D
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from helpers import tiny
from tadisr.models.inference_layers import run_block, run_resnet, transposed_kernel
from tadisr.models.interaction import INTERACTIONS, interaction_block
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode

WIDE = 128
TARGETS = ["conv", "conv1", "conv2", "conv_shortcut"]


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def an_up_block(width_in=2 * WIDE, width=WIDE, layers=1):
    torch.manual_seed(0)
    return UpDecoderBlock2D(width_in, width, num_layers=layers, resnet_groups=4).eval()


def with_lora(block, **options):
    torch.manual_seed(1)
    inject_adapter_in_model(LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS, **options), block, "first")
    inject_adapter_in_model(LoraConfig(r=3, lora_alpha=3, target_modules=["conv", "conv1"]), block, "second")
    for name, parameter in block.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    for layer in layers_with_lora(block):
        layer.set_adapter(["first", "second"] if "second" in layer.lora_A else ["first"])
    return block.eval()


def layers_with_lora(block):
    return [module for module in block.modules() if hasattr(module, "lora_A")]


@torch.no_grad()
def agree(block, x, relative=1e-5):
    """Both ways, without changing x; the relative error of the quicker one."""
    before = x.clone()
    expected, made = block(x), run_block(block, x)
    assert torch.equal(x, before) and made.shape == expected.shape and made.dtype == expected.dtype
    error = ((made - expected).float().norm() / expected.float().norm()).item()
    assert error < relative
    return error


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (4, 6)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_an_upsampling_and_its_convolution_are_one(size, layout):
    block = an_up_block(WIDE).to(memory_format=layout)
    error = agree(block, noise(2, WIDE, *size).contiguous(memory_format=layout))
    assert error > 0, "sums are added up in another order"


def test_what_has_no_wide_upsampling_is_equal_bit_by_bit():
    assert agree(an_up_block(32, 16, layers=2), noise(2, 32, 5, 7)) == 0
    torch.manual_seed(0)
    last = UpDecoderBlock2D(2 * WIDE, WIDE, num_layers=2, resnet_groups=4, add_upsample=False, output_scale_factor=3.0)
    assert agree(last.eval(), noise(1, 2 * WIDE, 5, 7)) == 0


def test_the_upsampling_needs_four_ninths_of_the_multiplications():
    block, x = an_up_block(), noise(1, 2 * WIDE, 6, 6)
    block.resnets = nn.ModuleList()
    x = x[:, :WIDE]
    with torch.no_grad():
        with FlopCounterMode(display=False) as theirs:
            block(x)
        with FlopCounterMode(display=False) as ours:
            run_block(block, x)
    kernel = 2 * WIDE**2 * 9 * 16  # of multiplying the weights by ones
    assert ours.get_total_flops() <= theirs.get_total_flops() * 4 / 9 + kernel + 2 * 16 * 9


def test_the_kernel_is_that_of_a_doubled_impulse():
    weight = noise(3, 2, 3, 3)
    impulse = torch.zeros(2, 2, 3, 3)
    impulse[0, 0, 1, 1] = impulse[1, 1, 1, 1] = 1
    doubled = nn.functional.conv2d(impulse.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, padding=1)
    torch.testing.assert_close(transposed_kernel(weight), doubled[:, :, 1:5, 1:5])


def test_half_precision_errs_no_more_than_diffusers():
    block, x = an_up_block(), noise(1, 2 * WIDE, 16, 16)
    half = copy.deepcopy(block).to(torch.bfloat16)
    with torch.no_grad():
        exact = copy.deepcopy(half).float()(x.bfloat16().float())
        theirs, ours = ((f(x.bfloat16()).float() - exact).norm() for f in (half, lambda y: run_block(half, y)))
    assert 0 < ours < 1.2 * theirs


def test_weights_are_read_anew_each_time():
    block, x = an_up_block(WIDE), noise(1, WIDE, 4, 4)
    agree(block, x)
    with torch.no_grad():
        block.upsamplers[0].conv.weight *= -2
    agree(block, x)


@pytest.mark.parametrize("state", ["active", "one of two", "disabled", "merged", "dora", "training", "float32 on bf16"])
def test_adapters(state):
    block, x = with_lora(an_up_block(), use_dora=state == "dora", lora_dropout=0.5 * (state == "training")), None
    x = noise(2, 2 * WIDE, 3, 5)
    with torch.no_grad():
        bare = an_up_block()(x)
    for layer in layers_with_lora(block):
        if state == "one of two":
            layer.set_adapter("first")
        elif state == "disabled":
            layer.enable_adapters(False)
        elif state == "merged":
            layer.merge()
    if state == "float32 on bf16":
        for layer in layers_with_lora(block):
            layer.base_layer.bfloat16()
        for norm in (block.resnets[0].norm1, block.resnets[0].norm2):
            norm.bfloat16()
        agree(block, x.bfloat16(), 1e-2)
    elif state == "training":
        block.train()
        with torch.no_grad():
            torch.manual_seed(2)
            expected = block(x)
            torch.manual_seed(2)
            torch.testing.assert_close(run_block(block, x), expected, atol=1e-4, rtol=1e-4)
    else:
        agree(block, x)
    if state != "float32 on bf16":
        with torch.no_grad():
            assert torch.allclose(run_block(block, x), bare, atol=1e-4) == (state == "disabled")


@pytest.mark.parametrize("lora", [False, True])
def test_offloaded_weights_are_found(lora):
    block, x = an_up_block(), noise(1, 2 * WIDE, 4, 4)
    block = with_lora(block) if lora else block
    with torch.no_grad():
        expected = block(x)
        cpu_offload(block, execution_device="cpu")
        assert next(block.parameters()).device.type == "meta"
        torch.testing.assert_close(run_block(block, x), expected)
    remove_hook_from_module(block, recurse=True)


@pytest.mark.parametrize("at", ["", "resnets.0", "upsamplers.0", "upsamplers.0.conv"])
def test_hooks_are_heard(at):
    block, heard = an_up_block(), []
    handle = block.get_submodule(at).register_forward_hook(lambda *_: heard.append(at))
    agree(block, noise(1, 2 * WIDE, 4, 4))
    assert len(heard) == 2
    handle.remove()


def test_gradients_are_those_of_diffusers_and_autocast_keeps_its_types():
    block, x = an_up_block(), noise(1, 2 * WIDE, 4, 4).requires_grad_()
    gradients = [torch.autograd.grad(f(x).square().sum(), x)[0] for f in (block, lambda y: run_block(block, y))]
    assert torch.equal(*gradients)
    with torch.autocast("cpu", torch.bfloat16):
        agree(block, x.detach(), 1e-2)


def test_other_resblocks_run_as_they_are():
    torch.manual_seed(0)
    x = noise(1, 8, 4, 4)
    for options in ({"down": True}, {"up": True}, {"dropout": 0.5}, {"non_linearity": "gelu"}):
        block = ResnetBlock2D(in_channels=8, temb_channels=None, groups=4, **options)
        made = []
        for run in (lambda b: b(x, None), lambda b: run_resnet(b, x)):
            torch.manual_seed(1)
            with torch.no_grad():
                made.append(run(block))
        assert torch.equal(*made)
    assert torch.equal(run_block(nn.Identity(), x), x)
    with torch.no_grad():
        up = Upsample2D(WIDE, use_conv=False)
        block = an_up_block(WIDE)
        block.upsamplers[0] = up
        assert agree(block, noise(1, WIDE, 3, 3)) == 0


# ---- both decoders


@pytest.mark.parametrize("kind", INTERACTIONS)
def test_an_interaction_without_gradients_is_the_same(kind):
    torch.manual_seed(0)
    block, image, mask = interaction_block(kind, 8, groups=4), noise(2, 8, 5, 7), noise(2, 8, 5, 7, seed=1)
    tiny.shake(block, "scale")
    with_gradients = block(image, mask)
    with torch.no_grad():
        without = block(image, mask)
    assert all(map(torch.equal, with_gradients, without))
    assert torch.equal(image, noise(2, 8, 5, 7)) and torch.equal(mask, noise(2, 8, 5, 7, seed=1))


def a_decoder(vae, **options):
    torch.manual_seed(0)
    config = vae.config
    decoder = JointSegmentationDecoder(
        [], [], latent_channels=config.latent_channels, block_out_channels=list(config.block_out_channels),
        norm_num_groups=config.norm_num_groups, layers_per_block=config.layers_per_block, **options,
    )  # fmt: skip
    tiny.shake(decoder, ".scale")
    return decoder.eval()


@pytest.mark.parametrize("kind", INTERACTIONS)
@pytest.mark.parametrize("mask_source", ["latents", "mid_block"])
def test_decoding_without_gradients_is_the_same(kind, mask_source):
    torch.manual_seed(0)
    vae = tiny.vae()
    decoder = a_decoder(vae, interaction=kind, mask_source=mask_source, encoder_skips=True, image_residual=True)
    tiny.shake(decoder, "skips")
    for model in (vae, decoder):
        model.to(memory_format=torch.channels_last)  # as pipelines do; else layouts may differ, and so rounding
    image = noise(1, 3, 16, 24)
    latents, features = (encode_mode(vae, image)[i] for i in (0, 1))
    latents, features = latents.detach(), [feature.detach() for feature in features]
    kept = [tensor.clone() for tensor in (latents, *features, image)]
    expected = decoder(vae, latents, {}, features, image)
    with torch.no_grad():
        made = decoder(vae, latents, {}, features, image)
    assert all(map(torch.equal, made, expected))
    assert all(map(torch.equal, (latents, *features, image), kept)), "what the caller gave is not overwritten"


def test_the_decoder_is_traced_whole():
    """For torch.compile and torch.export, with a wide upsampling among its layers."""
    torch.manual_seed(0)
    vae = tiny.vae(levels=2, block_out_channels=(8, WIDE))
    decoder, latents = a_decoder(vae), noise(1, 4, 3, 5)

    class Decode(nn.Module):
        def __init__(self):
            super().__init__()
            self.vae, self.decoder = vae, decoder

        def forward(self, latents):
            return self.decoder(self.vae, latents, {})

    decode = Decode().eval()
    with torch.no_grad():
        expected = decode(latents)
        compiled = torch.compile(decode, backend="eager", fullgraph=True)(latents)
        program = torch.export.export(decode, (latents,))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    exported = torch.export.load(file).module()(latents)
    for made in (compiled, exported):
        for one, other in zip(made, expected, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
