"""Two pipelines from HR to LR, 4 times smaller: mild, as a scanner or a good photo, and phone. Whole numbers alone."""

import io

import numpy as np
from PIL import Image, ImageFilter, ImageOps

from tadisr.data_synthesis.board.dice import Dice, noise
from tadisr.data_synthesis.board.sheet import blurred

SCALE = 4
PIPELINES = ("mild", "phone")


def reduce_image(image: Image.Image, pipeline: str, harshness: float, dice: Dice) -> Image.Image:
    """The LR image of an HR image. `harshness` multiplies blur and noise: what is written large survives more."""
    return (_mild if pipeline == "mild" else _phone)(image, harshness, dice)


def _mild(image: Image.Image, harshness: float, dice: Dice) -> Image.Image:
    """A slight blur, reduction, noise, JPEG once."""
    small = blurred(image, harshness * dice.between(0.6, 2.2)).reduce(SCALE)
    return _jpeg(_noisy(small, harshness * dice.between(0.5, 5), dice), dice.integer(60, 92))


def _phone(image: Image.Image, harshness: float, dice: Dice) -> Image.Image:
    """Defocus or a short motion, reduction, coloured noise, a halo, JPEG twice with a shift between."""
    if dice.chance(0.7):
        radius = harshness * dice.between(1.0, 3.0)
        soft = image.filter(ImageFilter.BoxBlur(radius)).filter(ImageFilter.BoxBlur(radius / 2))
    else:
        soft = _motion(image, round(harshness * dice.between(4, 11)), dice)
    gray, coloured = harshness * dice.between(1, 5), harshness * dice.between(1, 6)
    small = _colour_noise(_noisy(soft.reduce(SCALE), gray, dice), coloured, dice)
    sharp = small.filter(ImageFilter.UnsharpMask(1.2, dice.integer(30, 120), 0))
    x, y = dice.integer(1, 7), dice.integer(1, 7)
    red, green, blue = sharp.crop((0, 0, 1, 1)).tobytes()
    once = _jpeg(ImageOps.expand(sharp, (x, y, 0, 0), (red, green, blue)), dice.integer(30, 90))
    return _jpeg(once.crop((x, y, x + small.width, y + small.height)), dice.integer(30, 90))


def _motion(image: Image.Image, steps: int, dice: Dice) -> Image.Image:
    """The mean of copies along a line of so many pixels."""
    dx, dy = dice.pick(((1, 0), (1, 1), (1, -1), (2, 1), (0, 1)))
    margin = 2 * steps
    pixels = np.pad(np.asarray(image, np.int64), ((margin, margin), (margin, margin), (0, 0)), "edge")
    height, width = image.height, image.width
    total = np.zeros((height, width, 3), np.int64)
    for step in range(steps):
        offset = step - steps // 2
        top, left = margin + dy * offset, margin + dx * offset
        total += pixels[top : top + height, left : left + width]
    return Image.fromarray(((total + steps // 2) // steps).astype(np.uint8))


def _noisy(image: Image.Image, levels: float, dice: Dice) -> Image.Image:
    values = noise((image.height, image.width, 3), dice.integer(0, 1 << 40)) * round(levels * 256) // (65536 * 256)
    return Image.fromarray((np.asarray(image, np.int64) + values).clip(0, 255).astype(np.uint8))


def _colour_noise(image: Image.Image, levels: float, dice: Dice) -> Image.Image:
    """Blotches of two pixels in the colours, as a small sensor's."""
    parts = np.array(image.convert("YCbCr"), np.int64)
    shape = (image.height // 2 + 1, image.width // 2 + 1, 2)
    blotches = noise(shape, dice.integer(0, 1 << 40)) * round(levels * 256) // (65536 * 256)
    parts[..., 1:] += blotches.repeat(2, axis=0).repeat(2, axis=1)[: image.height, : image.width]
    return Image.fromarray(parts.clip(0, 255).astype(np.uint8), "YCbCr").convert("RGB")


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")
