"""Teach a recogniser to read soft lines: the same in an LR line as in the HR line.

    accelerate launch training/tiny/adapt_recognizer.py data/recognizer/PP-OCRv5_rec_mobile.onnx --data data/ftsr \
        --restorer runs/tiny_pixels/weights -o data/recognizer/PP-OCRv5_soft.safetensors

Published small recognisers misread blurred lines that better recognisers read. As a loss they therefore reward
sharpness, right or wrong. A recogniser that reads enlarged LR lines nearly as well as restored ones rewards the strokes
that were kept instead. It learns from mixtures of the enlarged LR line and RESTORER's output. Keep its file beside the
ONNX file, which holds its graph. `recognizer` in the configuration of `train_lora.py` takes both kinds of files.
"""

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers.optimization import get_scheduler
from torch.utils.data import DataLoader

from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages
from tadisr.training.engine.command_line import mistakes_in_one_line
from tadisr.training.recognizer.onnx_graph import load_onnx, save_adapted
from tadisr.training.recognizer.recognizer_loss import cut_lines, perturbed, reading
from tadisr.training.restoration.validation import network_input

SCALE = 4
SOFT_SHARE = 0.375  # share of lines that are merely enlarged; the others are mixtures with the restored line


def mixed(lr: torch.Tensor, restorer: TADiSRPipeline) -> torch.Tensor:
    """Lines (N, 3, H, W) in [-1, 1], each a mixture of the enlarged LR line (N, 3, h, w) and the restored one."""
    enlarged = network_input(lr, SCALE)
    with torch.no_grad():
        restored = restorer.restore_tile(lr, SCALE)[0].float() * 2 - 1
    share = torch.empty(len(lr), 1, 1, 1, device=lr.device).uniform_(-SOFT_SHARE / (1 - SOFT_SHARE), 1).clamp_min_(0)
    return torch.lerp(enlarged, restored, share).clamp(-1, 1)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Teach a recogniser to read soft lines.")
    parser.add_argument("recognizer", type=Path, help="PP-OCR ONNX file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file beside it")
    parser.add_argument("--data", nargs="+", required=True, help="FTSR data sets")
    parser.add_argument("--restorer", required=True, help="TADiSR pipeline: bundled name, folder or Hub id")
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--lines", type=int, default=8, help="a step and process (default: %(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=77)
    args = parser.parse_args(argv)
    if args.output.parent.resolve() != args.recognizer.parent.resolve() or args.output.suffix != ".safetensors":
        raise ValueError(f"--output must be a .safetensors file in {args.recognizer.parent}.")
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    set_seed(args.seed, device_specific=True)
    teacher = load_onnx(args.recognizer).to(accelerator.device)
    student = load_onnx(args.recognizer).requires_grad_(True)
    restorer = TADiSRPipeline.from_pretrained(args.restorer).to(accelerator.device)
    count = args.steps * args.lines * accelerator.num_processes
    loader = DataLoader(FTSRLines(ConcatPages(args.data), count, args.seed), batch_size=args.lines, num_workers=1)
    optimizer = torch.optim.AdamW(student.parameters(), args.learning_rate)
    steps = args.steps * accelerator.num_processes
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=steps // 12, num_training_steps=steps)
    student, optimizer, schedule, loader = accelerator.prepare(student, optimizer, schedule, loader)
    for step, batch in enumerate(loader, 1):
        with torch.no_grad():
            label, weight = reading(teacher(cut_lines(batch["hr"] * 2 - 1, batch["box"])))
        lines = perturbed(cut_lines(mixed(batch["lr"], restorer), batch["box"]))
        logits = student(lines).clamp_min(1e-6).log()  # (N, T, classes)
        loss = F.nll_loss(logits.flatten(0, 1), label.flatten(), reduction="none") * weight.flatten()
        loss = loss.sum() / weight.sum().clamp_min(1)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0 or step == args.steps:
            accelerator.print({"step": step, "loss": round(loss.item(), 3)}, flush=True)
    if accelerator.is_main_process:
        save_adapted(accelerator.unwrap_model(student), args.recognizer, args.output)
    accelerator.end_training()


if __name__ == "__main__":
    with mistakes_in_one_line():
        main()
