"""The cached prompt, against each family's own `encode_prompt`."""

import pytest
import tiny
import torch

from tadisr.models.prompt import DEFAULT_PROMPT, TextPrompt, find_keyword


def encode(base, prompt=DEFAULT_PROMPT):
    with torch.no_grad():
        encoded = base.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return encoded[0], encoded[2] if len(encoded) == 4 else None


def test_equals_the_bases_own_encoding(base):
    prompt = TextPrompt.from_pipeline(base)
    embeds, pooled = encode(base)
    assert embeds.std() > 0.1
    kwargs = prompt(3)
    assert torch.equal(kwargs["encoder_hidden_states"], embeds.expand(3, -1, -1))
    assert not any(parameter.requires_grad for parameter in prompt.parameters())
    if pooled is None:
        assert "added_cond_kwargs" not in kwargs
    else:
        added = kwargs["added_cond_kwargs"]
        assert torch.equal(added["text_embeds"], pooled.expand(3, -1))
        assert added["time_ids"].tolist() == [[1024, 1024, 0, 0, 1024, 1024]] * 3


@pytest.mark.parametrize("words", [DEFAULT_PROMPT, "text", "sharp text, best quality", "text text quality"])
def test_positions_are_those_of_the_word_in_the_padded_prompt(base, words):
    prompt = TextPrompt.from_pipeline(base, words)
    tokenizer, length = base.tokenizer, prompt.config.num_tokens
    assert length == {"clip": 77}.get(type(tokenizer).__name__[:4].lower(), 256)
    ids = tokenizer(words, padding="max_length", max_length=length, truncation=True)["input_ids"]
    assert len(ids) == length
    positions = prompt.config.text_positions
    assert positions == list(range(positions[0], positions[-1] + 1))
    assert tokenizer.decode([ids[i] for i in positions]).strip() == "text"
    if length == 256:  # padded on the left, so the positions depend on where the prompt ends
        after = tokenizer.decode(ids[positions[-1] + 1 :]).strip()
    else:
        after = tokenizer.decode([i for i in ids[positions[-1] + 1 :] if i != tokenizer.pad_token_id]).strip()
    assert after.replace(" ", "") == words.rpartition("text")[2].replace(" ", ""), "the last one, and in its place"


def test_the_embedding_at_those_positions_is_the_words(base):
    """Another word there changes the embeddings from there on, and in these causal encoders nothing before it."""
    # One token in the Kolors vocabulary here, as "text" is: with padding on the left, more would move everything.
    changed = encode(base, DEFAULT_PROMPT.replace("text", "t"))[0] != encode(base)[0]
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


def test_unet_takes_it(base):
    prompt = TextPrompt.from_pipeline(base)
    latents = torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out, again = (base.unet(latents, 200, **prompt(2)).sample for _ in range(2))
        prompt.prompt_embeds.mul_(-1)
        other = base.unet(latents, 200, **prompt(2)).sample
    assert out.shape == latents.shape and torch.equal(out, again)
    assert not torch.allclose(out, other)


def test_round_trip(base, tmp_path):
    prompt = TextPrompt.from_pipeline(base)
    prompt.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.glob("*.safetensors")]
    again = TextPrompt.from_pretrained(tmp_path)
    assert {**again.config, "_name_or_path": ""} == {**prompt.config, "_name_or_path": ""}
    for name, value in prompt.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    half = TextPrompt.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    assert half(1)["encoder_hidden_states"].dtype == torch.bfloat16


@pytest.mark.parametrize("positions", [[], [4], [-1]])
def test_positions_outside_the_prompt(positions):
    with pytest.raises(ValueError, match="within the prompt's 4 tokens"):
        TextPrompt(num_tokens=4, embed_dim=2, text_positions=positions)


def test_learned_prompt_of_a_base_from_scratch():
    assert all(parameter.requires_grad for parameter in tiny.lean().prompt.parameters())
