"""Tiled against untiled output, jumps across tile borders, and peak memory by output size.

    python benchmarks/tiling.py [--model tadisr-tiny] [--tile 256]

Needs no data: the image is a synthesised page.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np
import torch

from tadisr import TADiSRPipeline
from tadisr.data_synthesis.backgrounds import procedural
from tadisr.data_synthesis.degrade import Degradation, degrade
from tadisr.data_synthesis.layouts import PageStyle, write_page
from tadisr.data_synthesis.text.corpus import open_corpus
from tadisr.data_synthesis.text.fonts import discover_fonts
from tadisr.tiling import windows


def page(size: int) -> torch.Tensor:
    """A degraded page, (1, 3, size, size) in [0, 1]."""
    rng = np.random.default_rng(0)
    hr = procedural((4 * size, 4 * size), rng)
    write_page(hr, PageStyle(document=9), discover_fonts(), [open_corpus("latin"), open_corpus("chinese")], rng)
    lr = degrade((hr * 255).astype(np.uint8), Degradation.preset("mild"), rng)
    return torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255


def compare(model: str, tile: int, overlap: int) -> None:
    pipe = TADiSRPipeline.from_pretrained(model)
    lr = page(256)
    with torch.no_grad():
        whole, whole_logits = pipe.restore(lr, tile=None)
        tiled, tiled_logits = pipe.restore(lr, tile=tile, overlap=overlap)
    gap = (whole - tiled).abs() * 255
    print(f"image, tiled ({tile}, overlap {overlap}) against whole: mean {gap.mean():.3f}, max {gap.max():.2f} of 255")
    gap = (whole_logits.sigmoid() - tiled_logits.sigmoid()).abs()
    print(f"mask probability: mean {gap.mean():.5f}, max {gap.max():.4f}")
    starts = [start * 4 for start, _ in windows(256, tile // 4, overlap // 4)[1:]]
    for name, image in (("whole", whole), ("tiled", tiled)):
        jumps = (image[..., 1:] - image[..., :-1]).abs().mean((0, 1, 2)) * 255  # between neighbouring columns
        at_borders = torch.zeros_like(jumps, dtype=torch.bool)
        at_borders[[start - 1 for start in starts] + [start + overlap - 1 for start in starts]] = True
        print(f"{name}: jump at tile borders {jumps[at_borders].mean():.3f}, elsewhere {jumps[~at_borders].mean():.3f}")


def memory(model: str, side: int, tile: str) -> None:
    """Peak resident memory of one restoration to side x side, and before it, in MiB (own process)."""
    pipe = TADiSRPipeline.from_pretrained(model)
    pipe(np.zeros((64, 64, 3), np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    lr = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
    pipe(lr, tile="auto" if tile == "auto" else int(tile))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{side * side / 2**20:4.0f} Mpixel out: {before:.0f} MiB before, {peak:.0f} at peak, {peak - before:.0f} more"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tadisr-tiny")
    parser.add_argument("--tile", default="256")
    parser.add_argument("--overlap", type=int, default=64)
    parser.add_argument("--memory-side", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_side:
        memory(args.model, args.memory_side, args.tile)
        return
    compare(args.model, int(args.tile), args.overlap)
    for side in (1024, 2048, 4096):
        command = [sys.executable, __file__, "--model", args.model, "--memory-side", str(side), "--tile", "512"]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
