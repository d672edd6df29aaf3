"""Text-aware cross-attention, against the stock layer's full attention matrix."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.training_utils import cast_training_params

from helpers import tiny
from tadisr.models.attention import (
    TextAttentionProjection,
    cross_attention_layers,
    record_text_attention,
    token_grid,
)
from tadisr.models.families import predict
from tadisr.models.lora import add_lora
from tadisr.models.prompt import TextPrompt

SIZE = (6, 10)  # not square, and odd once halved


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def unet():
    torch.manual_seed(0)
    return tiny.unet()


@pytest.fixture
def call(generator):
    inputs = {
        "sample": torch.randn(2, 4, *SIZE, generator=generator),
        "timestep": 200,
        "encoder_hidden_states": torch.randn(2, 5, 16, generator=generator),
    }
    return lambda unet: unet(**inputs).sample


def layer_inputs(unet, names, run):
    """What reaches each named layer during `run`: (hidden states, prompt states)."""
    seen, modules = {}, dict(unet.named_modules())

    def hook(module, args, kwargs):
        name = next(name for name in names if modules[name] is module)
        seen[name] = (args[0], kwargs["encoder_hidden_states"])

    handles = [modules[name].register_forward_pre_hook(hook, with_kwargs=True) for name in names]
    with torch.no_grad():
        run()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("positions", [[3], [2, 3], [0, 1, 4]])
def test_records_columns_of_the_full_matrix(unet, call, positions):
    layers = cross_attention_layers(unet)
    with record_text_attention(unet, positions, list(layers)) as maps:
        inputs = layer_inputs(unet, list(layers), lambda: call(unet))
    assert list(maps) == list(layers)
    for name, (hidden, prompt) in inputs.items():
        attn = unet.get_submodule(name)
        q, k = attn.head_to_batch_dim(attn.to_q(hidden)), attn.head_to_batch_dim(attn.to_k(prompt))
        full = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5  # (B n, L, T)
        column = full[..., positions].mean(-1).unflatten(0, (2, layers[name]))
        assert maps[name].shape == column.shape == (2, layers[name], hidden.shape[1])
        torch.testing.assert_close(maps[name], column, atol=1e-6, rtol=1e-5)
        probabilities = attn.get_attention_scores(q, k)  # the stock layer's own
        torch.testing.assert_close(full.softmax(-1), probabilities, atol=1e-6, rtol=1e-5)


def test_outputs_are_those_of_the_stock_processor(base, generator):
    unet, prompt = copy.deepcopy(base.unet), TextPrompt.from_pipeline(base)
    unet.set_attn_processor(AttnProcessor2_0())
    latents = torch.randn(2, 4, *SIZE, generator=generator)
    with torch.no_grad():
        stock = predict(unet, latents, 200, prompt, 4)
        with record_text_attention(unet, prompt.config.text_positions, list(cross_attention_layers(unet))) as maps:
            recorded = predict(unet, latents, 200, prompt, 4)
    assert len(maps) == len(cross_attention_layers(unet))
    torch.testing.assert_close(recorded, stock, atol=1e-6, rtol=1e-5)


def test_a_prompt_mask_reaches_the_layers(unet, generator):
    """Masked tokens are without influence, as with the stock processor."""
    sample, prompt = torch.randn(1, 4, *SIZE, generator=generator), torch.randn(1, 5, 16, generator=generator)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    with torch.no_grad(), record_text_attention(unet, [0], list(cross_attention_layers(unet))):
        masked = unet(sample, 200, prompt, encoder_attention_mask=mask).sample
        open_ = unet(sample, 200, prompt).sample
    with torch.no_grad():
        stock = unet(sample, 200, prompt, encoder_attention_mask=mask).sample
    torch.testing.assert_close(masked, stock, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(masked, open_)


@pytest.mark.parametrize("size", [(6, 10), (5, 7), (4, 4), (1, 9)])
def test_projection_is_concatenate_then_project(generator, size):
    half = tuple((side + 1) // 2 for side in size)
    grids = {"a": size, "b": half, "c": half}
    heads = {"a": 2, "b": 3, "c": 4}
    torch.manual_seed(0)
    projection = TextAttentionProjection(list(grids), list(heads.values()), 4)
    tiny.shake(projection, "bias")
    maps = {name: torch.randn(2, heads[name], h * w, generator=generator) for name, (h, w) in grids.items()}
    whole = torch.cat(
        [
            F.interpolate(maps[name].unflatten(-1, grid), size=size, mode="bilinear", align_corners=False)
            for name, grid in grids.items()
        ],
        dim=1,
    )  # (B, sum of heads, h, w)
    weight = torch.cat([conv.weight for conv in projection.weights], dim=1)
    expected = F.conv2d(whole, weight, projection.bias)
    torch.testing.assert_close(projection(maps, size), expected, atol=1e-6, rtol=1e-5)


def test_projection_of_what_a_unet_recorded(unet, call):
    layers = cross_attention_layers(unet)
    torch.manual_seed(0)
    projection = TextAttentionProjection(list(layers), list(layers.values()), 4)
    with torch.no_grad(), record_text_attention(unet, [1], list(layers)) as maps:
        call(unet)
    assert projection(maps, SIZE).shape == (2, 4, *SIZE)


def test_layers_are_in_forward_order_with_their_heads(base):
    layers = cross_attention_layers(base.unet)
    prompt = TextPrompt.from_pipeline(base)
    with torch.no_grad(), record_text_attention(base.unet, [0], list(layers)) as order:
        predict(base.unet, torch.zeros(1, 4, 4, 4), 200, prompt, 4)
    assert list(order) == list(layers)
    assert {name: maps.shape[1] for name, maps in order.items()} == layers


def processors(unet):
    return {name: id(processor) for name, processor in unet.attn_processors.items()}


def test_processors_are_given_back(unet, call):
    before, layers = processors(unet), list(cross_attention_layers(unet))
    with record_text_attention(unet, [0], layers[:1]):
        inside = processors(unet)
        assert {name for name in before if inside[name] != before[name]} == {f"{layers[0]}.processor"}
    assert processors(unet) == before
    with pytest.raises(ZeroDivisionError), record_text_attention(unet, [0], layers):
        call(unet)
        raise ZeroDivisionError
    assert processors(unet) == before
    with record_text_attention(unet, [0], layers):
        with pytest.raises(ValueError, match="set_default_attn_processor"):
            unet.set_default_attn_processor()  # diffusers does not know ours
        for name in layers:
            unet.get_submodule(name).set_processor(AttnProcessor2_0())
    assert processors(unet) == before


def test_unknown_layer(unet):
    before = processors(unet)
    known = list(cross_attention_layers(unet))[0]
    with (
        pytest.raises(KeyError, match="No layer 'mid.attn9' in the UNet2DConditionModel"),
        record_text_attention(unet, [0], [known, "mid.attn9"]),
    ):
        pass
    assert processors(unet) == before


def test_self_attention_has_no_text_token(unet, call):
    layer = list(cross_attention_layers(unet))[0].replace("attn2", "attn1")
    with pytest.raises(ValueError, match="is self-attention"), record_text_attention(unet, [0], [layer]):
        call(unet)


@pytest.mark.parametrize("spoil", ["enable_attention_slicing", "set_attn_processor"])
def test_a_replaced_recorder_is_reported(base, spoil):
    pipe = tiny.on_base(base, lora=False)
    layers = pipe.joint_decoder.config.attention_layers
    latents = torch.zeros(1, 4, 4, 4)
    with torch.no_grad(), record_text_attention(pipe.unet, [0], layers) as maps:
        if spoil == "enable_attention_slicing":
            pipe.enable_attention_slicing()
        else:
            pipe.unet.set_attn_processor(AttnProcessor2_0())
        predict(pipe.unet, latents, 200, pipe.prompt, 4)
    with pytest.raises(RuntimeError, match="No text attention was recorded.*enable_attention_slicing"):
        pipe.decode(latents, maps, [], torch.zeros(1, 3, 16, 16))


def test_gradient_checkpointing_gives_the_same_gradients(unet, call):
    torch.manual_seed(0)
    add_lora(unet, tiny.vae())
    tiny.shake(unet, "lora_B")
    cast_training_params(unet)
    unet.train()  # diffusers checkpoints in training mode only
    layers = cross_attention_layers(unet)
    projection = TextAttentionProjection(list(layers), list(layers.values()), 1)
    gradients = []
    for checkpointing in (False, True):
        unet.enable_gradient_checkpointing() if checkpointing else unet.disable_gradient_checkpointing()
        unet.zero_grad()
        with record_text_attention(unet, [1, 2], list(layers)) as maps:
            out = call(unet)
            (out.square().mean() + projection(maps, SIZE).square().mean()).backward()
        gradients.append({n: p.grad.clone() for n, p in unet.named_parameters() if p.grad is not None})
    plain, checkpointed = gradients
    touched = [name for name in plain if "attn2.to_q" in name]
    assert touched and plain.keys() == checkpointed.keys()
    assert all(plain[name].abs().max() > 0 for name in touched if "lora_A" in name)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


@pytest.mark.parametrize(
    ("tokens", "size", "grid"),
    [(60, (6, 10), (6, 10)), (15, (6, 10), (3, 5)), (12, (5, 7), (3, 4)), (2, (1, 3), (1, 2))],
)
def test_token_grid(tokens, size, grid):
    assert token_grid(tokens, size) == grid


@pytest.mark.parametrize("tokens", [61, 59, 16, 7])
def test_token_grid_of_something_else(tokens):
    with pytest.raises(ValueError, match="do not form a downscaled grid"):
        token_grid(tokens, (6, 10))


@pytest.mark.parametrize("family", ["sd", "cogview4"])
@pytest.mark.parametrize("autocast", [False, True])
def test_logits_are_float32_in_half_precision(tmp_path, monkeypatch, generator, family, autocast):
    """The products of the bfloat16 queries and keys that attention itself gets, not rounded to bfloat16."""
    base = tiny.FAMILIES[family](tmp_path)
    prompt = TextPrompt.from_pipeline(base)
    backbone = base.components.get("unet") or base.transformer
    if not autocast:
        backbone, prompt = backbone.to(torch.bfloat16), prompt.to(torch.bfloat16)
    seen, attend = [], F.scaled_dot_product_attention

    def attention(q, k, v, **options):
        seen.append((q, k, options.get("scale")))
        return attend(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    layers, positions = list(cross_attention_layers(backbone)), prompt.config.text_positions
    latents = torch.randn(1, backbone.config["in_channels"], 8, 8, generator=generator).to(backbone.dtype)
    half = torch.autocast("cpu", torch.bfloat16, enabled=autocast)
    with torch.no_grad(), half, record_text_attention(backbone, positions, layers) as maps:
        predict(backbone, latents, 200, prompt, 4)
    seen = [(q, k, scale) for q, k, scale in seen if scale is not None]  # the recorded layers give it
    assert len(seen) == len(layers)
    for name, (q, k, scale) in zip(layers, seen, strict=True):
        tokens = maps[name].shape[-1]
        assert q.dtype == torch.bfloat16 and maps[name].dtype == torch.float32
        exact = (q[:, :, -tokens:].double() @ k[:, :, positions].double().mean(2, keepdim=True).mT)[..., 0] * scale
        torch.testing.assert_close(maps[name].double(), exact, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_sum_over_layers_is_float32_in_half_precision(generator, autocast):
    """Of as many layers and heads as SDXL has, whose logits are alike but for little."""
    layers, heads = [f"layer{i}" for i in range(70)], [10] * 10 + [20] * 60
    projection = TextAttentionProjection(layers, heads, 4)
    if not autocast:
        projection = projection.to(torch.bfloat16)
    maps = {name: 5 + torch.randn(1, n, 12, generator=generator) for name, n in zip(layers, heads, strict=True)}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = projection(maps, (3, 4))
        exact = copy.deepcopy(projection).double()
    weight = torch.cat([conv.weight for conv in exact.weights], dim=1)  # (4, 1300, 1, 1)
    expected = F.conv2d(torch.cat([maps[name] for name in layers], dim=1).double().unflatten(-1, (3, 4)), weight)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)
