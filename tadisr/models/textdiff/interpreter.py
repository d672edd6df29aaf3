"""Text prior interpreter (TATT): spreads the recogniser's 26 steps over the pixels of their letters.

Letters: N batch, T steps of the prior, h, w pixels of the LR image, d width of the interpreter.
"""

import torch
import torch.nn.functional as F
from torch import nn

GRID = (16, 64)  # h, w of the learned position table: TextZoom's LR size


def sinusoidal_positions(steps: int, width: int) -> torch.Tensor:
    """The transformer's position code (Vaswani et al., 2017), (steps, width): sines in even, cosines in odd places."""
    angles = torch.arange(steps)[:, None] / 10000 ** (torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


class _CrossAttention(nn.Module):
    """One decoder layer without self-attention, as in TATT: pixels attend to the prior; then a feed-forward layer.

    `nn.MultiheadAttention` would copy the pixels to sequence-first order and back. There is no dropout, because masks
    for a thousand pixels cost more time than the layer.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.to_query, self.to_key = nn.Linear(width, width), nn.Linear(width, width)
        self.to_value, self.to_out = nn.Linear(width, width), nn.Linear(width, width)
        self.feed_forward = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self, pixels: torch.Tensor, queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> torch.Tensor:
        """`pixels` (N, h*w, d) and their positions `queries`; `keys` and `values` (N, T, d); to (N, h*w, d)."""
        projected = (self.to_query(pixels + queries), self.to_key(keys), self.to_value(values))
        q, k, v = (x.unflatten(2, (self.heads, -1)).transpose(1, 2) for x in projected)  # (N, heads, L, d / heads)
        attended = F.scaled_dot_product_attention(q, k, v)
        pixels = self.norm1(pixels + self.to_out(attended.transpose(1, 2).flatten(2)))
        return self.norm2(pixels + self.feed_forward(pixels))


class TextPriorInterpreter(nn.Module):
    """Image features (N, C, h, w) and text prior (N, T, classes) to a semantic map (N, d, h, w), for any h and w.

    One encoder layer over the prior, two decoder layers in which each pixel attends to it, and the mean of the two.
    Pixels are told apart by a learned table of positions, over whose width a bidirectional GRU runs. TATT's table is as
    large as its images, 16x64. Ours has the same size, but it is resized to the image, so a position is *relative* to
    the crop. The prior's steps are relative as well: the recogniser squeezes every crop to one width. TATT's GRU reads
    whole columns (16 x 64 features, 4.7 million parameters); ours reads rows with shared weights.
    """

    def __init__(self, channels: int, num_classes: int, width: int = 64, heads: int = 4):
        super().__init__()
        self.read_prior = nn.Sequential(nn.Linear(num_classes, width), nn.PReLU())
        self.read_image = nn.Conv2d(channels, width, 1)
        self.encoder = nn.TransformerEncoderLayer(width, heads, width, batch_first=True)
        self.decoder = nn.ModuleList(_CrossAttention(width, heads) for _ in range(2))
        self.positions = nn.Parameter(torch.randn(*GRID, width))
        self.over_width = nn.GRU(width, width // 2, bidirectional=True, batch_first=True)

    def queries(self, height: int, width: int) -> torch.Tensor:
        """The position of each pixel, (1, height * width, d)."""
        table = self.over_width(self.positions)[0].permute(2, 0, 1)[None]  # (1, d, 16, 64)
        if (height, width) != GRID:
            # In float32: on a CPU there is no antialiasing in half precision.
            table = F.interpolate(table.float(), (height, width), mode="bilinear", align_corners=False, antialias=True)
        return table.to(self.positions.dtype).flatten(2).transpose(1, 2)

    def forward(self, image: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """`image` (N, C, h, w), `prior` (N, T, classes) to (N, d, h, w)."""
        height, width = image.shape[2:]
        prior = self.read_prior(prior)  # (N, T, d)
        steps = sinusoidal_positions(*prior.shape[1:]).to(prior)
        values = self.encoder(prior + steps)
        queries = self.queries(height, width)
        pixels = self.read_image(image).flatten(2).transpose(1, 2)  # (N, h*w, d)
        total = torch.zeros_like(pixels)
        for layer in self.decoder:
            pixels = layer(pixels, queries, values + steps, values)
            total = total + pixels
        return (total / len(self.decoder)).transpose(1, 2).unflatten(2, (height, width))
