"""What a base of SDXL's size costs on a GPU: restoring within so many GB, and training.

    python benchmarks/gpu.py DIR [--limits 8 12 16 24 0] [--batches 1 4 8]

Writes to DIR, once, what benchmarks/memory.py writes (random weights: seconds and bytes do not depend on their values).
Then each case in a process of its own. A limit is simulated by filling the rest of the GPU; 0 is none. At 8 GB the
pipeline is offloaded part by part. Prints the tile that was taken, seconds, and the peak of what PyTorch reserved.
"""

import argparse
import json
import shutil
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


def train(place: Path, batches: list[int]) -> dict:
    """Seconds of a step and its peak (GB) by batch, with and without gradient checkpointing; 512 pixels, bf16."""
    from tadisr.training.base import build_network, trainable
    from tadisr.training.config import TrainConfig
    from tadisr.training.trainer import training_step

    config = TrainConfig(
        pretrained_model_name_or_path=str(place / "base"), train_data_dir=["none"], output_dir=str(place / "run"),
        mixed_precision="bf16", lpips=0.0,
    )  # fmt: skip
    shutil.copytree(place / "adapter" / "prompt", place / "run" / "prompt", dirs_exist_ok=True)
    made_from = [config.pretrained_model_name_or_path, config.revision, config.prompt]
    (place / "run" / "prompt" / "made_from.json").write_text(json.dumps(made_from))
    network = build_network(config).to("cuda")
    optimizer = torch.optim.AdamW(trainable(network), 5e-5)
    found = {}
    for checkpointing in (False, True):
        if checkpointing:
            for model in (network.unet, network.joint_decoder):
                model.enable_gradient_checkpointing()
        for size in batches:
            generator = torch.Generator("cuda").manual_seed(0)
            draw = lambda *shape, g=generator: torch.rand(*shape, generator=g, device="cuda")  # noqa: E731
            batch = {"lr": draw(size, 3, 128, 128), "hr": draw(size, 3, 512, 512)}
            batch["mask"] = (draw(size, 1, 512, 512) > 0.9).float()
            torch.cuda.reset_peak_memory_stats()
            seconds = []
            try:
                for _ in range(4):
                    started = time.perf_counter()
                    with network.recording(), torch.autocast("cuda", torch.bfloat16):
                        loss = sum(training_step(network, config, batch).values())
                    loss.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                    torch.cuda.synchronize()
                    seconds.append(time.perf_counter() - started)
            except torch.OutOfMemoryError:
                optimizer.zero_grad()
                torch.cuda.empty_cache()
                found[f"{size}, checkpointing {checkpointing}"] = "out of memory"
                continue
            peak = torch.cuda.max_memory_reserved() / GB
            found[f"{size}, checkpointing {checkpointing}"] = {
                "seconds": round(min(seconds[1:]), 3), "peak": round(peak, 1), "loss": round(float(loss), 2),
            }  # fmt: skip
            del loss, batch
            torch.cuda.empty_cache()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("--limits", type=float, nargs="+", default=[8, 12, 16, 24, 0], help="GB; 0: the whole GPU")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 8], help="of the training steps")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measured = train(args.place, args.batches) if args.measure == "train" else restore(args.place, args.limits[0])
        print(json.dumps(measured))
        return
    if not (args.place / "adapter" / "tadisr_adapter.json").is_file():
        write(args.place, "sdxl")
    cases = [(f"restoring in {limit:g} GB" if limit else "restoring", "restore", limit) for limit in args.limits]
    for name, kind, limit in cases + [("training", "train", 0)] * bool(args.batches):
        command = [sys.executable, __file__, str(args.place), "--measure", kind, "--limits", str(limit)]
        child = subprocess.run([*command, "--batches", *map(str, args.batches)], capture_output=True, text=True)
        said = child.stderr.strip().splitlines()[-3:] if child.returncode else child.stdout.strip().splitlines()[-1:]
        print(name, *said, sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
