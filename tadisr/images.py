"""Images as tensors: conversion, upscaling, colour."""

import torch
import torch.nn.functional as F


def upsample(image: torch.Tensor, scale: int) -> torch.Tensor:
    """Bicubic upscaling as Pillow does it (a = -0.5): (B, C, H, W) to (B, C, scale H, scale W), not clamped."""
    size = (image.shape[-2] * scale, image.shape[-1] * scale)
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False, antialias=True)
