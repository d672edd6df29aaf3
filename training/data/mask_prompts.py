"""Masks as a person would draw them: the true one, drawn badly and in parts, for the training of mask prompts."""

import cv2
import numpy as np

_SHIFT, _WOBBLE = 2.0, 1.0  # pixels: of the whole drawing, seldom twice as far; of its strokes against each other
_LEAST_INK = 0.5  # of the strokes that a thinner drawing keeps


def draw_prompt(mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A prompt (2, H, W) and the mask (H, W) that is wanted with it, float32, of a crop's true mask (H, W) in [0, 1].

    The prompt is the mask where it is given, and where it is given: see `MaskPromptEncoder`. The drawing may be moved,
    uneven, bolder or thinner, hard or soft, coarse, and only of parts of the crop. What is wanted is the true mask: the
    image itself says where strokes are. In a tenth of the prompts "no text" is said of a place that may have some. The
    mask that is wanted follows, and the image stays: nobody wants text to be smeared that he forgot to draw.
    """
    mask = mask.astype(np.float32)
    if rng.random() < 0.1:
        mask = np.where(_rectangles(mask.shape, 1, rng), np.float32(0), mask)
    drawn = _weighted(_moved(mask, rng), rng)
    drawn = _coarse(drawn, rng) if rng.random() < 0.25 else drawn
    drawn = _edged(drawn, rng).clip(0, 1)
    given = _given(mask.shape, rng)
    return np.stack([drawn * given, given.astype(np.float32)]), mask


def _moved(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shifted as a whole, and each stroke a little by itself: another hand, another face."""
    height, width = mask.shape
    shift = rng.uniform(-_SHIFT, _SHIFT, 2) * rng.choice([0, 1, 2], p=[0.3, 0.6, 0.1])
    knots = rng.uniform(-_WOBBLE, _WOBBLE, (height // 12 + 2, width // 12 + 2, 2)) * (rng.random() < 0.4)
    field = cv2.resize(knots.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    field += shift.astype(np.float32)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    moved = cv2.remap(mask, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved)


def _weighted(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By up to two pixels bolder or thinner at each edge; strokes that would vanish stay."""
    side = int(rng.choice([1, 3, 5], p=[0.4, 0.4, 0.2]))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    if rng.random() < 0.5:
        return np.asarray(cv2.dilate(mask, kernel))
    thin = np.asarray(cv2.erode(mask, kernel))
    return thin if thin.sum() >= _LEAST_INK * mask.sum() else mask


def _coarse(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Drawn on a picture of half to a quarter of the size."""
    size = mask.shape[::-1]
    small = cv2.resize(mask, [max(1, round(side / rng.uniform(2, 4))) for side in size], interpolation=cv2.INTER_AREA)
    how = cv2.INTER_LINEAR if rng.random() < 0.7 else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(small, size, interpolation=how))


def _edged(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """With edges as they are, hard, or soft, as networks draw them."""
    kind = rng.choice(["same", "hard", "soft"], p=[0.4, 0.3, 0.3])
    if kind == "hard":
        return (mask > rng.uniform(0.3, 0.6)).astype(np.float32)
    if kind == "soft":
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.4, 2.0)))
    return mask


def _given(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Where the mask is given, (H, W) bool: everywhere, in some rectangles, or everywhere but in some."""
    kind = rng.choice(["all", "parts", "rest"], p=[0.4, 0.3, 0.3])
    if kind == "all":
        return np.ones(shape, bool)
    inside = _rectangles(shape, int(rng.integers(1, 4)), rng)
    return inside if kind == "parts" else ~inside


def _rectangles(shape: tuple[int, int], count: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W) bool, true within `count` rectangles whose sides are an eighth to two thirds of the crop's."""
    inside = np.zeros(shape, bool)
    for _ in range(count):
        sides = [max(1, round(length * rng.uniform(1 / 8, 2 / 3))) for length in shape]
        y, x = (int(rng.integers(0, length - side + 1)) for length, side in zip(shape, sides, strict=True))
        inside[y : y + sides[0], x : x + sides[1]] = True
    return inside
