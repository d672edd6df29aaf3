"""Joint segmentation decoders (paper 3.3, Eq. 5): image and text mask in one decode.

Shapes: B batch, H, W pixels, h, w latent size, p the VAE's patch (1 for every published VAE).
"""

from collections.abc import Callable, Sequence

import torch
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import Decoder
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import nn
from torch.nn.functional import avg_pool2d, interpolate, pad, pixel_shuffle, pixel_unshuffle

from tadisr.models.attention import TextAttentionProjection, cross_attention_layers
from tadisr.models.interaction import interaction_block
from tadisr.models.scratch import LeanAutoencoderKL, drop_group_norms, drop_mid_block

_LATENTS = "latents"  # what stands in for attention maps where there are none
_MASK_SOURCES = ("attention", "latents", "mid_block")
_TEXT_MARGIN = 5  # pixels around the mask that count as text, too
_DOUBT_MARGIN = 16  # pixels to each side within which strokes are doubtful or clear together: about a letter
_COARSE = 2  # pixels to each side over which a correction is taken to be coarse
_DOUBT = 0.15, 0.35  # shares of doubt: text is clear below, doubtful above


def _entering_up_blocks(block_out_channels: Sequence[int]) -> list[int]:
    """The channels entering each decoder up block, deepest first."""
    deep_first = list(reversed(block_out_channels))
    return [deep_first[0], *deep_first[:-1]]


def vae_patch(vae: AutoencoderKL) -> int:
    """Side of the pixel patch that a VAE reads as channels: 1 for RGB VAEs, 2 where it has 12 input channels."""
    return round((vae.config.in_channels / 3) ** 0.5)


def vae_factor(vae: AutoencoderKL) -> int:
    """Pixels per latent along each side: 8 for SD, SDXL and Kolors."""
    return vae_patch(vae) * 2 ** (len(vae.config.block_out_channels) - 1)


def soften_text(
    correction: torch.Tensor,
    mask_logits: torch.Tensor,
    text_strength: float,
    clear_text_strength: float | None = None,
    coarse_text_strength: float | None = None,
) -> torch.Tensor:
    """A correction (B, 3, H, W) with a share of `text_strength` left on text, and all of it far from it.

    Text is what the mask logits (B, 1, H, W) hold for text with a probability of .25. It is widened by 5 pixels and its
    border made soft over 10 on either side, so that no seam shows: a line's outermost strokes have up to a quarter of
    the way to 1. With `clear_text_strength` that share is left where the mask is sure of its strokes, see `text_doubt`.
    With `coarse_text_strength`, where `text_strength` holds, that share is left of what varies slowly, over more than a
    stroke: `(gain + (coarse - fine) soft blur) correction`.
    """
    mask = mask_logits.sigmoid()
    near = _blur(_widen((4 * mask).clamp(max=1), _TEXT_MARGIN), _TEXT_MARGIN)
    soft = near if clear_text_strength is None else near * text_doubt(mask)
    clear = text_strength if clear_text_strength is None else clear_text_strength
    softened = correction * (1 - (1 - clear) * near - (clear - text_strength) * soft)
    if coarse_text_strength is None:
        return softened
    return softened + (coarse_text_strength - text_strength) * soft * _blur(correction, _COARSE)


def text_doubt(mask: torch.Tensor) -> torch.Tensor:
    """From 0 where the mask is sure of the strokes around, to 1 where it is not: (B, 1, H, W), as the probabilities.

    Doubt is `sum m (1 - m) / sum m` over about a letter: thin and crowded strokes make a mask of halves. It tells what
    can be read: of bicubic text a reader gets .96 where this is below .3, and .15 where it is above .7
    (docs/log/tadisr-tiny.md). The result rises from 0 to 1 between .15 and .35 of it.
    """
    sums = torch.cat([mask, mask * (1 - mask)], dim=1)
    margin, size = _DOUBT_MARGIN, 2 * _DOUBT_MARGIN + 1
    sums = avg_pool2d(sums, (size, 1), (4, 1), (margin, 0), count_include_pad=False)
    sums = avg_pool2d(sums, (1, size), (1, 4), (0, margin), count_include_pad=False)
    text, doubt = sums.split(1, dim=1)
    low, high = _DOUBT
    doubt = ((doubt / (text + 0.01) - low) / (high - low)).clamp(0, 1)  # .01: a mask of almost nothing is no doubt
    return interpolate(doubt, mask.shape[-2:], mode="bilinear", align_corners=False)


def _widen(x: torch.Tensor, margin: int) -> torch.Tensor:
    """The greatest of `x`, which is nowhere negative, within `margin` pixels along either axis."""
    return _over_windows(pad(x, [margin] * 4), margin, torch.maximum)


def _blur(x: torch.Tensor, margin: int) -> torch.Tensor:
    """Two means over squares of `2 margin + 1` pixels: nearly a Gaussian, of sigma 2 for a margin of 2."""
    sums = pad(x.float(), [2 * margin] * 4, mode="replicate")
    for _ in range(2):
        sums = _over_windows(sums, margin, torch.add)
    return (sums / (2 * margin + 1) ** 4).to(x.dtype)


def _over_windows(
    x: torch.Tensor, margin: int, combine: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """All of every square of `2 margin + 1` pixels combined, without padding: (B, C, H, W) to that less `2 margin`.

    By windows of 1, 2, 4, ... pixels put together: on CPUs ten times as fast as pooling, maxima forty times.
    """
    for axis in (-2, -1):
        size = x.shape[axis] - 2 * margin
        whole, part, width = x.narrow(axis, 0, size), x, 1
        start, rest = 1, margin  # a window is one pixel and twice the margin
        while rest:
            length = part.shape[axis] - width
            part = combine(part.narrow(axis, 0, length), part.narrow(axis, width, length))
            width *= 2
            if rest % 2:
                whole = combine(whole, part.narrow(axis, start, size))
                start += width
            rest //= 2
        x = whole
    return x


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
    latents = moments.chunk(2, dim=1)[0] * vae.config.scaling_factor
    if vae.config.shift_factor is not None:
        latents = latents - vae.config.shift_factor * vae.config.scaling_factor
    return latents, features


@apply_forward_hook
def _image_stream(vae: AutoencoderKL) -> AutoencoderKL:
    """The VAE, brought to its device first where it is offloaded."""
    return vae


class JointSegmentationDecoder(ModelMixin, ConfigMixin):
    r"""`x_H = D^v(z_H), s = D^s(a_tex)` (Eq. 5), the two streams linked by a CDIB before each up block (Eq. 6).

    The image stream is the VAE's own decoder (with its LoRA), passed to `forward`; this model holds what is new: the
    projection W_a of the attention maps, a mask decoder of the same shape as the VAE's, the CDIBs, and options
    for bases trained from scratch (skips start at zero, so an untrained decoder returns the VAE's image exactly):

    encoder_skips: 1x1 convolutions from the input of each encoder down block to its decoder up block; or of which up
        blocks, counted from 0, the deepest.
    image_residual: the decoded image is a correction added to the input image.
    mask_source: where the mask stream starts: "attention", of `attention_layers` (the default where there are any);
        "latents", the denoised ones (the default where not); "mid_block", the image decoder's, and the mask decoder
        then has none of its own.
    interaction: the blocks between the streams, see `tadisr.models.interaction`.
    mask_block_out_channels, mask_layers_per_block: of the mask decoder, where they differ from the VAE's.
    lean: no group normalisation and no mid block, as in `tadisr.models.scratch`.
    text_strength: with `image_residual`, the share of the correction that is added on text, by the decoder's own mask,
        see `soften_text`. Below 1 doubtful strokes stay soft, which readers forgive; wrong ones they do not.
    clear_text_strength: the same where the mask is sure of its strokes; None: no distinction is made.
    coarse_text_strength: as `text_strength`, of what varies slowly, which no reader minds; None: as all the rest.

    Raises:
        ValueError: options that contradict each other or the VAE's shape.
    """

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
        mask_block_out_channels: Sequence[int] | None = None,
        mask_layers_per_block: int | None = None,
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
        if _entering_up_blocks(mask_widths) != widths:
            raise ValueError(
                f"mask_block_out_channels may differ from {list(block_out_channels)} in the first, got {mask_widths}."
            )
        if not set(skip_levels) <= set(range(levels)):
            raise ValueError(f"encoder_skips are up blocks from 0 to {levels - 1}, got {list(skip_levels)}.")
        if self._softens_text and not image_residual:
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
        self.interactions = nn.ModuleList(interaction_block(interaction, c, norm_num_groups) for c in widths)
        encoder_widths = [block_out_channels[0], *block_out_channels[:-1]][::-1]
        self.skips = nn.ModuleDict()
        for level in skip_levels:
            skip = nn.Conv2d(encoder_widths[level], widths[level], 1, bias=False)
            nn.init.zeros_(skip.weight)
            self.skips[str(level)] = skip
        if lean:
            drop_group_norms(self)
            drop_mid_block(self.mask_decoder)
        if mask_source == "mid_block":
            self.mask_decoder.conv_in = self.mask_decoder.mid_block = None
        self.gradient_checkpointing = False

    @classmethod
    def from_base(
        cls,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        encoder_skips: bool = False,
        image_residual: bool = False,
        text_attention: bool = True,
        mask_layers_per_block: int | None = None,
    ) -> "JointSegmentationDecoder":
        """An untrained decoder that fits `vae` and reads every cross-attention layer of `unet`.

        Without `text_attention` (the paper's ablation w/o TACA) it reads none.
        """
        layers = cross_attention_layers(unet) if text_attention else {}
        return cls(
            attention_layers=list(layers),
            attention_heads=list(layers.values()),
            latent_channels=vae.config.latent_channels,
            patch=vae_patch(vae),
            block_out_channels=list(vae.config.block_out_channels),
            layers_per_block=vae.config.layers_per_block,
            norm_num_groups=vae.config.norm_num_groups,
            act_fn=vae.config.act_fn,
            mid_block_add_attention=vae.config.mid_block_add_attention,
            encoder_skips=encoder_skips,
            image_residual=image_residual,
            lean=isinstance(vae, LeanAutoencoderKL),
            mask_layers_per_block=mask_layers_per_block,
        )

    def forward(
        self,
        vae: AutoencoderKL,
        latents: torch.Tensor,
        attention_maps: dict[str, torch.Tensor],
        features: Sequence[torch.Tensor] = (),
        image: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Decode both streams.

        Args:
            vae: the base VAE; its decoder is the image stream.
            latents: denoised and still scaled latents `z_H` (B, c, h, w).
            attention_maps: what `record_text_attention` recorded, layer name -> (B, n, L).
            features: the encoder's, from `encode_mode`; used where the config has `encoder_skips`.
            image: the encoded image (B, 3, H, W), best in float32; used where the config has `image_residual`.

        Returns:
            The image (B, 3, H, W), nominally in [-1, 1] and not clamped, and the mask logits (B, 1, H, W).
        """
        decoder, config = _image_stream(vae).decoder, vae.config
        z = latents / config.scaling_factor
        if config.shift_factor is not None:
            z = z + config.shift_factor
        if vae.post_quant_conv is not None:
            z = vae.post_quant_conv(z)
        x = decoder.mid_block(decoder.conv_in(z))
        m = self._mask_start(latents, attention_maps, x)
        for level, (image_block, mask_block, interaction) in enumerate(
            zip(decoder.up_blocks, self.mask_decoder.up_blocks, self.interactions, strict=True)
        ):
            if str(level) in self.skips:
                x = x + self.skips[str(level)](features[-1 - level])
            x, m = self._run(interaction, x, m)
            x, m = self._run(image_block, x), self._run(mask_block, m)
        decoded, mask_logits = (
            pixel_shuffle(stream.conv_out(stream.conv_act(stream.conv_norm_out(y))), self.config.patch)
            for stream, y in ((decoder, x), (self.mask_decoder, m))
        )
        if self.config.image_residual:
            if self._softens_text:
                precise = decoded.to(image.dtype), mask_logits.to(image.dtype)  # on CPUs twice as fast in float32
                decoded = soften_text(*precise, *self._text_strengths)
            decoded = image + decoded
        return decoded, mask_logits

    @property
    def _text_strengths(self) -> tuple[float, float | None, float | None]:
        config = self.config
        return config.text_strength, config.clear_text_strength, config.coarse_text_strength

    @property
    def _softens_text(self) -> bool:
        return any(strength not in (None, 1) for strength in self._text_strengths)

    def _mask_start(
        self, latents: torch.Tensor, attention_maps: dict[str, torch.Tensor], image_mid: torch.Tensor
    ) -> torch.Tensor:
        """What the mask stream's first level reads (B, C, h, w)."""
        if self.config.mask_source == "mid_block":
            return image_mid
        if self.config.mask_source == "latents":
            attention_maps = {_LATENTS: latents.flatten(2)}
        a_tex = self.attention(attention_maps, tuple(latents.shape[-2:]))  # (B, c, h, w)
        return self.mask_decoder.mid_block(self.mask_decoder.conv_in(a_tex))

    def _run(self, block: nn.Module, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """The block's output; with gradient checkpointing backward runs it again instead of keeping its activations."""
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block, *inputs)
        return block(*inputs)
