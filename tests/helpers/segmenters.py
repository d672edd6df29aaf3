"""A SAM at toy size, and a picture to segment."""

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


def sam(hidden_size=16):
    torch.manual_seed(0)
    model = SamModel(
        SamConfig(
            vision_config={
                "hidden_size": hidden_size, "output_channels": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": 64, "patch_size": 16, "mlp_dim": 32, "window_size": 3, "global_attn_indexes": [1],
                "num_pos_feats": 32,
            },
            prompt_encoder_config={"hidden_size": 64, "image_size": 64, "patch_size": 16, "mask_input_channels": 4},
            mask_decoder_config={
                "hidden_size": 64, "mlp_dim": 64, "num_attention_heads": 2, "iou_head_hidden_dim": 16,
            },
        )
    ).eval()  # fmt: skip
    for parameter in model.parameters():  # the biases and position tables that start at zero
        if not parameter.abs().sum():
            torch.nn.init.normal_(parameter, std=0.05)
    return model
