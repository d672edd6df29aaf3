"""Train TextDiff: enhancement (TEM), prior generator (TPG) and residual diffusion (MRD), jointly.

    accelerate launch training/train_textdiff.py --config training/configs/textdiff/paper.yaml --recognizer crnn.pth
    accelerate launch training/train_textdiff.py --config training/configs/textdiff/tiny.yaml

The first is the paper's recipe on TextZoom, with the public CRNN weights. The second makes textdiff-tiny, on rendered
lines and with the CRNN of `train_crnn.py`. Table 3's ablations are config files beside them. Interrupt it at any time;
`--resume_from_checkpoint latest` goes on from the last checkpoint. `TextDiffPipeline.from_pretrained` reads the trained
weights in OUTPUT_DIR/weights, and the best so far in OUTPUT_DIR/best. The settings: `textdiff/line_config.py`.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from tadisr.evaluation.line_recognizers import load_recognizer
from tadisr.evaluation.text_lines import AVERAGE, BICUBIC, evaluate_lines
from tadisr.loading.memory import contiguous_weights
from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.interpreter import TextPriorInterpreter
from tadisr.models.textdiff.network import TextDiffNetwork, textdiff_scheduler
from tadisr.models.textdiff.objective import textdiff_loss
from tadisr.models.textdiff.recognizer import load_crnn
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.engine.loop import fit
from tadisr.training.engine.processes import run_in_float32, run_recurrent_in_float32
from tadisr.training.engine.task import Batch, Task, Terms, Validation
from tadisr.training.recognizer.recognizer_loss import RecognizerLoss
from tadisr.training.textdiff.line_config import TextDiffConfig
from tadisr.training.textdiff.line_loader import training_lines, validation_lines

OURS, COARSE = "textdiff", "coarse"
MEASURES = ("psnr", "ssim")


def build_network(config: TextDiffConfig) -> TextDiffNetwork:
    """The network to train. Its prior generator can read from the start.

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
        prior = load_crnn(str(config.recognizer))
        enhancement = TextEnhancementModule(
            channels=config.tem_channels, blocks=config.tem_blocks, prior_channels=config.prior_channels,
            heads=config.heads, mask_branch=config.mask_branch, mask_channels=config.mask_channels,
        )  # fmt: skip
        unet = ResidualUNet(
            block_out_channels=config.unet_channels, dropout=config.dropout, attention=config.unet_attention,
            attention_from=config.unet_attention_from, mask=config.mask_branch,
        )  # fmt: skip
    if not config.text_prior:  # no other loss trains it
        prior.requires_grad_(False)
    scheduler = textdiff_scheduler(config.corrected_schedule, config.prediction_type)
    return TextDiffNetwork(enhancement, prior, unet, scheduler, config.residual_diffusion, config.detach_condition)


class Enhancement(Task[TextDiffConfig]):
    """TextDiff, learning to restore lines."""

    network: TextDiffNetwork

    def __init__(self, config: TextDiffConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        self.device = device = accelerator.device
        self.network = build_network(config).train().to(memory_format=torch.channels_last)
        if device.type == "cpu":  # bfloat16 makes convolutions faster there, but these parts slower
            for module in self.network.enhancement.modules():
                if isinstance(module, (nn.GRU, TextPriorInterpreter)):
                    run_in_float32(module)
        run_recurrent_in_float32(self.network, device)
        self.reader = None  # the frozen CRNN: teacher of the text prior, features of the joint loss, judge
        if config.recognizer:
            self.reader = load_crnn(config.recognizer).requires_grad_(False)
            self.reader.to(device, memory_format=torch.channels_last)
        self.legibility = RecognizerLoss(config.readers).to(device) if config.readers else None
        self.judge = load_recognizer(config.validation_ocr) if config.validation_ocr else None
        self.lines = validation_lines(config)

    def batches(self, step: int) -> Iterable[Batch]:
        return training_lines(self.config, self.accelerator, step)

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        """Eq. 16's terms of a batch of lines."""
        if not self.config.text_prior:
            self.network.recognizer.eval()  # keep its batch statistics
        lr, hr = (batch[name].contiguous(memory_format=torch.channels_last) for name in ("lr", "hr"))
        count = min(self.config.reading_lines, len(lr)) if self.legibility else 0
        output = network(lr, hr, generator, first_lines=count, foreign=self.config.foreign)
        terms = textdiff_loss(output, hr, batch["mask"], self.config, self.reader)
        if self.legibility is not None:
            final = output.sharpened[:count] + output.first_estimate
            image = torch.cat([output.sr[: count // 2], final[count // 2 :]])
            image, target = image.float() * 2 - 1, hr[:count] * 2 - 1
            whole = torch.tensor([[0, hr.shape[2], 0, hr.shape[3]]]).expand(len(image), 4)
            terms["reading"] = self.config.reading * self.legibility(image, target, whole)["recognizer"]
        return terms

    def validate(self, network: nn.Module) -> Validation:
        """PSNR, SSIM and accuracies of the final, the coarse and the bicubic image, over all lines, and of each set."""
        judges = {}
        if (reader := self.reader) is not None:
            judges["crnn"] = lambda images: reader.read(images.to(self.device))
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
        return Validation(scores, f"accuracy/{list(judges)[-1]}" if best == "accuracy" else best)

    def _restore(self, lr: torch.Tensor) -> torch.Tensor:
        sr, mask, _ = self.network.enhance(lr)
        noise = [torch.Generator().manual_seed(0) for _ in lr]  # drawn as in the pipeline
        steps, temperature = self.config.num_inference_steps, self.config.temperature
        return self.network.refine(sr, mask, steps, noise, temperature=temperature)

    def save(self, folder: Path) -> None:
        """A folder for `TextDiffPipeline.from_pretrained`."""
        network = self.network
        pipe = TextDiffPipeline(
            enhancement=network.enhancement, prior=network.recognizer, residual=network.unet,
            scheduler=network.scheduler, diffusion=network.diffusion, temperature=self.config.temperature,
        )  # fmt: skip
        with contiguous_weights([network]):
            pipe.save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    fit(parse(argv, TextDiffConfig), Enhancement)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
