"""The cached prompt, against each family's own `encode_prompt`."""

import sys

import pytest
import torch
from diffusers import CogView4Pipeline, FluxPipeline, StableDiffusionXLPipeline, ZImagePipeline

from helpers import tiny
from tadisr.models.families import family_of, predict
from tadisr.models.network import check_fits
from tadisr.models.prompt import DEFAULT_PROMPT, TextPrompt, find_keyword


@pytest.fixture(scope="module", params=tiny.FAMILIES)
def base(request, tmp_path_factory):
    """A base pipeline of each family, CogView4 included."""
    return tiny.FAMILIES[request.param](tmp_path_factory.mktemp(request.param))


def backbone(base):
    return base.components.get("unet") or base.transformer


def prompt_widths(backbone):
    return family_of(backbone).prompt_widths(backbone.config)


def encode(base, prompt=DEFAULT_PROMPT):
    if isinstance(base, ZImagePipeline):  # a list, and without padding
        [embeds], _ = base.encode_prompt(prompt, device="cpu", do_classifier_free_guidance=False)
        return embeds[None], None
    with torch.no_grad():
        encoded = base.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return encoded[0], encoded[2] if len(encoded) == 4 else None


def test_equals_the_bases_own_encoding(base):
    prompt = TextPrompt.from_pipeline(base)
    embeds, pooled = encode(base)
    assert embeds.std() > 0.1
    given, given_pooled = prompt(3)
    assert torch.equal(given, embeds.expand(3, -1, -1))
    assert not any(parameter.requires_grad for parameter in prompt.parameters())
    if pooled is None:
        assert given_pooled is None
    else:
        assert torch.equal(given_pooled, pooled.expand(3, -1))


@pytest.mark.parametrize("words", [DEFAULT_PROMPT, "text", "sharp text, best quality", "text text quality"])
def test_positions_are_those_of_the_word_in_the_padded_prompt(base, words):
    prompt = TextPrompt.from_pipeline(base, words)
    tokenizer, length = base.tokenizer, prompt.config.num_tokens
    if isinstance(base, ZImagePipeline):  # Z-Image's pipeline writes it as a message, and leaves padding out
        words = f"<|im_start|>user\n{words}<|im_end|>\n<|im_start|>assistant\n"
        assert length == len(tokenizer(words)["input_ids"])
    elif isinstance(base, CogView4Pipeline):  # CogView4's pipeline pads on the left, to a multiple of 16
        assert length % 16 == 0 and 0 <= length - len(tokenizer(words)["input_ids"]) < 16
    else:
        assert length == {"clip": 77}.get(type(tokenizer).__name__[:4].lower(), 256)
    ids = tokenizer(words, padding="max_length", max_length=length, truncation=True)["input_ids"]
    assert len(ids) == length
    positions = prompt.config.text_positions
    assert positions == list(range(positions[0], positions[-1] + 1))
    assert tokenizer.decode([ids[i] for i in positions]).strip() == "text"
    if tokenizer.padding_side == "left":  # so the positions depend on where the prompt ends
        after = tokenizer.decode(ids[positions[-1] + 1 :]).strip()
    else:
        after = tokenizer.decode([i for i in ids[positions[-1] + 1 :] if i != tokenizer.pad_token_id]).strip()
    assert "".join(after.split()) == "".join(words.rpartition("text")[2].split()), "the last one, and in its place"


def test_the_embedding_at_those_positions_is_the_words(base):
    """Another word there changes the embeddings from there on, and in these causal encoders nothing before it."""
    # As many tokens here as "text": with padding on the left, or none, another number would move everything.
    other = "tt" if isinstance(base, (CogView4Pipeline, ZImagePipeline)) else "t"
    changed = encode(base, DEFAULT_PROMPT.replace("text", other))[0] != encode(base)[0]
    mask = base.tokenizer(DEFAULT_PROMPT, padding="max_length", max_length=changed.shape[1])["attention_mask"]
    start = mask.index(1)  # what ChatGLM makes of its padding is not causal
    first = start + changed.any(-1)[0, start:].nonzero()[0].item()
    positions = TextPrompt.from_pipeline(base).config.text_positions
    assert first in positions


@pytest.mark.parametrize("words", ["best quality", "a sharp context", "textures", ""])
def test_a_prompt_without_the_word(base, words):
    with pytest.raises(ValueError, match="no word 'text'"):
        TextPrompt.from_pipeline(base, words)


def test_find_keyword():
    assert find_keyword(["<s>", "te</w>", "te", "xt</w>", "<|endoftext|>"], "text") == [2, 3]
    assert find_keyword(["Ġtext", ",", "Ġt", "ex", "t"], "text") == [2, 3, 4]
    assert find_keyword([",", "text", ".", "<pad>"], "text") == [1]
    for tokens in (["con", "text</w>"], ["text", "ure</w>"], ["▁sub", "text"], ["▁te", "▁xt"], ["<|endoftext|>"], [""]):
        with pytest.raises(ValueError, match="no word"):
            find_keyword(tokens, "text")


def test_the_backbone_takes_it(base):
    prompt, model = TextPrompt.from_pipeline(base), backbone(base)
    check_fits(base.vae, model, prompt)
    latents = torch.randn(2, base.vae.config.latent_channels, 6, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out, again = (predict(model, latents, 200, prompt, 4) for _ in range(2))
        prompt.prompt_embeds.mul_(-1)
        other = predict(model, latents, 200, prompt, 4)
    assert out.shape == latents.shape and torch.equal(out, again)
    assert not torch.allclose(out, other)


def test_is_what_the_bases_own_pipeline_gives_its_backbone(base):
    """Embeddings, pooled embeddings and size conditions of a 1024 x 1024 image, when it generates one."""
    seen, model = [], backbone(base)

    def hook(module, args, kwargs):
        seen.append(
            kwargs if kwargs.get("encoder_hidden_states") is not None else {"encoder_hidden_states": args[2][0]}
        )
        raise StopIteration  # nothing else is of interest

    side = 64  # what is generated, so that it is quick; what it is told is 1024
    told = {} if prompt_widths(model)[1] is None else dict.fromkeys(("original_size", "target_size"), (1024, 1024))
    handle = model.register_forward_pre_hook(hook, with_kwargs=True)
    with pytest.raises(StopIteration):
        base(DEFAULT_PROMPT, height=side, width=side, num_inference_steps=2, guidance_scale=1.0, **told)
    with pytest.raises(StopIteration):
        predict(model, torch.zeros(1, base.vae.config.latent_channels, 4, 4), 200, TextPrompt.from_pipeline(base), 4)
    handle.remove()
    theirs, ours = seen
    assert torch.equal(ours["encoder_hidden_states"], theirs["encoder_hidden_states"])
    added = ours.get("added_cond_kwargs")
    assert (added is None) == (not theirs.get("added_cond_kwargs")) == (not told)
    for name, value in (added or {}).items():
        assert torch.equal(value, theirs["added_cond_kwargs"][name]), name


def test_from_the_text_encoders_alone(base, tmp_path):
    base.save_pretrained(tmp_path)
    for part in ("vae", "unet", "transformer"):
        if (tmp_path / part).is_dir():
            (tmp_path / part / "config.json").write_text("not read")
    made = TextPrompt.from_base(tmp_path, "sharp text, best quality", dtype=torch.float32)
    expected = TextPrompt.from_pipeline(base, "sharp text, best quality")
    assert made.config.text_positions == expected.config.text_positions
    torch.testing.assert_close(made.prompt_embeds, expected.prompt_embeds, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_cogview4_pads_on_the_left_whatever_its_tokenizer_does(side):
    torch.manual_seed(0)
    tokenizer = tiny.glm_tokenizer(side)
    base = CogView4Pipeline(tokenizer, tiny.glm(tokenizer), None, None, None)
    prompt = TextPrompt.from_pipeline(base, "a text!")  # 2 marks and 5 tokens, after 9 of padding
    assert (prompt.config.num_tokens, prompt.config.text_positions) == (16, [13, 14])


def test_pipelines_that_make_no_prompt(tmp_path):
    flux = FluxPipeline(*[None] * 7)
    with pytest.raises(ValueError, match="No prompt can be made with a FluxPipeline. Supported bases: .*CogView4"):
        TextPrompt.from_pipeline(flux)
    bare = StableDiffusionXLPipeline(*[None] * 7)
    with pytest.raises(ValueError, match="loaded without its text encoder or tokenizer"):
        TextPrompt.from_pipeline(bare)


def test_kolors_without_sentencepiece(tmp_path, monkeypatch):
    (tmp_path / "model_index.json").write_text('{"_class_name": "KolorsPipeline"}')
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[kolors\]'"):
        TextPrompt.from_base(tmp_path)


def test_bases_that_do_not_fit(base):
    prompt, model, vae = TextPrompt.from_pipeline(base), backbone(base), base.vae
    width, pooled = prompt_widths(model)
    assert (width, pooled) == (prompt.config.embed_dim, prompt.config.pooled_dim)
    for other in ((width + 1, pooled), (width, None if pooled else 8)):
        wrong = TextPrompt(num_tokens=4, embed_dim=other[0], text_positions=[1], pooled_dim=other[1])
        with pytest.raises(ValueError, match=r"embeddings of .* made with another base"):
            check_fits(vae, model, wrong)
    with pytest.raises(ValueError, match=r"channels and its VAE has 3, as in inpainting models"):
        check_fits(tiny.vae(latent_channels=3), model, prompt)


def test_round_trip(base, tmp_path):
    prompt = TextPrompt.from_pipeline(base)
    prompt.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")]
    again = TextPrompt.from_pretrained(tmp_path)
    assert {**again.config, "_name_or_path": ""} == {**prompt.config, "_name_or_path": ""}
    for name, value in prompt.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    half = TextPrompt.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(1)[0].dtype == torch.bfloat16


@pytest.mark.parametrize("positions", [[], [4], [-1]])
def test_positions_outside_the_prompt(positions):
    with pytest.raises(ValueError, match="within the prompt's 4 tokens"):
        TextPrompt(num_tokens=4, embed_dim=2, text_positions=positions)


def test_learned_prompt_of_a_base_from_scratch():
    assert all(parameter.requires_grad for parameter in tiny.lean().prompt.parameters())
