"""What `train_lora.py` is made of: data, losses, what is kept."""

import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from pickle import UnpicklingError

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from torch import nn
from torch.utils.data import DataLoader

from tadisr.data_synthesis.degrade import Degradation
from tadisr.models.losses import tadisr_loss
from tadisr.training.checkpoints import read_best, replace_folder, write_best
from tadisr.training.config import STORED, TrainConfig
from tadisr.training.data import ConcatPages, Cropping, FTSRCrops, FTSRLines
from tadisr.training.hub import save_weights
from tadisr.training.realce import MixedCrops, RealCECrops, make_masks
from tadisr.training.recognizer import RecognizerLoss
from tadisr.training.steps import Log
from tadisr.training.validation import Validator, main_score, network_input


def load_lpips(config: TrainConfig) -> nn.Module | None:
    """LPIPS with a VGG backbone, as in the authors' code (the paper names none); None where its weight is 0.

    Raises:
        FileNotFoundError: no weights, and none to be downloaded.
    """
    if not config.lpips:
        return None
    import lpips
    from torchvision.models import vgg16

    file = config.lpips_weights
    if file and not Path(file).is_file():
        raise FileNotFoundError(f"No LPIPS backbone at {file}: give a copy of torchvision's vgg16 weights.")
    try:
        network = lpips.LPIPS(net="vgg", pnet_rand=bool(file), verbose=False)
    except OSError as error:
        raise FileNotFoundError(
            f"LPIPS' VGG weights cannot be downloaded ({error}): set --lpips_weights to a local copy, or --lpips 0."
        ) from None
    if file:
        backbone = vgg16()
        try:
            backbone.load_state_dict(torch.load(file, weights_only=True))
        except (RuntimeError, TypeError, AttributeError, EOFError, UnpicklingError) as error:
            raise ValueError(
                f"{file} is no copy of torchvision's vgg16 weights ({' '.join(str(error).split())[:100]})."
            ) from None
        for part in (getattr(network.net, f"slice{i}") for i in range(1, 6)):
            for name, module in part.named_children():  # named by their index in vgg16().features
                module.load_state_dict(backbone.features[int(name)].state_dict())
    return network.eval().requires_grad_(False)


class Batches:
    """The run's batches from step `step` on: (crops, line strips or None), on the device.

    One item per crop of the whole run, so that a step always sees the same crops; a stream goes on where it was.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator, step: int):
        self.accelerator, self.surplus = accelerator, 0
        items = config.max_train_steps * config.gradient_accumulation_steps * accelerator.num_processes
        seen = step * config.gradient_accumulation_steps
        fixed = None if config.degradation == STORED else Degradation.preset(config.degradation)
        if fixed is not None:
            fixed.scale = config.scale
        cropping = Cropping(config.resolution, fixed, config.text_share, config.augmentation, scale=config.scale)
        realce = self._realce(config) if config.realce_data_dir else None
        options = {"batch_size": config.train_batch_size, "num_workers": config.dataloader_num_workers}
        if config.streaming:
            self.loaders = [self._stream(config, cropping, realce, seen, options)]
            return
        pages = ConcatPages(config.train_data_dir, config.degradation == STORED, config.cache_pages)
        crops = FTSRCrops(pages, cropping, items * config.train_batch_size, config.seed)
        if realce is not None:
            crops = MixedCrops(crops, realce, config.realce_share, config.seed)
        loaders = [DataLoader(crops, **options)]
        if config.recognizer:
            count = items * config.recognizer_lines
            strips = FTSRLines(pages, count, config.seed, degradation=fixed, augmentation=config.augmentation)
            loaders.append(DataLoader(strips, **options | {"batch_size": config.recognizer_lines}))
        loaders = [accelerator.prepare_data_loader(loader) for loader in loaders]
        self.loaders = [accelerator.skip_first_batches(loader, seen) for loader in loaders]

    def _realce(self, config: TrainConfig) -> RealCECrops:
        accelerator, place = self.accelerator, (config.realce_data_dir, config.realce_aligned_list)
        if config.realce_segmenter:
            ranks = accelerator.process_index, accelerator.num_processes
            make_masks(*place, config.realce_mask_dir, config.realce_segmenter, *ranks, accelerator.device)
            accelerator.wait_for_everyone()
        return RealCECrops(
            place[0], config.resolution, config.seed, config.scale, config.text_share, place[1], config.realce_mask_dir
        )

    def _stream(
        self, config: TrainConfig, cropping: Cropping, realce: RealCECrops | None, seen: int, options: dict
    ) -> DataLoader:
        from tadisr.training.streaming import FTSRStream

        stream = FTSRStream(
            config.train_data_dir, cropping, config.seed, config.shuffle_buffer, self.accelerator.process_index,
            self.accelerator.num_processes, realce, config.realce_share, config.train_batch_size,
        )  # fmt: skip
        workers = min(options["num_workers"], stream.shards)
        # Loaders begin with their first worker: skip whole rounds, and read what of a round was seen once more.
        self.surplus = seen % max(workers, 1)
        stream.skip = seen - self.surplus
        return DataLoader(stream, **options | {"num_workers": workers})

    def __iter__(self) -> Iterator[tuple[dict, dict | None]]:
        for batches in islice(zip(*self.loaders, strict=True), self.surplus, None):
            crops, *lines = send_to_device(batches, self.accelerator.device)
            yield crops, lines[0] if lines else None


def training_step(
    network: nn.Module,
    config: TrainConfig,
    batch: dict[str, torch.Tensor],
    lines: dict[str, torch.Tensor] | None = None,
    lpips: nn.Module | None = None,
    recognizer: RecognizerLoss | None = None,
) -> dict[str, torch.Tensor]:
    """Named, weighted loss terms of one step."""

    def losses(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        image, mask_logits = network(network_input(batch["lr"], config.scale))
        mask_logits = mask_logits if config.joint_decoder else None
        target = batch["hr"] * 2 - 1
        return image, tadisr_loss(image, target, mask_logits, batch["mask"], config, lpips, batch.get("has_mask"))

    _, terms = losses(batch)
    if recognizer is not None:
        image, line_terms = losses(lines)
        terms = {name: (value + line_terms[name]) / 2 for name, value in terms.items()}
        image, least = image.float(), config.recognizer_strength
        if least < 1:
            start = network_input(lines["lr"], config.scale)
            image = torch.lerp(start, image, least + (1 - least) * float(torch.rand(())))
        reading = recognizer(image, lines["hr"] * 2 - 1, lines["box"])
        terms["recognizer"] = config.recognizer_weight * reading
    return terms


class Keeper:
    """Validates, writes the weights, and remembers the best."""

    def __init__(self, accelerator: Accelerator, config: TrainConfig, log: Log):
        self.accelerator, self.config, self.log = accelerator, config, log
        self.output_dir = Path(config.output_dir)
        self.validator = Validator(config, accelerator) if config.validation_data_dir else None
        self.best = read_best(self.output_dir, log.since)

    def __call__(self, network: nn.Module, step: int) -> bool:
        """Score, write OUTPUT_DIR/weights, and OUTPUT_DIR/best where it is the best so far; whether it is."""
        accelerator = self.accelerator
        scores, sheet = self.validator(network) if self.validator else ({}, None)
        if scores:
            self.log.write_scores(step, scores, sheet)
        plain, place = accelerator.unwrap_model(network), self.output_dir / "weights"
        save_weights(accelerator, plain, self.config, place, step, scores, sheet)
        if not scores:
            return False
        metric, value = main_score(scores, self.config.best_metric)
        if self.best and self.best["metric"] == metric and self.best["value"] >= value:
            return False
        self.best = {"step": step, "metric": metric, "value": value, "scores": scores}
        if accelerator.is_main_process:
            part = self.output_dir / ".best.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(place, part)
            replace_folder(part, self.output_dir / "best")
            write_best(self.output_dir, self.best)
        accelerator.wait_for_everyone()
        return True
