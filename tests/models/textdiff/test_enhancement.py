"""TEM and its parts: wavelets, recurrent layers, interpreter, at any size."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from helpers.textdiff_parts import noise, prior, tiny_tem, wake
from tadisr.models.textdiff.enhancement import (
    DoubleSequentialResidualBlock,
    RecurrentLayer,
    SequentialResidualBlock,
    haar_analysis,
    haar_synthesis,
)
from tadisr.models.textdiff.interpreter import TextPriorInterpreter, sinusoidal_positions


def test_haar_bands_of_one_square():
    bands = haar_analysis(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]]))
    assert bands.flatten().tolist() == [11 / 2, -3 / 2, -5 / 2, 1 / 2]  # mean, across, down, diagonal; times 2
    channels = haar_analysis(noise(1, 3, 4, 6))
    assert torch.allclose(channels[:, 4:8], haar_analysis(noise(1, 3, 4, 6)[:, 1:2]))  # a channel's bands are together


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_haar_synthesis_inverts_analysis(batch, channels, height, width):
    x = noise(batch, channels, 2 * height, 2 * width)
    bands = haar_analysis(x)
    assert torch.allclose(haar_synthesis(bands), x, atol=1e-5)
    assert torch.allclose(bands.square().sum(), x.square().sum(), rtol=1e-4)  # orthonormal: energy is kept


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_a_recurrent_layer_reads_each_line_alone(axis):
    torch.manual_seed(0)
    layer, x = RecurrentLayer(5, 8, axis), noise(2, 5, 4, 6)
    y = layer(x)
    lines = layer.project(x)
    for image in range(2):
        for i in range(4 if axis == "rows" else 6):
            line = lines[image, :, i] if axis == "rows" else lines[image, :, :, i]  # (C, steps)
            expected, _ = layer.gru(line.T)  # unbatched: one sequence
            got = y[image, :, i] if axis == "rows" else y[image, :, :, i]
            assert torch.allclose(got, expected.T, atol=1e-6)


def test_srb_is_rows_after_input_plus_columns():
    torch.manual_seed(0)
    block, x, semantics = SequentialResidualBlock(8, 4).eval(), noise(2, 8, 6, 10), noise(2, 4, 6, 10, seed=1)
    features = torch.cat([block.convolutions(x), semantics], 1)
    # columns as sequences: transpose, read as rows, transpose back
    rows = block.columns.project(features).transpose(2, 3)
    down = block.columns.gru(rows.permute(3, 0, 2, 1).flatten(1, 2))[0].view(6, 2, 10, 8).permute(1, 3, 0, 2)
    across = block.rows.gru(block.rows.project(x + down).permute(3, 0, 2, 1).flatten(1, 2))[0]
    assert torch.allclose(block(x, semantics), across.view(10, 2, 6, 8).permute(1, 3, 2, 0), atol=1e-6)


def test_dsrb_adds_to_its_input_and_uses_both_branches():
    torch.manual_seed(0)
    block, x, semantics = DoubleSequentialResidualBlock(8, 4).eval(), noise(1, 8, 6, 10), noise(1, 4, 6, 10, seed=1)
    half = F.avg_pool2d(semantics, 2)
    whole = block(x, semantics, half)
    with torch.no_grad():
        kept = block.fuse.weight.clone()
        block.fuse.weight[:, 8:] = 0
        spatial_only = block(x, semantics, half)
        expected = x + F.conv2d(block.spatial(x, semantics), kept[:, :8], block.fuse.bias)
        assert torch.allclose(spatial_only, expected, atol=1e-6)
        assert not torch.allclose(whole, spatial_only)
        block.fuse.weight.zero_()
        block.fuse.bias.zero_()
        assert torch.equal(block(x, semantics, half), x)


def test_position_code():
    code = sinusoidal_positions(26, 8)
    assert code.shape == (26, 8)
    assert code[0].tolist() == [0, 1] * 4
    assert code[3, :2].tolist() == pytest.approx([math.sin(3), math.cos(3)])
    assert code[3, 4:6].tolist() == pytest.approx([math.sin(0.03), math.cos(0.03)])


def test_the_position_table_fits_any_size():
    torch.manual_seed(0)
    interpreter = TextPriorInterpreter(8, 37, 8, 2)
    table = interpreter.queries(16, 64)
    assert torch.equal(table, interpreter.over_width(interpreter.positions)[0].reshape(1, 1024, 8))
    doubled = interpreter.queries(32, 128).view(32, 128, 8)
    average = F.avg_pool2d(doubled.permute(2, 0, 1), 2).flatten(1).T  # the same places, sampled more finely
    assert torch.corrcoef(torch.stack([average.flatten(), table.flatten()]))[0, 1] > 0.95


def reference_decoder_layer(layer, pixels, queries, keys, values):
    """The interpreter's decoder layer with PyTorch's own multi-head attention."""
    parts = layer.to_query, layer.to_key, layer.to_value
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.in_proj_weight.data = torch.cat([part.weight for part in parts])
    attention.in_proj_bias.data = torch.cat([part.bias for part in parts])
    attention.out_proj = layer.to_out
    pixels = layer.norm1(pixels + attention(pixels + queries, keys, values)[0])
    return layer.norm2(pixels + layer.feed_forward(pixels))


def test_the_interpreter_is_an_encoder_and_two_decoder_layers():
    torch.manual_seed(0)
    interpreter, image, text = TextPriorInterpreter(8, 37, 8, 2).eval(), noise(2, 8, 4, 6), prior(2)
    steps = sinusoidal_positions(26, 8)
    values = interpreter.encoder(interpreter.read_prior(text) + steps)
    pixels, queries = interpreter.read_image(image).flatten(2).transpose(1, 2), interpreter.queries(4, 6)
    first = reference_decoder_layer(interpreter.decoder[0], pixels, queries, values + steps, values)
    second = reference_decoder_layer(interpreter.decoder[1], first, queries, values + steps, values)
    expected = ((first + second) / 2).transpose(1, 2).view(2, 8, 4, 6)
    assert torch.allclose(interpreter(image, text), expected, atol=1e-5)


def test_the_interpreter_attends_to_every_step():
    torch.manual_seed(0)
    interpreter = TextPriorInterpreter(8, 37, 8, 2).eval()
    text = prior(1).requires_grad_()
    interpreter(noise(1, 8, 4, 6), text).square().sum().backward()
    assert (text.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("size", [(16, 64), (1, 1), (1, 7), (9, 1), (17, 33), (8, 120)])
def test_an_untrained_tem_is_bicubic_at_any_size(size):
    lr = noise(2, 3, *size).sigmoid()
    sr, mask_logits = tiny_tem().eval()(lr, prior(2))
    assert sr.shape == (2, 3, 2 * size[0], 2 * size[1])
    assert mask_logits.shape == (2, 1, 2 * size[0], 2 * size[1])
    inside = (..., slice(0, max(1, 2 * size[0] - 4)), slice(0, max(1, 2 * size[1] - 4)))  # odd sides are padded by one
    assert torch.allclose(sr[inside], F.interpolate(lr, scale_factor=2, mode="bicubic")[inside], atol=1e-5)


def test_an_odd_side_is_padded_by_its_last_line():
    tem, lr = wake(tiny_tem()).eval(), noise(1, 3, 5, 7).sigmoid()
    padded = torch.cat([lr, lr[..., -1:]], 3)
    padded = torch.cat([padded, padded[..., -1:, :]], 2)
    for small, large in zip(tem(lr, prior(1)), tem(padded, prior(1)), strict=True):
        assert torch.equal(small, large[..., :10, :14])


def test_tem_options():
    lr = noise(1, 3, 4, 6).sigmoid()
    sr, mask_logits = tiny_tem(scale=4)(lr.repeat(2, 1, 1, 1), prior(2))
    assert sr.shape == (2, 3, 16, 24) and mask_logits.shape == (2, 1, 16, 24)
    without = tiny_tem(mask_branch=False).eval()
    assert without(lr, prior(1))[1] is None
    assert not any(name.startswith("mask") for name, _ in without.named_parameters())


def test_tem_uses_the_text_prior_and_treats_images_alone():
    tem, lr = wake(tiny_tem()).eval(), noise(3, 3, 6, 10).sigmoid()
    text = F.one_hot(prior(3).argmax(-1), 37).float()  # as sure as a trained recogniser
    sr, mask_logits = tem(lr, text)
    alone, alone_mask = tem(lr[1:2], text[1:2])
    assert torch.allclose(sr[1:2], alone, atol=1e-5) and torch.allclose(mask_logits[1:2], alone_mask, atol=1e-5)
    assert not torch.allclose(sr, tem(lr, text.flip(1))[0], atol=1e-4)


def test_tem_corrects_from_its_stem_and_reads_the_mask_from_image_and_stem():
    tem, lr = wake(tiny_tem()).eval(), noise(1, 3, 6, 10).sigmoid()
    stem = tem.stem(lr)
    with torch.no_grad():
        for parameter in tem.body.parameters():
            parameter.zero_()  # the blocks are cut off, the connection around them is left
        sr, mask_logits = tem(lr, prior(1))
        expected = F.interpolate(lr, scale_factor=2, mode="bicubic") + tem.to_image(stem)
        assert torch.allclose(sr, expected, atol=1e-6)
        assert torch.allclose(mask_logits, tem.mask(torch.cat([lr, stem], 1)))


def test_tem_refuses_what_it_cannot_enhance():
    tem = tiny_tem()
    for shape in ((0, 3, 4, 4), (1, 4, 4, 4), (1, 3, 0, 4), (3, 4, 4)):
        with pytest.raises(ValueError, match="Expected RGB images"):
            tem(torch.zeros(shape), prior(1))
    for text in (prior(2), prior(1)[..., :36], prior(1)[0]):
        with pytest.raises(ValueError, match=r"Expected a text prior \(1, T, 37\)"):
            tem(torch.zeros(1, 3, 4, 4), text)
    with pytest.raises(ValueError, match="multiple of 4"):
        tiny_tem(channels=10)
    with pytest.raises(ValueError, match="2 x 3 heads"):
        tiny_tem(heads=3)
