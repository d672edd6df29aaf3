"""What restoring on a base of SDXL's size costs on a GPU, within so many GB.

    python benchmarks/gpu.py DIR [--limits 8 12 16 24 0]

Writes to DIR, once, what benchmarks/memory.py writes (random weights: seconds and bytes do not depend on their values).
Then each case in a process of its own. A limit is simulated by filling the rest of the GPU; 0 is none. At 8 GB the
pipeline is offloaded part by part. Prints the tile that was taken, seconds, and the peak of what PyTorch reserved.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from memory import write

GB = 10**9
SIDES = (1024, 2048)  # of the restored image, pixels


def restore(place: Path, limit: float) -> dict:
    """Seconds and peaks (GB) of restoring square images, the first of each size to warm up."""
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

    torch.cuda.init()
    free = torch.cuda.mem_get_info()[0]
    ballast = torch.empty(int(max(0, free - limit * GB)) if limit else 0, dtype=torch.uint8, device="cuda")
    pipe = TADiSRPipeline.from_pretrained(place / "adapter", dtype=torch.bfloat16, fuse_lora=True)
    pipe.set_progress_bar_config(disable=True)
    if 0 < limit <= 8:
        pipe.enable_model_cpu_offload()
    else:
        pipe.to("cuda")
    found = {}
    for side in SIDES:
        lr = torch.rand(1, 3, side // 4, side // 4, generator=torch.Generator().manual_seed(0))
        torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(2):
            torch.cuda.synchronize()
            started = time.perf_counter()
            with torch.no_grad():
                image, _ = pipe.restore(lr)
            torch.cuda.synchronize()
            seconds.append(round(time.perf_counter() - started, 2))
        peak = (torch.cuda.max_memory_reserved() - ballast.numel()) / GB
        found[side] = {"seconds": seconds, "peak": round(peak, 1), "finite": bool(torch.isfinite(image).all())}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("--limits", type=float, nargs="+", default=[8, 12, 16, 24, 0], help="GB; 0: the whole GPU")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(restore(args.place, args.limits[0])))
        return
    if not (args.place / "adapter" / "tadisr_adapter.json").is_file():
        write(args.place, "sdxl")
    for limit in args.limits:
        command = [sys.executable, __file__, str(args.place), "--measure", "--limits", str(limit)]
        child = subprocess.run(command, capture_output=True, text=True)
        said = child.stderr.strip().splitlines()[-3:] if child.returncode else child.stdout.strip().splitlines()[-1:]
        print(f"{limit:g} GB" if limit else "all of it", *said, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
