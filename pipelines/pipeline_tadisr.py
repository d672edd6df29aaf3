"""TADiSR: a low-resolution photo in, a sharp one and its text mask out, in one diffusion step.

Shapes: B batch, H, W pixels of the output, h, w latent size.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate.utils.memory import clear_device_cache
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
    ModelMixin,
    PipelineQuantizationConfig,
)
from PIL import Image
from torch import nn

from tadisr.loading.adapters import load_adapted, save_adapter
from tadisr.loading.bases import backbone_component, check_holds_values, holds_float16
from tadisr.loading.load import choose_device
from tadisr.loading.memory import (
    as_dtypes,
    contiguous_weights,
    free_memory,
    fuse_adapter,
    is_out_of_memory,
    quantization_by_model,
)
from tadisr.loading.repositories import (
    AdapterIndex,
    check_native_scale,
    pipeline_kind,
    read_adapter_index,
    resolve,
)
from tadisr.loading.whole import load_whole
from tadisr.models.attention import record_text_attention
from tadisr.models.families import backbone_classes, family_of
from tadisr.models.joint_decoder import JointSegmentationDecoder, encode_mode, vae_factor
from tadisr.models.lora import ADAPTER
from tadisr.models.network import check_fits, denoise
from tadisr.models.precision import beside
from tadisr.models.prompt import TextPrompt
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel
from tadisr.models.sharing import LOCK, one_load_at_a_time, shared_by_calls
from tadisr.models.softening import MIDDLE, at_fidelity
from tadisr.models.tensors import (
    OUTPUT_TYPES,
    Generators,
    as_batch,
    fix_alpha,
    fix_color,
    on_arrays,
    to_images,
    to_layers,
    to_tensors,
    upsample,
)
from tadisr.models.weights import why_not_finite
from tadisr.pipelines.inputs import check_fidelity, check_inputs
from tadisr.pipelines.pipeline_base import UNUSED_PROMPT, HubPipeline
from tadisr.pipelines.pipeline_output import TADiSRPipelineOutput
from tadisr.pipelines.tile_memory import TileMemory
from tadisr.text_masks import NO_PROMPTS, OPAQUE, to_prompts
from tadisr.tiling import MIN_SIDE, TilePlan, auto_tile, group_by_size, run_tiled
from tadisr.trust.check import Thresholds, TrustReport, check_text

logger = logging.getLogger(__name__)
ImageInput = Image.Image | np.ndarray | torch.Tensor
_VAES = [AutoencoderKL, LeanAutoencoderKL]
NO_TEXT = -20.0  # a mask logit, where the network did not look
Denoised = tuple[torch.Tensor, dict[str, torch.Tensor], Sequence[torch.Tensor]]
"""A tile before it is decoded: the latents, the attention maps by layer, the encoder's features."""


class TADiSRPipeline(HubPipeline):
    """Text-aware super-resolution (TADiSR) on a base of a family in docs/bases.md, or a tiny one.

    Args:
        vae, scheduler: the base's; the VAE, as the backbone, with or without a LoRA adapter named "tadisr".
        prompt: the cached fixed prompt; no text encoder is needed.
        joint_decoder: attention projection, mask decoder and interaction blocks.
        unet, transformer: the base's backbone, one of the two, of a class that `tadisr.models.families` knows: a U-Net
            with a DDPM scheduler, or a transformer with a flow-matching one.
        base_model, base_revision: where the base came from, if this is an adapter on one.
        default_fidelity: of calls that name none, see `__call__`. None: 1, or what older weights' strengths are.
        native_scale: the factor it was trained for. Other factors are made by it and then resized, tile by tile: to the
            network an image enlarged by another factor is one of another blur. None: by whatever factor is asked for.

    Examples:
        >>> from PIL import Image
        >>> from tadisr import TADiSRPipeline
        >>> pipe = TADiSRPipeline.from_pretrained("tadisr-tiny")
        >>> result = pipe(Image.open("photo.png"))  # doctest: +SKIP
        >>> result.images[0].save("sharp.png"), result.text_masks[0].save("text.png")  # doctest: +SKIP
    """

    model_cpu_offload_seq = "vae->prompt->unet->transformer->joint_decoder"
    _optional_components = ["unet", "transformer"]

    def __init__(
        self,
        vae: AutoencoderKL,
        scheduler: DDPMScheduler | FlowMatchEulerDiscreteScheduler,
        prompt: TextPrompt,
        joint_decoder: JointSegmentationDecoder,
        unet: ModelMixin | None = None,
        transformer: ModelMixin | None = None,
        base_model: str | None = None,
        base_revision: str | None = None,
        native_scale: int | None = None,
        default_fidelity: float | None = None,
    ):
        super().__init__()
        if (unet is None) == (transformer is None):
            raise ValueError("Give either unet or transformer: a base has one of them.")
        check_native_scale(native_scale)
        check_fidelity(default_fidelity)
        self.register_modules(
            vae=vae, unet=unet, transformer=transformer, scheduler=scheduler, prompt=prompt, joint_decoder=joint_decoder
        )
        self.register_to_config(base_model=base_model, base_revision=base_revision, native_scale=native_scale)
        if default_fidelity is not None:  # or files are as they were before there was one
            self.register_to_config(default_fidelity=default_fidelity)
        joint_decoder.image_in_float32(vae)
        self._largest_tile: int | None = None  # output pixels: what tile="auto" has been found to fit
        self._tiles = TileMemory()

    @property
    def backbone(self) -> ModelMixin:
        """The base's U-Net or transformer."""
        return self.transformer if self.unet is None else self.unet

    @property
    def default_fidelity(self) -> float:
        """Of calls that name none: the config's; the dial's middle, where older weights' own strengths stand; or 1."""
        older = 0.5 if self.joint_decoder.older_softening else 1.0
        return self.config.get("default_fidelity", older)

    @shared_by_calls
    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        scale: float = 4,
        tile: int | str | None = "auto",
        overlap: int = 64,
        color_fix: str = "none",
        output_type: str = "pil",
        return_dict: bool = True,
        tile_progress: Callable[[Iterable], Iterable] = iter,
        report: bool | Thresholds = False,
        tile_batch: int | None = None,
        generator: Generators = None,
        prompt: str | None = None,
        fidelity: float | None = None,
        text_mask: ImageInput | Sequence[ImageInput] | None = None,
    ) -> TADiSRPipelineOutput | tuple[Any, ...]:
        """Restore one image, a batch, or a list of images of any sizes.

        Args:
            image: PIL image, of any mode, turned upright if its EXIF says so; array (H, W), (H, W, 3), (H, W, 4) or a
                batch (B, H, W, C); tensor (3, H, W), (4, H, W) or a batch of those; or a list of such images. Arrays
                and tensors are uint8 or floats in [0, 1]; one channel is gray, two are gray and alpha. An image with
                alpha, which is straight, gives one with alpha, see `restore_transparent`.
            scale: factor, above 0; need not be whole. What is not the model's `native_scale` costs as much as that.
                Without a native one, a fraction costs as much as the next whole factor.
            tile: side of a tile in output pixels, as they are at the model's `native_scale`; "auto" picks it from the
                free memory, and a smaller one where that was not enough; None never tiles.
            overlap: least overlap of neighbouring tiles in output pixels; with "auto" at most half a tile.
            color_fix: "none"; "wavelet": the low frequencies of the input; "adain": its channel means and deviations.
            output_type: "pil", "uint8", "np" or "pt", see `TADiSRPipelineOutput`.
            return_dict: False returns the tuple (images, text_masks), and reports where there are any.
            tile_progress: wraps the iterator over an image's tiles, for a progress bar, such as the pipeline's own,
                `pipe.progress_bar`; over a group's of small images.
            report: also read every line of text before and after, and say which ones to check, by the given
                `Thresholds` or the usual ones; needs the extra "ocr". The reports' `to_dict` gives JSON values.
            tile_batch: tiles of an image restored at a time; None: as many as are faster and fit, where `tile` is a
                number. Small images of one size go through together in any case.
            generator: taken for code that gives one to every pipeline, and not used: nothing here is random.
            fidelity: how sharp text becomes, from 0, faithful and soft, as the bicubic enlargement has it, to 1, all
                that the network adds. None: the model's `default_fidelity`. What is no text is restored in any case.
            prompt: taken as well, as in the code that the Hub shows for image-to-image models, and not followed, with a
                warning: the network has one fixed prompt.
            text_mask: where text is, drawn or corrected by a person, for models trained with mask prompts: white is
                text, like this, black is none, and where alpha is less than half the network decides. One for each
                image, of its size or its output's. Tiles go through one at a time, and are kept for the next call, up
                to 1 GiB: of the same image it decodes the tiles anew where its mask is another.

        Returns:
            `TADiSRPipelineOutput`. Each side of an image is round(side * scale) pixels, and at least 1.

        Raises:
            ValueError, TypeError: arguments that cannot work, before any work is done; a mask for a model that takes
                none, or for an image with alpha.
            ImportError: a report without the packages that read, also at once.
            MemoryError: not enough memory for the tile; the message says which one to try.
        """
        # 1. Check.
        self.check_inputs(scale, tile, overlap, color_fix, output_type, report, tile_batch, fidelity)
        if prompt is not None:
            logger.warning(UNUSED_PROMPT)
        images, masks, reports = [], [], []
        sources = to_tensors(image, keep_alpha=True)  # (1, 3 or 4, h, w) in [0, 1]
        layers = [to_layers(source) for source in sources]
        prompts = iter(self._prompts(text_mask, layers, scale))
        waiting = iter(sources)
        # Small images of one size together: 2.5 times as fast.
        for group in group_by_size(layers, self._factor(scale), self._fits()):
            # 2. Encode, denoise in one step and decode both streams, tile by tile.
            lr = torch.cat(group)  # (B, 3 or 4, h, w) in [0, 1]
            given = None if text_mask is None else torch.cat(list(islice(prompts, len(group))))
            sr, mask_logits = self.restore(  # (B, 3 or 4, H, W)
                lr, scale, tile, overlap, tile_progress, tile_batch, fidelity, given
            )
            for one_lr, one_sr, one_mask in zip(group, sr.split(1), mask_logits.sigmoid().split(1), strict=True):
                source = next(waiting)
                # 3. Colour, once for the whole image, and alpha.
                fix_color(one_sr[:, :3], one_lr[:, :3], color_fix)
                alpha = fix_alpha(one_sr, source)
                # 4. Read the text before and after.
                if report:
                    thresholds = None if report is True else report
                    reports.append(self.report(source[:, : one_sr.shape[1]], one_sr, thresholds))
                # 5. Post-process.
                images += to_images(one_sr, output_type, alpha)
                masks += to_images(one_mask, output_type)
        self.maybe_free_model_hooks()
        images, masks = as_batch(images, output_type), as_batch(masks, output_type)
        if not return_dict:
            return (images, masks, reports) if report else (images, masks)
        return TADiSRPipelineOutput(images=images, text_masks=masks, reports=reports if report else None)

    # Needs no model, so that it can be called before one is loaded.
    check_inputs = staticmethod(partial(check_inputs, output_types=OUTPUT_TYPES))

    @shared_by_calls
    def restore(
        self,
        lr: torch.Tensor,
        scale: float = 4,
        tile: int | str | None = "auto",
        overlap: int = 64,
        tile_progress: Callable[[Iterable], Iterable] = iter,
        tile_batch: int | None = None,
        fidelity: float | None = None,
        text_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One whole image, or several of one size at once, tile by tile.

        lr (B, 3, h, w) in [0, 1] to the image (B, 3, H, W) in [0, 1] and mask logits (B, 1, H, W), float32 on the CPU.
        A factor that is not whole is made by the network's own, and then resized as a whole. lr may also be the four
        channels of `restore_transparent`. `text_mask`: a prompt for it, as `to_prompts` makes it; tiles are then taken
        from what the last call with one left, or left there.
        After an out-of-memory error tile="auto" starts again with half the side; `tile_progress` is then called anew.
        MemoryError if the given tile, or the least one, does not fit; FloatingPointError for values that are not
        finite, as `to(torch.float16)` gives in the VAE of SDXL and Kolors.
        """
        factor = self._factor(scale)
        whole = int(scale) if scale == int(scale) else factor
        restore_tile = on_arrays(lambda part: self.restore_tile(part, whole, fidelity), self._execution_device)
        image = lr.float().cpu().numpy()
        if text_mask is not None:  # tiles are cut from both at once
            tile_batch, restore_tile = 1, self._remembering(whole, fidelity)
            image = np.concatenate([image, F.pixel_unshuffle(text_mask.float().cpu(), factor).numpy()], 1)
        plan = TilePlan(tile, tile_batch, max(lr.shape[-2:]) * factor, self._fits())
        while True:
            side = max(1, plan.side // factor)  # LR pixels
            shared = min(overlap // factor, side // 2)
            try:
                results = run_tiled(restore_tile, image, side, shared, whole, tile_progress, plan.batch)
                sr, mask_logits = map(torch.from_numpy, results)
                if not sr.isfinite().all():
                    raise FloatingPointError(why_not_finite(self.convolutional(), self.backbone.dtype))
                if whole != scale:
                    size = [max(1, round(length * float(scale))) for length in lr.shape[-2:]]
                    sr, mask_logits = (
                        F.interpolate(x, size, mode="bicubic", antialias=True) for x in (sr, mask_logits)
                    )
                return sr.clamp_(0, 1), mask_logits
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
            # The exception is gone by now, and with it the tile that it held.
            clear_device_cache(garbage_collection=True)
            plan.shrink()
            if tile == "auto":
                with LOCK:  # other calls may have found another side
                    self._largest_tile = min(plan.side, self._largest_tile or plan.side)

    def _factor(self, scale: float) -> int:
        """The factor that the network works at."""
        return self.config["native_scale"] or math.ceil(scale)

    def _fits(self) -> int:
        """Side of a tile, in output pixels, that should fit the memory free now."""
        free = free_memory(self._execution_device)
        side = auto_tile(free, self.vae.dtype.itemsize, max(self.vae.config.block_out_channels))
        return min(side, self._largest_tile or side)

    def _prompts(self, text_mask: Any, layers: Sequence[torch.Tensor], scale: float) -> list[torch.Tensor]:
        """A prompt for each image of `layers`, see `to_prompts`; none without a mask."""
        if text_mask is None:
            return []
        if not self.takes_masks:
            raise ValueError(NO_PROMPTS)
        if any(image.shape[1] == 4 for image in layers):
            raise ValueError(OPAQUE)
        masks = [mask.float().cpu().numpy() for mask in to_tensors(text_mask, keep_alpha=True)]
        prompts = to_prompts(masks, [image.shape[-2:] for image in layers], self._factor(scale))
        return list(map(torch.from_numpy, prompts))

    @property
    def takes_masks(self) -> bool:
        """Whether a person can say where text is, see `text_mask`."""
        return self.joint_decoder.prompt_encoder is not None

    def _remembering(self, scale: int, fidelity: float | None) -> Callable[[np.ndarray], Sequence[np.ndarray]]:
        """`restore_tile` of arrays that hold LR and, its pixels as channels, the prompt; as far as it is not known."""
        factor, device = self._factor(scale), self._execution_device
        parts = [self.vae, self.backbone, self.joint_decoder]
        weights = [weight for part in parts for weight in part.parameters() if not weight.is_inference()]
        fidelity = self.default_fidelity if fidelity is None else fidelity
        changes = sum(weight._version for weight in weights)
        settings = [scale, fidelity, str(device), changes, dict(self.joint_decoder.config)]
        call = self._tiles.begin(repr([*settings, *(part.dtype for part in parts)]))

        def restore(tile: np.ndarray) -> Sequence[np.ndarray]:
            lr, prompt = (torch.from_numpy(tile[:, span]).to(device) for span in np.s_[:3, 3:])
            given = F.pixel_shuffle(prompt, factor) if prompt.any() else None

            def decode(denoised: Denoised) -> list[np.ndarray]:
                made = self.restore_tile(lr, scale, fidelity, given, _on(device, denoised))
                return [result.float().cpu().numpy() for result in made]

            def denoised() -> Denoised:
                return self._denoised(self.prepare_image(lr, factor))

            return call.restore(tile[:, :3], tile[:, 3:], decode, denoised, partial(_on, "cpu"))

        return restore

    def restore_tile(
        self,
        lr: torch.Tensor,
        scale: int = 4,
        fidelity: float | torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        denoised: Denoised | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """lr (B, 3, h, w) in [0, 1] to the image (B, 3, H, W), nominally in [0, 1], and mask logits (B, 1, H, W).

        `text_mask` (B, 2, factor h, factor w): a prompt. `denoised`: the tile's latents and what goes with them, where
        they are known.
        """
        if lr.shape[1] == 4:
            return self.restore_transparent(lr, scale, fidelity)
        factor = self._factor(scale)
        x = self.prepare_image(lr, factor)  # (B, 3, H', W') in [-1, 1]
        if text_mask is not None:
            text_mask = F.pad(text_mask, (0, x.shape[3] - text_mask.shape[3], 0, x.shape[2] - text_mask.shape[2]))
        latents, attention_maps, features = denoised or self._denoised(x)
        image, mask_logits = self.decode(latents, attention_maps, features, x, fidelity, text_mask)
        height, width = lr.shape[-2] * factor, lr.shape[-1] * factor
        image, mask_logits = image[..., :height, :width] / 2 + 0.5, mask_logits[..., :height, :width]
        if factor != scale:
            size = [side * scale for side in lr.shape[-2:]]
            image, mask_logits = (
                F.interpolate(x.float(), size, mode="bicubic", antialias=True) for x in (image, mask_logits)
            )
        return image, mask_logits

    def restore_transparent(
        self, lr: torch.Tensor, scale: int = 4, fidelity: float | torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `restore_tile`, of four channels: the layers of `tadisr.models.tensors.to_layers` to image and alpha.

        Colours and alpha are restored as two pictures, alpha as gray on white, and their text is what either shows.
        A layer that is flat needs no network. See `tadisr.transparency`.
        """
        colors, alpha = lr[:, :3], lr[:, 3:]
        image = upsample(lr.to(self._execution_device, torch.float32), scale)  # (B, 4, H, W)
        mask_logits = torch.full_like(image[:, :1], NO_TEXT)
        # Bicubic interpolation looks two pixels far.
        visible = F.max_pool2d((alpha > 0).to(image), 5, stride=1, padding=2)
        chosen = _varied(colors) & visible.flatten(1).any(1)
        if chosen.any():
            restored, found = self.restore_tile(colors[chosen], scale, fidelity)
            image[chosen, :3] = restored.float()
            visible = F.interpolate(visible[chosen], found.shape[-2:])
            mask_logits[chosen] = found.float().masked_fill(visible == 0, NO_TEXT)
        chosen = _varied(alpha)
        if chosen.any():
            dark, found = self.restore_tile(1 - alpha[chosen].expand(-1, 3, -1, -1), scale, fidelity)
            image[chosen, 3:] = 1 - dark.float().clamp(0, 1).mean(1, keepdim=True)
            mask_logits[chosen] = torch.maximum(mask_logits[chosen], found.float())
        return image, mask_logits

    def prepare_image(self, lr: torch.Tensor, scale: int = 4) -> torch.Tensor:
        """x_L: bicubic upscaling, [-1, 1], the borders repeated up to what the VAE takes; float32, on the device."""
        x = upsample(lr.to(self._execution_device, torch.float32), scale).clamp_(0, 1)
        factor = vae_factor(self.vae)
        pad = [max(MIN_SIDE, -(-side // factor) * factor) - side for side in x.shape[-2:]]
        if any(pad):
            x = F.pad(x, (0, pad[1], 0, pad[0]), mode="replicate")
        return (x * 2 - 1).contiguous(memory_format=torch.channels_last)

    def _denoised(self, x: torch.Tensor) -> Denoised:
        """All that `decode` takes beside x_L (B, 3, H, W) and a prompt."""
        latents, features = self.encode(x)  # (B, c, h, w)
        latents, attention_maps = self.denoise(latents)
        return latents, attention_maps, features if self.joint_decoder.skips else []

    def encode(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """x_L (B, 3, H, W) in [-1, 1] to z_L (B, c, h, w), the posterior's mode, and the encoder's block inputs."""
        return encode_mode(self.vae, image)

    def denoise(self, latents: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """z_L to z_H by one step (Eq. 1), and the recorded logits of the word "text", layer name -> (B, n, L)."""
        layers = self.joint_decoder.config.attention_layers
        with record_text_attention(self.backbone, self.prompt.config.text_positions, layers) as maps:
            latents = denoise(self.backbone, latents, self.prompt, self.scheduler, vae_factor(self.vae))
        return latents, maps

    def decode(
        self,
        latents: torch.Tensor,
        attention_maps: dict[str, torch.Tensor],
        features: Sequence[torch.Tensor],
        image: torch.Tensor,
        fidelity: float | torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        given: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """z_H and the attention maps to the image (B, 3, H, W) in [-1, 1] and mask logits (B, 1, H, W) (Eq. 5).

        `text_mask`: a prompt (B, 2, H, W); or its pixels as channels, as the prompt encoder takes them, and `given`
        (B, 1, H, W) is above 0 where it says something. Below a `fidelity` of 1 the image is softened on text
        afterwards, but where a prompt is given; that is no part of the paper.
        """
        fidelity = self.default_fidelity if fidelity is None else fidelity
        if not isinstance(fidelity, torch.Tensor) and fidelity == 1:
            return self.joint_decoder(self.vae, latents, attention_maps, features, image, text_mask)
        adds = self.joint_decoder.config.image_residual
        start = None if adds else image
        decoded, mask_logits = self.joint_decoder(self.vae, latents, attention_maps, features, start, text_mask)
        correction = decoded.to(image.dtype) if adds else decoded.to(image.dtype) - image  # float32: fast on CPUs
        soften = at_fidelity(fidelity, self.joint_decoder.older_softening or MIDDLE)
        softened = soften(correction, mask_logits.to(image.dtype))
        if text_mask is not None:
            softened = torch.where((text_mask[:, 1:] if given is None else given) > 0, correction, softened)
        return image + softened, mask_logits

    def report(self, lr: torch.Tensor, sr: torch.Tensor, thresholds: Thresholds | None = None) -> TrustReport:
        """Check the text of sr (1, 3 or 4, H, W), restored from lr (1, 3 or 4, h, w), both in [0, 1]."""
        return check_text(to_images(lr.float().cpu(), "uint8")[0], to_images(sr, "uint8")[0], thresholds)

    def convolutional(self) -> list[nn.Module]:
        """The models that work on images, whose weights take channels-last layout in use."""
        return [self.vae, self.backbone, self.joint_decoder]

    def fuse_lora(self, generator: torch.Generator | None = None) -> "TADiSRPipeline":
        """Add the adapter into the base's weights, for good: layers then cost what the bare base's cost.

        `save_pretrained` still writes the adapter exactly. To take it out again, load the base anew. In half precision
        weights are rounded at random, right on average; by `generator`, of their device, if not by one seeded with 0.
        Quantised weights keep their adapter beside them. Fuse before sequential offload. Returns the pipeline.
        """
        for model in (self.vae, self.backbone):
            fuse_adapter(model, ADAPTER, generator)
        return self

    def enable_group_offload(
        self,
        onload_device: torch.device | str,
        offload_device: torch.device | str = "cpu",
        offload_type: str = "leaf_level",
        **options: Any,
    ) -> None:
        """As in `DiffusionPipeline`, leaf by leaf only: the decoders' blocks run one by one, past block-level hooks."""
        if offload_type != "leaf_level":
            raise ValueError(f'offload_type must be "leaf_level" here, not {offload_type!r}.')
        devices = (torch.device(device) for device in (onload_device, offload_device))
        super().enable_group_offload(*devices, offload_type=offload_type, **options)

    def compile(self, **options: Any) -> "TADiSRPipeline":
        """Compile the backbone and both decoders with `torch.compile`, in place; `options` are its own.

        The first image of each tile size takes minutes more. Returns the pipeline.
        """
        for model in (self.backbone, self.joint_decoder):
            model.compile(**options)
        return self

    @classmethod
    @one_load_at_a_time
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "TADiSRPipeline":
        """Load a bundled model by name, a folder, or a Hub repository; a whole pipeline, or an adapter on its base.

        Args:
            pretrained_model_name_or_path: "tadisr-tiny", a folder, or "user/model".
            kwargs: `dtype` (or, as it used to be called, `torch_dtype`; float32 by default, whatever the files hold;
                "auto" is the type in which the fastest device here is fastest, as in `tadisr.load`; beside a backbone
                in float16 the VAE and the joint decoder stay in float32; for a whole pipeline also a dictionary of
                components' names, or "default", to types);
                `revision`, `token`, `cache_dir`, `local_files_only` for the Hub; `base_model` to take an adapter's base
                from somewhere else; `prompt`, a `TextPrompt`, instead of the saved one; `quantization_config`,
                diffusers', for 8 or 4 bits: a `PipelineQuantizationConfig`, or the backbone's alone; `fuse_lora=True`
                to add an adapter into its base's weights at once, see `fuse_lora`; for a whole pipeline the rest as in
                `DiffusionPipeline`.

        Raises:
            FileNotFoundError: no such model, or an adapter whose base is not here; the message says what to fetch.
            ValueError: a base that the adapter does not fit, or of a kind that is not supported; files that are
                damaged, incomplete, or not what they say; options that adapters do not take.
        """
        hub = {k: kwargs.pop(k) for k in ("revision", "token", "cache_dir", "local_files_only") if k in kwargs}
        base_model, fuse = kwargs.pop("base_model", None), kwargs.pop("fuse_lora", False)
        folder = resolve(os.fspath(pretrained_model_name_or_path), cls.__name__, **hub)
        index = read_adapter_index(folder)
        wanted = kwargs.pop("dtype", kwargs.pop("torch_dtype", torch.float32))
        dtype = as_dtypes(wanted, choose_device(), holds_float16(folder))
        if index is None:
            pipeline_kind(folder, cls.__name__)
            check_holds_values(folder, dtype.get("unet", dtype.get("default")) if isinstance(dtype, dict) else dtype)
            if base_model is not None:
                raise ValueError(f"{pretrained_model_name_or_path} is no adapter: leave base_model out.")
            if (config := kwargs.get("quantization_config")) is not None:
                mapping = quantization_by_model(config, backbone_component(folder))
                kwargs["quantization_config"] = PipelineQuantizationConfig(quant_mapping=mapping)
            dtypes = dtype
            if not isinstance(dtype, dict):
                dtypes = {"default": dtype, **dict.fromkeys(("vae", "joint_decoder"), beside(dtype))}
            pipe = load_whole(super().from_pretrained, folder, _kinds(), dtype=dtypes, **kwargs)
            check_fits(pipe.vae, pipe.backbone, pipe.prompt, pipe.joint_decoder)
            return pipe
        if isinstance(dtype, dict):
            raise ValueError(f"An adapter and its base are loaded in one dtype, not in {dtype}.")
        hub.pop("revision", None)
        if base_model is not None:  # whose revisions are its own
            index = replace(index, base_model=str(base_model), base_revision=None)
        pipe = cls(**load_adapted(folder, index, hub, dtype, **kwargs))
        pipe.register_to_config(_name_or_path=str(folder))  # as diffusers notes it of whole pipelines
        return pipe.fuse_lora() if fuse else pipe

    def _write(self, folder: Path, **kwargs: Any) -> None:
        """The adapter alone where the base carries one, else the whole pipeline."""
        with contiguous_weights(self.convolutional()):
            if ADAPTER not in getattr(self.backbone, "peft_config", {}):
                super()._write(folder, **kwargs)
                return
            if not self.config["base_model"]:
                raise ValueError(
                    "This adapter does not name its base: set pipe.register_to_config(base_model=...) first."
                )
            folder.mkdir(parents=True, exist_ok=True)
            # diffusers' own save_pretrained would write unloadable base_layer.* keys here
            save_adapter(folder, {"vae": self.vae, family_of(self.backbone).component: self.backbone})
            for name in ("prompt", "joint_decoder"):
                getattr(self, name).save_pretrained(folder / name)
        config = self.config
        AdapterIndex(config["base_model"], config["base_revision"], native_scale=config["native_scale"]).save(folder)


def _kinds() -> dict[str, list[type]]:
    """The classes that the parts of a saved pipeline may be of."""
    return {
        "vae": _VAES,
        "unet": [*backbone_classes("unet"), LeanUNet2DConditionModel, type(None)],
        "transformer": [*backbone_classes("transformer"), type(None)],
        "scheduler": [DDPMScheduler, FlowMatchEulerDiscreteScheduler],
        "prompt": [TextPrompt],
        "joint_decoder": [JointSegmentationDecoder],
    }


def _varied(images: torch.Tensor) -> torch.Tensor:
    """Which of (B, C, H, W) are not the same everywhere: (B,)."""
    return (images.amax((2, 3)) > images.amin((2, 3))).any(1)


def _on(device: torch.device | str, denoised: Denoised) -> Denoised:
    latents, maps, features = denoised
    return latents.to(device), {name: x.to(device) for name, x in maps.items()}, [x.to(device) for x in features]
