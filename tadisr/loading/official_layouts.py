"""The two checkpoints that the authors of TADiSR released: what they are, and every key in them with its shape.

The layouts are derived from the architectures: a key for each layer that the authors' LoRA configurations target, and
for each tensor of their mask decoders, named as in our own decoder (`Slot.ours`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import diffusers
import torch
from torch import nn

from tadisr.models.families import FAMILIES, Family
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.prompt import DEFAULT_PROMPT

# peft's own default, which the authors' LoraConfig(r=4, ...) and (r=2, ...) leave as it is: the updates are scaled by
# 8 / 4 in the backbone and by 8 / 2 in the VAE.
LORA_ALPHA = 8
RANK_BACKBONE, RANK_VAE = 4, 2
VAE_TARGETS = ["conv1", "conv2", "conv_in", "conv_shortcut", "conv", "conv_out", "to_q", "to_k", "to_v", "to_out.0"]
SKIPS = (1, 2, 3, 4)  # `decoder.skip_conv_i`, before up block i counted from 1; the first is stored and never used
DECODER_GROUPS = ("mi_decoder", "js_decoder")


class Slot(NamedTuple):
    """One tensor of a released checkpoint."""

    shape: tuple[int, ...]
    ours: tuple[str, ...]
    """Names of our tensors. More than one: the official tensor is split equally along axis 0. Empty: dropped."""


Layout = dict[str, dict[str, Slot]]  # group -> key -> slot


@dataclass(frozen=True)
class Release:
    """A released checkpoint and the architecture in it."""

    name: str
    file: str
    size: int  # bytes
    sha256: str
    trained_on: str
    base_model: str  # Hub id of the diffusers pipeline that it belongs on
    prompt: str
    text_encoder_dtype: torch.dtype  # as the base's text encoder is published
    family: Family  # of its base
    backbone_config: Mapping[str, Any]
    backbone_targets: Sequence[str]
    replaced_layers: Sequence[str]  # of the backbone, stored whole
    vae_config: Mapping[str, Any]
    interaction: str
    mask_block_out_channels: Sequence[int]

    @property
    def backbone_group(self) -> str:
        """The checkpoint's group that holds the denoiser's weights; it tells the releases apart."""
        return f"state_dict_{self.family.component}"

    def decoder(self) -> JointSegmentationDecoder:
        """Our joint decoder of this architecture, without memory (on the meta device)."""
        config = _model("AutoencoderKL", self.vae_config).config
        shared = ("latent_channels", "layers_per_block", "norm_num_groups", "mid_block_add_attention")
        with torch.device("meta"):
            return JointSegmentationDecoder(
                attention_layers=[],
                attention_heads=[],
                block_out_channels=list(config.block_out_channels),
                **{name: config[name] for name in shared},
                encoder_skips=[level - 1 for level in SKIPS[1:]],
                mask_source="mid_block",
                interaction=self.interaction,
                mask_block_out_channels=list(self.mask_block_out_channels),
                mask_layers_per_block=1,
            )

    def prompt_widths(self) -> tuple[int, int | None]:
        """Widths of the text embeddings and of the pooled embedding that the denoiser reads."""
        return self.family.prompt_widths(_model(self.family.backbone_class, self.backbone_config).config)

    def layout(self, decoder_group: str) -> Layout:
        """Every group, key and shape."""
        backbone = _model(self.family.backbone_class, self.backbone_config)
        keys = dict(_lora_slots(backbone, self.backbone_targets, RANK_BACKBONE, "default"))
        for layer in self.replaced_layers:
            for name, parameter in backbone.get_submodule(layer).named_parameters(prefix=layer):
                keys[name] = Slot(tuple(parameter.shape), (name,))
        vae = dict(_lora_slots(_model("AutoencoderKL", self.vae_config), VAE_TARGETS, RANK_VAE, "vae_skip"))
        widths = list(self.vae_config["block_out_channels"])
        inputs, outputs = [widths[0], *widths[:-1]][::-1], [widths[-1], *widths[::-1][:-1]]
        for i, into, out in zip(SKIPS, inputs, outputs, strict=True):
            vae[f"decoder.skip_conv_{i}.base_layer.weight"] = Slot((out, into, 1, 1), ())
            vae[f"decoder.skip_conv_{i}.lora_A.vae_skip.weight"] = Slot((RANK_VAE, into, 1, 1), ())
            vae[f"decoder.skip_conv_{i}.lora_B.vae_skip.weight"] = Slot((out, RANK_VAE, 1, 1), ())
        decoder = dict(_decoder_slots(self.decoder(), self.interaction))
        return {self.backbone_group: keys, "state_dict_vae": vae, decoder_group: decoder}


def _model(cls: str, config: Mapping[str, Any]) -> Any:
    with torch.device("meta"):
        return getattr(diffusers, cls)(**config)


def _lora_slots(model: nn.Module, targets: Sequence[str], rank: int, adapter: str) -> Iterator[tuple[str, Slot]]:
    """Where peft puts LoRA: on every layer of which the name ends in a target."""
    for name, layer in model.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and f".{name}".endswith(tuple(f".{t}" for t in targets)):
            outputs, *inputs = layer.weight.shape
            for side, shape in (("A", (rank, *inputs)), ("B", (outputs, rank, *[1] * (len(inputs) - 1)))):
                yield f"{name}.lora_{side}.{adapter}.weight", Slot(shape, (f"{name}.lora_{side}.weight",))


# The authors' names, "*" standing for "l" and "r", the two streams that share the layer, and ours. Where the halves of
# their layer's outputs are two layers here, both.
_LAYERS = {
    "cdib_ca_shared": {
        "block1.0.seq_*.0": ["image.resnet"],
        "block1.0.seq_*.1": ["image.split"],
        "block1.2.seq_*.0.ca.1": ["image.attention.conv"],
        "block1.3.seq_*.0": ["image.out.0"],
        "block1.5.seq_*.0": ["image.out.2"],
    },
    "mugi_shared": {
        "block1.0.seq_*.0": ["norm1"],
        "block1.0.seq_*.1": ["value1.0", "gate1.0"],
        "block1.0.seq_*.2": ["value1.1", "gate1.1"],
        "block1.2.seq_*.0.ca.1": ["attention.conv"],
        "block1.3.seq_*.0": ["out1"],
        "block2.0.seq_*.0": ["norm2"],
        "block2.0.seq_*.1": ["value2", "gate2"],
        "block2.2.seq_*.0": ["out2"],
    },
}
_SCALES = {
    "cdib_ca_shared": {"a_l": "image.scale", "a_r": "mask.scale"},
    "mugi_shared": {"a_l": None, "a_r": "first.scale", "b_l": None, "b_r": "second.scale"},  # the image's are unused
}


def _decoder_slots(decoder: JointSegmentationDecoder, kind: str) -> Iterator[tuple[str, Slot]]:
    for i, block in enumerate(decoder.interactions):
        theirs, ours = f"interaction_blocks.{i}.0", f"interactions.{i}"
        shape = tuple(block.get_parameter(_SCALES[kind]["a_r"]).shape)
        for scale, name in _SCALES[kind].items():
            yield f"{theirs}.{scale}", Slot(shape, () if name is None else (f"{ours}.{name}",))
        for layer, names in _LAYERS[kind].items():
            for key, parameter in block.get_submodule(names[0]).named_parameters():
                shape = (len(names) * parameter.shape[0], *parameter.shape[1:])
                slot = Slot(shape, tuple(f"{ours}.{name}.{key}" for name in names))
                yield from ((f"{theirs}.{layer.replace('*', stream)}.{key}", slot) for stream in "lr")
    for theirs, ours in (("up_blocks", "up_blocks"), ("out_block.0", "conv_norm_out"), ("out_block.2", "conv_out")):
        for key, parameter in decoder.mask_decoder.get_submodule(ours).named_parameters():
            yield f"{theirs}.{key}", Slot(tuple(parameter.shape), (f"mask_decoder.{ours}.{key}",))


_VAE = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}

KOLORS = Release(
    name="tadisr-kolors-ftsr", file="tadisr_kolors_ftsr_526000.pkl", size=195_866_454,
    sha256="4baef8b1fad319caf7d606c82539035c6fc9483c81f94601377c64813251e7f7",
    trained_on="FTSR",
    base_model="Kwai-Kolors/Kolors-diffusers", family=FAMILIES["kolors"],
    prompt=DEFAULT_PROMPT, text_encoder_dtype=torch.float16,
    backbone_config={
        "in_channels": 4, "out_channels": 4,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "block_out_channels": [320, 640, 1280], "layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "use_linear_projection": True,
        "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj",
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 5632,
    },
    backbone_targets=[
        "to_k", "to_q", "to_v", "to_out.0", "conv", "conv1", "conv2", "conv_shortcut", "conv_out", "proj_in",
        "proj_out", "ff.net.2", "ff.net.0.proj",
    ],
    replaced_layers=["conv_in"],
    vae_config=_VAE | {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4},
    interaction="mugi_shared", mask_block_out_channels=[256, 256, 512, 512],
)  # fmt: skip

COGVIEW4 = Release(
    name="tadisr-cogview4-realce", file="tadisr_cogview4_realce_17500.pkl", size=785_453_495,
    sha256="7cec8d0917305037cbafcb1b1bf81062add1613b561f5d7e2d1e599fe0baf5e0",
    trained_on="FTSR and Real-CE",
    base_model="zai-org/CogView4-6B", family=FAMILIES["cogview4"],
    prompt="Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera, hyper detailed photo - "
    "realistic maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing, skin pore detailing, hyper "
    "sharpness, perfect without deformations,text",
    text_encoder_dtype=torch.bfloat16,
    backbone_config={
        "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 28, "attention_head_dim": 128,
        "num_attention_heads": 32, "text_embed_dim": 4096,
    },
    backbone_targets=[
        "attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v",
        "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out",
    ],
    replaced_layers=[],
    vae_config=_VAE | {
        "block_out_channels": [128, 512, 1024, 1024], "layers_per_block": 3, "latent_channels": 16,
        "mid_block_add_attention": False, "use_quant_conv": False, "use_post_quant_conv": False,
    },
    interaction="cdib_ca_shared", mask_block_out_channels=[128, 512, 1024, 1024],
)  # fmt: skip

RELEASES = (KOLORS, COGVIEW4)
