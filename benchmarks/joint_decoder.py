"""What decoding image and mask costs beside the bare VAE's decode, at SDXL's size, in turn in one run.

    python benchmarks/joint_decoder.py [--size 512] [--dtype bfloat16] [--rounds 3] [--lora] [--mask-widths W W W W]

Random weights. "bare": diffusers' `vae.decode`. "bare, our layers": the same function by our layers for inference.
"diffusers' layers": the joint decoder by the layers that diffusers has, as training runs it. "now": the joint decoder.
With `--lora` the VAE has TADiSR's adapter, beside its weights. Seconds are of the clock; "processor" is the time that
all threads had, and "system" the kernel's part of it, mostly for the first touch of memory. The least of all rounds
counts. Last, where the time of "now" goes, by layer and by kind of layer.
"""

import argparse
import os
import time
from collections.abc import Callable
from unittest import mock

import torch
from real_size import SDXL_VAE
from torch import nn
from torch.profiler import profile


def build(args: argparse.Namespace) -> tuple:
    """A VAE and a joint decoder in which no part is idle, in channels-last layout as in `pipe.restore`."""
    from diffusers import AutoencoderKL

    from tadisr.models.joint_decoder import JointSegmentationDecoder
    from tadisr.models.lora import ADAPTER, VAE_TARGETS

    torch.manual_seed(0)
    vae = AutoencoderKL(**SDXL_VAE)
    if args.lora:
        from peft import LoraConfig

        vae.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=VAE_TARGETS), adapter_name=ADAPTER)
    decoder = JointSegmentationDecoder(
        ["attention"], [10], block_out_channels=SDXL_VAE["block_out_channels"], mask_block_out_channels=args.mask_widths
    )
    for name, parameter in [*vae.named_parameters(), *decoder.named_parameters()]:
        if name.endswith(".scale") or "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    for model in (vae, decoder):
        model.to(getattr(torch, args.dtype)).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return vae, decoder


def bare_by_our_layers(vae, latents: torch.Tensor) -> torch.Tensor:
    from tadisr.models.inference_layers import activated, run_block

    stream = vae.decoder
    x = stream.mid_block(stream.conv_in(vae.post_quant_conv(latents)))
    for block in stream.up_blocks:
        x = run_block(block, x)
    return stream.conv_out(activated(stream.conv_norm_out, stream.conv_act, x))


def timed(function: Callable) -> tuple[tuple[torch.Tensor, ...], list[float]]:
    """What it returns; seconds by the clock, of the processor, and of the kernel."""
    before, started = os.times(), time.perf_counter()
    result = function()
    seconds, after = time.perf_counter() - started, os.times()
    system = after.system - before.system
    return result, [seconds, after.user - before.user + system, system]


def by_layer(decoder, decode: Callable) -> dict[str, float]:
    """Seconds of every block of "now"."""
    seconds: dict[str, float] = {}
    names = {id(block): f"CDIB {level + 1}" for level, block in enumerate(decoder.interactions)}
    names |= {id(block): f"mask up block {level + 1}" for level, block in enumerate(decoder.mask_decoder.up_blocks)}
    run, levels = decoder._run, iter(range(1, 9))

    def clocked(block, *inputs):
        name = names.get(id(block)) or f"image up block {next(levels)}"
        started = time.perf_counter()
        result = run(block, *inputs)
        seconds[name] = time.perf_counter() - started
        return result

    started = time.perf_counter()
    with mock.patch.object(decoder, "_run", clocked):
        decode()
    return seconds | {"the rest": time.perf_counter() - started - sum(seconds.values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512, help="pixels of the output")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--mask-widths", type=int, nargs=4, help="of the mask decoder, the one at full size first")
    args = parser.parse_args()
    vae, decoder = build(args)
    side = args.size // 8
    latents = torch.randn(1, 4, side, side, dtype=getattr(torch, args.dtype))
    maps = {"attention": torch.randn(1, 10, side**2, dtype=latents.dtype)}

    def decode() -> tuple[torch.Tensor, torch.Tensor]:
        return decoder(vae, latents, maps)

    def as_in_training() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.enable_grad():  # no parameter has a gradient, so nothing is kept for one
            return decoder(vae, latents, maps)

    ways: dict[str, Callable] = {
        "bare": lambda: vae.decode(latents, return_dict=False)[0],
        "bare, our layers": lambda: bare_by_our_layers(vae, latents),
        "diffusers' layers": as_in_training,
        "now": decode,
    }
    with torch.no_grad():
        least, results = {name: [float("inf")] * 3 for name in ways}, {}
        for _ in range(args.rounds):
            for name, function in ways.items():
                results[name], seconds = timed(function)
                least[name] = list(map(min, least[name], seconds))
        with profile() as profiled:
            parts = by_layer(decoder, decode)
    for one, other, name in zip(results["diffusers' layers"], results["now"], ("image", "mask"), strict=True):
        error = (one.float() - other.float()).norm() / one.float().norm()
        print(f"{name}: now differs from diffusers' layers by {error:.1e} of its norm")
    print(f"\n{args.size} px, {args.dtype}, {torch.get_num_threads()} threads" + ", with the adapter" * args.lora)
    print(f"{'':20s}{'seconds':>9s}{'ratio':>7s}{'processor':>11s}{'ratio':>7s}{'system':>8s}")
    for name, (seconds, processor, system) in least.items():
        ratios = seconds / least["bare"][0], processor / least["bare"][1]
        print(f"{name:20s}{seconds:9.2f}{ratios[0]:7.2f}{processor:11.2f}{ratios[1]:7.2f}{system:8.2f}")
    print("\nnow, by layer, s")
    for name, seconds in parts.items():
        print(f"{name:20s}{seconds:9.2f}")
    print("\nnow, by kind of layer, s")
    kinds = sorted(profiled.key_averages(), key=lambda kind: -kind.self_cpu_time_total)
    for kind in kinds[:12]:
        print(f"{kind.key:40s}{kind.self_cpu_time_total / 1e6:9.2f} of {kind.count}")


if __name__ == "__main__":
    main()
