"""Train CRNN, the text recogniser: TextDiff's prior generator, the features of its joint loss, and a judge.

    tadisr synthesize-lines --out data/textdiff/train --num 30000 --split train --seed 1 --num-proc 2
    tadisr synthesize-lines --out data/textdiff/validation --num 500 --split validation --seed 2
    accelerate launch training/train_crnn.py --config training/configs/textdiff/crnn_tiny.yaml

It learns by CTC to read HR lines, LR lines, and mixtures of both. Interrupt it at any time;
`--resume_from_checkpoint latest` goes on from the last checkpoint. `CRNN.from_pretrained` reads the trained weights in
OUTPUT_DIR/weights, and the best so far in OUTPUT_DIR/best.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader

from tadisr.evaluation.text_lines import bicubic, str_filt
from tadisr.loading.memory import contiguous_weights
from tadisr.models.textdiff.recognizer import ALPHABET, CRNN, load_crnn
from tadisr.training.engine.command_line import mistakes_in_one_line, parse
from tadisr.training.engine.loop import fit
from tadisr.training.engine.processes import run_recurrent_in_float32
from tadisr.training.engine.task import Batch, Task, Terms, Validation
from tadisr.training.textdiff.line_config import CRNNConfig
from tadisr.training.textdiff.line_loader import training_lines, validation_lines

TURN, SHEAR, STRETCH, SHIFT = 0.04, 0.2, 0.12, (0.04, 0.08)
"""Largest augmentation: radians, share of the width, share of the size, share of width and height."""


def encode(labels: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """CTC targets: the classes of all labels, lower-cased and filtered to 0-9a-z, in a row, and their lengths."""
    texts = [str_filt(label) for label in labels]
    return torch.tensor([ALPHABET.index(c) + 1 for text in texts for c in text]), torch.tensor([*map(len, texts)])


def ctc_loss(logits: torch.Tensor, labels: Sequence[str]) -> torch.Tensor:
    """Connectionist temporal classification of logits (N, T, 37): mean over lines of the loss per character.

    A label that needs more than T steps adds 0.
    """
    classes, lengths = encode(labels)
    steps = torch.full((len(labels),), logits.shape[1])
    return F.ctc_loss(logits.float().log_softmax(-1).transpose(0, 1), classes, steps, lengths, zero_infinity=True)


def mix(
    hr: torch.Tensor, lr: torch.Tensor, hr_share: float, lr_share: float, generator: torch.Generator
) -> torch.Tensor:
    """Lines (N, 1, H, W): shares of them are HR and LR, and all others are mixtures, each in its own proportion."""
    kind, amount = torch.rand(2, len(hr), generator=generator)
    amount = torch.where(kind < hr_share, 0.0, torch.where(kind < hr_share + lr_share, 1.0, amount))
    return torch.lerp(hr, lr, amount.view(-1, 1, 1, 1).to(hr.device))


def warp(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each of (N, C, H, W) turned, sheared, stretched and shifted a little; borders are replicated."""
    turn, shear, x, y, right, down = torch.rand(6, len(images), generator=generator) * 2 - 1
    turn, aspect = TURN * turn, images.shape[3] / images.shape[2]
    # Coordinates are shares of half the width and half the height, so the aspect appears off the diagonal.
    rows = (
        torch.stack([1 + STRETCH * x, (SHEAR * shear - turn) / aspect, SHIFT[0] * right], 1),
        torch.stack([turn * aspect, 1 + STRETCH * y, SHIFT[1] * down], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1).to(images), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


class Recognition(Task[CRNNConfig]):
    """CRNN, learning to read."""

    network: CRNN

    def __init__(self, config: CRNNConfig, accelerator: Accelerator):
        super().__init__(config, accelerator)
        start, size = config.init_from, {"channels": config.channels, "hidden": config.hidden}
        self.network = load_crnn(start) if start else CRNN(**size)
        self.network.train().to(memory_format=torch.channels_last)  # a third less time on a CPU, more in bf16
        run_recurrent_in_float32(self.network, accelerator.device)
        self.lines = validation_lines(config)

    def batches(self, step: int) -> Iterable[Batch]:
        return training_lines(self.config, self.accelerator, step)

    def terms(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> Terms:
        prepare, config = self.network.prepare, self.config
        gray = mix(prepare(batch["hr"]), prepare(batch["lr"]), config.hr_share, config.lr_share, generator)
        if config.augmentation:
            gray = warp(gray, generator)
        gray = gray.contiguous(memory_format=torch.channels_last)
        return {"ctc": ctc_loss(network(gray), batch["label"])}

    def validate(self, network: nn.Module) -> Validation:
        """Share of lines read exactly, as HR and as bicubic LR, for each data set and (`accuracy`) the mean of all."""
        scores = {}
        for name, data in self.lines.items():
            right = {"hr": 0, "bicubic": 0}
            for batch in DataLoader(data, 64):
                hr, labels = batch["hr"], [str_filt(label) for label in batch["label"]]
                for kind, images in (("hr", hr), ("bicubic", bicubic(batch["lr"], tuple(hr.shape[-2:])))):
                    read = self.network.read(images.to(self.accelerator.device))
                    right[kind] += sum(x == y for x, y in zip(read, labels, strict=True))
            scores |= {f"{name}/{kind}": count / len(data) for kind, count in right.items()}
        return Validation({"accuracy": sum(scores.values()) / len(scores), **scores}, "accuracy")

    def save(self, folder: Path) -> None:
        """A folder for `CRNN.from_pretrained`."""
        with contiguous_weights([self.network]):
            self.network.save_pretrained(folder)


def main(argv: list[str] | None = None) -> None:
    fit(parse(argv, CRNNConfig), Recognition)


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
