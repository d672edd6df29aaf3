"""Validation in the training loop: scores on a test split, and a sheet that shows some of its images."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import nn

from tadisr.datasets.ftsr import open_pages
from tadisr.io.hashing import sha256
from tadisr.metrics.perceptual import LPIPS
from tadisr.models.families import latent_multiple
from tadisr.models.joint_decoder import vae_factor
from tadisr.models.network import TADiSRNetwork
from tadisr.models.tensors import on_arrays, upsample
from tadisr.ocr import OCREngine, crop_line, load_engine
from tadisr.tiling import run_tiled, tile_grid
from tadisr.training.data.page_crops import to_tensor
from tadisr.training.engine.task import Validation
from tadisr.training.recognizer.onnx_graph import graph_file
from tadisr.training.restoration.train_config import TrainConfig

OVERLAP = 64  # of validation's tiles, pixels
SHEET_ROWS = 4
SHEET_COLUMNS = ("LR", "bicubic", "SR", "HR", "mask", "true mask")
SHEET_SIDE = 256  # side of a picture on the sheet, pixels


def network_input(lr: torch.Tensor, scale: int) -> torch.Tensor:
    """LR (B, 3, h, w) in [0, 1] to the network's x_L (B, 3, H, W) in [-1, 1], channels last."""
    return (upsample(lr, scale).clamp(0, 1) * 2 - 1).contiguous(memory_format=torch.channels_last)


class Validator:
    """Scores a network on the first images of a test split. Every process does its share.

    Raises:
        FileNotFoundError, ValueError: no such data set; a judge that is also in the loss; no weights for best_metric.
        ImportError: an engine that is not installed, or scikit-image.
    """

    def __init__(self, config: TrainConfig, accelerator: Accelerator):
        try:
            from tadisr.metrics import image
        except ImportError as error:
            raise ImportError(f"Validating needs {error.name}: pip install 'tadisr[train]'.") from None
        self.measures = image
        self.config, self.accelerator = config, accelerator
        self.pages = open_pages(str(config.validation_data_dir), "test")
        self.count = min(len(self.pages), config.num_validation_images)
        self.judge = load_judge(config.validation_ocr, config.recognizer) if config.validation_ocr else None
        folder, cache = config.validation_lpips, Path(torch.hub.get_dir()) / "checkpoints"
        self.lpips: LPIPS | None = None
        try:  # nothing is downloaded
            self.lpips = LPIPS(cache if folder is None else Path(folder), str(accelerator.device))
        except (FileNotFoundError, ImportError):
            if folder is not None:
                raise
        if config.best_metric == "lpips" and self.lpips is None:
            raise ValueError("best_metric lpips needs AlexNet's weights: name their folder in validation_lpips.")

    @torch.no_grad()
    def __call__(self, network: nn.Module) -> Validation:
        """The same scores in every process; the sheet in the main process alone.

        Scores: psnr and psnr_bicubic (RGB, dB), ssim, lpips, means over images; mask_iou at 0.5 over all pixels;
        ocr_accuracy and ocr_accuracy_bicubic, means over the lines of text, against what is written there.
        """
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        records, rows = [], []
        for start in range(0, self.count, processes):
            # All processes gather sharded weights together, so a process without an image left repeats one.
            number = start + rank
            images = self._restore(network, number % self.count)
            if number < self.count:
                records.append(self._measure(images, self.pages.lines(number)))
                rows += [images] if len(rows) < SHEET_ROWS else []
        scores = summarize(gather_object(records))
        sheet = draw_sheet(rows) if self.accelerator.is_main_process and rows else None
        return Validation(scores, main_metric(scores, self.config.best_metric), sheet)

    def _restore(self, network: nn.Module, number: int) -> dict[str, np.ndarray]:
        """lr, hr, sr, bicubic (H, W, 3), mask and true_mask (H, W), all uint8, cut to sides that the network takes."""
        scale, pages = self.config.scale, self.pages
        step = max(1, network_factor(self.accelerator.unwrap_model(network)) // scale)
        lr = pages.lr(number)
        height, width = (side // step * step for side in lr.shape[:2])
        lr = np.ascontiguousarray(lr[:height, :width])
        hr, true_mask = (x[: height * scale, : width * scale] for x in (pages.hr(number), pages.mask(number)))
        if hr.shape[:2] != (height * scale, width * scale) or true_mask.shape != hr.shape[:2]:
            raise ValueError(f"{pages.name(number)}: LR, HR and mask do not fit each other at scale {scale}.")
        image, mask_logits = self._tiles(network, to_tensor(lr)[None])
        return {
            "lr": lr, "hr": np.ascontiguousarray(hr), "true_mask": true_mask,
            "sr": _to_uint8(image / 2 + 0.5), "bicubic": _to_uint8(network_input(to_tensor(lr)[None], scale) / 2 + 0.5),
            "mask": _to_uint8(mask_logits.sigmoid())[..., 0],
        }  # fmt: skip

    def _tiles(self, network: nn.Module, lr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """lr (1, 3, h, w) in [0, 1] to the image in [-1, 1] and the mask logits, float32 on the CPU, tile by tile."""
        scale, accelerator = self.config.scale, self.accelerator
        side = (self.config.validation_tile or max(lr.shape[-2:]) * scale) // scale
        overlap = min(OVERLAP // scale, side // 2)
        apply = on_arrays(lambda part: network(network_input(part, scale)), accelerator.device)
        image, mask_logits = map(torch.from_numpy, run_tiled(apply, lr.numpy(), side, overlap, scale))
        if accelerator.distributed_type is DistributedType.FSDP:  # all gather the weights for each tile of the largest
            count = len(tile_grid(lr.shape[-2], lr.shape[-1], side, overlap))
            for _ in range(max(gather_object([count])) - count):
                apply(lr[..., :side, :side].numpy())
        return image, mask_logits

    def _measure(self, images: dict[str, np.ndarray], lines: Sequence[Any]) -> dict[str, Any]:
        hr, sr = images["hr"], images["sr"]
        text, found = images["true_mask"] > 127, images["mask"] > 127
        record = {
            "psnr": self.measures.psnr(sr, hr), "psnr_bicubic": self.measures.psnr(images["bicubic"], hr),
            "overlap": int((text & found).sum()), "union": int((text | found).sum()),
        }  # fmt: skip
        if min(hr.shape[:2]) >= self.measures.SSIM_WINDOW:
            record["ssim"] = self.measures.ssim(sr, hr)
        if self.lpips is not None:
            record["lpips"] = self.lpips(sr, hr)
        if self.judge is not None:
            for name, image in (("ocr_accuracy", sr), ("ocr_accuracy_bicubic", images["bicubic"])):
                record[name] = _read(self.judge, image, lines)
        return record


def _read(judge: OCREngine, image: np.ndarray, lines: Sequence[Any]) -> list[float]:
    """OCR-A of each line that lies within the image."""
    from tadisr.metrics.text import ocr_accuracy  # training does not need rapidfuzz

    corner = np.array(image.shape[1::-1], np.float32)
    quads = [(line["text"], np.array(line["quad"], np.float32)) for line in lines]
    quads = [(text, quad) for text, quad in quads if (quad >= 0).all() and (quad <= corner).all()]
    readings = judge.read([crop_line(image, quad) for _, quad in quads]) if quads else []
    return [ocr_accuracy(reading.text, text) for reading, (text, _) in zip(readings, quads, strict=True)]


def network_factor(network: TADiSRNetwork) -> int:
    """The sides of a network's images are multiples of this."""
    return vae_factor(network.vae) * latent_multiple(network.backbone)


def summarize(records: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Scores of a data set from its images' records."""
    scores = {}
    for name in ("psnr", "psnr_bicubic", "ssim", "lpips"):
        if values := [record[name] for record in records if name in record]:
            scores[name] = float(np.mean(values))
    for name in ("ocr_accuracy", "ocr_accuracy_bicubic"):
        if values := [value for record in records for value in record.get(name, [])]:
            scores[name] = float(np.mean(values))
            scores["ocr_lines"] = len(values)
    overlap, union = (sum(record[name] for record in records) for name in ("overlap", "union"))
    return {**scores, "mask_iou": overlap / max(union, 1), "images": len(records)}


def main_metric(scores: dict[str, float], wanted: str | None) -> str:
    """The name of the score that says which weights are best: `wanted`, or OCR-A where measured, else PSNR."""
    name = wanted or ("ocr_accuracy" if "ocr_accuracy" in scores else "psnr")
    if name not in scores:
        raise ValueError(f"best_metric is {name}, but validation measured {', '.join(scores)}.")
    return name


def load_judge(engine: str, recognizers: Sequence[str]) -> OCREngine:
    """The OCR engine that judges; ValueError if it reads with one of `recognizers`."""
    judge = load_engine(engine)
    known = judge.describe().get("models", {}).values()
    for recognizer in filter(Path.is_file, (graph_file(Path(name)) for name in recognizers)):
        if sha256(recognizer) in known:
            raise ValueError(f"{engine} reads with {recognizer}, which is in the loss: judge with another engine.")
    return judge


def _to_uint8(image: torch.Tensor) -> np.ndarray:
    return (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()


def draw_sheet(rows: Sequence[dict[str, np.ndarray]]) -> np.ndarray:
    """One row per image: `SHEET_COLUMNS`, scaled to fit, each named at the top; (H, W, 3) uint8 RGB."""
    pictures = ("lr", "bicubic", "sr", "hr", "mask", "true_mask")
    sheet = [np.hstack([_fit(row[name]) for name in pictures]) for row in rows]
    head = np.full((24, sheet[0].shape[1], 3), 255, np.uint8)
    for i, name in enumerate(SHEET_COLUMNS):
        cv2.putText(head, name, (i * SHEET_SIDE + 6, 17), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return np.vstack([head, *sheet])


def _fit(picture: np.ndarray) -> np.ndarray:
    """A picture scaled to fit a square of `SHEET_SIDE`, in its own proportions."""
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    factor = (SHEET_SIDE - 4) / max(picture.shape[:2])
    size = tuple(max(1, round(side * factor)) for side in picture.shape[1::-1])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_NEAREST
    picture = cv2.resize(np.ascontiguousarray(picture), size, interpolation=how)
    missing = [SHEET_SIDE - side for side in picture.shape[:2]]
    return cv2.copyMakeBorder(picture, 2, missing[0] - 2, 2, missing[1] - 2, cv2.BORDER_CONSTANT, value=(255,) * 3)
