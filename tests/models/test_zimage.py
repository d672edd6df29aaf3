"""Z-Image as a base, against diffusers' own pipeline and the full attention matrices."""

import copy

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, ZImageOmniPipeline, ZImagePipeline

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.models.attention import cross_attention_layers, record_text_attention
from tadisr.models.families import predict
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.network import TADiSRNetwork, denoise
from tadisr.models.one_step import flow_point
from tadisr.models.prompt import DEFAULT_PROMPT, TextPrompt

PIXELS = 4  # per latent, of the tiny VAE
LAYERS = ["layers.0.attention", "layers.1.attention"]
LENGTH = 64  # of the prompt in the stream: 60 tokens, padded to a multiple of 32
SIZES = [(5, 7), (6, 10), (16, 16), (1, 1)]  # of latents: 12, 15, 64 and 1 tokens, in streams of 32 or 64


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny.zimage(tmp_path_factory.mktemp("zimage"))


@pytest.fixture(scope="module")
def prompt(base):
    return TextPrompt.from_pipeline(base)


def latents_of(height, width, batch=1, seed=0):
    return torch.randn(batch, 16, height, width, generator=torch.Generator().manual_seed(seed))


def run(pipe, image, **kwargs):
    return pipe(image, output_type="pt", return_dict=False, **kwargs)


# ---- the one step


def test_one_step_is_the_last_step_of_its_own_pipeline(base, prompt):
    own = copy.copy(base)
    own.scheduler = FlowMatchEulerDiscreteScheduler()  # so that the sigma that is given is taken as it is
    own.set_progress_bar_config(disable=True)
    latents, sigma = latents_of(8, 12), flow_point(base.scheduler)[1]
    options = {"height": 8 * PIXELS, "width": 12 * PIXELS, "guidance_scale": 0.0, "output_type": "latent"}
    expected = own(DEFAULT_PROMPT, num_inference_steps=1, sigmas=[sigma], latents=latents, **options).images
    with torch.no_grad():
        ours = denoise(base.transformer, latents, prompt, base.scheduler, PIXELS)
    assert (ours - latents).abs().max() > 1e-2
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)


def test_the_point_nearest_200(base):
    """Of the shifted training schedule: 3 s / (1 + 2 s) for s = 0.077."""
    timestep, sigma = flow_point(base.scheduler)
    assert timestep == pytest.approx(231 / 1.154) and sigma == pytest.approx(0.231 / 1.154)


def whole_patches(latents):
    padded = torch.cat([latents, latents[..., -1:, :]], dim=-2) if latents.shape[-2] % 2 else latents
    return torch.cat([padded, padded[..., -1:]], dim=-1) if latents.shape[-1] % 2 else padded


@pytest.mark.parametrize("size", SIZES)
def test_latents_are_padded_to_whole_patches(base, prompt, size):
    latents = latents_of(*size, batch=2)
    with torch.no_grad():
        ours = predict(base.transformer, latents, 200, prompt, PIXELS)
        padded = [image[:, None] for image in whole_patches(latents)]
        given = base.transformer(padded, torch.tensor([0.8, 0.8]), [prompt.prompt_embeds[0]] * 2).sample
    expected = -torch.cat(given, dim=1).transpose(0, 1)[..., : size[0], : size[1]]
    assert ours.shape == latents.shape
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=1e-5)


def test_images_that_are_too_large_for_its_places(base, prompt):
    assert base.transformer.config.axes_lens[1:] == [64, 64]
    with pytest.raises(ValueError, match="no places for images of more than 512 pixels a side: give a tile"):
        predict(base.transformer, latents_of(2, 129), 200, prompt, PIXELS)
    with torch.no_grad():
        assert predict(base.transformer, latents_of(2, 128), 200, prompt, PIXELS).isfinite().all()


# ---- the prompt


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("words", ["text", "a text!", "text text\ntext"])
def test_the_word_in_the_message(side, words):
    torch.manual_seed(0)
    tokenizer = tiny.qwen_tokenizer(side)
    base = ZImagePipeline(FlowMatchEulerDiscreteScheduler(), None, tiny.qwen(tokenizer), tokenizer, None)
    config = TextPrompt.from_pipeline(base, words).config
    message = f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
    ids = tokenizer(message)["input_ids"]
    assert config.num_tokens == len(ids), "padding goes"
    first, last = config.text_positions
    assert tokenizer.decode(ids[first : last + 1]) == "text" and last == first + 1
    assert tokenizer.decode(ids[last + 1 :]) == message[message.rindex("text") + 4 :]


def test_a_pipeline_that_reads_images_beside_the_prompt_is_refused():
    with pytest.raises(ValueError, match="No prompt can be made with a ZImageOmniPipeline"):
        TextPrompt.from_pipeline(ZImageOmniPipeline(*[None] * 7))


# ---- text attention


def test_layers(base):
    assert cross_attention_layers(base.transformer) == dict.fromkeys(LAYERS, 2)


def rotated(x, rotations):
    """Pairs of x (B, S, n, d) turned by unit complex numbers (B, S, d / 2)."""
    real, imaginary = x[..., 0::2], x[..., 1::2]
    cos, sin = rotations.real[:, :, None], rotations.imag[:, :, None]
    return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1).flatten(-2)


@pytest.mark.parametrize("positions", [[45, 46], [59], [0, 3, 20]])
@pytest.mark.parametrize("size", SIZES)
def test_records_columns_of_the_full_matrix(base, prompt, positions, size):
    transformer, latents, inputs = base.transformer, latents_of(*size, batch=2), {}
    handles = [
        transformer.get_submodule(name).register_forward_pre_hook(
            lambda module, args, kwargs, name=name: inputs.update({name: (args[0], kwargs["freqs_cis"])}),
            with_kwargs=True,
        )
        for name in LAYERS
    ]
    with torch.no_grad():
        stock = predict(transformer, latents, 200, prompt, PIXELS)
        with record_text_attention(transformer, positions, LAYERS) as maps:
            recorded = predict(transformer, latents, 200, prompt, PIXELS)
    for handle in handles:
        handle.remove()
    assert torch.equal(recorded, stock)
    tokens = -(-size[0] // 2) * -(-size[1] // 2)
    assert list(maps) == LAYERS
    for name, (stream, rotations) in inputs.items():
        attn = transformer.get_submodule(name)
        with torch.no_grad():
            q, k = (
                rotated(norm(project(stream).reshape(2, -1, 2, 16)), rotations).transpose(1, 2)
                for project, norm in ((attn.to_q, attn.norm_q), (attn.to_k, attn.norm_k))
            )
        full = q @ k.transpose(-1, -2) / 4  # (B, n, S, S)
        assert full.shape[-1] == -(-tokens // 32) * 32 + LENGTH
        column = full[:, :, :tokens, [full.shape[-1] - LENGTH + i for i in positions]].mean(-1)
        assert maps[name].shape == (2, 2, tokens)
        assert tokens == 1 or column.std() > 0.05
        torch.testing.assert_close(maps[name], column, atol=1e-5, rtol=1e-5)


def test_the_key_is_the_words(base, prompt):
    """In the first layer no image has reached the prompt's tokens: its key changes with its own embedding alone."""
    found = []
    for position in (None, 45, 46, 44, 47, 59):
        changed = copy.deepcopy(prompt)
        if position is not None:
            changed.prompt_embeds[0, position] *= -1
        transformer = copy.deepcopy(base.transformer)
        for block in transformer.context_refiner:  # which would mix the prompt's tokens
            torch.nn.init.zeros_(block.attention.to_out[0].weight)
        with torch.no_grad(), record_text_attention(transformer, [45, 46], LAYERS[:1]) as maps:
            predict(transformer, latents_of(6, 10), 200, changed, PIXELS)
        found.append(maps[LAYERS[0]])
    assert [torch.equal(one, found[0]) for one in found] == [True, False, False, True, True, True]


def test_maps_are_in_the_order_of_the_patches(base, prompt):
    """Without the layers before, a token's query in the first layer knows its own patch only."""
    transformer = copy.deepcopy(base.transformer)
    for block in transformer.noise_refiner:
        torch.nn.init.zeros_(block.attention.to_out[0].weight)
    latents = latents_of(6, 10)
    changed = latents.clone()
    changed[..., 2:4, 6:8] += 1  # patch (1, 3)
    maps = []
    for given in (latents, changed):
        with torch.no_grad(), record_text_attention(transformer, [46], LAYERS) as found:
            predict(transformer, given, 200, prompt, PIXELS)
        maps.append(found[LAYERS[0]].unflatten(-1, (3, 5)))
    assert (maps[0] != maps[1]).any(1)[0].nonzero().tolist() == [[1, 3]]


def test_what_cannot_be_recorded(base, prompt):
    embeds, image = list(prompt.prompt_embeds), [torch.zeros(16, 1, 4, 4)]
    with record_text_attention(base.transformer, [46], LAYERS):
        with pytest.raises(RuntimeError, match="recorded in tadisr.models.families.predict"):
            base.transformer(image, torch.tensor([0.8]), embeds)
        with pytest.raises(ValueError, match="all images of a batch have one size"):
            base.transformer([*image, torch.zeros(16, 1, 20, 20)], torch.tensor([0.8, 0.8]), embeds * 2)


# ---- pipeline and network


@pytest.fixture(scope="module")
def pipe(base):
    return tiny.on_base(base, lora=False)


@pytest.mark.parametrize("size", [(24, 17), (1, 1), (33, 9)])
def test_sizes_are_exact(pipe, size):
    (image,), (mask,) = run(pipe, tiny.photo(*size))
    assert image.shape == (3, 4 * size[1], 4 * size[0]) and mask.shape[1:] == image.shape[1:]
    assert image.isfinite().all() and image.std() > 0 and mask.isfinite().all() and mask.std() > 0


def test_tiles_make_images_possible_that_its_places_do_not(pipe):
    photo = tiny.photo(140, 16)
    with pytest.raises(ValueError, match="give a tile"):
        run(pipe, photo, tile=None)
    (image,), (mask,) = run(pipe, photo, tile=128, overlap=32)
    assert image.shape == (3, 64, 560) and mask.shape == (1, 64, 560) and mask.std() > 0


def test_a_fresh_decoder_adds_nothing_to_the_base(base, prompt):
    """Untrained adapters and decoder: the image is the base's own one-step result."""
    pipe = tiny.on_base(base, lora=False)
    pipe.joint_decoder = JointSegmentationDecoder.from_base(pipe.vae, pipe.transformer).eval()
    photo, vae = tiny.photo(24, 16), pipe.vae
    timestep, sigma = flow_point(base.scheduler)
    with torch.no_grad():
        latents = (vae.encode(pipe.prepare_image(photo)).latent_dist.mode() - 0.1159) * 0.3611
        time = torch.tensor([1 - timestep / 1000])
        [flow] = pipe.transformer([latents[0][:, None]], time, [prompt.prompt_embeds[0]]).sample
        clean = latents + sigma * flow.transpose(0, 1)
        expected = (vae.decode(clean / 0.3611 + 0.1159).sample / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(run(pipe, photo)[0][0], expected[0], atol=1e-5, rtol=1e-5)


def test_text_attention_decides_the_mask_and_can_be_off(base):
    pipe = tiny.on_base(base)
    mask = run(pipe, tiny.photo())[1][0]
    pipe.prompt.register_to_config(text_positions=[3])
    assert not torch.equal(run(pipe, tiny.photo())[1][0], mask)
    pipe.joint_decoder = JointSegmentationDecoder.from_base(pipe.vae, pipe.transformer, text_attention=False).eval()
    assert pipe.joint_decoder.config.attention_layers == []
    assert run(pipe, tiny.photo())[1][0].std() > 0


def test_round_trips(base, pipe, tmp_path):
    base.save_pretrained(tmp_path / "base")
    adapted = tiny.on_base(base, base_model=str(tmp_path / "base"))
    for name, made in (("whole", pipe), ("adapter", adapted)):
        made.save_pretrained(tmp_path / name)
        again = TADiSRPipeline.from_pretrained(tmp_path / name)
        for one, other in zip(run(again, tiny.photo()), run(made, tiny.photo()), strict=True):
            assert torch.equal(one[0], other[0])
    half = TADiSRPipeline.from_pretrained(tmp_path / "adapter", dtype=torch.bfloat16)
    assert {half.transformer.dtype, half.prompt.dtype} == {torch.bfloat16}
    difference = run(half, tiny.photo())[0][0] - run(adapted, tiny.photo())[0][0]
    assert difference.abs().mean() < 0.03


def test_model_offload(pipe):
    pipe, expected = copy.copy(pipe), run(pipe, tiny.photo())
    pipe.enable_model_cpu_offload(device="cpu")  # with the CPU as the accelerator
    try:
        found = run(pipe, tiny.photo())
    finally:
        pipe.remove_all_hooks()
    assert all(torch.equal(one[0], other[0]) for one, other in zip(found, expected, strict=True))


def test_network_trains_as_the_pipeline_restores(base):
    pipe = tiny.on_base(base)
    network = TADiSRNetwork(pipe.vae, pipe.transformer, pipe.prompt, pipe.joint_decoder, pipe.scheduler)
    photo = tiny.photo(16, 16)
    x = pipe.prepare_image(photo)
    gradients = []
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
    assert plain.keys() == checkpointed.keys() and len(plain) > 50
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(checkpointed[name], gradient, msg=name)
