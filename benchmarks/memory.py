"""Memory and time of restoring on a full-size base, by output size and tile, next to the bare base's.

    python benchmarks/memory.py DIR [--family sdxl] [--tiles 512 768 1024] [--megapixels 1 4 8] [--fused] [--bare]

Writes to DIR, once, a base of SDXL's or Kolors' full size with random weights in bf16 (5.3 GB) and an adapter on it.
Then every size and tile in a process of its own, on the CPU, stopped after `--count` tiles: the first one reaches the
peak, and the last one's seconds times the number of tiles are the image's. The bare base's U-Net and VAE, without
adapter, text attention and mask, restore one tile.
"""

import argparse
import json
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import torch
from real_size import SCHEDULE, SDXL_UNET, SDXL_VAE

KOLORS_UNET = SDXL_UNET | {
    "encoder_hid_dim": 4096, "encoder_hid_dim_type": "text_proj", "projection_class_embeddings_input_dim": 5632,
}  # fmt: skip
FAMILIES = {"sdxl": (SDXL_UNET, 77, 2048, 1280), "kolors": (KOLORS_UNET, 256, 4096, 4096)}  # tokens, widths


def write(place: Path, family: str) -> None:
    """DIR/base and DIR/adapter, random."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    from tadisr.models.joint_decoder import JointSegmentationDecoder
    from tadisr.models.lora import add_lora
    from tadisr.models.prompt import TextPrompt
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

    torch.manual_seed(0)
    config, tokens, width, pooled = FAMILIES[family]
    torch.set_default_dtype(torch.bfloat16)
    vae, unet, scheduler = AutoencoderKL(**SDXL_VAE), UNet2DConditionModel(**config), DDPMScheduler(**SCHEDULE)
    for name, part in (("vae", vae), ("unet", unet), ("scheduler", scheduler)):
        part.save_pretrained(place / "base" / name)
    index = {name: ["diffusers", type(part).__name__] for name, part in (("unet", unet), ("vae", vae))}
    (place / "base" / "model_index.json").write_text(json.dumps({"_class_name": family} | index))
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    add_lora(unet, vae)
    prompt = TextPrompt(tokens, width, [tokens - 1], pooled_dim=pooled, time_ids=[1024, 1024, 0, 0, 1024, 1024])
    base = str(place.resolve() / "base")
    TADiSRPipeline(vae, scheduler, prompt, decoder, unet=unet, base_model=base).save_pretrained(place / "adapter")


def memory() -> dict[str, float]:
    """GiB of this process: the peak so far, of its own now, and of files mapped now."""
    with open("/proc/self/status") as file:
        lines = dict(line.split(":", 1) for line in file)
    names = {"peak": "VmHWM", "own": "RssAnon", "mapped": "RssFile"}
    return {name: int(lines[key].split()[0]) / 2**20 for name, key in names.items()}


def measure(args: argparse.Namespace) -> dict:
    """One size and tile: what was loaded, what it took, and seconds per tile."""
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

    started = time.perf_counter()
    pipe = TADiSRPipeline.from_pretrained(args.place / "adapter", dtype=torch.bfloat16)
    found = {"load seconds": time.perf_counter() - started, "loaded": memory()}
    if args.fused:
        started = time.perf_counter()
        pipe.fuse_lora()
        found["fuse seconds"] = time.perf_counter() - started
    side = round((args.megapixels[0] * 1e6) ** 0.5 / 4)
    lr, seconds = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)), []

    def some(grid: list) -> list:
        found["tiles"] = len(grid)
        for window in islice(grid, args.count):
            begun = time.perf_counter()
            yield window
            seconds.append(time.perf_counter() - begun)

    with torch.no_grad():
        if args.bare:
            restore_bare(pipe, lr[..., : args.tiles[0] // 4, : args.tiles[0] // 4], seconds, args.count)
        else:
            started = time.perf_counter()
            pipe.restore(lr, tile=args.tiles[0], tile_batch=1, tile_progress=some)
            seconds = seconds or [time.perf_counter() - started]  # an image of one tile
    return found | {"seconds": seconds, "after": memory()}


def restore_bare(pipe, lr: torch.Tensor, seconds: list[float], count: int) -> None:
    """Tiles by the base alone: encode, one step, decode."""
    from tadisr.models.joint_decoder import encode_mode, vae_factor
    from tadisr.models.network import denoise

    for model in (pipe.vae, pipe.unet):
        model.disable_adapters()
        model.to(memory_format=torch.channels_last)
    for _ in range(count):
        begun = time.perf_counter()
        latents, _ = encode_mode(pipe.vae, pipe.prepare_image(lr))
        latents = denoise(pipe.unet, latents, pipe.prompt, pipe.scheduler, vae_factor(pipe.vae))
        pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)
        seconds.append(time.perf_counter() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("--family", choices=list(FAMILIES), default="sdxl")
    parser.add_argument("--tiles", type=int, nargs="+", default=[512, 768, 1024])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 8])
    parser.add_argument("--count", type=int, default=2, help="tiles to restore of each image")
    parser.add_argument("--fused", action="store_true", help="with the adapter added into the weights")
    parser.add_argument("--bare", action="store_true", help="the base alone, one size of tile after another")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(args)))
        return
    if not (args.place / "adapter" / "tadisr_adapter.json").is_file():
        write(args.place, args.family)
    flags = [flag for flag, given in (("--fused", args.fused), ("--bare", args.bare)) if given]
    print(f"{'MP':>4s}{'tile':>6s}{'tiles':>7s}{'s/tile':>8s}{'s/image':>9s}{'peak GiB':>10s}{'own':>6s}  loaded (own)")
    for megapixels in args.megapixels[: 1 if args.bare else None]:
        for tile in args.tiles:
            command = [sys.executable, __file__, str(args.place), "--measure", "--count", str(args.count), *flags]
            command += ["--megapixels", str(megapixels), "--tiles", str(tile)]
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(child.stdout.splitlines()[-1])
            tiles, each = found.get("tiles", 1), found["seconds"][-1]
            print(
                f"{megapixels:4g}{tile:6d}{tiles:7d}{each:8.1f}{each * tiles:9.0f}{found['after']['peak']:10.2f}"
                f"{found['after']['own']:6.2f}  {found['loaded']['peak']:.2f} ({found['loaded']['own']:.2f}) in "
                f"{found['load seconds']:.0f} s" + (f", fused in {found['fuse seconds']:.0f} s" if args.fused else ""),
                flush=True,
            )


if __name__ == "__main__":
    main()
