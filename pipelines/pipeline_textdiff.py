"""TextDiff: a low-resolution text line in, one twice as large out; or sharper text in any method's output.

Shapes: N batch, h, w pixels of an LR crop, s scale of the enhancement module, H = sh, W = sw.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image

from tadisr.line_pieces import run_pieces
from tadisr.loading.memory import contiguous_weights
from tadisr.loading.repositories import pipeline_kind, resolve
from tadisr.models.tensors import OUTPUT_TYPES, to_images, to_tensors, upsample
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.network import TextDiffNetwork
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.pipelines.pipeline_output import TextDiffPipelineOutput

ImageInput = Image.Image | np.ndarray | torch.Tensor
Generators = torch.Generator | Sequence[torch.Generator] | None


class TextDiffPipeline(DiffusionPipeline):
    """Super-resolution of cropped text lines (TextDiff): enhancement (TEM), then residual diffusion (MRD).

    Args:
        enhancement: TEM, with or without mask branch.
        prior: the recogniser whose reading guides TEM.
        residual: MRD's U-Net.
        scheduler: as from `textdiff_scheduler`.
        crop_size: height and width of the LR crops that the model was trained on.
        diffusion: False for a U-Net that was trained to give the residual at once (an ablation).
        temperature: of the sampling, from 0 to 1, where a call names none. 1 is the paper's: from pure noise, to one of
            the images that the line may be. 0 is without noise: no strokes that only noise has chosen.
        strength: the share of what the model adds to the enlarged crop that is added, from 0 to 1, where a call names
            none. 1 is the paper's; a small model reads best below it: a doubtful stroke that stays soft is guessed
            right more often than one that was sharpened.
        residual_strength: the share of MRD's residual in it, from 0 to 1, where a call names none. 1 is the paper's.

    Crops keep their detail whatever their size: each runs at its own size and aspect, a small one enlarged to the
    height of `crop_size`, and what the model changes is added to it. Long lines are cut into overlapping pieces of at
    most the aspect of `crop_size`, vertical ones are turned; see `tadisr.line_pieces`. No crop's result depends on the
    crops beside it.

    Raises:
        ValueError: components that do not fit each other: a mask that is read but not made, another alphabet; a
            temperature or strength outside 0 to 1.

    Example:
        >>> from PIL import Image
        >>> from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
        >>> pipe = TextDiffPipeline.from_pretrained("textdiff-tiny")
        >>> pipe(Image.open("line.png")).images[0].save("sharp.png")  # doctest: +SKIP
    """

    model_cpu_offload_seq = "prior->enhancement->residual"

    def __init__(
        self,
        enhancement: TextEnhancementModule,
        prior: CRNN,
        residual: ResidualUNet,
        scheduler: DDIMScheduler,
        crop_size: list[int] | tuple[int, int] = (16, 64),  # in a form that diffusers can check
        diffusion: bool = True,
        temperature: float = 1.0,
        strength: float = 1.0,
        residual_strength: float = 1.0,
    ):
        super().__init__()
        if len(crop_size) != 2 or not 0 < crop_size[0] < crop_size[1]:
            raise ValueError(f"crop_size must be a height and a greater width, got {list(crop_size)}.")
        shares = {"temperature": temperature, "strength": strength, "residual_strength": residual_strength}
        _check_shares(**shares)
        self.register_modules(enhancement=enhancement, prior=prior, residual=residual, scheduler=scheduler)
        self.register_to_config(crop_size=list(crop_size), diffusion=diffusion, **shares)
        _ = self.network  # refuses what does not fit

    @property
    def network(self) -> TextDiffNetwork:
        """The components as the network that was trained: `network.enhance` and `network.refine` are its two stages."""
        return TextDiffNetwork(self.enhancement, self.prior, self.residual, self.scheduler, self.config.diffusion)

    @torch.no_grad()
    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        num_inference_steps: int = 5,
        generator: Generators = None,
        batch_size: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
        temperature: float | None = None,
        strength: float | None = None,
        residual_strength: float | None = None,
    ) -> TextDiffPipelineOutput | tuple[list, list | None, list]:
        """Restore one crop, a batch, or a list of crops of any sizes.

        Args:
            image: PIL image, of any mode; array (h, w), (h, w, 3) uint8 or float in [0, 1]; tensor (3, h, w) or
                (N, 3, h, w) in [0, 1]; or a list of those. Each an upright line of text, or a vertical one.
            num_inference_steps: of the residual's sampling.
            generator: of the noise; a list holds one for each crop. Of a single one all crops take the same seed. None
                is a fixed seed: the same crop always gives the same image.
            batch_size: pieces of lines that run at once.
            output_type: "pil", "np" or "pt".
            return_dict: False returns the tuple (images, text_masks, coarse_images).
            temperature: of the sampling, from 0 to 1; None: the pipeline's own.
            strength: of what is added, from 0 to 1; None: the pipeline's own. `coarse_images` are always at 1.
            residual_strength: of MRD's residual in it, from 0 to 1; None: the pipeline's own.

        Returns:
            `TextDiffPipelineOutput`, everything exactly s (2) times its crop's size.

        Raises:
            ValueError, TypeError: arguments that cannot work, before any work is done.
        """
        # 1. Check.
        temperature = self.config.temperature if temperature is None else temperature
        strength = self.config.strength if strength is None else strength
        share = self.config.residual_strength if residual_strength is None else residual_strength
        self.check_inputs(num_inference_steps, batch_size, output_type, temperature, strength, share)
        crops = _tensors(image)
        seeds = _seeds(generator, len(crops))
        network, scale = self._prepared(), self.enhancement.config.scale

        def restore(lr: torch.Tensor, numbers: list[int]) -> torch.Tensor:  # (N, 3, h, w)
            # 2. Enhance: the coarse image and the mask.
            coarse, mask, _ = network.enhance(self._placed(lr))  # (N, 3, H, W), (N, 1, H, W)
            # 3. Sample the residual.
            noise = _generators(seeds, numbers)
            image = network.refine(coarse, mask, num_inference_steps, noise, temperature=temperature)
            base = upsample(lr, scale).to(image.device)
            coarse = coarse.float()
            changes = [strength * (torch.lerp(coarse, image, share) - base), coarse - base]
            return torch.cat(changes if mask is None else [*changes, mask.float()], dim=1)

        # 4. Post-process.
        images, masks, coarse_images = [], [], []
        pieces = run_pieces(restore, crops, self.config.crop_size, scale, batch_size)
        for crop, maps in zip(crops, pieces, strict=True):  # (1, 6 or 7, H, W)
            base = upsample(crop.float().cpu(), scale)
            images += to_images((base + maps[:, :3]).clamp_(0, 1), output_type)
            coarse_images += to_images((base + maps[:, 3:6]).clamp_(0, 1), output_type)
            masks += to_images(maps[:, 6:].clamp_(0, 1), output_type) if maps.shape[1] > 6 else []
        self.maybe_free_model_hooks()
        result = TextDiffPipelineOutput(images=images, text_masks=masks or None, coarse_images=coarse_images)
        return result if return_dict else (result.images, result.text_masks, result.coarse_images)

    def enable_sequential_cpu_offload(self, *_: Any, **__: Any) -> None:
        """Raises ValueError: recurrent layers keep their weights where they were, and the model is small anyway."""
        raise ValueError("TextDiff is not offloaded part by part: use pipe.to(DEVICE) or enable_model_cpu_offload().")

    enable_group_offload = enable_sequential_cpu_offload

    @torch.no_grad()
    def refine(
        self,
        images: ImageInput | Sequence[ImageInput],
        num_inference_steps: int = 5,
        masks: ImageInput | Sequence[ImageInput] | None = None,
        generator: Generators = None,
        batch_size: int = 64,
        output_type: str = "pil",
        return_dict: bool = True,
        temperature: float | None = None,
        strength: float | None = None,
        residual_strength: float | None = None,
    ) -> TextDiffPipelineOutput | tuple[list, list | None]:
        """The paper's cascade: sharpen text lines that another method made; sizes stay.

        Args:
            images: as for `__call__`, but at their final size.
            masks: text probability, one for each image and of its size: PIL "L", (H, W) or (1, H, W). None: the mask
                branch finds them in the images, reduced by s.
            num_inference_steps, generator, batch_size, output_type, temperature, strength, residual_strength: as for
                `__call__`; of the residual both strengths' product is added.
            return_dict: False returns the tuple (images, text_masks).

        Returns:
            `TextDiffPipelineOutput` with the masks that were used, without coarse images.

        Raises:
            ValueError, TypeError: also masks for a model that reads none.
        """
        temperature = self.config.temperature if temperature is None else temperature
        strength = self.config.strength if strength is None else strength
        share = self.config.residual_strength if residual_strength is None else residual_strength
        self.check_inputs(num_inference_steps, batch_size, output_type, temperature, strength, share)
        crops = _tensors(images)
        seeds = _seeds(generator, len(crops))
        if masks is not None:
            crops = self._with_masks(crops, masks)
        network, scale = self._prepared(), self.enhancement.config.scale

        def sharpen(given: torch.Tensor, numbers: list[int]) -> torch.Tensor:  # (N, 3 or 4, H, W)
            image, mask = self._placed(given[:, :3]), self._placed(given[:, 3:]) if given.shape[1] > 3 else None
            if mask is None and self.residual.config.mask:
                size = [side // scale for side in image.shape[-2:]]
                lr = F.interpolate(given, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
                mask = network.enhance(self._placed(lr))[1]
            noise = _generators(seeds, numbers)
            refined = network.refine(image, mask, num_inference_steps, noise, temperature=temperature)
            change = strength * share * (refined - image.float())
            return change if mask is None else torch.cat([change, mask.float()], dim=1)

        refined, used = [], []
        size = [scale * side for side in self.config.crop_size]
        pieces = run_pieces(sharpen, crops, size, 1, batch_size)
        for crop, maps in zip(crops, pieces, strict=True):
            refined += to_images((crop[:, :3].float().cpu() + maps[:, :3]).clamp_(0, 1), output_type)
            used += to_images(maps[:, 3:].clamp_(0, 1), output_type) if maps.shape[1] > 3 else []
        self.maybe_free_model_hooks()
        result = TextDiffPipelineOutput(images=refined, text_masks=used or None)
        return result if return_dict else (result.images, result.text_masks)

    def check_inputs(
        self,
        num_inference_steps: int,
        batch_size: int,
        output_type: str,
        temperature: float = 1.0,
        strength: float = 1.0,
        residual_strength: float = 1.0,
    ) -> None:
        """Raise ValueError for arguments that cannot work, and for components in training mode."""
        limit = self.scheduler.config.num_train_timesteps
        if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= limit:
            raise ValueError(f"num_inference_steps must be an integer from 1 to {limit}, got {num_inference_steps!r}.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")
        _check_shares(temperature=temperature, strength=strength, residual_strength=residual_strength)
        for name in ("enhancement", "prior", "residual"):
            if getattr(self, name).training:
                raise ValueError(f"{name} is in training mode, where results are random: call pipe.{name}.eval().")

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """Write all components as safetensors; `kwargs` as in `DiffusionPipeline.save_pretrained`."""
        with contiguous_weights(self._models()):
            super().save_pretrained(save_directory, **kwargs)

    def _models(self) -> list[torch.nn.Module]:
        return [self.enhancement, self.prior, self.residual]

    def _prepared(self) -> TextDiffNetwork:
        """The network, its weights in the images' layout: else every convolution copies its input."""
        for model in self._models():
            model.to(memory_format=torch.channels_last)
        return self.network

    def _placed(self, images: torch.Tensor) -> torch.Tensor:
        images = images.to(self._execution_device, self.enhancement.dtype)
        return images.contiguous(memory_format=torch.channels_last)

    def _with_masks(self, crops: list[torch.Tensor], masks: ImageInput | Sequence[ImageInput]) -> list[torch.Tensor]:
        """The crops with their masks as a fourth channel."""
        if not self.residual.config.mask:
            raise ValueError("This model was trained without text masks and reads none: leave out masks.")
        masks = [mask[:, :1] for mask in to_tensors(_three_channels(masks))]
        sizes = [[tuple(image.shape[-2:]) for image in images] for images in (crops, masks)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"Expected a mask for each image and of its size, {sizes[0]}, got {sizes[1]}.")
        return [torch.cat(pair, dim=1) for pair in zip(crops, masks, strict=True)]

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "TextDiffPipeline":
        """Load a bundled model by name, a folder, or a Hub repository.

        Args:
            pretrained_model_name_or_path: "textdiff-tiny", a folder, or "user/model".
            kwargs: `dtype` (or, as it used to be called, `torch_dtype`; float32 by default, whatever the files hold);
                `revision`, `token`, `cache_dir`, `local_files_only` for the Hub; the rest as in
                `DiffusionPipeline.from_pretrained`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: it is another pipeline's, or its weights are incomplete.
        """
        hub = {k: kwargs.pop(k) for k in ("revision", "token", "cache_dir", "local_files_only") if k in kwargs}
        folder = resolve(pretrained_model_name_or_path, cls.__name__, **hub)
        pipeline_kind(folder, cls.__name__)
        dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", torch.float32))
        pipe = super().from_pretrained(folder, dtype=dtype, **kwargs)
        for name in ("enhancement", "prior", "residual"):  # diffusers only warns, and leaves such weights empty
            lacking = [key for key, value in getattr(pipe, name).state_dict().items() if value.is_meta]
            if lacking:
                raise ValueError(
                    f"The weights in {folder / name} lack {', '.join(lacking[:3])}"
                    f"{f' and {len(lacking) - 3} more' if len(lacking) > 3 else ''}: save them whole, or set its "
                    "config.json to what they hold."
                )
        return pipe


def _check_shares(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be from 0 to 1, got {value!r}.")


def _tensors(images: ImageInput | Sequence[ImageInput]) -> list[torch.Tensor]:
    tensors = to_tensors(images)
    if not tensors:
        raise ValueError("Expected at least one crop, got an empty list.")
    return tensors


def _three_channels(masks: ImageInput | Sequence[ImageInput]) -> ImageInput | list:
    """Masks (..., 1, H, W) as what `to_tensors` takes."""
    if isinstance(masks, (list, tuple)):
        return [_three_channels(mask) for mask in masks]
    if isinstance(masks, torch.Tensor) and masks.ndim >= 3 and masks.shape[-3] == 1:
        return masks.expand(*masks.shape[:-3], 3, -1, -1)
    return masks


def _seeds(generator: Generators, count: int) -> list[int]:
    """A seed for each of `count` crops: that a crop's noise depends on nothing but its seed and its size."""
    if generator is None:
        return [0] * count
    given = [generator] if isinstance(generator, torch.Generator) else generator
    if not isinstance(given, (list, tuple)) or not all(isinstance(one, torch.Generator) for one in given):
        raise TypeError(
            f"generator must be a torch.Generator, a list of those or None, got {type(generator).__name__}."
        )
    seeds = [int(torch.randint(2**63 - 1, (1,), generator=one, device=one.device)) for one in given]
    if isinstance(generator, torch.Generator):
        return seeds * count
    if len(seeds) != count:
        raise ValueError(f"Expected one generator, or one for each of {count} crops, got a list of {len(seeds)}.")
    return seeds


def _generators(seeds: list[int], numbers: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seeds[number]) for number in numbers]
