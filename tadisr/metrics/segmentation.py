"""Foreground IoU and F of text masks, as TextSeg's and Hi-SAM's evaluations define them, and F of their outlines."""

import cv2
import numpy as np

THRESHOLDS = np.arange(1, 20) / 20  # 0.05 to 0.95


def mask_counts(mask: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Numbers of pixels of one image at each of `THRESHOLDS`, (3, 19): text in both masks, predicted text, true text.

    mask: probabilities (H, W) in [0, 1]; a pixel above the threshold is text. truth: boolean (H, W).
    """
    if mask.shape != truth.shape or truth.dtype != bool:
        raise ValueError(
            f"Expected masks of one size, the second boolean, got {mask.shape}, {truth.shape} {truth.dtype}."
        )
    # bin k holds the pixels above exactly k of the thresholds
    bins = np.searchsorted(THRESHOLDS.astype(mask.dtype), mask.ravel(), side="left")
    histograms = [np.bincount(b, minlength=len(THRESHOLDS) + 1) for b in (bins[truth.ravel()], bins)]
    both, predicted = (np.cumsum(h[::-1])[::-1][1:] for h in histograms)
    return np.stack([both, predicted, np.full(len(THRESHOLDS), truth.sum())])


def foreground_scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of a data set from its images' `mask_counts`, (N, 3, 19): `iou`, `f`, `precision`, `recall`, each (19,).

    IoU is taken over all pixels of all images. Precision and recall are means over the images with text; an image in
    which nothing is found has precision 0. F is the harmonic mean of the two.
    """
    both, predicted, true = np.moveaxis(np.asarray(counts, np.float64), 1, 0)
    union = (predicted + true - both).sum(0)
    iou = np.divide(both.sum(0), union, out=np.ones_like(union), where=union > 0)
    text = true[:, 0] > 0
    precision = (both[text] / np.maximum(predicted[text], 1)).sum(0) / max(text.sum(), 1)
    recall = (both[text] / np.maximum(true[text], 1)).sum(0) / max(text.sum(), 1)
    f = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {"iou": iou, "f": f, "precision": precision, "recall": recall}


def boundary_f(mask: np.ndarray, truth: np.ndarray, tolerance: int = 2) -> float:
    """F-score of the outlines of two boolean masks (H, W), in [0, 1]; 1 where both are empty.

    A boundary pixel is a pixel of the mask with a neighbour above, below, left or right that is none. It counts where
    the other mask's boundary is within `tolerance` pixels. The image is taken to continue beyond its border.
    """
    if mask.shape != truth.shape or mask.dtype != bool or truth.dtype != bool:
        raise ValueError(
            f"Expected boolean masks of one size, got {mask.shape} {mask.dtype}, {truth.shape} {truth.dtype}."
        )
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    one, other = (
        x & ~cv2.erode(x.astype(np.uint8), cross, borderType=cv2.BORDER_REPLICATE).astype(bool) for x in (mask, truth)
    )
    if not one.any() or not other.any():
        return float(one.any() == other.any() and mask.any() == truth.any())
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * tolerance + 1, 2 * tolerance + 1))
    precision = (one & cv2.dilate(other.astype(np.uint8), disc).astype(bool)).sum() / one.sum()
    recall = (other & cv2.dilate(one.astype(np.uint8), disc).astype(bool)).sum() / other.sum()
    return float(2 * precision * recall / (precision + recall)) if precision + recall else 0.0
