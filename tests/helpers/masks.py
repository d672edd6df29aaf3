"""How well two masks agree."""

import numpy as np


def mask_iou(mask: np.ndarray, reference: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 where both are empty."""
    union = np.logical_or(mask, reference).sum()
    return float(np.logical_and(mask, reference).sum() / union) if union else 1.0
