"""SAM-TS: Segment Anything, taught to find text strokes (the pixel-level branch of Hi-SAM).

SAM's image encoder stays frozen. Training changes small adapters in its blocks, a module that makes a few prompt tokens
from the image's features, SAM's mask decoder, and a head that brings the decoder's mask to full resolution.

Shapes: B batch, S the side SAM works at (1024), C SAM's embedding width (256), h = w = S / 16, K prompt tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SamModel
from transformers.models.sam.modeling_sam import SamFeedForward, SamLayerNorm

from tadisr.data_synthesis.judging.segment import TextSegmenter, find_folder
from tadisr.io.model_files import not_finite, refuse
from tadisr.io.structured import read_json

_BASE_FILES = ["config.json", "model*.safetensors*"]
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # SAM's


@dataclass
class SamTSConfig:
    """Configuration of `SamTextSegmenter`."""

    base_model: str
    """Folder or Hub id of a `transformers` SAM, such as facebook/sam-vit-large."""
    base_revision: str | None = None
    adapter_ratio: float = 0.25
    """Width of the adapters' bottleneck over the width of the encoder."""
    prompt_tokens: int = 12
    image_detail: bool = True
    """Whether the full-resolution head sees the image itself: SAM's features know nothing finer than 16 pixels. The
    head of Hi-SAM does not."""


class Adapter(nn.Module):
    """A bottleneck whose output starts at zero, so that an untrained adapter changes nothing."""

    def __init__(self, width: int, ratio: float):
        super().__init__()
        self.reduce = nn.Linear(width, max(1, int(width * ratio)))
        self.expand = nn.Linear(self.reduce.out_features, width)
        nn.init.zeros_(self.expand.weight)
        nn.init.zeros_(self.expand.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.expand(F.gelu(self.reduce(x)))


class AdaptedAttention(nn.Module):
    """A SAM block's attention, followed by an adapter with a skip."""

    def __init__(self, base: nn.Module, adapter: Adapter):
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        x, weights = self.base(hidden_states=hidden_states)
        return x + self.adapter(x), weights


class AdaptedMLP(nn.Module):
    """A SAM block's MLP with an adapter beside it, at half its strength."""

    def __init__(self, base: nn.Module, adapter: Adapter):
        super().__init__()
        self.base, self.adapter = base, adapter

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.base(hidden_states) + 0.5 * self.adapter(hidden_states)


class SelfPrompt(nn.Module):
    """Prompt tokens from the image embedding: K soft masks pool it; the tokens attend to one another and to it."""

    def __init__(self, width: int, tokens: int, heads: int = 8):
        super().__init__()
        self.masks = nn.Sequential(
            nn.Conv2d(width, tokens, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(tokens, tokens, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(tokens, tokens, 3, padding=1),
        )
        self.attention = nn.TransformerDecoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, embedding: torch.Tensor) -> torch.Tensor:
        """(B, C, h, w) to (B, K, C)."""
        features = embedding.flatten(2).transpose(1, 2)  # (B, h w, C)
        masks = self.masks(embedding).flatten(2).sigmoid()  # (B, K, h w)
        return self.attention(masks @ features / features.shape[1], features)


class HighResolutionHead(nn.Module):
    """Brings the decoder's features to full size and adds the image. The mask is their product with a token."""

    def __init__(self, width: int, image_detail: bool):
        super().__init__()
        channels = width // 16
        self.upscale = nn.Sequential(
            nn.ConvTranspose2d(width // 8, channels, 2, stride=2),
            SamLayerNorm(channels, data_format="channels_first"),
            nn.GELU(),
            nn.ConvTranspose2d(channels, channels, 2, stride=2),
        )
        self.stem = None
        if image_detail:
            self.stem = nn.Sequential(
                nn.Conv2d(3, channels, 3, padding=1), nn.GELU(), nn.Conv2d(channels, channels, 3, padding=1)
            )
        layers = []
        for _ in range(4):
            layers += [SamLayerNorm(channels, data_format="channels_first"), nn.GELU()]
            layers += [nn.Conv2d(channels, channels, 3, padding=1)]
        self.refine = nn.Sequential(*layers, nn.GELU())
        self.token_to_weights = SamFeedForward(width, width, channels, 3)

    def forward(self, features: torch.Tensor, token: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        """features (B, C/8, S/4, S/4), token (B, C), pixels (B, 3, S, S) to logits (B, 1, S, S)."""
        x = self.upscale(features)
        if self.stem is not None:
            x = x + self.stem(pixels)
        x = self.refine(x)  # (B, C/16, S, S)
        return torch.einsum("bc,bchw->bhw", self.token_to_weights(token), x)[:, None]


class SamTextSegmenter(TextSegmenter):
    """SAM-TS on a `transformers` SAM.

    The base becomes part of this model: the blocks of its encoder get adapters, and all but its mask decoder is frozen.
    The base's name is saved with the configuration, its weights are not. As SAM does, images are scaled until their
    long side is `tile`, and then padded. Larger images are tiled.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, sam: SamModel, config: SamTSConfig):
        super().__init__()
        self.config = config
        described: Any = sam.config
        vision, decoder = described.vision_config, described.mask_decoder_config
        self.tile = vision.image_size
        sam.requires_grad_(False)
        sam.mask_decoder.requires_grad_(True)
        # These parts only serve several masks per prompt.
        sam.mask_decoder.iou_prediction_head.requires_grad_(False)
        sam.mask_decoder.output_hypernetworks_mlps[1:].requires_grad_(False)
        layers: Any = sam.vision_encoder.layers
        for layer in layers:
            layer.attn = AdaptedAttention(layer.attn, Adapter(vision.hidden_size, config.adapter_ratio))
            layer.mlp = AdaptedMLP(layer.mlp, Adapter(vision.hidden_size, config.adapter_ratio))
        self.sam = sam
        self.prompt = SelfPrompt(decoder.hidden_size, config.prompt_tokens)
        self.head = HighResolutionHead(decoder.hidden_size, config.image_detail)
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    @classmethod
    def build(cls, config: dict[str, Any], base_model: str | Path | None = None, **hub: Any) -> "SamTextSegmenter":
        """Load the base that `config` names, or `base_model`, and stand an untrained segmenter on it."""
        own = SamTSConfig(**config)
        if base_model is not None:
            own.base_model, own.base_revision = str(base_model), None
        hub = {key: hub[key] for key in ("token", "cache_dir", "local_files_only") if key in hub}
        folder = find_folder(own.base_model, _BASE_FILES, revision=own.base_revision, **hub)
        described = folder / "config.json"
        kind = read_json(described).get("model_type") if described.is_file() else None
        if kind != "sam":
            raise ValueError(f"{own.base_model} is no SAM: its config.json has the model_type {kind}.")
        loaded: Any = SamModel.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        sam, found = loaded
        refuse(folder, (f"{name} is missing" for name in sorted(found["missing_keys"])))
        refuse(folder, (f"{name} is not finite" for name in not_finite(sam.state_dict())))
        return cls(sam, own)

    def trained_state(self) -> dict[str, torch.Tensor]:
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def enable_gradient_checkpointing(self) -> None:
        """Compute the encoder's blocks again in the backward pass instead of keeping their activations."""
        self.sam.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def fitted_size(self, size: Sequence[int]) -> tuple[int, int]:
        return (self.tile, self.tile)

    def _scaled(self, size: Sequence[int]) -> Iterator[int]:
        return (max(1, round(side * self.tile / max(size))) for side in size)

    def fit(self, image: torch.Tensor) -> torch.Tensor:
        height, width = self._scaled(image.shape[-2:])
        image = F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
        # SAM pads with its mean colour.
        padded = self.mean.to(image).expand(1, 3, self.tile, self.tile).clone()
        padded[..., :height, :width] = image
        return padded

    def unfit(self, logits: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
        height, width = self._scaled(size)
        logits = logits[..., :height, :width]
        return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False, antialias=True)

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """(B, 3, S, S) in [0, 1] to logits [(B, 1, S/4, S/4), (B, 1, S, S)]."""
        pixels = (images - self.mean) / self.std
        embedding = self.sam.vision_encoder(pixels).last_hidden_state  # (B, C, h, w)
        return list(self.decode(embedding, self.prompt(embedding), pixels))

    def decode(
        self, embedding: torch.Tensor, prompt: torch.Tensor, pixels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """SAM's mask decoder for its first mask, and the head on its features.

        embedding (B, C, h, w), prompt (B, K, C), pixels (B, 3, S, S) to logits (B, 1, S/4, S/4), (B, 1, S, S).
        """
        decoder, batch = self.sam.mask_decoder, embedding.shape[0]
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(batch, -1, -1)
        no_mask = self.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
        tokens, features = decoder.transformer(
            point_embeddings=torch.cat([own, prompt], dim=1)[:, None],  # (B, 1, 5 + K, C)
            image_embeddings=embedding + no_mask,
            image_positional_embeddings=self.sam.get_image_wide_positional_embeddings().expand(batch, -1, -1, -1),
            attention_similarity=None,
        )
        features = features[:, 0].transpose(1, 2).reshape(embedding.shape)
        features = decoder.activation(decoder.upscale_layer_norm(decoder.upscale_conv1(features)))
        features = decoder.activation(decoder.upscale_conv2(features))  # (B, C/8, S/4, S/4)
        token = tokens[:, 0, 1]  # (B, C), after the IoU token
        low = torch.einsum("bc,bchw->bhw", decoder.output_hypernetworks_mlps[0](token), features)[:, None]
        return low, self.head(features, token, pixels)
