"""Text-aware cross-attention (paper 3.2): what its layers record (Eq. 3), projected to one map (Eq. 4).

Shapes: B batch, h, w latent size, L image tokens of one layer, n heads.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from diffusers import ModelMixin
from torch import nn

from tadisr.models.families import family_of
from tadisr.models.precision import Float32Conv2d
from tadisr.models.recording import recording


def cross_attention_layers(backbone: ModelMixin) -> dict[str, int]:
    """Names of all layers in which the image attends to the prompt, in forward order, with their number of heads."""
    pattern = re.compile(family_of(backbone).text_layers)
    layers = {name: module.heads for name, module in backbone.named_modules() if pattern.fullmatch(name)}
    order = {"down": 0, "mid": 1, "up": 2}  # a U-Net's named_modules lists the mid block last
    return dict(sorted(layers.items(), key=lambda item: order.get(item[0].split("_")[0], 0)))


@contextmanager
def record_text_attention(
    backbone: ModelMixin, text_positions: Sequence[int], layers: Sequence[str]
) -> Iterator[dict[str, torch.Tensor]]:
    """Record the logits of the prompt's word "text", by its `text_positions`, in the named attention layers (Eq. 3).

    What is recorded belongs to this context: several threads or tasks may each record from one backbone at a time, and
    one that does not record runs it as it is. The layers' own processors are put back when nobody records any more,
    also after an exception. With gradient checkpointing, keep the context open until after `backward`, which runs the
    layers again.

    Yields:
        The dict that every forward pass of `backbone` fills: layer name -> (B, n, L).

    Raises:
        KeyError: a layer name that `backbone` does not have.
    """
    modules = dict(backbone.named_modules())
    if missing := [name for name in layers if name not in modules]:
        known = list(cross_attention_layers(backbone))
        raise KeyError(f"No layer {missing[0]!r} in the {type(backbone).__name__}, which has {known}.")
    maps: dict[str, torch.Tensor] = {}
    recorder, positions = family_of(backbone).recorder, list(text_positions)
    with recording(backbone, {name: recorder(name, positions, maps) for name in layers}, maps):
        yield maps


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
    (SDXL has 1,300 heads) are never held. It is computed in float32 where the weights are kept in half precision, too.
    """

    def __init__(self, layers: Sequence[str], heads: Sequence[int], out_channels: int):
        super().__init__()
        self.layers = list(layers)
        self.weights = nn.ModuleList(Float32Conv2d(n, out_channels, 1, bias=False) for n in heads)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, maps: dict[str, torch.Tensor], latent_size: tuple[int, int]) -> torch.Tensor:
        """Recorded logits, layer name -> (B, n, L), to a_tex (B, out_channels, h, w), float32."""
        if missing := [name for name in self.layers if name not in maps]:
            raise RuntimeError(
                f"No text attention was recorded in {missing[0]!r}: run the backbone inside record_text_attention(), "
                "and do not call enable_attention_slicing() or set_attn_processor() there (they replace the recorder)."
            )
        by_size: list[torch.Tensor] = []  # sums of the layers of one size; sizes are symbolic where this is exported
        for name, weight in zip(self.layers, self.weights, strict=True):
            grid = token_grid(maps[name].shape[-1], latent_size)
            projected = weight(maps[name].unflatten(-1, grid))  # (B, c, h', w')
            same = next((i for i, total in enumerate(by_size) if total.shape == projected.shape), None)
            if same is None:
                by_size.append(projected)
            else:
                by_size[same] = by_size[same] + projected
        out = self.bias.float().view(1, -1, 1, 1)
        for projected in by_size:
            if tuple(projected.shape[-2:]) != latent_size:
                projected = F.interpolate(projected, size=latent_size, mode="bilinear", align_corners=False)
            out = out + projected
        return out  # (B, c, h, w)
