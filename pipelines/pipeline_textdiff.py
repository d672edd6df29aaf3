"""TextDiff: a low-resolution text line in, one twice as large out; or sharper text in any method's output.

Shapes: N batch, h, w pixels of an LR crop, s scale of the enhancement module, H = sh, W = sw.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from PIL import Image

from tadisr.loading.load import choose_device
from tadisr.loading.memory import as_dtypes, contiguous_weights
from tadisr.loading.repositories import pipeline_kind, resolve
from tadisr.loading.whole import load_whole
from tadisr.models.sharing import one_load_at_a_time, shared_by_calls
from tadisr.models.tensors import OUTPUT_TYPES, Generators, as_batch, to_images, to_tensors, upsample
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.network import TextDiffNetwork
from tadisr.models.textdiff.pieces import PieceFunction, run_pieces
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.models.textdiff.shares import Shares
from tadisr.models.weights import why_not_finite
from tadisr.pipelines.pipeline_base import UNUSED_PROMPT, HubPipeline
from tadisr.pipelines.pipeline_output import TextDiffPipelineOutput

logger = logging.getLogger(__name__)
ImageInput = Image.Image | np.ndarray | torch.Tensor
_MODELS = ("enhancement", "prior", "residual")
_KINDS = {
    "enhancement": [TextEnhancementModule], "prior": [CRNN], "residual": [ResidualUNet], "scheduler": [DDIMScheduler],
}  # fmt: skip


class TextDiffPipeline(HubPipeline):
    """Super-resolution of cropped text lines (TextDiff): enhancement (TEM), then residual diffusion (MRD).

    Crops keep their detail whatever their size: each runs at its own size and aspect, a small one enlarged to the
    height of `crop_size`, and what the model changes is added to it. Long lines are cut into overlapping pieces of at
    most the aspect of `crop_size`, vertical lines are turned; see `tadisr.models.textdiff.pieces`. No crop's result
    depends on the crops beside it.

    Args:
        enhancement: TEM, with or without mask branch.
        prior: the recogniser whose reading guides TEM.
        residual, scheduler: MRD's U-Net, and a schedule as from `textdiff_scheduler`.
        crop_size: height and width of the LR crops that the model was trained on.
        diffusion: False for a U-Net that was trained to give the residual at once (an ablation).
        temperature, strength, residual_strength: see `Shares`; used by calls that name none.

    Raises:
        ValueError: components that do not fit each other: a mask that is read but not made, another alphabet; a
            temperature or strength outside 0 to 1.

    Examples:
        >>> from PIL import Image
        >>> from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
        >>> pipe = TextDiffPipeline.from_pretrained("textdiff-tiny")
        >>> pipe(Image.open("line.png")).images[0].save("sharp.png")  # doctest: +SKIP
    """

    config: Any  # diffusers declares a dict, but its items are attributes, too
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
        sides = list(crop_size) if isinstance(crop_size, (list, tuple)) else []
        if len(sides) != 2 or not all(type(x) is int for x in sides) or not 0 < sides[0] < sides[1] <= 4096:
            raise ValueError(f"crop_size must be a height and a greater width, got {crop_size!r:.50}.")
        if not isinstance(diffusion, bool):
            raise ValueError(f"diffusion must be True or False, got {diffusion!r:.50}.")
        shares = Shares(temperature, strength, residual_strength)
        self.register_modules(enhancement=enhancement, prior=prior, residual=residual, scheduler=scheduler)
        self.register_to_config(crop_size=list(crop_size), diffusion=diffusion, **asdict(shares))
        _ = self.network  # refuses components that do not fit

    @property
    def network(self) -> TextDiffNetwork:
        """The components as the network that was trained: `network.enhance` and `network.refine` are its two stages."""
        return TextDiffNetwork(self.enhancement, self.prior, self.residual, self.scheduler, self.config.diffusion)

    @shared_by_calls
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
        prompt: str | None = None,
    ) -> TextDiffPipelineOutput | tuple[Any, Any, Any]:
        """Restore one crop, a batch, or a list of crops of any sizes.

        Args:
            image: PIL image, of any mode; array (h, w), (h, w, 3), (h, w, 4) or a batch (N, h, w, C); tensor
                (3, h, w), (4, h, w) or a batch of those; or a list of such crops. Arrays and tensors are uint8 or
                floats in [0, 1]. What is transparent is laid on white, or on the ground that shows it better, for the
                results have no alpha. Each is an upright line of text, or a vertical one.
            num_inference_steps: steps of the residual's sampling.
            generator: source of the noise; a list holds one for each crop. With a single generator all crops take the
                same seed from it. None is a fixed seed: the same crop always gives the same image.
            batch_size: pieces of lines that run at once.
            output_type: "pil", "uint8", "np" or "pt", see `TextDiffPipelineOutput`.
            return_dict: False returns the tuple (images, text_masks, coarse_images).
            temperature, strength, residual_strength: see `Shares`; None: the pipeline's own. `coarse_images` are always
                at strength 1.
            prompt: as in `TADiSRPipeline`, not followed.

        Returns:
            `TextDiffPipelineOutput`, everything exactly s (2) times its crop's size.

        Raises:
            ValueError, TypeError: arguments that cannot work, before any work is done.
            FloatingPointError: the models give values that are not finite.
        """
        # 1. Check.
        given = (temperature, strength, residual_strength)
        shares = self.check_inputs(num_inference_steps, batch_size, output_type, *given)
        if prompt is not None:
            logger.warning(UNUSED_PROMPT)
        crops = to_tensors(image)
        seeds = _seeds(generator, len(crops))
        scale = self.enhancement.config.scale

        def restore(lr: torch.Tensor, numbers: list[int]) -> torch.Tensor:  # pieces (N, 3, h, w)
            # 2. Enhance: the coarse image and the mask.
            coarse, mask = self.enhance(lr)  # (N, 3, H, W), (N, 1, H, W)
            # 3. Sample the residual, and take of both changes the wanted shares.
            sharp = self.sharpen(coarse, mask, num_inference_steps, [seeds[i] for i in numbers], shares.temperature)
            base, coarse = upsample(lr, scale).to(sharp.device), coarse.float()
            change = shares.strength * (torch.lerp(coarse, sharp, shares.residual_strength) - base)
            return _join(change, coarse - base, mask)

        # 4. Cut, restore and blend the lines, and post-process.
        result = self._run(restore, crops, self.config.crop_size, scale, batch_size, output_type)
        return result if return_dict else (result.images, result.text_masks, result.coarse_images)

    @shared_by_calls
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
    ) -> TextDiffPipelineOutput | tuple[Any, Any]:
        """The paper's cascade: sharpen text lines that another method made; sizes stay.

        Args:
            images: as for `__call__`, but at their final size.
            masks: text probability, one for each image and of its size: PIL "L", array (H, W) or (N, H, W), tensor
                (1, H, W) or (N, 1, H, W). None: the mask branch finds them in the images, reduced by s.
            num_inference_steps, generator, batch_size, output_type, temperature, strength, residual_strength: as for
                `__call__`. The whole change is the residual, so the product of both strengths is added.
            return_dict: False returns the tuple (images, text_masks).

        Returns:
            `TextDiffPipelineOutput` with the masks that were used, without coarse images.

        Raises:
            ValueError, TypeError: as for `__call__`; also masks for a model that reads none.
        """
        # 1. Check.
        given = (temperature, strength, residual_strength)
        shares = self.check_inputs(num_inference_steps, batch_size, output_type, *given)
        lines = to_tensors(images)
        seeds = _seeds(generator, len(lines))
        if masks is not None:
            lines = self._with_masks(lines, masks)

        def restore(pieces: torch.Tensor, numbers: list[int]) -> torch.Tensor:  # (N, 3 or 4, H, W)
            # 2. Find the text where no mask is given.
            image = self._placed(pieces[:, :3])
            mask = self.find_text(pieces) if masks is None else self._placed(pieces[:, 3:])  # (N, 1, H, W)
            # 3. Sample the residual, and take the wanted share.
            sharp = self.sharpen(image, mask, num_inference_steps, [seeds[i] for i in numbers], shares.temperature)
            return _join(shares.strength * shares.residual_strength * (sharp - image.float()), mask)

        # 4. Cut, sharpen and blend the lines, and post-process.
        size = [self.enhancement.config.scale * side for side in self.config.crop_size]
        result = self._run(restore, lines, size, 1, batch_size, output_type)
        return result if return_dict else (result.images, result.text_masks)

    def check_inputs(
        self,
        num_inference_steps: int,
        batch_size: int,
        output_type: str,
        temperature: float | None = None,
        strength: float | None = None,
        residual_strength: float | None = None,
    ) -> Shares:
        """The shares of a call, None standing for the pipeline's own; ValueError for a call that cannot work."""
        limit = self.scheduler.config.num_train_timesteps
        if not isinstance(num_inference_steps, int) or not 1 <= num_inference_steps <= limit:
            raise ValueError(f"num_inference_steps must be an integer from 1 to {limit}, got {num_inference_steps!r}.")
        if not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size must be an integer of at least 1, got {batch_size!r}.")
        if output_type not in OUTPUT_TYPES:
            raise ValueError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, got {output_type!r}.")
        given = {"temperature": temperature, "strength": strength, "residual_strength": residual_strength}
        shares = Shares(**{name: self.config[name] if share is None else share for name, share in given.items()})
        for name in _MODELS:
            if getattr(self, name).training:
                raise ValueError(f"{name} is in training mode, where results are random: call pipe.{name}.eval().")
        return shares

    def enhance(self, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """LR crops (N, 3, h, w) in [0, 1] to coarse images (N, 3, H, W) and text probability (N, 1, H, W) or None."""
        return self.network.enhance(self._placed(lr))[:2]

    def find_text(self, images: torch.Tensor) -> torch.Tensor | None:
        """Images (N, 3, H, W) in [0, 1] to text probability (N, 1, H, W); None if the model reads no masks."""
        if not self.residual.config.mask:
            return None
        size = [side // self.enhancement.config.scale for side in images.shape[-2:]]
        lr = F.interpolate(images, size, mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
        return self.enhance(lr)[1]

    def sharpen(
        self,
        images: torch.Tensor,
        mask: torch.Tensor | None,
        num_inference_steps: int = 5,
        seeds: Sequence[int] = (0,),  # of the noise, one for each image
        temperature: float = 1.0,
    ) -> torch.Tensor:
        """Images (N, 3, H, W) in [0, 1], on the models' device, to the same with their whole residual, float32."""
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        return self.network.refine(images, mask, num_inference_steps, noise, temperature=temperature)

    def _run(
        self,
        restore: PieceFunction,
        lines: list[torch.Tensor],
        crop_size: Sequence[int],
        scale: int,
        batch_size: int,
        output_type: str,
    ) -> TextDiffPipelineOutput:
        """Apply `restore` to pieces of the lines, and add the changes that it returns to the enlarged lines.

        Its channels are joined by `_join`: the change, perhaps the coarse image's change, perhaps the text mask.
        """
        images, coarse_images, masks = [], [], []
        blended = run_pieces(restore, lines, (crop_size[0], crop_size[1]), scale, batch_size)
        for line, maps in zip(lines, blended, strict=True):  # (1, C, H, W)
            if not maps.isfinite().all():
                models = [getattr(self, name) for name in _MODELS]
                raise FloatingPointError(why_not_finite(models, self.enhancement.dtype))
            base = line[:, :3].float().cpu()
            base = base if scale == 1 else upsample(base, scale)
            images += to_images((base + maps[:, :3]).clamp_(0, 1), output_type)
            if maps.shape[1] >= 6:
                coarse_images += to_images((base + maps[:, 3:6]).clamp_(0, 1), output_type)
            if maps.shape[1] % 3:
                masks += to_images(maps[:, -1:].clamp_(0, 1), output_type)
        self.maybe_free_model_hooks()
        return TextDiffPipelineOutput(
            images=as_batch(images, output_type),
            text_masks=as_batch(masks, output_type) if masks else None,
            coarse_images=as_batch(coarse_images, output_type) if coarse_images else None,
        )

    def _placed(self, images: torch.Tensor) -> torch.Tensor:
        """The images where the models are, in their precision and layout."""
        images = images.to(self._execution_device, self.enhancement.dtype)
        return images.contiguous(memory_format=torch.channels_last)

    def _with_masks(self, lines: list[torch.Tensor], masks: ImageInput | Sequence[ImageInput]) -> list[torch.Tensor]:
        """The lines with their masks as a fourth channel."""
        if not self.residual.config.mask:
            raise ValueError("This model was trained without text masks and reads none: leave out masks.")
        masks = list(masks) if isinstance(masks, np.ndarray) and masks.ndim == 3 else masks
        maps = [mask[:, :1] for mask in to_tensors(masks)]
        sizes, mask_sizes = ([tuple(image.shape[-2:]) for image in images] for images in (lines, maps))
        if sizes != mask_sizes:
            raise ValueError(f"Expected a mask for each image and of its size, {sizes}, got {mask_sizes}.")
        return [torch.cat(pair, dim=1) for pair in zip(lines, maps, strict=True)]

    def enable_sequential_cpu_offload(self, *_: Any, **__: Any) -> None:
        """Raises ValueError: recurrent layers keep their weights where they were, and the model is small anyway."""
        raise ValueError("TextDiff is not offloaded part by part: use pipe.to(DEVICE) or enable_model_cpu_offload().")

    enable_group_offload = enable_sequential_cpu_offload

    def _write(self, folder: Path, **kwargs: Any) -> None:
        with contiguous_weights([getattr(self, name) for name in _MODELS]):
            super()._write(folder, **kwargs)

    @classmethod
    @one_load_at_a_time
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "TextDiffPipeline":
        """Load a bundled model by name, such as "textdiff-tiny", a folder, or a Hub repository "user/model".

        Args:
            kwargs: `dtype`, or `torch_dtype`, its older name (default float32, whatever the files hold; "auto" is the
                type in which the fastest device here is faster, as in `tadisr.load`); `revision`, `token`, `cache_dir`,
                `local_files_only` for the Hub; others as in `DiffusionPipeline.from_pretrained`.

        Raises:
            FileNotFoundError: there is no such model.
            ValueError: it is another pipeline's, or its files are damaged, incomplete, or not what they say.
        """
        hub = {k: kwargs.pop(k) for k in ("revision", "token", "cache_dir", "local_files_only") if k in kwargs}
        folder = resolve(pretrained_model_name_or_path, cls.__name__, **hub)
        pipeline_kind(folder, cls.__name__)
        dtype = as_dtypes(kwargs.pop("dtype", kwargs.pop("torch_dtype", torch.float32)), choose_device())
        return load_whole(super().from_pretrained, folder, _KINDS, dtype=dtype, **kwargs)


def _join(*maps: torch.Tensor | None) -> torch.Tensor:
    """Maps (N, C, H, W) in one tensor, float32, without those that are None."""
    return torch.cat([x.float() for x in maps if x is not None], dim=1)


def _seeds(generator: Generators, count: int) -> list[int]:
    """A seed for each of `count` crops, so that a crop's noise depends on its seed and its size alone."""
    if generator is None:
        return [0] * count
    generators = [generator] if isinstance(generator, torch.Generator) else generator
    if not isinstance(generators, (list, tuple)) or not all(isinstance(one, torch.Generator) for one in generators):
        raise TypeError(
            f"generator must be a torch.Generator, a list of those or None, got {type(generator).__name__}."
        )
    seeds = [int(torch.randint(2**63 - 1, (1,), generator=one, device=one.device)) for one in generators]
    if isinstance(generator, torch.Generator):
        return seeds * count
    if len(seeds) != count:
        raise ValueError(f"Expected one generator, or one for each of {count} crops, got a list of {len(seeds)}.")
    return seeds
