"""What each part of the paper is worth in trained weights: the part is switched off, and the test pages restored again.

    python benchmarks/parts.py MODEL --data DATA [--num N]

DATA is an FTSR data set, whose split "test" is used. The softening of text is off in every row: it hides the network.
"on text": PSNR of the pixels within 4 of the mask. IoU: of the mask at 0.5, over all pixels of all pages. The rows:

- no denoising step: the decoders get z_L for z_H. The U-Net still runs, and its attention maps feed the mask.
- no attention maps: they are zeros. The step is taken.
- no gates from the mask: in every interaction block the mask's gate for the image is replaced by its mean over the
  page, channel by channel. The image then knows nothing of where text is, and nothing else changes: this row is judged.
- mask's gates at 0.5: the same with a number to which the weights were not trained.
- no update of the image: the blocks leave the image as it is. Their ResBlocks for the image are lost as well.
- no gates from the image: its gates for the mask are replaced by their means.

A difference is a part's worth: as it is, less without it; ± one standard error over pages. Then what holds of: the
step is worth 0.5 dB; without attention maps the mask's IoU is a third at most and the image is worse by more than two
standard errors; the mask's gates are worth 0.1 dB on text.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from torch import nn

from tadisr import TADiSRPipeline
from tadisr.datasets.ftsr import open_pages
from tadisr.metrics.image import psnr, ssim
from tadisr.models.interaction import CrossDecoderInteractionBlock
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.training.data.page_crops import to_tensor

NEAR = 4  # pixels to each side of the mask that count as text
Blocks = Sequence[CrossDecoderInteractionBlock]
Gate = Callable[[torch.Tensor], torch.Tensor]


def blocks_of(decoder: JointSegmentationDecoder) -> Blocks:
    """The interaction blocks; SystemExit for those that the authors released, whose streams share their layers."""
    if decoder.config.interaction != "cdib" or decoder.config.mask_source != "attention":
        raise SystemExit("parts.py needs a model of the paper's kind: interaction cdib, mask_source attention.")
    return list(decoder.interactions)


@contextmanager
def hooked(handles: Sequence) -> Iterator[None]:
    """Within, hooks are on; they are taken off at the end."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def mean_gate(logits: torch.Tensor) -> torch.Tensor:
    """Logits (B, C, H', W') of a gate to those of its mean over the page."""
    mean = logits.float().sigmoid().mean((2, 3), keepdim=True)
    return mean.logit(eps=1e-6).to(logits.dtype).expand_as(logits)


def with_gates(blocks: Blocks, stream: str, gate: Gate) -> list:
    """Hooks by which `gate` replaces the logits of the gates that a stream ("image" or "mask") has for the other."""

    def replace(split: nn.Module, args: tuple, output: torch.Tensor) -> torch.Tensor:
        width = split.in_channels  # of the value, which comes first
        return torch.cat([output[:, :width], gate(output[:, width:])], dim=1)

    return [getattr(block, stream).split.register_forward_hook(replace) for block in blocks]


def without_update(blocks: Blocks) -> list:
    """Hooks by which the blocks leave the image as it is."""
    return [block.image.register_forward_hook(lambda _, args, output: args[0]) for block in blocks]


def without_attention(decoder: JointSegmentationDecoder) -> list:
    """A hook by which the mask decoder gets the bias of the attention's projection alone."""

    def zeros(_: nn.Module, args: tuple) -> tuple:
        return {name: torch.zeros_like(logits) for name, logits in args[0].items()}, *args[1:]

    return [decoder.attention.register_forward_pre_hook(zeros)]


STEP, MAPS, GATES = "no denoising step", "no attention maps", "no gates from the mask"
ROWS: dict[str, Callable[[JointSegmentationDecoder], list]] = {
    "as it is": lambda decoder: [],
    STEP: lambda decoder: [],  # `restore` leaves it out
    MAPS: without_attention,
    GATES: lambda decoder: with_gates(blocks_of(decoder), "mask", mean_gate),
    "mask's gates at 0.5": lambda decoder: with_gates(blocks_of(decoder), "mask", torch.zeros_like),
    "no update of the image": lambda decoder: without_update(blocks_of(decoder)),
    "no gates from the image": lambda decoder: with_gates(blocks_of(decoder), "image", mean_gate),
}


@torch.no_grad()
def restore(pipe: TADiSRPipeline, lr: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """A whole page (h, w, 3) by row: the image (H, W, 3) uint8 and the mask (H, W) bool."""
    height, width = (side * 4 for side in lr.shape[:2])
    x = pipe.prepare_image(to_tensor(lr)[None], 4)
    before, features = pipe.encode(x)
    after, maps = pipe.denoise(before)
    results = {}
    for name, hooks in ROWS.items():
        with hooked(hooks(pipe.joint_decoder)):
            image, logits = pipe.decode(before if name == STEP else after, maps, features, x, fidelity=1.0)
        image = ((image[0].float() / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
        results[name] = image[:height, :width], (logits[0, 0] > 0).cpu().numpy()[:height, :width]
    return results


@dataclass
class Scores:
    """Of one row, a value a page; `text` is NaN for a page without text."""

    psnr: list[float] = field(default_factory=list)
    text: list[float] = field(default_factory=list)
    ssim: list[float] = field(default_factory=list)
    both: int = 0
    either: int = 0

    def add(self, image: np.ndarray, mask: np.ndarray, hr: np.ndarray, truth: np.ndarray) -> None:
        """Measure a page; truth (H, W) bool."""
        near = cv2.dilate(truth.astype(np.uint8), np.ones([2 * NEAR + 1] * 2, np.uint8)) > 0
        self.psnr.append(psnr(image, hr))
        self.text.append(psnr(image[near][None], hr[near][None]) if near.any() else float("nan"))
        self.ssim.append(ssim(image, hr))
        self.both += int((mask & truth).sum())
        self.either += int((mask | truth).sum())

    @property
    def iou(self) -> float:
        return self.both / max(self.either, 1)


def gain(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """How much more `before` is, on average over pages, and the standard error."""
    values = np.subtract(before, after)
    values = values[np.isfinite(values)]
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


def table(scores: dict[str, Scores]) -> list[str]:
    """The lines of a Markdown table."""
    whole = scores["as it is"]
    lines = ["| | PSNR | worth | on text | worth | SSIM | IoU |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, row in scores.items():
        worth = ["{:+.3f} ± {:.3f}".format(*gain(getattr(whole, key), getattr(row, key))) for key in ("psnr", "text")]
        worth = worth if row is not whole else ["", ""]
        means = f"{np.mean(row.psnr):.2f} | {worth[0]} | {np.nanmean(row.text):.2f} | {worth[1]}"
        lines.append(f"| {name} | {means} | {np.mean(row.ssim):.4f} | {row.iou:.3f} |")
    return lines


def verdicts(scores: dict[str, Scores]) -> dict[str, bool]:
    """Each claim with its numbers, and whether it holds."""
    whole, maps = scores["as it is"], scores[MAPS]
    step, _ = gain(whole.psnr, scores[STEP].psnr)
    image, error = gain(whole.psnr, maps.psnr)
    gates, _ = gain(whole.text, scores[GATES].text)
    return {
        f"the denoising step is worth 0.5 dB: {step:+.3f} dB": step >= 0.5,
        f"without attention maps the mask is gone: IoU {maps.iou:.3f} of {whole.iou:.3f}": 3 * maps.iou <= whole.iou,
        f"without attention maps the image is worse: {image:+.3f} ± {error:.3f} dB": image > 2 * error,
        f"the mask's gates are worth 0.1 dB on text: {gates:+.3f} dB": gates >= 0.1,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a pipeline's folder or name")
    parser.add_argument("--data", required=True, help="an FTSR data set")
    parser.add_argument("--num", type=int, help="pages, at least 2, evenly over the test split (default: all)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    pipe = TADiSRPipeline.from_pretrained(args.model, dtype="auto").to(args.device)
    blocks_of(pipe.joint_decoder)
    pages = open_pages(args.data, "test")
    count = min(args.num or len(pages), len(pages))
    scores = {name: Scores() for name in ROWS}
    for i in np.linspace(0, len(pages) - 1, count).round().astype(int).tolist():
        hr, truth = pages.hr(i), pages.mask(i) > 127
        for name, (image, mask) in restore(pipe, pages.lr(i)).items():
            scores[name].add(image, mask, hr, truth)
    print(f"{args.model}, {count} test pages of {args.data}, {pipe.vae.dtype}\n".replace("torch.", ""))
    print("\n".join(table(scores)), end="\n\n")
    for claim, holds in verdicts(scores).items():
        print(f"- {'holds' if holds else 'FAILS'}: {claim}")


if __name__ == "__main__":
    main()
