"""Real classes at toy size, seeded: bases of each family, and what stands on them."""

import copy
import io
from pathlib import Path

import sentencepiece
import torch
from diffusers import (
    AutoencoderKL,
    CogView4Pipeline,
    CogView4Transformer2DModel,
    DDPMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    KolorsPipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from diffusers.pipelines.kolors import ChatGLMModel, ChatGLMTokenizer
from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.processors import TemplateProcessing
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    GlmConfig,
    GlmModel,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3Model,
)

from tadisr.models.families import family_of
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.lora import add_lora
from tadisr.models.prompt import DEFAULT_PROMPT, TextPrompt
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel, initialize
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def vae(levels: int = 3, **config) -> AutoencoderKL:
    config = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "block_out_channels": [8, 8, 16, 16][:levels],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        **config,
    }
    return AutoencoderKL(**config).eval()


def unet(**config) -> UNet2DConditionModel:
    config = {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
        **config,
    }
    return UNet2DConditionModel(**config).eval()


def clip_tokenizer() -> CLIPTokenizer:
    """Letters, and "text" as the two tokens "te" and "xt</w>"."""
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "te", "xt</w>", "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocab, merges=[("t", "e"), ("x", "t</w>")], model_max_length=77)


def clip(tokenizer: CLIPTokenizer, cls: type = CLIPTextModel) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        projection_dim=16, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return cls(config).eval()


def sd(folder: Path) -> StableDiffusionPipeline:
    torch.manual_seed(0)
    tokenizer = clip_tokenizer()
    return StableDiffusionPipeline(
        vae=vae(scaling_factor=0.18215), unet=unet(), scheduler=PNDMScheduler(**SCHEDULE, skip_prk_steps=True),
        text_encoder=clip(tokenizer), tokenizer=tokenizer,
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl(folder: Path) -> StableDiffusionXLPipeline:
    torch.manual_seed(1)
    tokenizer = clip_tokenizer()
    return StableDiffusionXLPipeline(
        vae=vae(scaling_factor=0.13025),
        unet=unet(
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=[1, 2],
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        scheduler=DDPMScheduler(**SCHEDULE),
        text_encoder=clip(tokenizer), tokenizer=tokenizer,
        text_encoder_2=clip(tokenizer, CLIPTextModelWithProjection), tokenizer_2=tokenizer,
    )  # fmt: skip


def chatglm_tokenizer(folder: Path) -> ChatGLMTokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([DEFAULT_PROMPT, "text", "a sharp context, textures"] * 20), model_writer=model,
        vocab_size=64, hard_vocab_limit=False, model_type="bpe", minloglevel=2, num_threads=1,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    return ChatGLMTokenizer(str(folder / "tokenizer.model"))


def kolors(folder: Path) -> KolorsPipeline:
    torch.manual_seed(2)
    config = ChatGLMConfig(
        num_layers=2, padded_vocab_size=96, hidden_size=16, ffn_hidden_size=16, kv_channels=8, num_attention_heads=2,
        seq_length=256, multi_query_attention=True, multi_query_group_num=1, original_rope=True, add_qkv_bias=True,
    )  # fmt: skip
    text_encoder = ChatGLMModel(config, empty_init=False).eval()
    for parameter in text_encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return KolorsPipeline(
        vae=vae(scaling_factor=0.13025),
        unet=unet(
            transformer_layers_per_block=[1, 2],
            attention_head_dim=[2, 4],
            use_linear_projection=True,
            cross_attention_dim=24,
            encoder_hid_dim=16,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text_time",
            addition_time_embed_dim=4,
            projection_class_embeddings_input_dim=16 + 6 * 4,
        ),
        scheduler=EulerDiscreteScheduler(**SCHEDULE),
        text_encoder=text_encoder,
        tokenizer=chatglm_tokenizer(folder),
    )  # fmt: skip


def glm_tokenizer(padding_side: str = "left") -> PreTrainedTokenizerFast:
    """Byte-level letters, and "text" as the two tokens "te" and "xt"; each prompt begins with GLM's two marks."""
    words = [*sorted(ByteLevel.alphabet()), "te", "xt", "[gMASK]", "<sop>", "<|endoftext|>"]
    vocab = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(BPE(vocab, [("t", "e"), ("x", "t")]))
    pieces = Split(Regex(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|\s+|[^\s\p{L}\p{N}]+"), "isolated")
    tokenizer.pre_tokenizer = Sequence([pieces, ByteLevel(add_prefix_space=False, use_regex=False)])
    marks = [(mark, vocab[mark]) for mark in ("[gMASK]", "<sop>")]
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.post_processor = TemplateProcessing(single="[gMASK] <sop> $A", special_tokens=marks)
    tokenizer.add_special_tokens(["[gMASK]", "<sop>", "<|endoftext|>"])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<|endoftext|>", eos_token="<|endoftext|>", padding_side=padding_side
    )


def glm(tokenizer: PreTrainedTokenizerFast) -> GlmModel:
    config = GlmConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.3, pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return GlmModel(config).eval()


def transformer(**config) -> CogView4Transformer2DModel:
    config = {
        "in_channels": 8,
        "out_channels": 8,
        "num_layers": 2,
        "attention_head_dim": 8,
        "num_attention_heads": 2,
        "text_embed_dim": 16,
        "time_embed_dim": 8,
        "condition_dim": 4,
        **config,
    }
    return CogView4Transformer2DModel(**config).eval()


def cogview4(folder: Path) -> CogView4Pipeline:
    torch.manual_seed(5)
    tokenizer = glm_tokenizer()
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=glm(tokenizer),
        vae=vae(
            latent_channels=8, scaling_factor=1.0, shift_factor=0.0, mid_block_add_attention=False,
            use_quant_conv=False, use_post_quant_conv=False,
        ),
        transformer=transformer(),
        scheduler=FlowMatchEulerDiscreteScheduler(
            base_shift=0.25, max_shift=0.75, use_dynamic_shifting=True, time_shift_type="linear"
        ),
    )  # fmt: skip


CHAT = (  # a prompt as Qwen's models read a message
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def qwen_tokenizer(padding_side: str = "right") -> Qwen2Tokenizer:
    """Byte-level letters, and "text" as the two tokens "te" and "xt"."""
    words = [*sorted(ByteLevel.alphabet()), "te", "xt", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return Qwen2Tokenizer(
        vocab={word: i for i, word in enumerate(words)}, merges=[("t", "e"), ("x", "t")], eos_token="<|im_end|>",
        extra_special_tokens=["<|im_start|>"], chat_template=CHAT, padding_side=padding_side,
    )  # fmt: skip


def qwen(tokenizer: Qwen2Tokenizer, cls: type = Qwen3Model) -> Qwen3Model:
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=24, intermediate_size=16, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, initializer_range=0.3, tie_word_embeddings=True,
    )  # fmt: skip
    return cls(config).eval()


def zimage_transformer(**config) -> ZImageTransformer2DModel:
    config = {
        "in_channels": 16,
        "dim": 32,
        "n_layers": 2,
        "n_refiner_layers": 1,
        "n_heads": 2,
        "n_kv_heads": 2,
        "cap_feat_dim": 24,
        "axes_dims": [4, 6, 6],
        "axes_lens": [1536, 64, 64],
        **config,
    }
    model = ZImageTransformer2DModel(**config).eval()
    for token in (model.x_pad_token, model.cap_pad_token):  # zero, untrained
        torch.nn.init.normal_(token)
    return model


def zimage(folder: Path) -> ZImagePipeline:
    torch.manual_seed(6)
    tokenizer = qwen_tokenizer()
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(
            latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
            use_post_quant_conv=False,
        ),
        text_encoder=qwen(tokenizer),
        tokenizer=tokenizer,
        transformer=zimage_transformer(),
    )  # fmt: skip


FAMILIES = {"sd": sd, "sdxl": sdxl, "kolors": kolors, "cogview4": cogview4, "zimage": zimage}


def shake(model: torch.nn.Module, part: str, std: float = 0.3) -> None:
    """Random values for the parameters whose name holds `part`, which start at zero."""
    found = [parameter for name, parameter in model.named_parameters() if part in name]
    assert found, part
    for parameter in found:
        torch.nn.init.normal_(parameter, std=std)


def on_base(base: DiffusionPipeline, lora: bool = True, base_model: str | None = None) -> TADiSRPipeline:
    """TADiSR on a copy of the base's backbone and VAE, as if trained: no adapter and no interaction is idle."""
    torch.manual_seed(3)
    vae, backbone = copy.deepcopy(base.vae), copy.deepcopy(base.components.get("unet") or base.transformer)
    family = family_of(backbone)
    joint_decoder = JointSegmentationDecoder.from_base(vae, backbone).eval()
    shake(joint_decoder.interactions, ".scale")
    if lora:
        add_lora(backbone, vae)
        shake(backbone, "lora_B")
        shake(vae, "lora_B")
    return TADiSRPipeline(
        vae=vae,
        **{family.component: backbone},
        scheduler=family.make_scheduler({"_class_name": type(base.scheduler).__name__, **base.scheduler.config}),
        prompt=TextPrompt.from_pipeline(base),
        joint_decoder=joint_decoder,
        base_model=base_model,
    )


def lean(mask_prompt: bool = False) -> TADiSRPipeline:
    """From scratch, as `tadisr.training.restoration.build.build_network` makes `tadisr-tiny`, smaller.

    With `mask_prompt` it follows prompts, as if trained.
    """
    torch.manual_seed(4)
    vae = LeanAutoencoderKL(
        in_channels=48, out_channels=48, latent_channels=4, down_block_types=["DownEncoderBlock2D"],
        up_block_types=["UpDecoderBlock2D"], block_out_channels=[8], layers_per_block=1, norm_num_groups=4,
        mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False, scaling_factor=1.0,
    )  # fmt: skip
    unet = LeanUNet2DConditionModel(
        in_channels=4, out_channels=4, down_block_types=["DownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[8, 8], layers_per_block=1,
        norm_num_groups=4, attention_head_dim=2, cross_attention_dim=8, only_cross_attention=True,
        mid_block_type="UNetMidBlock2D",
    )  # fmt: skip
    joint_decoder = JointSegmentationDecoder.from_base(
        vae, unet, encoder_skips=True, image_residual=True, mask_prompt=mask_prompt, mask_prompt_blocks=int(mask_prompt)
    )
    initialize(vae, unet, joint_decoder)
    shake(joint_decoder, "skips")
    if mask_prompt:
        for learned in ("prompt_encoder.to_", "prompt_follower.to_image"):
            shake(joint_decoder, learned, 0.1)
    return TADiSRPipeline(
        vae=vae.eval(),
        unet=unet.eval(),
        scheduler=DDPMScheduler(**SCHEDULE),
        prompt=TextPrompt(num_tokens=4, embed_dim=8, text_positions=[3]),
        joint_decoder=joint_decoder.eval(),
    )


def photo(width: int = 24, height: int = 17, seed: int = 0) -> torch.Tensor:
    """(1, 3, height, width) in [0, 1], in steps of 1/255."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)).mul(255).round() / 255
