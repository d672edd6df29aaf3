"""Joint segmentation decoders (paper 3.3, Eq. 5): image and text mask in one decode.

Shapes: B batch, H, W pixels, h, w latent size, p the VAE's patch (1 for every published VAE).
"""

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tadisr.models.attention import TextAttentionProjection, cross_attention_layers
from tadisr.models.inference_layers import activated, run_block
from tadisr.models.interaction import interaction_block
from tadisr.models.mask_prompt import MaskPromptEncoder, MaskPromptFollower
from tadisr.models.precision import compute_in_float32
from tadisr.models.scratch import LeanAutoencoderKL, drop_group_norms, drop_mid_block
from tadisr.models.softening import Softening
from tadisr.text_masks import NO_PROMPTS

_LATENTS = "latents"  # what stands in for attention maps where there are none
_MASK_SOURCES = ("attention", "latents", "mid_block")
_OF_THE_VAE = ("latent_channels", "layers_per_block", "norm_num_groups", "act_fn", "mid_block_add_attention")


def _entering_up_blocks(block_out_channels: Sequence[int]) -> list[int]:
    """The channels entering each decoder up block, deepest first."""
    deep_first = list(reversed(block_out_channels))
    return [deep_first[0], *deep_first[:-1]]


def vae_patch(vae: AutoencoderKL) -> int:
    """Side of the pixel patch that a VAE reads as channels: 1 for RGB VAEs, 2 where it has 12 input channels."""
    return round((vae.config["in_channels"] / 3) ** 0.5)


def vae_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent along each side: 8 for SD, SDXL and Kolors."""
    return vae_patch(vae) * 2 ** (len(vae.config["block_out_channels"]) - 1)


@apply_forward_hook
def encode_mode(vae: AutoencoderKL, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The scaled mode of the VAE posterior (`z_L = E(x_L)`, deterministic) and the input of every encoder down block.

    image (B, 3, H, W) in [-1, 1], sides divisible by `vae_factor`, of any precision; latents (B, c, h, w); features
    shallowest first; both of the VAE's precision.
    """
    encoder = vae.encoder
    x = encoder.conv_in(pixel_unshuffle(image.to(vae.dtype), vae_patch(vae)))
    features = []
    for block in encoder.down_blocks:
        features.append(x)
        x = block(x)
    moments = encoder.conv_out(encoder.conv_act(encoder.conv_norm_out(encoder.mid_block(x))))
    if vae.quant_conv is not None:
        moments = vae.quant_conv(moments)
    latents = moments.chunk(2, dim=1)[0] * vae.config["scaling_factor"]
    if vae.config["shift_factor"] is not None:
        latents = latents - vae.config["shift_factor"] * vae.config["scaling_factor"]
    return latents, features


@apply_forward_hook
def _image_stream(vae: AutoencoderKL) -> AutoencoderKL:
    """The VAE, brought to its device first where it is offloaded."""
    return vae


class JointSegmentationDecoder(ModelMixin, ConfigMixin):
    r"""`x_H = D^v(z_H), s = D^s(a_tex)` (Eq. 5), the two streams linked by a CDIB before each up block (Eq. 6).

    The image stream is the VAE's own decoder (with its LoRA), which `forward` takes. This model holds the new parts:
    the projection W_a of the attention maps, a mask decoder of the same shape as the VAE's, the CDIBs, and options for
    bases trained from scratch. Scales and skips start at zero: an untrained decoder returns the VAE's image exactly.

    Args:
        attention_layers: names of the cross-attention layers whose maps are read.
        attention_heads: the number of heads of each.
        latent_channels, patch, block_out_channels, layers_per_block, norm_num_groups, act_fn, mid_block_add_attention:
            of the VAE.
        encoder_skips: 1x1 convolutions from the input of each encoder down block to its decoder up block; or the
            up blocks that have one, counted from the deepest, 0.
        image_residual: the decoded image is a correction that is added to the input image.
        lean: no group normalisation and no mid block, as in `tadisr.models.scratch`.
        mask_source: where the mask stream starts. "attention": at `attention_layers`, the default where there are any.
            "latents": at the denoised latents, the default where there are none. "mid_block": at the image decoder's
            mid block; the mask decoder then has none of its own.
        interaction: the blocks between the streams, see `tadisr.models.interaction`.
        interaction_resblocks: ResBlocks in each branch of a "cdib"; the paper's figure can be read as 1 or as 2.
        mask_block_out_channels, mask_layers_per_block: of the mask decoder, where they differ from the VAE's, as in the
            paper they do not. Widths after the first may differ with "cdib" blocks alone.
        mask_prompt: it can be told where text is, see `MaskPromptEncoder`.
        mask_prompt_blocks: ResBlocks that draw the prompt into the image, see `MaskPromptFollower`; 0: there are none.
        text_strength, clear_text_strength, coarse_text_strength: of older weights, see `older_softening`.

    Raises:
        ValueError: options that contradict each other or the VAE's shape.
    """

    config: Any
    _supports_gradient_checkpointing = True

    @register_to_config
    def __init__(
        self,
        attention_layers: Sequence[str],
        attention_heads: Sequence[int],
        latent_channels: int = 4,
        patch: int = 1,
        block_out_channels: Sequence[int] = (128, 256, 512, 512),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        act_fn: str = "silu",
        mid_block_add_attention: bool = True,
        encoder_skips: bool | Sequence[int] = False,
        image_residual: bool = False,
        lean: bool = False,
        mask_source: str | None = None,
        interaction: str = "cdib",
        interaction_resblocks: int = 1,
        mask_block_out_channels: Sequence[int] | None = None,
        mask_layers_per_block: int | None = None,
        mask_prompt: bool = False,
        mask_prompt_blocks: int = 0,
        text_strength: float = 1.0,
        clear_text_strength: float | None = None,
        coarse_text_strength: float | None = None,
    ):
        super().__init__()
        levels = len(block_out_channels)
        mask_widths = list(mask_block_out_channels or block_out_channels)
        skip_levels = range(levels if encoder_skips else 0) if isinstance(encoder_skips, bool) else encoder_skips
        widths = _entering_up_blocks(block_out_channels)
        mask_source = mask_source or ("attention" if attention_layers else "latents")
        if mask_source not in _MASK_SOURCES:
            raise ValueError(f"mask_source must be one of {', '.join(_MASK_SOURCES)}, got {mask_source!r}.")
        if (mask_source == "attention") != bool(attention_layers):
            raise ValueError(f"mask_source={mask_source!r} contradicts {len(attention_layers)} attention_layers.")
        entering = _entering_up_blocks(mask_widths)
        if len(mask_widths) != levels or any(width < 1 or width % norm_num_groups for width in mask_widths):
            raise ValueError(
                f"mask_block_out_channels must be {levels} multiples of norm_num_groups={norm_num_groups}, "
                f"got {mask_widths}."
            )
        equal = levels if interaction != "cdib" else int(mask_source == "mid_block")
        if entering[:equal] != widths[:equal]:
            raise ValueError(
                f"mask_block_out_channels may differ from {list(block_out_channels)} "
                f"{'in the first' if equal == levels else 'but in the last'}, got {mask_widths}."
            )
        if mask_prompt_blocks and not mask_prompt:
            raise ValueError("mask_prompt_blocks draw what mask_prompt takes: set mask_prompt, or leave them out.")
        if not set(skip_levels) <= set(range(levels)):
            raise ValueError(f"encoder_skips are up blocks from 0 to {levels - 1}, got {list(skip_levels)}.")
        if self.older_softening and not image_residual:
            raise ValueError("text_strength is of what image_residual adds: set image_residual, or leave it at 1.")
        self.register_to_config(mask_source=mask_source)
        if mask_source != "mid_block":
            self.attention = TextAttentionProjection(
                attention_layers or [_LATENTS], attention_heads or [latent_channels], latent_channels
            )
        self.mask_decoder = Decoder(
            in_channels=latent_channels,
            out_channels=patch**2,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(mask_widths),
            layers_per_block=layers_per_block if mask_layers_per_block is None else mask_layers_per_block,
            norm_num_groups=norm_num_groups,
            act_fn=act_fn,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.interactions = nn.ModuleList(
            interaction_block(interaction, width, norm_num_groups, interaction_resblocks, mask_width)
            for width, mask_width in zip(widths, entering, strict=True)
        )
        encoder_widths = [block_out_channels[0], *block_out_channels[:-1]][::-1]
        self.skips = nn.ModuleDict()
        for level in skip_levels:
            self.skips[str(level)] = skip = nn.Conv2d(encoder_widths[level], widths[level], 1, bias=False)
            nn.init.zeros_(skip.weight)
        self.prompt_encoder = None
        if mask_prompt:
            mask_width = None if mask_source == "mid_block" else entering[0]
            self.prompt_encoder = MaskPromptEncoder(patch * 2 ** (levels - 1), widths[0], mask_width)
        self.prompt_follower = None
        if mask_prompt_blocks:
            self.prompt_follower = MaskPromptFollower(
                patch * 2 ** (levels - 1), patch, block_out_channels[0], mask_widths[0], mask_prompt_blocks,
                norm_num_groups,
            )  # fmt: skip
        if lean:
            drop_group_norms(self)
            drop_mid_block(self.mask_decoder)
        if mask_source == "mid_block":
            for unused in ("conv_in", "mid_block"):
                setattr(self.mask_decoder, unused, None)
        if not image_residual:  # see `image_in_float32`
            compute_in_float32(self.mask_decoder.conv_out)
        self.gradient_checkpointing = False

    @classmethod
    def from_base(
        cls,
        vae: AutoencoderKL,
        backbone: ModelMixin,
        encoder_skips: bool = False,
        image_residual: bool = False,
        text_attention: bool = True,
        mask_layers_per_block: int | None = None,
        interaction_resblocks: int = 1,
        mask_block_out_channels: Sequence[int] | None = None,
        mask_prompt: bool = False,
        mask_prompt_blocks: int = 0,
    ) -> "JointSegmentationDecoder":
        """An untrained decoder that fits `vae` and reads every cross-attention layer of `backbone`.

        Without `text_attention` (the paper's ablation w/o TACA) it reads none.
        """
        layers = cross_attention_layers(backbone) if text_attention else {}
        return cls(
            attention_layers=list(layers),
            attention_heads=list(layers.values()),
            patch=vae_patch(vae),
            block_out_channels=list(vae.config["block_out_channels"]),
            **{name: vae.config[name] for name in _OF_THE_VAE},
            encoder_skips=encoder_skips,
            image_residual=image_residual,
            lean=isinstance(vae, LeanAutoencoderKL),
            mask_layers_per_block=mask_layers_per_block,
            interaction_resblocks=interaction_resblocks,
            mask_block_out_channels=mask_block_out_channels,
            mask_prompt=mask_prompt,
            mask_prompt_blocks=mask_prompt_blocks,
        )

    def forward(
        self,
        vae: AutoencoderKL,
        latents: torch.Tensor,
        attention_maps: dict[str, torch.Tensor],
        features: Sequence[torch.Tensor] = (),
        image: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode the image (B, 3, H, W), nominally in [-1, 1] and not clamped, and the mask logits (B, 1, H, W).

        Args:
            vae: the base VAE; its decoder is the image stream.
            latents: denoised and still scaled latents `z_H` (B, c, h, w).
            attention_maps: what `record_text_attention` recorded, layer name -> (B, n, L).
            features: the encoder's, from `encode_mode`; used where the config has `encoder_skips`.
            image: the encoded image (B, 3, H, W), best in float32; used where the config has `image_residual`. None:
                there the correction alone is decoded.
            text_mask: a prompt (B, 2, H, W) for `MaskPromptEncoder`.

        Raises:
            ValueError: a prompt, and the config has no `mask_prompt`.
        """
        decoder, config = _image_stream(vae).decoder, vae.config
        z = latents / config["scaling_factor"]
        if config["shift_factor"] is not None:
            z = z + config["shift_factor"]
        if vae.post_quant_conv is not None:
            z = vae.post_quant_conv(z)
        for_image = for_mask = None
        if text_mask is not None:
            if self.prompt_encoder is None:
                raise ValueError(NO_PROMPTS)
            for_image, for_mask = self.prompt_encoder(text_mask.to(z))
        x = m = decoder.mid_block(_sum(decoder.conv_in(z), for_image))
        if self.config.mask_source != "mid_block":
            maps = {_LATENTS: latents.flatten(2)} if self.config.mask_source == "latents" else attention_maps
            a_tex = self.attention(maps, tuple(latents.shape[-2:])).to(latents.dtype)  # (B, c, h, w)
            m = self.mask_decoder.mid_block(_sum(self.mask_decoder.conv_in(a_tex), for_mask))
        for level, (image_block, mask_block, interaction) in enumerate(
            zip(decoder.up_blocks, self.mask_decoder.up_blocks, self.interactions, strict=True)
        ):
            if str(level) in self.skips:
                x = x + self.skips[str(level)](features[-1 - level])
            x, m = self._run(interaction, x, m)
            x, m = self._run(image_block, x), self._run(mask_block, m)
        if text_mask is not None and self.prompt_follower is not None:
            x = self._run(self.prompt_follower, x, m, text_mask.to(x))
        decoded, mask_logits = (
            pixel_shuffle(stream.conv_out(activated(stream.conv_norm_out, stream.conv_act, y)), self.config.patch)
            for stream, y in ((decoder, x), (self.mask_decoder, m))
        )
        if self.config.image_residual and image is not None:
            decoded = image + decoded
        return decoded, mask_logits

    def image_in_float32(self, vae: AutoencoderKL) -> None:
        """Have the image leave `vae` in float32 from now on, whatever the VAE is kept in: its last layer computes so.

        bfloat16 rounds by half a gray level near black and white. With `image_residual` a correction leaves the VAE,
        smaller than the image, and is added to the input in float32: there the layer stays as it is.
        """
        if not self.config.image_residual:
            compute_in_float32(vae.decoder.conv_out)

    @property
    def older_softening(self) -> Softening | None:
        """How weights from before the dial `fidelity` damp the correction on text by default; None for all others."""
        config = self.config
        softening = Softening(config.text_strength, config.clear_text_strength, config.coarse_text_strength)
        return None if softening.is_identity else softening

    def _run(self, block: nn.Module, *inputs: torch.Tensor) -> Any:
        """The block's output; with gradient checkpointing backward runs it again instead of keeping its activations."""
        if self.gradient_checkpointing and self._gradient_checkpointing_func and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return run_block(block, *inputs)


def _sum(x: torch.Tensor, update: torch.Tensor | None) -> torch.Tensor:
    return x if update is None else x + update
