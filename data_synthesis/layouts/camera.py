"""How a camera sees flat things: in perspective, bent, unevenly lit, a little soft."""

import cv2
import numpy as np

from tadisr.data_synthesis.backgrounds.surfaces import light, noise
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.typesetting import Setter
from tadisr.io.images import LUMA, decode


def view(
    box: tuple[float, float, float, float], rng: np.random.Generator, turn: float = 3.0, tilt: float = 0.1
) -> np.ndarray:
    """The corners (4, 2) of a rectangle x0, y0, x1, y1 that is turned and seen from the side.

    turn: deviation of the rotation, degrees. tilt: how much shorter, at most, the far side looks, of its length.
    """
    x0, y0, x1, y1 = box
    corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)
    offset = corners - (centre := corners.mean(axis=0))
    yaw, pitch = rng.normal(0, tilt / 2, 2).clip(-tilt, tilt)
    half = np.abs(offset[0])
    depth = 1 + yaw * offset[:, 0] / max(half[0], 1) + pitch * offset[:, 1] / max(half[1], 1)
    offset = offset * np.array([1 - abs(yaw) * 0.5, 1 - abs(pitch) * 0.5], np.float32) / depth[:, None]
    angle = np.deg2rad(rng.normal(0, turn))
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    return (offset @ rotation + centre).astype(np.float32)


def weather(canvas: Canvas, s: Setter, amount: float = 1.0) -> Canvas:
    """Light, dirt and sheen on a finished panel, in place; returns the panel."""
    size = canvas.size
    canvas.image *= light(size, s.rng, 0.8 * amount)
    if s.chance(0.5):
        canvas.image *= (1 + amount * s.between(0.005, 0.03) * noise(size, s.between(1, 40), s.rng))[..., None]
    if amount >= 1 and s.chance(0.2):  # streaks that rain leaves
        streaks = noise(size, (max(size) / 3, s.between(2, 14)), s.rng).clip(0.6, 3) - 0.6
        canvas.image *= (1 - s.between(0.02, 0.07) * streaks)[..., None]
    if s.chance(0.25 * amount):  # the sky in a glossy face
        ys, xs = np.mgrid[: size[0], : size[1]].astype(np.float32)
        across = (xs + ys * s.between(-1, 1)) / max(size) - s.between(0.1, 0.9)
        sheen = np.exp(-((across / s.between(0.05, 0.3)) ** 2))[..., None] * np.float32(s.between(0.06, 0.25))
        canvas.image += (1 - canvas.image) * sheen
    np.clip(canvas.image, 0, 1, out=canvas.image)
    return canvas


def bend(canvas: Canvas, s: Setter, height: float) -> Canvas:
    """The canvas with its rows bent upwards or downwards by up to `height` pixels, as a page near the spine."""
    h, w = canvas.size
    xs = np.linspace(0, 1, w, dtype=np.float32)
    centre, width = s.between(-0.2, 1.2), s.between(0.35, 0.8)
    drop = np.float32(height) * np.exp(-(((xs - centre) / width) ** 2)) * (1 if s.chance(0.5) else -1)
    drop -= drop.mean()
    map_x, map_y = np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32))
    map_y = map_y - drop
    shade = 1 - s.between(0.05, 0.35) * np.exp(-(((xs - round(centre)) / s.between(0.08, 0.3)) ** 2))
    image = cv2.remap(canvas.image, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    bent = Canvas((image * shade[None, :, None]).clip(0, 1))
    bent.mask = cv2.remap(canvas.mask, map_x, map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT).clip(0, 1)
    bent.alpha = canvas.alpha
    bent.lines = [{**line, "quad": _bend_quad(line["quad"], drop)} for line in canvas.lines]
    for line in bent.lines:
        bent.take(line["quad"])
    return bent


def _bend_quad(quad: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """The corners of the quad that still holds the line, whose rows sink by drop[x] at column x."""
    moved = quad.copy()
    last = len(drop) - 1
    moved[:, 1] += drop[quad[:, 0].round().astype(int).clip(0, last)]
    steps = np.linspace(0, 1, 9, dtype=np.float32)[:, None]
    for first, second, extreme in ((0, 1, min), (3, 2, max)):
        edge = quad[first] + steps * (quad[second] - quad[first])
        true = edge[:, 1] + drop[edge[:, 0].round().astype(int).clip(0, last)]
        straight = moved[first, 1] + steps[:, 0] * (moved[second, 1] - moved[first, 1])
        moved[[first, second], 1] += extreme(0.0, *(true - straight))
    return moved


def lay(
    page: Canvas, sheet: Canvas, s: Setter, box: tuple[float, float, float, float], turn: float, tilt: float
) -> None:
    """Mount a sheet on the page as if it lay on a table or were pinned to a wall."""
    fall = (s.between(-5, 5), s.between(1, 7))
    page.mount(sheet, view(box, s.rng, turn, tilt), s.between(0.15, 0.5), fall)


def finish(image: np.ndarray, strength: float, rng: np.random.Generator) -> None:
    """What lens, sensor and development do to the finished page (H, W, 3), in place. Nothing moves.

    strength: 0 to 1. The lens softens by 0.3 to 0.7 pixels and the development sharpens again, as cameras do.
    """
    if strength <= 0:
        return
    image[:] = cv2.GaussianBlur(image, (0, 0), strength * rng.uniform(0.3, 0.7))
    image *= light(image.shape[:2], rng, 0.35 * strength)
    image *= (1 + strength * rng.normal(0, 0.013, 3)).astype(np.float32)  # white balance
    if rng.random() < 0.7:  # a sensor's grain, in the same places for all colours
        image += strength * rng.uniform(0.002, 0.02) * rng.standard_normal((*image.shape[:2], 1), np.float32)
    if rng.random() < 0.75:
        sigma, amount = rng.uniform(0.7, 1.5), strength * rng.uniform(0.3, 1.1)
        image += amount * (image - cv2.GaussianBlur(image, (0, 0), sigma))
    gray = (image @ np.array(LUMA, np.float32))[..., None]
    image += (gray - image) * (strength * rng.uniform(0.0, 0.5))
    image += strength * rng.uniform(-0.05, 0.3) * (image - float(gray.mean()))  # contrast
    image += strength * rng.uniform(-0.03, 0.05)
    np.clip(image, 0, 1, out=image)


def take_by_phone(image: np.ndarray, rng: np.random.Generator) -> None:
    """What a phone's own picture looks like before anything is done to it: (H, W, 3) float32 in [0, 1], in place.

    Dim rooms, haze, lamps of some colour, a lens not quite in focus, noise that was smoothed, sharpening, a JPEG.
    """
    size = image.shape[:2]
    cast = 1 + rng.normal(0, 0.05) * np.array([1, 0.1, -1], np.float32) + rng.normal(0, 0.02, 3).astype(np.float32)
    black, white = rng.uniform(0, 0.13), rng.uniform(0.55, 1.02)
    image[:] = (black + (white - black) * image ** np.float32(rng.uniform(0.8, 1.4))) * cast
    image *= light(size, rng, 1.2)
    image[:] = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.0))
    level = rng.uniform(0.005, 0.03) * np.sqrt(image.clip(0.05, 1))
    grain = cv2.GaussianBlur(rng.standard_normal(image.shape, np.float32), (0, 0), rng.uniform(0.5, 1.2))
    image += level * grain
    image += rng.uniform(0, 0.9) * (image - cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 1.8)))
    pixels = (image.clip(0, 1) * 255 + 0.5).astype(np.uint8)
    quality = int(rng.integers(75, 97))
    data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    image[:] = decode(data, cv2.IMREAD_COLOR)[..., ::-1] / np.float32(255)
