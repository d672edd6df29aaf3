"""What the training scripts share: building, optimising, checkpointing, validating."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import DDPMScheduler, DiffusionPipeline
from tadisr.data_synthesis.read import open_pages
from tadisr.pipelines.pipeline_tadisr import TADiSRPipeline
from tadisr.training.config import TrainConfig
from torch import nn

from tadisr.images import upsample
from tadisr.models.joint_decoder import JointSegmentationDecoder
from tadisr.models.lora import add_lora
from tadisr.models.network import TADiSRNetwork, ddpm_scheduler
from tadisr.models.prompt import TextPrompt
from tadisr.models.scratch import LeanAutoencoderKL, LeanUNet2DConditionModel, initialize


def build_network(config: TrainConfig) -> TADiSRNetwork:
    """The network to train: a pretrained base with new adapters, or a base from scratch with every weight trainable."""
    if config.base_config:
        base = json.loads(Path(config.base_config).read_text(encoding="utf-8"))
        vae, unet = LeanAutoencoderKL(**base["vae"]), LeanUNet2DConditionModel(**base["unet"])
        prompt, scheduler = TextPrompt(**base["prompt"]), DDPMScheduler(**base["scheduler"])
        joint_decoder = JointSegmentationDecoder.from_base(vae, unet, config.encoder_skips, config.image_residual)
        initialize(vae, unet, joint_decoder)
        if config.image_residual:  # start at the upsampled input
            nn.init.zeros_(vae.decoder.conv_out.weight)
            nn.init.zeros_(vae.decoder.conv_out.bias)
    else:
        pipe = DiffusionPipeline.from_pretrained(config.pretrained_model_name_or_path, revision=config.revision)
        vae, unet = pipe.vae, pipe.unet
        prompt, scheduler = (
            TextPrompt.from_pipeline(pipe, config.prompt),
            ddpm_scheduler(pipe.scheduler.config),
        )
        joint_decoder = JointSegmentationDecoder.from_base(vae, unet)
        add_lora(unet, vae, config.rank_unet, config.rank_vae)
    if config.init_from:
        models = {"vae": vae, "unet": unet, "prompt": prompt, "joint_decoder": joint_decoder}
        for name, model in models.items():
            model.load_state_dict(type(model).from_pretrained(config.init_from, subfolder=name).state_dict())
    network = TADiSRNetwork(vae, unet, prompt, joint_decoder, scheduler)
    if config.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    return network.to(memory_format=torch.channels_last)


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """The parameters that take gradients."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def latest_checkpoint(output_dir: Path) -> Path | None:
    """The newest `checkpoint-N` folder that was written completely."""
    found = [p for p in output_dir.glob("checkpoint-*") if (p / "config.yaml").is_file()]
    return max(found, key=lambda p: int(p.name.split("-")[1]), default=None)


def save_checkpoint(accelerator: Accelerator, config: TrainConfig, step: int) -> None:
    """Write `checkpoint-<step>` (the resolved config last, which marks it complete) and rotate older ones."""
    output_dir = Path(config.output_dir)
    folder = output_dir / f"checkpoint-{step}"
    accelerator.save_state(str(folder))
    if accelerator.is_main_process:
        config.save(folder / "config.yaml")
        steps = sorted((int(p.name.split("-")[1]), p) for p in output_dir.glob("checkpoint-*"))
        for _, old in steps[: -config.checkpoints_total_limit]:
            shutil.rmtree(old)


def as_pipeline(network: TADiSRNetwork, config: TrainConfig) -> TADiSRPipeline:
    """The network's parts as a pipeline, sharing their weights."""
    return TADiSRPipeline(
        vae=network.vae,
        unet=network.unet,
        scheduler=network.scheduler,
        prompt=network.prompt,
        joint_decoder=network.joint_decoder,
        base_model=config.pretrained_model_name_or_path,
        base_revision=config.revision,
    )


def network_input(lr: torch.Tensor, scale: int) -> torch.Tensor:
    """LR (B, 3, h, w) in [0, 1] to the network's x_L (B, 3, H, W) in [-1, 1], channels last."""
    return (upsample(lr, scale).clamp(0, 1) * 2 - 1).contiguous(memory_format=torch.channels_last)


def validation_pairs(source: str, limit: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """(lr, hr, mask) of an FTSR data set's test split, each (1, C, H, W) in [0, 1]."""
    pages = open_pages(source, "test")
    for i in range(min(len(pages), limit)):
        images = pages.lr(i), pages.hr(i), pages.mask(i)[..., None]
        yield tuple(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 for image in images)


@torch.no_grad()
def validate(network: TADiSRNetwork, source: str, scale: int, device: torch.device, limit: int = 40) -> dict[str, Any]:
    """Mean PSNR (RGB, dB) of the network and of bicubic, and mask IoU at 0.5 over all pixels. Recorder must be on."""
    psnr, bicubic, overlap, union = [], [], 0, 0
    network.eval()
    for lr, hr, mask in validation_pairs(source, limit):
        x = network_input(lr.to(device), scale)
        image, logits = network(x)
        hr, text = hr.to(device), mask.to(device) > 0.5
        for values, result in ((psnr, image), (bicubic, x)):
            values.append(float(-10 * torch.log10(((result.clamp(-1, 1) + 1) / 2 - hr).square().mean())))
        overlap += int(((logits > 0) & text).sum())
        union += int(((logits > 0) | text).sum())
    network.train()
    return {"psnr": float(np.mean(psnr)), "psnr_bicubic": float(np.mean(bicubic)), "mask_iou": overlap / max(union, 1)}
