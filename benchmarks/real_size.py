"""What TADiSR costs on a base of SDXL's size: seconds and memory of one training step and of inference, against the
bare base.

    python benchmarks/real_size.py DIR [--size 512] [--rounds 2]

Writes to DIR, once, a base of SDXL's full size with random weights in bf16 (5.3 GB: seconds and bytes do not depend on
the weights' values), then runs, each in a process of its own: `training/train_lora.py` for one step; training steps,
TADiSR's and the bare base's in turn; inference likewise. The bare base is the same U-Net and VAE with the same LoRA
and the same image losses, without text-aware attention and mask stream.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import nn

SDXL_UNET = {
    "sample_size": 128, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 2, "transformer_layers_per_block": [1, 2, 10], "attention_head_dim": [5, 10, 20],
    "cross_attention_dim": 2048, "use_linear_projection": True, "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": 2816,
}  # fmt: skip
SDXL_VAE = {
    "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "latent_channels": 4, "sample_size": 1024,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.13025, "force_upcast": True,
}  # fmt: skip
SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
TOKENS, TEXT_POSITION = 77, 9


def write_base(folder: Path, output_dir: Path) -> None:
    """A diffusers SDXL folder without text encoders, the prompt they would have made, and LPIPS' backbone."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from torchvision.models import vgg16

    from tadisr.models.prompt import TextPrompt

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    for name, cls, config in (("unet", UNet2DConditionModel, SDXL_UNET), ("vae", AutoencoderKL, SDXL_VAE)):
        model = cls(**config)
        print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters", flush=True)
        model.save_pretrained(folder / name)
    torch.set_default_dtype(torch.float32)
    DDPMScheduler(**SCHEDULE).save_pretrained(folder / "scheduler")
    prompt = TextPrompt(TOKENS, 2048, [TEXT_POSITION], pooled_dim=1280, time_ids=[1024, 1024, 0, 0, 1024, 1024])
    prompt.save_pretrained(output_dir / "prompt")
    config = train_config(folder.parent)
    made_from = [config.pretrained_model_name_or_path, config.revision, config.prompt]
    (output_dir / "prompt" / "made_from.json").write_text(json.dumps(made_from))
    torch.save(vgg16().state_dict(), folder.parent / "vgg16.pth")
    index = {
        "_class_name": "StableDiffusionXLPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDPMScheduler"],
    }  # fmt: skip
    (folder / "model_index.json").write_text(json.dumps(index))  # last: what is here is whole


def train_config(place: Path, size: int = 512):
    """The paper's recipe (the defaults of `TrainConfig`) in bf16, for one step; written where the script finds it."""
    from tadisr.training.restoration.train_config import TrainConfig

    config = TrainConfig(
        pretrained_model_name_or_path=str(place / "base"), output_dir=str(place / "run"),
        train_data_dir=[str(place / "ftsr")], lpips_weights=str(place / "vgg16.pth"), resolution=size,
        mixed_precision="bf16", gradient_checkpointing=True, max_train_steps=1, logging_steps=1, seed=1,
    )  # fmt: skip
    config.save(place / "config.yaml")
    return config


def peak() -> float:
    """GiB, of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@contextmanager
def clock(times: dict[str, list[float]], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    times.setdefault(name, []).append(time.perf_counter() - started)


def timed_modules(modules: dict[str, nn.Module], times: dict[str, list[float]]) -> None:
    """Add each module's forward seconds to `times[name]`, per call."""
    for name, module in modules.items():
        starts: list[float] = []
        module.register_forward_pre_hook(lambda *_, starts=starts: starts.append(time.perf_counter()))
        module.register_forward_hook(
            lambda *_, starts=starts, name=name: (
                times.setdefault(name, []).append(time.perf_counter() - starts.pop()) and None
            )
        )


def bare_forward(network, image: torch.Tensor, times: dict[str, list[float]], prefix: str) -> torch.Tensor:
    """Encode, one step, decode, with diffusers' own attention and decoder."""
    from tadisr.models.joint_decoder import encode_mode

    with clock(times, f"{prefix} encode"):
        latents, _ = encode_mode(network.vae, image)
    with clock(times, f"{prefix} U-Net"):
        latents = network.denoise(latents)
    with clock(times, f"{prefix} decode"):
        return network.vae.decode(latents / network.vae.config.scaling_factor, return_dict=False)[0]


def full_forward(network, image: torch.Tensor, times: dict[str, list[float]], prefix: str):
    """TADiSR's, within `network.recording()`."""
    from tadisr.models.joint_decoder import encode_mode

    with clock(times, f"{prefix} encode"):
        latents, features = encode_mode(network.vae, image)
    with clock(times, f"{prefix} U-Net"):
        latents = network.denoise(latents)
    with clock(times, f"{prefix} decode"):
        return network.joint_decoder(network.vae, latents, network.attention_maps, features, image)


def measure_training(place: Path, size: int, rounds: int, kinds: list[str]) -> dict:
    """Steps of each kind in turn: forward, backward and AdamW, bf16 autocast, gradient checkpointing."""
    from tadisr.models.losses import tadisr_loss
    from tadisr.training.engine.train_state import trainable
    from tadisr.training.restoration.build import build_network
    from tadisr.training.restoration.terms import load_lpips
    from tadisr.training.restoration.validation import network_input

    torch.set_flush_denormal(True)
    config = train_config(place, size)
    network, lpips = build_network(config), load_lpips(config)
    network.vae.enable_gradient_checkpointing()  # the bare decoder as our own
    optimizer = torch.optim.AdamW(trainable(network), 5e-5)
    generator = torch.Generator().manual_seed(0)
    image = network_input(torch.rand(1, 3, size // 4, size // 4, generator=generator), 4)
    target = torch.rand(1, 3, size, size, generator=generator) * 2 - 1
    mask = (torch.rand(1, 1, size, size, generator=generator) > 0.9).float()
    times: dict[str, list[float]] = {}
    loaded = peak()
    for _ in range(rounds):
        for kind in kinds:
            recording = nullcontext() if kind == "bare" else network.recording()
            with clock(times, f"{kind} step"), recording:
                with torch.autocast("cpu", torch.bfloat16):
                    if kind == "bare":
                        output, logits = bare_forward(network, image, times, kind), None
                    else:
                        output, logits = full_forward(network, image, times, kind)
                    with clock(times, f"{kind} losses"):
                        loss = sum(tadisr_loss(output, target, logits, mask, config, lpips).values())
                with clock(times, f"{kind} backward"):
                    loss.backward()
                with clock(times, f"{kind} AdamW"):
                    optimizer.step()
                    optimizer.zero_grad()
    trained = sum(p.numel() for p in trainable(network))
    return {"times": times, "loaded": loaded, "peak": peak(), "trained parameters": trained}


def measure_inference(place: Path, size: int, rounds: int, kinds: list[str]) -> dict:
    """Restorations of each kind in turn, with the adapter that train_lora.py has written, all in bf16."""
    from tadisr.models.network import TADiSRNetwork
    from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline

    pipe = TADiSRPipeline.from_pretrained(place / "run" / "weights", dtype=torch.bfloat16)
    network = TADiSRNetwork(pipe.vae, pipe.unet, pipe.prompt, pipe.joint_decoder, pipe.scheduler)
    for model in pipe.convolutional():
        model.to(memory_format=torch.channels_last)  # as `pipe.restore` does
    loaded, times, parts = peak(), {}, {}
    lr = torch.rand(1, 3, size // 4, size // 4, generator=torch.Generator().manual_seed(0))
    decoder = pipe.joint_decoder
    timed_modules({"W_a": decoder.attention, "mask decoder mid block": decoder.mask_decoder.mid_block}, parts)
    names = {id(block): f"CDIB {level + 1}" for level, block in enumerate(decoder.interactions)}
    for stream, blocks in (("image", pipe.vae.decoder.up_blocks), ("mask", decoder.mask_decoder.up_blocks)):
        names |= {id(block): f"{stream} up block {level + 1}" for level, block in enumerate(blocks)}
    run_block = decoder._run

    def clocked(block, *inputs):  # a hook on the block would keep it from running by the layers for inference
        with clock(parts, names[id(block)]):
            return run_block(block, *inputs)

    decoder._run = clocked
    with torch.no_grad():
        image = pipe.prepare_image(lr)
        for _ in range(rounds):
            for kind in kinds:
                if kind == "bare":
                    with clock(times, f"{kind} whole"):
                        bare_forward(network, image, times, kind)
                else:
                    parts.clear()
                    with clock(times, f"{kind} whole"), network.recording():
                        full_forward(network, image, times, kind)
    return {"times": times, "parts": parts, "loaded": loaded, "peak": peak()}


def run(name: str, command: list[str]) -> tuple[dict, float]:
    """A child's JSON, and its peak memory in GiB as the system measured it."""
    print(f"{name} ...", flush=True)
    started = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{name} failed:\n{output}")
    print(f"  {time.perf_counter() - started:.0f} s in all, {usage.ru_maxrss / 2**20:.1f} GiB at most", flush=True)
    last = output.strip().splitlines()[-1] if output.strip() else ""
    return (json.loads(last) if last.startswith('{"times"') else {}), usage.ru_maxrss / 2**20


def table(title: str, times: dict[str, list[float]]) -> None:
    """The fastest of every part, bare and TADiSR, and their ratio."""
    best = {name: min(values) for name, values in times.items()}
    print(f"\n{title:24s}{'bare, s':>10s}{'TADiSR, s':>11s}{'ratio':>8s}")
    for name in (name.removeprefix("tadisr ") for name in best if name.startswith("tadisr ")):
        bare, full = best[f"bare {name}"], best[f"tadisr {name}"]
        print(f"{name:24s}{bare:10.2f}{full:11.2f}{full / bare:8.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("place", type=Path, metavar="DIR")
    parser.add_argument("--size", type=int, default=512, help="pixels of the output")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", choices=("training", "inference"), help=argparse.SUPPRESS)
    parser.add_argument("--kinds", nargs="+", default=["bare", "tadisr"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure: Callable = {"training": measure_training, "inference": measure_inference}[args.measure]
        print(json.dumps(measure(args.place, args.size, args.rounds, args.kinds)))
        return
    place = args.place.resolve()
    if not (place / "base" / "model_index.json").is_file():
        write_base(place / "base", place / "run")
    if not (place / "ftsr").is_dir():
        subprocess.run(
            ["tadisr", "synthesize", "-o", place / "ftsr", "--num", "8", "--size", str(args.size)], check=True
        )

    me = [sys.executable, __file__, str(place), "--size", str(args.size)]
    train_config(place, args.size)
    script = [sys.executable, "training/train_lora.py", "--config", str(place / "config.yaml")]
    if not (place / "run" / "weights").is_dir():
        run("training/train_lora.py, one step", script)
    memory = {}
    for what in ("training", "inference"):
        for kind in ("bare", "tadisr"):
            _, memory[what, kind] = run(
                f"{what}, {kind} alone", [*me, "--measure", what, "--rounds", "1", "--kinds", kind]
            )
    results = {}
    for what in ("training", "inference"):
        command = [*me, "--measure", what, "--rounds", str(args.rounds)]
        results[what], _ = run(f"{what}, in turn", command)
    for what, result in results.items():
        table(f"{what}, {args.size} px", result["times"])
        bare, full = memory[what, "bare"], memory[what, "tadisr"]
        print(f"{'peak memory, GiB':24s}{bare:10.1f}{full:11.1f}{full / bare:8.3f}")
    print("\ninference, TADiSR's decode by part, s")
    for name, values in sorted(results["inference"]["parts"].items()):
        print(f"{name:24s}{sum(values):10.2f}")


if __name__ == "__main__":
    main()
