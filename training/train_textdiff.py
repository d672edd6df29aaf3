"""Train TextDiff: enhancement (TEM), prior generator (TPG) and residual diffusion (MRD), jointly.

    accelerate launch training/train_textdiff.py --config training/configs/textdiff/paper.yaml --recognizer crnn.pth
    accelerate launch training/train_textdiff.py --config training/configs/textdiff/tiny.yaml

The first is the paper's recipe on TextZoom, with the public CRNN weights; the second makes textdiff-tiny, on rendered
lines and with the CRNN of `train_crnn.py`. Table 3's ablations are config files beside them. Interrupt it at any time;
`--resume_from_checkpoint latest` goes on from the last checkpoint. What it trained lies in OUTPUT_DIR/weights, the best
so far in OUTPUT_DIR/best, for `TextDiffPipeline.from_pretrained`. Settings: `textdiff_config.py`, `config.py`.
"""

from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from tadisr.evaluation.line_recognizers import load_recognizer
from tadisr.evaluation.text_lines import AVERAGE, BICUBIC, evaluate_lines
from tadisr.loading.memory import contiguous_weights
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.interpreter import TextPriorInterpreter
from tadisr.models.textdiff.network import TextDiffNetwork, textdiff_scheduler
from tadisr.models.textdiff.recognizer import load_crnn
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.textdiff_losses import textdiff_loss
from tadisr.training.checkpoints import mistakes_in_one_line
from tadisr.training.config import parse
from tadisr.training.loop import Batch, Task, fit
from tadisr.training.recognizer import RecognizerLoss
from tadisr.training.steps import run_in_float32, run_recurrent_in_float32
from tadisr.training.textdiff_config import TextDiffConfig
from tadisr.training.textdiff_lines import training_loader, validation_lines

OURS, COARSE = "textdiff", "coarse"
MEASURES = ("psnr", "ssim")


def build_network(config: TextDiffConfig) -> TextDiffNetwork:
    """The network to train; its prior generator reads already.

    Raises:
        FileNotFoundError, ValueError: no such weights, or parts that do not fit each other.
    """
    if config.init_from:
        pipe = TextDiffPipeline.from_pretrained(config.init_from)
        enhancement, prior, unet = pipe.enhancement, pipe.prior, pipe.residual
        has = {
            "corrected_schedule": pipe.scheduler.config.beta_end == textdiff_scheduler(True).config.beta_end,
            "prediction_type": pipe.scheduler.config.prediction_type,
            "residual_diffusion": pipe.config.diffusion,
            "mask_branch": enhancement.config.mask_branch,
        }
        for name, value in has.items():
            if getattr(config, name) != value:
                raise ValueError(f"{config.init_from} was trained with {name} {value}: set it likewise.")
    else:
        prior = load_crnn(config.recognizer)
        enhancement = TextEnhancementModule(
            channels=config.tem_channels,
            blocks=config.tem_blocks,
            prior_channels=config.prior_channels,
            heads=config.heads,
            mask_branch=config.mask_branch,
            mask_channels=config.mask_channels,
        )
        unet = ResidualUNet(
            block_out_channels=config.unet_channels,
            dropout=config.dropout,
            attention=config.unet_attention,
            attention_from=config.unet_attention_from,
            mask=config.mask_branch,
        )
    if not config.text_prior:  # nothing else would train it
        prior.requires_grad_(False)
    scheduler = textdiff_scheduler(config.corrected_schedule, config.prediction_type)
    return TextDiffNetwork(enhancement, prior, unet, scheduler, config.residual_diffusion, config.detach_condition)


def as_pipeline(network: TextDiffNetwork, temperature: float = 1.0) -> TextDiffPipeline:
    """The network's parts as a pipeline, sharing their weights."""
    return TextDiffPipeline(
        enhancement=network.enhancement,
        prior=network.recognizer,
        residual=network.unet,
        scheduler=network.scheduler,
        diffusion=network.diffusion,
        temperature=temperature,
    )


class Enhancement(Task):
    """TextDiff, learning to restore lines."""

    network: TextDiffNetwork

    def __init__(self, config: TextDiffConfig, device: torch.device):
        self.config, self.device = config, device
        self.network = build_network(config).to(memory_format=torch.channels_last)
        if device.type == "cpu":  # bfloat16 makes convolutions faster there, but these slower: a quarter of the step
            for module in self.network.enhancement.modules():
                if isinstance(module, (nn.GRU, TextPriorInterpreter)):
                    run_in_float32(module)
        run_recurrent_in_float32(self.network, device)
        self.reader = None  # what lines should read like, and the features of the joint loss; never trained
        if config.recognizer:
            self.reader = load_crnn(config.recognizer).requires_grad_(False)
            self.reader.to(device, memory_format=torch.channels_last)
        self.legibility = RecognizerLoss(config.readers).to(device) if config.readers else None
        self.judge = load_recognizer(config.validation_ocr) if config.validation_ocr else None
        self.lines = validation_lines(config)

    def loader(self, items: int) -> DataLoader:
        """Lines."""
        return training_loader(self.config, items)

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Eq. 16's terms of a batch of lines."""
        if not self.config.text_prior:
            self.network.recognizer.eval()  # its batch statistics stay, too
        lr, hr = (batch[name].contiguous(memory_format=torch.channels_last) for name in ("lr", "hr"))
        count = min(self.config.reading_lines, len(lr)) if self.legibility else 0
        output = network(lr, hr, generator, first_lines=count, foreign=self.config.foreign)
        terms = textdiff_loss(output, hr, batch["mask"], self.config, self.reader)
        if self.legibility is not None:
            final = output.sharpened[:count] + output.first_estimate
            image = torch.cat([output.sr[: count // 2], final[count // 2 :]])
            image, target = image.float() * 2 - 1, hr[:count] * 2 - 1
            whole = torch.tensor([[0, hr.shape[2], 0, hr.shape[3]]]).expand(len(image), 4)
            terms["reading"] = self.config.reading * self.legibility(image, target, whole)
        return terms

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], str]:
        """PSNR, SSIM and accuracies of the final, the coarse and the bicubic image, over all lines, and of each set."""
        judges = {}
        if self.reader is not None:
            judges["crnn"] = lambda images: self.reader.read(images.to(self.device))
        if self.judge is not None:
            judges[self.config.validation_ocr] = self.judge
        methods = {
            COARSE: lambda lr: self.network.enhance(lr.to(self.device))[0],
            OURS: lambda lr: self._restore(lr.to(self.device)),
        }
        report = evaluate_lines(methods, self.lines, judges)
        measures = (*MEASURES, *(f"accuracy/{name}" for name in judges))
        scores = {}
        for method, suffix in ((OURS, ""), (COARSE, f"_{COARSE}"), (BICUBIC, f"_{BICUBIC}")):
            for subset in report.n if method == OURS and len(self.lines) > 1 else [AVERAGE]:
                prefix = "" if subset == AVERAGE else f"{subset}/"
                found = {name: report.scores[method][subset][name].value for name in measures}
                scores |= {f"{prefix}{name}{suffix}": value for name, value in found.items() if value is not None}
        best = self.config.best_metric
        return scores, f"accuracy/{list(judges)[-1]}" if best == "accuracy" else best

    def _restore(self, lr: torch.Tensor) -> torch.Tensor:
        sr, mask, _ = self.network.enhance(lr)
        noise = [torch.Generator().manual_seed(0) for _ in lr]  # as the pipeline draws it
        steps, temperature = self.config.num_inference_steps, self.config.temperature
        return self.network.refine(sr, mask, steps, noise, temperature=temperature)

    def save(self, folder: Path) -> None:
        """A folder for `TextDiffPipeline.from_pretrained`."""
        with contiguous_weights([self.network]):
            as_pipeline(self.network, self.config.temperature).save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    """Train as the flags say (those of the command line by default)."""
    fit(parse(argv, TextDiffConfig), Enhancement)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
