"""Text-aware cross-attention (paper 3.2, Eq. 2-4).

Shapes: B batch, h, w latent size, L image tokens of one layer, T prompt tokens, n heads, d head width.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import CogView4Transformer2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn

from tadisr.models.backbone import Backbone


class TextAttnProcessor:
    """The layer's own attention by `scaled_dot_product_attention`, plus the scaled logit q.k of one prompt token.

    Only the column of the attention matrix that belongs to the text token is computed (B n L values), so memory stays
    that of the fused kernel. Where the word spans several sub-word tokens their logits are averaged, which equals the
    logit against the averaged key.
    """

    def __init__(self, name: str, text_positions: Sequence[int], maps: dict[str, torch.Tensor]):
        self.name, self.text_positions, self.maps = name, list(text_positions), maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if encoder_hidden_states is None:
            raise ValueError(f"{self.name} is self-attention: the text token can only be read from cross-attention.")
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(
                attention_mask, encoder_hidden_states.shape[1], hidden_states.shape[0]
            ).unflatten(0, (hidden_states.shape[0], -1))

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        q = heads(attn.to_q(hidden_states))  # (B, n, L, d)
        k = heads(attn.to_k(encoder_hidden_states))  # (B, n, T, d)
        v = heads(attn.to_v(encoder_hidden_states))
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        text_key = k[:, :, self.text_positions].mean(dim=2, keepdim=True) * attn.scale  # (B, n, 1, d)
        # Assigned, never appended: gradient checkpointing runs this again in backward.
        self.maps[self.name] = (q @ text_key.transpose(-1, -2)).squeeze(-1)  # (B, n, L)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, scale=attn.scale)
        out = out.transpose(1, 2).flatten(2)  # (B, L, n d)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor


class JointTextAttnProcessor:
    """The same for CogView4, whose layers attend over prompt and image tokens together (our addition to the paper).

    Recorded are the logits of the image tokens' queries, after normalisation and rotary embedding, with the text
    token's key, which in this architecture changes with the image from layer to layer and has no rotary embedding.
    """

    def __init__(self, name: str, text_positions: Sequence[int], maps: dict[str, torch.Tensor]):
        self.name, self.text_positions, self.maps = name, list(text_positions), maps

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (B, L, C) and prompt tokens (B, T, C) to the same."""
        if attention_mask is not None:
            raise ValueError("Text attention is recorded without a prompt mask: the cached prompt has none.")
        lengths = [encoder_hidden_states.shape[1], hidden_states.shape[1]]  # T, L
        dtype, joint = encoder_hidden_states.dtype, torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (
            project(joint).unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, n, T + L, d)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        q, k = attn.norm_q(q).to(dtype), attn.norm_k(k).to(dtype)
        (text_q, image_q), (text_k, image_k) = q.split(lengths, dim=2), k.split(lengths, dim=2)
        image_q, image_k = (apply_rotary_emb(x, image_rotary_emb, use_real_unbind_dim=-2) for x in (image_q, image_k))
        text_key = text_k[:, :, self.text_positions].mean(dim=2, keepdim=True) * attn.scale  # (B, n, 1, d)
        self.maps[self.name] = (image_q @ text_key.transpose(-1, -2)).squeeze(-1)  # (B, n, L)
        q, k = torch.cat([text_q, image_q], dim=2), torch.cat([text_k, image_k], dim=2)
        out = F.scaled_dot_product_attention(q, k, v, scale=attn.scale).transpose(1, 2).flatten(2)  # (B, T + L, n d)
        text, image = attn.to_out[1](attn.to_out[0](out)).split(lengths, dim=1)
        return image, text


def cross_attention_layers(backbone: Backbone) -> dict[str, int]:
    """Names of all layers in which the image attends to the prompt, in forward order, with their number of heads.

    A U-Net's `attn2`; in CogView4's transformer the joint attention of every block.
    """
    if isinstance(backbone, CogView4Transformer2DModel):
        return {f"transformer_blocks.{i}.attn1": b.attn1.heads for i, b in enumerate(backbone.transformer_blocks)}
    layers = {name: module.heads for name, module in backbone.named_modules() if name.endswith("attn2")}
    order = {"down": 0, "mid": 1, "up": 2}  # named_modules lists the mid block last
    return dict(sorted(layers.items(), key=lambda item: order[item[0].split("_")[0]]))


@contextmanager
def record_text_attention(
    backbone: Backbone,
    text_positions: Sequence[int],
    layers: Sequence[str],
    maps: dict[str, torch.Tensor] | None = None,
) -> Iterator[dict[str, torch.Tensor]]:
    """Record the logit of the prompt's word "text" in the named cross-attention layers (Eq. 3).

    Yields a dict (`maps`, or a new one) that every forward pass of `backbone` fills: layer name -> (B, n, L). The
    layers' previous processors are put back on exit, also after an exception. With gradient checkpointing keep the
    context open until after `backward`, which runs the layers again.

    Raises:
        KeyError: a layer name that `backbone` does not have.
    """
    modules = dict(backbone.named_modules())
    if missing := [name for name in layers if name not in modules]:
        known = list(cross_attention_layers(backbone))
        raise KeyError(f"No layer {missing[0]!r} in the {type(backbone).__name__}, which has {known}.")
    processor_class = JointTextAttnProcessor if isinstance(backbone, CogView4Transformer2DModel) else TextAttnProcessor
    maps = {} if maps is None else maps
    previous = {name: modules[name].processor for name in layers}
    try:
        for name in layers:
            modules[name].set_processor(processor_class(name, text_positions, maps))
        yield maps
    finally:
        for name, processor in previous.items():
            modules[name].set_processor(processor)


def token_grid(tokens: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of a layer with `tokens` image tokens, in a backbone that halves (h, w) rounding up.

    >>> token_grid(6, (4, 6))
    (2, 3)
    """
    height, width = latent_size
    while height * width > tokens:
        height, width = (height + 1) // 2, (width + 1) // 2
    if height * width != tokens:
        raise ValueError(f"{tokens} tokens do not form a downscaled grid of latents {latent_size}.")
    return height, width


class TextAttentionProjection(nn.Module):
    r"""`a_tex = W_a x Concat(a^1 ... a^M)` (Eq. 4), as the sum over layers of `upsample(W_a^m a^m)`.

    Bilinear resizing and a 1x1 projection commute, so this is the same function, and the concatenated full-size maps
    (SDXL has 1,300 heads) are never held.
    """

    def __init__(self, layers: Sequence[str], heads: Sequence[int], out_channels: int):
        super().__init__()
        self.layers = list(layers)
        self.weights = nn.ModuleList(nn.Conv2d(n, out_channels, 1, bias=False) for n in heads)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, maps: dict[str, torch.Tensor], latent_size: tuple[int, int]) -> torch.Tensor:
        """Recorded logits, layer name -> (B, n, L), to a_tex (B, out_channels, h, w)."""
        if missing := [name for name in self.layers if name not in maps]:
            raise RuntimeError(
                f"No text attention was recorded in {missing[0]!r}: run the backbone inside record_text_attention(), "
                "and do not call enable_attention_slicing() or set_attn_processor() there (they replace the recorder)."
            )
        by_grid: dict[tuple[int, int], torch.Tensor] = {}
        for name, weight in zip(self.layers, self.weights, strict=True):
            grid = token_grid(maps[name].shape[-1], latent_size)
            projected = weight(maps[name].unflatten(-1, grid))  # (B, c, h', w')
            by_grid[grid] = by_grid[grid] + projected if grid in by_grid else projected
        out = self.bias.view(1, -1, 1, 1)
        for grid, projected in by_grid.items():
            if grid != latent_size:
                projected = F.interpolate(projected, size=latent_size, mode="bilinear", align_corners=False)
            out = out + projected
        return out  # (B, c, h, w)
