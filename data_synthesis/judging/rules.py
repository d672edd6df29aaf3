"""Which crops, pseudo-masks and photographs are fit for the data set (section 3.5).

Every `judge_...` is a pure function of measurements. It returns None to keep the item, or the reason to drop it.
Reasons are constants, so that reports can count them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from tadisr.metrics.text import agreement, fold_text
from tadisr.ocr import OCREngine, TextLine, upright

EMPTY_MASK = "the mask is empty"
FULL_MASK = "the mask is nearly full"
UNREADABLE = "nothing can be read in the image"
MASK_DIFFERS = "the mask reads differently from the image"
LABEL_DIFFERS = "the mask reads differently from the label"
SMALL_CHARACTERS = "the characters are small"
TEXT_IN_BACKGROUND = "there is text in the background"


@dataclass(frozen=True)
class FilterConfig:
    """Thresholds. Ratios and shares are in [0, 1], sizes in pixels."""

    min_agreement: float = 0.9
    """Least Levenshtein ratio between the text read in the mask and the text read in the image. Measured on masks of
    rendered lines, 0.9 keeps 98 % of exact masks, 8 % of masks without one character, and 2 % of masks without their
    lower half. It also keeps 90 % of masks with strokes 4 pixels too thick and 80 % of masks with loose blobs, because
    RapidOCR ignores these."""
    min_label_agreement: float = 0.9
    """The same between the text read in the mask and the label, if there is a label."""
    min_edge_per_character: float = 16.0
    """Least long edge / number of characters: about the size of a character, in HR pixels (4 in LR ones)."""
    small: str = "drop"
    """What becomes of crops with smaller characters: "drop", as in the paper, or "enhance": they are kept, and
    super-resolved as every kept crop is."""
    min_coverage: float = 0.01
    """Least share of a crop that its mask covers."""
    max_coverage: float = 0.6
    """Largest share of a crop that its mask covers: tightly cropped lines have 0.04 to 0.4."""
    background_score: float = 0.6
    """Least confidence of the recogniser at which a line read in a background counts as text. The detector's confidence
    would not do: on photographs without text PP-OCR's detector reports boxes with up to 0.94, in which the recogniser
    reads nothing or one letter."""
    background_characters: int = 2
    """Least number of characters with which a line in a background counts as text."""
    background_area: float = 0.0
    """Share of the background that its text may cover."""

    def __post_init__(self):
        others = ("min_edge_per_character", "background_characters", "small")
        for name, value in vars(self).items():
            if name not in others and not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}.")
        low, high = self.min_coverage, self.max_coverage
        if low >= high:
            raise ValueError(f"min_coverage must be below max_coverage, not {low} and {high}.")
        if self.min_edge_per_character < 0 or self.background_characters < 1:
            raise ValueError(
                "min_edge_per_character must be at least 0 and background_characters at least 1, not "
                f"{self.min_edge_per_character} and {self.background_characters}."
            )
        if self.small not in ("drop", "enhance"):
            raise ValueError(f"small must be one of drop, enhance, not {self.small!r}.")


def mask_image(mask: np.ndarray) -> np.ndarray:
    """The text of a mask (H, W) uint8, drawn dark on white: (H, W, 3) uint8."""
    return np.repeat(255 - mask[..., None], 3, axis=2)


def judge_mask(mask: np.ndarray, config: FilterConfig) -> str | None:
    """EMPTY_MASK, FULL_MASK or None, by the share of the crop that the mask (H, W) uint8 covers."""
    coverage = float(mask.mean()) / 255
    if coverage < config.min_coverage:
        return EMPTY_MASK
    return FULL_MASK if coverage > config.max_coverage else None


def judge_size(shape: tuple[int, ...], text: str, config: FilterConfig) -> str | None:
    """SMALL_CHARACTERS or None, by long edge / number of characters; `shape` (H, W, ...) in pixels."""
    small = max(shape[:2]) < config.min_edge_per_character * len(fold_text(text))
    return SMALL_CHARACTERS if small and config.small == "drop" else None


def judge_reading(image_text: str, mask_text: str, label: str | None, config: FilterConfig) -> str | None:
    """UNREADABLE, MASK_DIFFERS, LABEL_DIFFERS or None, by what was read in a crop and in its mask."""
    if not fold_text(image_text):
        return UNREADABLE
    if agreement(image_text, mask_text) < config.min_agreement:
        return MASK_DIFFERS
    if label is not None and agreement(label, mask_text) < config.min_label_agreement:
        return LABEL_DIFFERS
    return None


def judge_background(lines: Sequence[TextLine], shape: tuple[int, ...], config: FilterConfig) -> str | None:
    """TEXT_IN_BACKGROUND or None, by the lines found in a photograph of `shape` (H, W, ...)."""
    area = sum(
        cv2.contourArea(line.quad)
        for line in lines
        if line.score >= config.background_score and len(fold_text(line.text)) >= config.background_characters
    )
    return TEXT_IN_BACKGROUND if area > config.background_area * shape[0] * shape[1] else None


def filter_crop(
    image: np.ndarray, mask: np.ndarray, label: str | None, engine: OCREngine, config: FilterConfig
) -> str | None:
    """Judge a crop with a pseudo-mask: the reason to drop it, or None. Nothing is read if the cheap tests suffice.

    `image` is (H, W, 3) uint8 RGB, `mask` (H, W) uint8, 255 on text; `label` is what the crop says, if that is known.
    """
    if reason := judge_mask(mask, config) or (label is not None and judge_size(image.shape, label, config)):
        return reason
    image_text, mask_text = (line.text for line in engine.read([upright(image), upright(mask_image(mask))]))
    if reason := judge_reading(image_text, mask_text, label, config):
        return reason
    # Without a label the characters are counted only after they were read.
    return judge_size(image.shape, image_text, config) if label is None else None
