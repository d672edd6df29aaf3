"""Images with alpha: PSNR on three grounds and of alpha, and IoU of the text mask, by how they are restored.

    python benchmarks/transparency.py [tadisr-tiny] [--blur 0]

Thirteen logos, stamps, subtitles and icons are drawn at 384 pixels and reduced by 4, colours weighted by alpha.
"""

import argparse
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from tadisr import TADiSRPipeline
from tadisr.metrics.image import psnr
from tadisr.transparency import bleed, on_ground, settle

SIDE, FINE, SCALE = 384, 2, 4  # pixels of the truth; how much larger it is drawn; factor
Layer = tuple[np.ndarray | tuple[float, float, float], np.ndarray]  # colour and alpha
Y, X = np.mgrid[: SIDE * FINE, : SIDE * FINE].astype(np.float32) / (SIDE * FINE)
LINES = ("Quarterly report", "Invoice No. 20418", "Best regards,", "Eleanor Whitby", "Total: 1,284.50")


def drawn(draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """Alpha of what `draw` draws."""
    image = Image.new("L", (SIDE * FINE, SIDE * FINE))
    draw(ImageDraw.Draw(image))
    return np.asarray(image, np.float32) / 255


def text(lines: tuple[str, ...] = LINES, at: tuple[int, int] = (20, 20), stroke: int = 0) -> np.ndarray:
    font = ImageFont.load_default(38 * FINE)
    place = tuple(FINE * side for side in at)
    options = {"font": font, "stroke_width": stroke * FINE, "fill": 255}
    return drawn(lambda draw: draw.multiline_text(place, "\n".join(lines), **options))


def blurred(alpha: np.ndarray, sigma: float) -> np.ndarray:
    return cv2.GaussianBlur(alpha, (0, 0), sigma * FINE) if sigma else alpha


def photo(seed: int) -> np.ndarray:
    """Soft colours with a finer pattern."""
    rng = np.random.default_rng(seed)
    image = cv2.resize(rng.random((12, 12, 3), np.float32), X.shape, interpolation=cv2.INTER_CUBIC)
    pattern = cv2.resize(rng.random((96, 96), np.float32), X.shape, interpolation=cv2.INTER_CUBIC)
    return (0.8 * image + 0.2 * pattern[..., None]).clip(0, 1)


def samples() -> Iterator[tuple[str, list[Layer], np.ndarray]]:
    """Name, layers from the lowest on, and alpha of the text."""
    black, white, letters, none = (0, 0, 0), (1, 1, 1), text(), np.zeros_like(X)
    card = drawn(lambda draw: draw.rounded_rectangle([10 * FINE, 10 * FINE, 374 * FINE, 374 * FINE], 60 * FINE, 255))
    disc = drawn(lambda draw: draw.ellipse([20 * FINE, 20 * FINE, 364 * FINE, 364 * FINE], 255))
    label = text(("APP 24",), (110, 165))
    yield "black text", [(black, letters)], letters
    yield "white text", [(white, letters)], letters
    shadow = 0.6 * blurred(np.roll(letters, (4 * FINE, 4 * FINE), (0, 1)), 4)
    yield "red with a shadow", [(black, shadow), ((0.85, 0.15, 0.1), letters)], letters
    yield "black and white", [(black, letters * (X < 0.5)), (white, letters * (X >= 0.5))], letters
    yield "gradients", [(np.dstack([X, 0.3 + 0 * X, 1 - X]), letters * (1 - 0.7 * X))], letters
    yield "watermark", [((0.5, 0.5, 0.5), 0.25 * letters)], letters
    yield "subtitle", [(black, text(stroke=3)), ((1, 1, 0.9), letters)], letters
    yield "cut out", [((0.9, 0.5, 0.1), card * (1 - letters))], letters
    yield "photo, round", [(photo(0), card)], none
    yield "photo with text", [(0.5 * photo(1) + 0.4, card), ((0.05, 0.05, 0.1), letters)], letters
    yield "fading", [(photo(2), 1 - Y), ((0.05, 0, 0.2), letters * (1 - 0.8 * Y))], letters
    yield "icon", [((0.1, 0.35, 0.75), disc), (white, label)], label
    yield "box with text", [(white, 0.7 * card), ((0.1, 0.1, 0.3), letters)], letters


def flattened(layers: list[Layer], factor: int, blur: float = 0) -> np.ndarray:
    """The layers as one image with straight alpha, (h, w, 4), reduced by `factor`."""
    image = np.zeros((*X.shape, 4), np.float32)  # colours times alpha
    for color, alpha in layers:
        top = np.dstack([np.broadcast_to(np.float32(color), (*X.shape, 3)), np.ones_like(X)]) * alpha[..., None]
        image = image * (1 - alpha[..., None]) + top
    image = blurred(image, blur)
    image = cv2.resize(image, (SIDE * FINE // factor,) * 2, interpolation=cv2.INTER_AREA)
    image[..., :3] = np.where(image[..., 3:] > 0.5 / 255, image[..., :3] / np.maximum(image[..., 3:], 1e-6), 0)
    return image.clip(0, 1)


def bicubic(alpha: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(alpha).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).clip(0, 1)


def methods(pipe: TADiSRPipeline) -> dict[str, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """Name to function: (h, w, 4) to (H, W, 4) and the mask."""

    def restored(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        images, masks = pipe(np.ascontiguousarray(image), output_type="np", return_dict=False)[:2]
        return images[0], masks[0]

    def as_it_is(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        colors, mask = restored(image[..., :3])
        return np.dstack([colors, bicubic(image[..., 3])]), mask

    def continued(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return as_it_is(np.dstack([bleed(image[..., :3], image[..., 3]), image[..., 3]]))

    def two_grounds(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (black, one), (white, other) = (restored(on_ground(image, ground)) for ground in (0, 1))
        alpha = (1 - (white - black).mean(2)).clip(0, 1)
        settle(alpha, image[..., 3])
        colors = (black + white - 1 + alpha[..., None]) / 2 / np.maximum(alpha, 1e-3)[..., None]
        return np.dstack([bleed(colors.clip(0, 1), alpha * (alpha > 0.25)), alpha]), np.maximum(one, other)

    return {
        "as it is, bicubic alpha": as_it_is, "continued, bicubic alpha": continued,
        "two grounds, solved": two_grounds, "two pictures": restored,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="tadisr-tiny")
    parser.add_argument("--blur", type=float, default=0, help="sigma before reducing, pixels of the truth")
    args = parser.parse_args()
    pipe = TADiSRPipeline.from_pretrained(args.model, dtype=torch.bfloat16)
    checkers = np.where((np.indices((SIDE, SIDE)) // 32).sum(0)[..., None] % 2, 0.8, 0.4).astype(np.float32)
    scores: dict[str, list[list[float]]] = {}
    for name, layers, letters in samples():
        truth = flattened(layers, FINE)
        lr = np.rint(flattened(layers, FINE * SCALE, args.blur) * 255).astype(np.uint8).astype(np.float32) / 255
        is_text = cv2.resize(letters, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5
        for method, restore in methods(pipe).items():
            image, mask = restore(lr)
            pairs = [[on_ground(x, ground) for x in (image, truth)] for ground in (1, 0, checkers)]
            pairs.append([np.repeat(x[..., 3:], 3, axis=2) for x in (image, truth)])
            row = [min(psnr(*(np.rint(255 * x).astype(np.uint8) for x in pair)), 60) for pair in pairs]
            either = ((mask > 0.5) | is_text).sum()
            row.append(((mask > 0.5) & is_text).sum() / either if is_text.any() else np.nan)
            scores.setdefault(method, []).append(row)
            print(f"{name:18} {method:24}", *(f"{value:6.2f}" for value in row), flush=True)
    print("means: on white, black and a checkerboard, alpha (dB); IoU of the mask")
    for method, rows in scores.items():
        print(f"{method:24}", *(f"{value:6.2f}" for value in np.nanmean(rows, axis=0)))


if __name__ == "__main__":
    main()
