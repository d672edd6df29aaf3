"""TextDiff's speed: batches against single crops, and five diffusion steps against the enhancement module alone.

    python benchmarks/textdiff.py [textdiff-tiny] [--device cpu] [--threads 1]

MODEL is a bundled name, a folder or a Hub id; "untrained" stands for the tiny sizes with random weights. Needs no data:
speed does not depend on what a crop shows.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from tadisr.models.textdiff.enhancement import TextEnhancementModule
from tadisr.models.textdiff.network import textdiff_scheduler
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.models.textdiff.residual_unet import ResidualUNet
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline

STEPS = 5


def untrained() -> TextDiffPipeline:
    """The sizes of `textdiff-tiny`."""
    torch.manual_seed(0)
    return TextDiffPipeline(
        enhancement=TextEnhancementModule(channels=32, prior_channels=32, mask_channels=16).eval(),
        prior=CRNN((32, 64, 128, 128, 256, 256, 256), hidden=128).eval(),
        residual=ResidualUNet((16, 48, 96, 96), attention_from=3).eval(),
        scheduler=textdiff_scheduler(),
    )


def seconds(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each run; rounds alternate, so that whoever else is busy slows all alike."""
    times = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first warms up
                times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="textdiff-tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", help="of the weights: float32, bfloat16 or float16")
    parser.add_argument("--threads", type=int, help="of torch on a CPU (default: its own choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    dtype = getattr(torch, args.dtype)
    if args.model == "untrained":
        pipe = untrained().to(dtype)
    else:
        pipe = TextDiffPipeline.from_pretrained(args.model, dtype=dtype)
    pipe.to(args.device)

    parts = ("prior", "enhancement", "residual")
    counts = {name: sum(value.numel() for value in getattr(pipe, name).state_dict().values()) for name in parts}
    print(", ".join(f"{name} {count / 1e6:.2f} M" for name, count in counts.items()), end="")
    print(f": {sum(counts.values()) * 2 / 1e6:.1f} MB in fp16; {args.device}, {torch.get_num_threads()} threads")

    height, width = pipe.config.crop_size
    crops = torch.rand(args.batch, 3, height, width, generator=torch.Generator().manual_seed(0))
    on_device, network = crops.to(args.device, pipe.enhancement.dtype), pipe.network

    def five_steps() -> torch.Tensor:
        sr, mask, _ = network.enhance(on_device)
        return network.refine(sr, mask, STEPS, torch.Generator().manual_seed(0))

    times = seconds(
        {
            "batch": lambda: pipe(crops, STEPS, batch_size=args.batch, output_type="pt"),
            "single": lambda: [pipe(crop, STEPS, output_type="pt") for crop in crops[:8]],
            "enhance": lambda: network.enhance(on_device),
            "five": five_steps,
        },
        args.rounds,
    )
    together, alone = args.batch / times["batch"], 8 / times["single"]
    print(f"crops of {height}x{width}, {STEPS} steps, whole pipeline:")
    print(
        f"  batches of {args.batch}: {together:.1f} crops/s; one by one: {alone:.1f} crops/s; {together / alone:.2f}x"
    )
    print(f"networks alone, one batch of {args.batch}:")
    print(f"  {times['enhance']:.3f} s for prior and TEM, {times['five']:.3f} s with MRD:", end=" ")
    print(f"{times['five'] / times['enhance']:.2f}x")


if __name__ == "__main__":
    main()
