"""Stable Diffusion 3 as a base, by nothing but the record of a family: the product has no word about it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.models.attention_processor import JointAttnProcessor2_0
from transformers import CLIPTextModelWithProjection, T5Config, T5EncoderModel

from helpers import tiny
from tadisr import TADiSRPipeline
from tadisr.models.families import FAMILIES, EncodedPrompt, Family
from tadisr.models.one_step import flow_scheduler
from tadisr.models.prompt import DEFAULT_PROMPT, TextPrompt
from tadisr.training.engine.train_state import trainable
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_factor

CLIP_TOKENS, T5_TOKENS = 77, 256


def predict(backbone, latents, timestep, prompt, pixels_per_latent):
    embeds, pooled = prompt(len(latents))
    height, width = latents.shape[-2:]
    patch = backbone.config.patch_size
    padded = F.pad(latents, (0, -width % patch, 0, -height % patch), mode="replicate")
    timesteps = padded.new_full((len(padded),), timestep)
    return backbone(padded, embeds, pooled, timesteps, return_dict=False)[0][..., :height, :width]


def encode(pipe, prompt):
    embeds, _, pooled, _ = pipe.encode_prompt(prompt, None, None, device=pipe.device, do_classifier_free_guidance=False)
    tokens = []
    for tokenizer, length in ((pipe.tokenizer, CLIP_TOKENS), (pipe.tokenizer_3, T5_TOKENS)):
        ids = tokenizer(prompt, padding="max_length", max_length=length)["input_ids"]
        tokens += tokenizer.convert_ids_to_tokens(ids)
    return EncodedPrompt(embeds, pooled, tokens)


class Recorder(JointAttnProcessor2_0):
    def __init__(self, name, text_positions, maps):
        super().__init__()
        self.name, self.text_positions, self.maps = name, text_positions, maps

    def __call__(self, attn, hidden_states, encoder_hidden_states, *args, **kwargs):
        q, k = (
            x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.add_k_proj(encoder_hidden_states))
        )
        key = k[:, :, self.text_positions].mean(dim=2, keepdim=True) * attn.scale
        self.maps[self.name] = (q @ key.transpose(-1, -2)).squeeze(-1)
        return super().__call__(attn, hidden_states, encoder_hidden_states, *args, **kwargs)


SD3 = Family(
    name="Stable Diffusion 3",
    pipelines="StableDiffusion3",
    backbone_class="SD3Transformer2DModel",
    component="transformer",
    make_scheduler=flow_scheduler,
    predict=predict,
    encode=encode,
    prompt_widths=lambda config: (config.joint_attention_dim, config.pooled_projection_dim),
    text_layers=r"transformer_blocks\.\d+\.attn",
    recorder=Recorder,
    lora_targets=("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "ff.net.2", "proj_out"),
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.manual_seed(0)
    clip, glm = tiny.clip_tokenizer(), tiny.glm_tokenizer("right")
    pipe = StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16, in_channels=8, out_channels=8, num_layers=2, attention_head_dim=8, num_attention_heads=2,
            joint_attention_dim=32, caption_projection_dim=16, pooled_projection_dim=32, pos_embed_max_size=64,
        ).eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=tiny.vae(
            latent_channels=8, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=tiny.clip(clip, CLIPTextModelWithProjection), tokenizer=clip,
        text_encoder_2=tiny.clip(clip, CLIPTextModelWithProjection), tokenizer_2=clip,
        text_encoder_3=T5EncoderModel(
            T5Config(vocab_size=len(glm), d_model=32, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
        ).eval(),
        tokenizer_3=glm,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("sd3") / "base"
    pipe.save_pretrained(folder)
    return pipe, folder


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(FAMILIES, "sd3", SD3)


def restored(pipe):
    result = pipe(tiny.photo(), output_type="pt")
    return result.images[0], result.text_masks[0]


def test_it_restores_and_its_adapter_is_saved_and_loaded(base, tmp_path):
    pipe = tiny.on_base(base[0], base_model=str(base[1]))
    image, mask = restored(pipe)
    assert image.shape == (3, 68, 96) and mask.shape == (1, 68, 96) and image.std() > 0 and mask.std() > 0
    pipe.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("transformer")) and (tmp_path / "transformer_lora").is_dir()
    again = TADiSRPipeline.from_pretrained(tmp_path)
    assert type(again.backbone) is SD3Transformer2DModel
    assert all(torch.equal(one, other) for one, other in zip(restored(again), (image, mask), strict=True))
    again.backbone.disable_adapters()
    assert not torch.equal(restored(again)[0], image), "the adapter has a share in it"
    again.prompt.register_to_config(text_positions=[3])
    assert not torch.equal(restored(again)[1], mask), "and so has the attention to the word"


def test_the_one_step_is_its_own_pipelines_last(base):
    """A fresh decoder adds nothing: the image is what one step of flow matching gives."""
    pipe = tiny.on_base(base[0], lora=False)
    tiny.shake(pipe.joint_decoder.interactions, ".scale", std=0.0)
    prompt, photo = TextPrompt.from_pipeline(base[0]), tiny.photo(24, 16)
    steps = 3.0 * torch.arange(1, 1001) / (1 + 2 * torch.arange(1, 1001) / 1000)  # of the shifted training schedule
    timestep = float(steps[(steps - 200).abs().argmin()])
    with torch.no_grad():
        config = pipe.vae.config
        latents = pipe.vae.encode(pipe.prepare_image(photo)).latent_dist.mode()
        latents = (latents - config.shift_factor) * config.scaling_factor
        velocity = pipe.transformer(
            latents, prompt.prompt_embeds, prompt.pooled_prompt_embeds, torch.tensor([timestep])
        ).sample
        clean = latents - timestep / 1000 * velocity
        expected = pipe.vae.decode(clean / config.scaling_factor + config.shift_factor).sample / 2 + 0.5
    torch.testing.assert_close(restored_photo(pipe, photo), expected[0].clamp(0, 1), atol=1e-5, rtol=1e-5)


def restored_photo(pipe, photo):
    return pipe(photo, output_type="pt").images[0]


def test_the_prompt_is_made_by_its_text_encoders_alone(base, tmp_path):
    prompt = TextPrompt.from_base(base[1])
    assert (prompt.config.num_tokens, prompt.config.embed_dim, prompt.config.pooled_dim) == (333, 32, 32)
    tokens = encode(base[0], DEFAULT_PROMPT).tokens
    positions = prompt.config.text_positions
    assert positions[0] >= CLIP_TOKENS and "".join(tokens[i] for i in positions).endswith("text")


def test_it_is_trained(base, tmp_path):
    config = TrainConfig(
        pretrained_model_name_or_path=str(base[1]), train_data_dir=["x"], output_dir=str(tmp_path), mixed_precision="no"
    )
    network = build_network(config)
    assert network_factor(network) == 4, "it pads by itself"
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name in (".scale", "lora_B"):
        tiny.shake(network, name)
    with network.recording():
        image, mask = network(x)
        (image.square().mean() + mask.square().mean()).backward()
    idle = [p for p in trainable(network) if p.grad is None or not p.grad.any()]
    assert len(idle) < 0.1 * len(trainable(network))


def test_without_the_record_it_is_refused(base, tmp_path, monkeypatch):
    pipe = tiny.on_base(copy.copy(base[0]), base_model=str(base[1]))
    pipe.save_pretrained(tmp_path)
    monkeypatch.delitem(FAMILIES, "sd3")
    message = "StableDiffusion3Pipeline with AutoencoderKL, SD3Transformer2DModel, which is not supported as a base"
    with pytest.raises(ValueError, match=message):
        TADiSRPipeline.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="No prompt can be made with a StableDiffusion3Pipeline"):
        TextPrompt.from_base(base[1])


def test_an_adapter_of_another_transformer_does_not_fit(base, tmp_path):
    tiny.on_base(tiny.cogview4(tmp_path), base_model=str(base[1])).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="the prompt was made with another base"):
        TADiSRPipeline.from_pretrained(tmp_path)
