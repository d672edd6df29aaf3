"""Attention that records how much each image token attends to the word "text" (paper 3.2, Eq. 2 and 3).

A processor is made for one layer, by its name, and writes the logits of the prompt's `text_positions` to `maps[name]`,
in float32 also where the layer runs in half precision.
`attn` is the layer, diffusers' `Attention`.
Shapes: B batch, L image tokens of one layer, T prompt tokens, n heads, d head width, C channels.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.models.embeddings import apply_rotary_emb
from diffusers.models.transformers.transformer_z_image import SEQ_MULTI_OF

from tadisr.models.precision import without_autocast


@dataclass(eq=False)
class _Recorder:
    """The layer's name, the text's positions in the prompt, and where the logits go."""

    name: str
    text_positions: list[int]
    maps: dict[str, torch.Tensor]

    def record(self, q: torch.Tensor, k: torch.Tensor, scale: float) -> None:
        """Write the text's logits (B, n, L), float32, from the image's queries (B, n, L, d) and keys (B, n, T, d)."""
        with without_autocast(q.device):
            text_key = k[:, :, self.text_positions].float().mean(dim=2, keepdim=True) * scale  # (B, n, 1, d)
            # Assigned, never appended: gradient checkpointing runs this again in backward.
            self.maps[self.name] = (q.float() @ text_key.transpose(-1, -2)).squeeze(-1)


class TextAttnProcessor(_Recorder):
    """The layer's own attention by `scaled_dot_product_attention`, plus the scaled logit q.k of one prompt token.

    Only the column of the attention matrix that belongs to the text token is computed (B n L values), so memory stays
    that of the fused kernel. Where the word spans several sub-word tokens their logits are averaged, which equals the
    logit against the averaged key.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        if encoder_hidden_states is None:
            raise ValueError(f"{self.name} is self-attention: the text token can only be read from cross-attention.")
        batch, tokens = encoder_hidden_states.shape[:2]
        if attn.norm_cross:
            encoder_hidden_states = attn.norm_encoder_hidden_states(encoder_hidden_states)
        if attention_mask is not None:
            attention_mask = attn.prepare_attention_mask(attention_mask, tokens, batch).unflatten(0, (batch, -1))
        projected = (attn.to_q(hidden_states), attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states))
        q, k, v = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in projected)  # (B, n, L or T, d)
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        self.record(q, k, attn.scale)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask, scale=attn.scale)
        out = out.transpose(1, 2).flatten(2)  # (B, L, n d)
        return attn.to_out[1](attn.to_out[0](out)) / attn.rescale_output_factor


class JointTextAttnProcessor(_Recorder):
    """The same for CogView4, whose layers attend over prompt and image tokens together (our addition to the paper).

    Recorded are the logits of the image tokens' queries, after normalisation and rotary embedding, with the text
    token's key, which in this architecture changes with the image from layer to layer and has no rotary embedding.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Any = None,
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
        image_q, image_k = (
            cast(torch.Tensor, apply_rotary_emb(x, image_rotary_emb, use_real_unbind_dim=-2))
            for x in (image_q, image_k)
        )
        self.record(image_q, text_k, attn.scale)
        q, k = torch.cat([text_q, image_q], dim=2), torch.cat([text_k, image_k], dim=2)
        out = F.scaled_dot_product_attention(q, k, v, scale=attn.scale).transpose(1, 2).flatten(2)  # (B, T + L, n d)
        text, image = attn.to_out[1](attn.to_out[0](out)).split(lengths, dim=1)
        return image, text


@dataclass(eq=False)
class StreamTextAttnProcessor(_Recorder):
    """The same for Z-Image, whose layers attend over one stream of tokens: the image's, then the prompt's (ours, too).

    Image and prompt are each padded to a multiple of `SEQ_MULTI_OF` tokens. Recorded are the logits of all queries that
    stand before the prompt, the image's padding included (`families` cuts that off), with the text token's key, both
    after normalisation and rotary embedding: a column of the layer's own attention matrix, as in the paper. Here the
    key is rotated, too. The prompt's tokens lie on an axis of their own, where all of the image has one place, and at 0
    on the axes of rows and columns. So the logit holds where in the image a query is, as it does for the layer itself.
    """

    prompt_tokens: int | None = None
    """T, without padding; set before the backbone runs, since the stream does not tell."""

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        freqs_cis: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The stream (B, S, C) to the same; `freqs_cis` (B, S, d / 2) are the rotations of its places."""
        if attention_mask is not None:
            raise ValueError("Text attention is recorded without a mask: all images of a batch have one size.")
        if self.prompt_tokens is None or freqs_cis is None:
            raise RuntimeError("Text attention of a Z-Image is recorded in tadisr.models.families.predict.")
        q, k, v = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)) for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        if attn.norm_q is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        q, k = (cast(torch.Tensor, apply_rotary_emb(x, freqs_cis, use_real=False)) for x in (q, k))
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # (B, n, S, d)
        start = q.shape[2] + self.prompt_tokens // -SEQ_MULTI_OF * SEQ_MULTI_OF  # the prompt's first token
        self.record(q[:, :, :start], k[:, :, start:], attn.scale)  # (B, n, start)
        out = F.scaled_dot_product_attention(q, k, v, scale=attn.scale).transpose(1, 2).flatten(2)  # (B, S, n d)
        return attn.to_out[1](attn.to_out[0](out.to(q.dtype)))
