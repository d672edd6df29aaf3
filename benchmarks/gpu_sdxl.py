"""What TADiSR costs on a base of SDXL's size on a GPU: a training step and a restored tile, beside the bare base's.

    python benchmarks/gpu_sdxl.py [--sizes 512 1024] [--batch 1] [--rounds 5]

Random weights in bf16, made on the GPU: nothing is read or written. The bare base is the same U-Net and VAE, with the
same adapters and the same image loss, without text-aware attention and mask stream. LPIPS is left out of both. A step
is forward, backward and AdamW, with gradient checkpointing. The fastest round counts.
"""

import argparse
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch
import torch.nn.functional as F
from real_size import SCHEDULE, SDXL_UNET, SDXL_VAE, TEXT_POSITION, TOKENS, bare_forward, full_forward

TOY_VAE = {"block_out_channels": [32] * 4, "layers_per_block": 1}
TOY_UNET = {
    "block_out_channels": [32, 64, 64], "transformer_layers_per_block": [1, 1, 1], "attention_head_dim": [1, 2, 2],
    "cross_attention_dim": 64, "layers_per_block": 1, "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 64 + 6 * 8,
}  # fmt: skip


def build(device: str, toy: bool):
    """The network to train, in bf16, its adapters and new parts in float32."""
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel

    from tadisr.models.joint_decoder import JointSegmentationDecoder
    from tadisr.models.network import TADiSRNetwork
    from tadisr.models.prompt import TextPrompt
    from tadisr.training.restoration.build import add_adapters
    from tadisr.training.restoration.train_config import TrainConfig

    config = TrainConfig(pretrained_model_name_or_path="random", train_data_dir=["none"])
    unet_config, vae_config = (SDXL_UNET | TOY_UNET, SDXL_VAE | TOY_VAE) if toy else (SDXL_UNET, SDXL_VAE)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        vae, unet = AutoencoderKL(**vae_config), UNet2DConditionModel(**unet_config)
    torch.set_default_dtype(torch.float32)
    add_adapters(vae, unet, config)
    decoder = JointSegmentationDecoder.from_base(vae, unet)
    width, pooled = (64, 64) if toy else (2048, 1280)
    prompt = TextPrompt(TOKENS, width, [TEXT_POSITION], pooled_dim=pooled, time_ids=[1024, 1024, 0, 0, 1024, 1024])
    prompt.requires_grad_(False)
    network = TADiSRNetwork(vae, unet, prompt, decoder, DDPMScheduler(**SCHEDULE)).to(device)
    return network.to(memory_format=torch.channels_last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024], help="sides of square outputs, pixels")
    parser.add_argument("--batch", type=int, default=1, help="crops of a training step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--toy", action="store_true", help="a base of a few thousand weights, to try the script")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("No GPU is here: give --device cpu, best with --toy.")
    from tadisr.models.losses import LossWeights, tadisr_loss
    from tadisr.training.engine.train_state import trainable

    network, weights = build(args.device, args.toy), LossWeights(lpips=0)
    for part in (network.vae, network.backbone, network.joint_decoder):
        part.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW(trainable(network), 5e-5)
    print(f"{sum(p.numel() for p in network.parameters()):,} weights, {args.device}, bf16")

    def outputs(kind: str, image: torch.Tensor):
        with torch.autocast(args.device, torch.bfloat16):
            return (bare_forward if kind == "bare" else full_forward)(network, image, {}, kind)

    def train(kind: str, image: torch.Tensor) -> None:
        target, mask = image.flip(-1), (image[:, :1] > 0.9).float()
        with nullcontext() if kind == "bare" else network.recording():
            if kind == "bare":
                loss = F.mse_loss(outputs(kind, image).float(), target)
            else:
                restored, logits = outputs(kind, image)
                loss = sum(tadisr_loss(restored, target, logits, mask, weights).values())
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    @torch.no_grad()
    def restore(kind: str, image: torch.Tensor) -> None:
        with nullcontext() if kind == "bare" else network.recording():
            outputs(kind, image)

    print("\n| | size | bare, ms | TADiSR, ms | ratio | bare, GiB | TADiSR, GiB |\n|---|---:|---:|---:|---:|---:|---:|")
    for what, function, batch in (("training step", train, args.batch), ("restoring", restore, 1)):
        for size in args.sizes:
            image = torch.rand(batch, 3, size, size, device=args.device) * 2 - 1
            bare, less = measure(partial(function, "bare", image), args)
            full, more = measure(partial(function, "tadisr", image), args)
            row = f"| {what}, batch {batch} | {size} | {bare:.1f} | {full:.1f} | {full / bare:.2f} "
            print(row + f"| {less:.1f} | {more:.1f} |", flush=True)


def measure(function: Callable[[], None], args: argparse.Namespace) -> tuple[float, float]:
    """Milliseconds of the fastest call after a first one, and GiB at most."""
    on_gpu, seconds = args.device == "cuda", []
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(args.rounds + 1):
        if on_gpu:
            torch.cuda.synchronize()
        started = time.perf_counter()
        function()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return 1e3 * min(seconds[1:]), torch.cuda.max_memory_allocated() / 2**30 if on_gpu else 0.0


if __name__ == "__main__":
    main()
