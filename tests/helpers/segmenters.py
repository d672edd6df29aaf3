"""A SAM at toy size, and a picture to segment."""

from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from transformers import SamConfig, SamModel


def page(text="Ag 24", size=64, font=22, ink=(20, 40, 60), paper=(230, 220, 200)):
    """A rendered picture, uint8 RGB, and its exact mask, float in [0, 1]."""
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).multiline_text((4, 4), text, 255, ImageFont.load_default(font))
    image = Image.composite(Image.new("RGB", mask.size, ink), Image.new("RGB", mask.size, paper), mask)
    return np.asarray(image), np.asarray(mask, np.float32) / 255


def sam(hidden_size=16, side=64):
    torch.manual_seed(0)
    model = SamModel(
        SamConfig(
            vision_config={
                "hidden_size": hidden_size, "output_channels": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": side, "patch_size": 16, "mlp_dim": 32, "window_size": 3, "global_attn_indexes": [1],
                "num_pos_feats": 32,
            },
            prompt_encoder_config={"hidden_size": 64, "image_size": side, "patch_size": 16, "mask_input_channels": 4},
            mask_decoder_config={
                "hidden_size": 64, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
            },
        )
    ).eval()  # fmt: skip
    for parameter in model.parameters():  # the biases and position tables that start at zero
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def training_pages(folder: Path) -> Path:
    """An FTSR folder of three pages, a photograph, and photos.txt, which names it."""
    for part in ("hr", "mask"):
        (folder / part).mkdir()
    for i, text in enumerate(("Ag 24\nxyz", "Hello\n3:45", "no text\nhere")):
        image, mask = page(text, 96, 26, ink=(200 * (i % 2), 20, 60))
        cv2.imwrite(str(folder / "hr" / f"{i}.png"), image[..., ::-1])
        cv2.imwrite(str(folder / "mask" / f"{i}.png"), np.round(mask * 255).astype(np.uint8))
    ramp = np.linspace(0, 255, 120 * 90 * 3).reshape(90, 120, 3).astype(np.uint8)
    cv2.imwrite(str(folder / "photo.png"), ramp)
    (folder / "photos.txt").write_text(f"{folder / 'photo.png'}\n\n")
    return folder
