"""CogView4 as a base, against diffusers' own pipeline and the full attention matrices."""

import copy

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler
from diffusers.models.embeddings import apply_rotary_emb

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.models.attention import TextAttentionProjection, cross_attention_layers, record_text_attention
from tadisr.models.families import predict
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.network import TADiSRNetwork, denoise
from tadisr.models.one_step import flow_point, flow_scheduler, one_step
from tadisr.models.prompt import TextPrompt

PIXELS = 4  # per latent, of the tiny VAE
LAYERS = ["transformer_blocks.0.attn1", "transformer_blocks.1.attn1"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.cogview4(tmp_path_factory.mktemp("cogview4"))


@pytest.fixture(scope="module")
def prompt(base):
    return TextPrompt.from_pipeline(base)


@pytest.fixture(scope="module")
def pipe(base):
    return tiny.on_base(base, lora=False)


def latents_of(height, width, batch=1, seed=0):
    return torch.randn(batch, 8, height, width, generator=torch.Generator().manual_seed(seed))


def run(pipe, image, **kwargs):
    return pipe(image, output_type="pt", return_dict=False, **kwargs)


# ---- the one step


def test_one_step_is_the_last_step_of_cogview4s_own_pipeline(base, prompt):
    own = copy.copy(base)
    own.scheduler = FlowMatchEulerDiscreteScheduler()  # unshifted, as the training schedule is
    own.set_progress_bar_config(disable=True)
    latents = latents_of(8, 12)
    expected = own(
        "best quality,highres,extremely detailed,text", height=8 * PIXELS, width=12 * PIXELS, timesteps=[200],
        sigmas=[0.2], latents=latents, guidance_scale=1.0, output_type="latent",
    ).images  # fmt: skip
    with torch.no_grad():
        ours = denoise(base.transformer, latents, prompt, base.scheduler, PIXELS)
    assert (ours - latents).abs().max() > 1e-2
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_a_perfect_prediction_gives_the_clean_latents():
    clean, noise = latents_of(4, 6), latents_of(4, 6, seed=1)
    for scheduler in (FlowMatchEulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler(shift=3.0)):
        sigma = flow_point(scheduler)[1]
        torch.testing.assert_close(one_step((1 - sigma) * clean + sigma * noise, noise - clean, scheduler), clean)


def test_the_point_nearest_200(base):
    assert flow_point(base.scheduler) == pytest.approx((200, 0.2))
    assert base.scheduler.config.use_dynamic_shifting
    shifted = FlowMatchEulerDiscreteScheduler(shift=3.0)
    timestep, sigma = flow_point(shifted)
    steps = 3.0 * torch.arange(1, 1001) / (1 + 2 * torch.arange(1, 1001) / 1000)  # of the training schedule
    assert timestep == pytest.approx(float(steps[(steps - 200).abs().argmin()])) and timestep != 200
    assert sigma == pytest.approx(timestep / 1000)
    shifted.set_timesteps(7)
    assert flow_point(shifted) == (timestep, sigma), "set_timesteps changes nothing"


def test_schedulers():
    config = {**FlowMatchHeunDiscreteScheduler(shift=3.0).config, "_class_name": "FlowMatchHeunDiscreteScheduler"}
    scheduler = flow_scheduler(config)
    assert type(scheduler) is FlowMatchEulerDiscreteScheduler and scheduler.config.shift == 3.0
    with pytest.raises(ValueError, match="DDPMScheduler has no flow-matching schedule"):
        flow_scheduler({"_class_name": "DDPMScheduler"})


@pytest.mark.parametrize("size", [(5, 7), (5, 8), (4, 7), (1, 1), (6, 4)])
def test_latents_are_padded_to_whole_patches(base, prompt, size):
    latents = latents_of(*size, batch=2)
    padded = latents
    if size[0] % 2:
        padded = torch.cat([padded, padded[..., -1:, :]], dim=-2)
    if size[1] % 2:
        padded = torch.cat([padded, padded[..., -1:]], dim=-1)
    pixels = torch.tensor([[padded.shape[-2] * PIXELS, padded.shape[-1] * PIXELS]] * 2).float()
    with torch.no_grad():
        ours = predict(base.transformer, latents, 200, prompt, PIXELS)
        expected = base.transformer(
            padded, prompt.prompt_embeds.expand(2, -1, -1), torch.tensor([200, 200]),
            original_size=pixels, target_size=pixels, crop_coords=torch.zeros(2, 2),
        ).sample  # fmt: skip
        other = base.transformer(
            padded, prompt.prompt_embeds.expand(2, -1, -1), torch.tensor([200, 200]),
            original_size=pixels * 2, target_size=pixels, crop_coords=torch.zeros(2, 2),
        ).sample  # fmt: skip
    assert ours.shape == latents.shape
    expected = expected[..., : size[0], : size[1]]
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(other[..., : size[0], : size[1]], expected), "the sizes are read"


# ---- text attention


def test_layers(base):
    assert cross_attention_layers(base.transformer) == dict.fromkeys(LAYERS, 2)


def layer_inputs(transformer, names, call):
    """The keyword arguments that reach each named layer in `call`."""
    seen, handles = {}, []
    for name in names:

        def hook(module, args, kwargs, name=name):
            seen[name] = kwargs

        handles.append(transformer.get_submodule(name).register_forward_pre_hook(hook, with_kwargs=True))
    call()
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("positions", [[47], [46, 47], [0, 3, 20]])
@pytest.mark.parametrize("size", [(6, 10), (5, 7)])
def test_records_columns_of_the_full_matrix(base, prompt, positions, size):
    transformer, latents = base.transformer, latents_of(*size, batch=2)

    def call():
        return predict(transformer, latents, 200, prompt, PIXELS)

    with torch.no_grad():
        stock = call()
        with record_text_attention(transformer, positions, LAYERS) as maps:
            inputs = layer_inputs(transformer, LAYERS, call)
            recorded = call()
    torch.testing.assert_close(recorded, stock, atol=1e-6, rtol=1e-5)
    tokens = -(-size[0] // 2) * -(-size[1] // 2)
    assert list(maps) == LAYERS
    for name, given in inputs.items():
        attn = transformer.get_submodule(name)
        text, image = given["encoder_hidden_states"], given["hidden_states"]
        with torch.no_grad():
            q, k = (
                norm(project(torch.cat([text, image], dim=1)).reshape(2, -1, 2, 8).permute(0, 2, 1, 3))
                for project, norm in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k))
            )
        length = text.shape[1]
        for x in (q, k):
            x[:, :, length:] = apply_rotary_emb(x[:, :, length:], given["image_rotary_emb"], use_real_unbind_dim=-2)
        full = q @ k.transpose(-1, -2) / 8**0.5  # (B, n, T + L, T + L)
        column = full[:, :, length:, positions].mean(-1)
        assert maps[name].shape == (2, 2, tokens)
        assert column.std() > 0.05
        torch.testing.assert_close(maps[name], column, atol=1e-6, rtol=1e-5)


def test_maps_are_in_the_order_of_the_patches(base, prompt):
    """In the first block a token's query knows its own patch only."""
    latents = latents_of(6, 10)
    changed = latents.clone()
    changed[..., 2:4, 6:8] += 1  # patch (1, 3)
    maps = []
    for given in (latents, changed):
        with torch.no_grad(), record_text_attention(base.transformer, [47], LAYERS) as found:
            predict(base.transformer, given, 200, prompt, PIXELS)
        maps.append(found[LAYERS[0]].unflatten(-1, (3, 5)))
    differs = (maps[0] != maps[1]).any(1)[0]
    assert differs.nonzero().tolist() == [[1, 3]]


def test_projection_of_what_was_recorded(base, prompt):
    torch.manual_seed(0)
    projection = TextAttentionProjection(LAYERS, [2, 2], 4)
    with torch.no_grad(), record_text_attention(base.transformer, [47], LAYERS) as maps:
        predict(base.transformer, latents_of(5, 7), 200, prompt, PIXELS)
        assert projection(maps, (5, 7)).shape == (1, 4, 5, 7)


def test_processors_are_given_back(base, prompt):
    def processors():
        return {name: module.processor for name, module in base.transformer.named_modules() if name.endswith("attn1")}

    before = processors()
    with pytest.raises(ZeroDivisionError), record_text_attention(base.transformer, [47], LAYERS[1:]):
        assert [name for name, processor in processors().items() if processor is not before[name]] == LAYERS[1:]
        raise ZeroDivisionError
    assert processors() == before
    with (
        pytest.raises(KeyError, match="No layer 'attn9' in the CogView4Transformer2DModel"),
        record_text_attention(base.transformer, [47], ["attn9"]),
    ):
        pass


def test_a_prompt_mask_is_refused(base, prompt):
    size = torch.tensor([[16.0, 16.0]])
    with (
        pytest.raises(ValueError, match="without a prompt mask"),
        record_text_attention(base.transformer, [47], LAYERS),
    ):
        base.transformer(
            latents_of(4, 4),
            prompt.prompt_embeds,
            torch.tensor([200]),
            size,
            size,
            size,
            attention_mask=torch.ones(1, 48),
        )


# ---- pipeline and network


@pytest.mark.parametrize("size", [(24, 17), (1, 1), (33, 9)])
def test_sizes_are_exact(pipe, size):
    (image,), (mask,) = run(pipe, tiny.photo(*size))
    assert image.shape == (3, 4 * size[1], 4 * size[0]) and mask.shape[1:] == image.shape[1:]
    assert image.isfinite().all() and image.std() > 0 and mask.isfinite().all() and mask.std() > 0


def test_a_fresh_decoder_adds_nothing_to_the_base(base, prompt):
    """Untrained adapters and decoder: the image is the base's own one-step result."""
    pipe = tiny.on_base(base, lora=False)
    pipe.joint_decoder = JointSegmentationDecoder.from_base(pipe.vae, pipe.transformer).eval()
    photo = tiny.photo(24, 16)
    with torch.no_grad():
        latents = pipe.vae.encode(pipe.prepare_image(photo)).latent_dist.mode()
        size = torch.tensor([[64.0, 96.0]])
        velocity = pipe.transformer(
            latents, prompt.prompt_embeds, torch.tensor([200.0]), size, size, torch.zeros(1, 2)
        ).sample
        expected = (pipe.vae.decode(latents - 0.2 * velocity).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(run(pipe, photo)[0][0], expected[0], atol=1e-5, rtol=1e-5)


def test_text_attention_decides_the_mask_and_can_be_off(base):
    pipe = tiny.on_base(base)
    mask = run(pipe, tiny.photo())[1][0]
    pipe.prompt.register_to_config(text_positions=[3])
    assert not torch.equal(run(pipe, tiny.photo())[1][0], mask)
    pipe.joint_decoder = JointSegmentationDecoder.from_base(pipe.vae, pipe.transformer, text_attention=False).eval()
    assert pipe.joint_decoder.config.attention_layers == []
    processors = []
    handle = pipe.transformer.transformer_blocks[0].attn1.register_forward_hook(
        lambda module, *_: processors.append(type(module.processor).__name__)
    )
    _, (mask,) = run(pipe, tiny.photo())
    handle.remove()
    assert mask.std() > 0 and processors == ["CogView4AttnProcessor"]


def test_round_trips(base, pipe, tmp_path):
    base.save_pretrained(tmp_path / "base")
    adapted = tiny.on_base(base, base_model=str(tmp_path / "base"))
    for name, made in (("whole", pipe), ("adapter", adapted)):
        made.save_pretrained(tmp_path / name)
        again = TADiSRPipeline.from_pretrained(tmp_path / name)
        assert again.unet is None and again.backbone is again.transformer
        for one, other in zip(run(again, tiny.photo()), run(made, tiny.photo()), strict=True):
            assert torch.equal(one[0], other[0])
    assert {path.name for path in (tmp_path / "adapter").iterdir()} == {
        "tadisr_adapter.json", "transformer_lora", "vae_lora", "prompt", "joint_decoder",
        "model_index.json", "pipeline_adapter.py", "README.md",
    }  # fmt: skip
    half = TADiSRPipeline.from_pretrained(tmp_path / "adapter", dtype=torch.bfloat16)
    assert {half.transformer.dtype, half.prompt.dtype} == {torch.bfloat16}
    difference = run(half, tiny.photo())[0][0] - run(adapted, tiny.photo())[0][0]
    assert difference.abs().mean() < 0.03


def test_model_offload(base, pipe):
    pipe, expected = copy.copy(pipe), run(pipe, tiny.photo())
    pipe.enable_model_cpu_offload(device="cpu")  # with the CPU as the accelerator
    try:
        assert all(hasattr(model, "_hf_hook") for model in (pipe.vae, pipe.prompt, pipe.transformer))
        found = run(pipe, tiny.photo())
    finally:
        pipe.remove_all_hooks()
    assert all(torch.equal(one[0], other[0]) for one, other in zip(found, expected, strict=True))


def test_network_trains_as_the_pipeline_restores(base):
    pipe = tiny.on_base(base)
    network = TADiSRNetwork(pipe.vae, pipe.transformer, pipe.prompt, pipe.joint_decoder, pipe.scheduler)
    assert network.backbone is network.transformer is pipe.transformer
    photo = tiny.photo(16, 16)
    x = pipe.prepare_image(photo)
    gradients = []
    pipe.transformer.train()  # diffusers checkpoints in training mode only
    for checkpointing in (False, True):
        network.zero_grad()
        if checkpointing:
            pipe.transformer.enable_gradient_checkpointing()
        with network.recording():
            image, mask = network(x)
            (image.square().mean() + mask.square().mean()).backward()
        gradients.append({n: p.grad.clone() for n, p in pipe.transformer.named_parameters() if p.grad is not None})
    torch.testing.assert_close(run(pipe, photo)[0][0], (image[0] / 2 + 0.5).clamp(0, 1).detach(), atol=1e-5, rtol=1e-5)
    plain, checkpointed = gradients
    assert plain.keys() == checkpointed.keys()
    assert all(g.abs().max() > 0 for name, g in plain.items() if "attn1.to_q.lora_A" in name)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)


def test_one_backbone_and_no_more(pipe):
    for unet, transformer in ((None, None), (tiny.unet(), pipe.transformer)):
        with pytest.raises(ValueError, match="Give either unet or transformer"):
            TADiSRPipeline(
                pipe.vae, pipe.scheduler, pipe.prompt, pipe.joint_decoder, unet=unet, transformer=transformer
            )
