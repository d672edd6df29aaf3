"""How sure a mean is: bootstrap intervals and paired tests, with whole images as the unit.

Lines of one photograph share its blur and its noise, so resampling single lines would promise too much. A metric is
given as two arrays over the images: the sums of its values in each, and how many there are (1 for PSNR, the number of
lines for OCR-A); the metric is the ratio of their totals.
"""

import numpy as np

ROUNDS = 2000
PERMUTATIONS = 10_000
_CHUNK = 1000


class Resampler:
    """Draws images with replacement; the same draws for every metric and method.

    Args:
        images: how many there are.
        seed: of the draws.
    """

    def __init__(self, images: int, seed: int):
        self._seed = seed
        rng = np.random.default_rng([seed, 0])
        self._weights = np.zeros((ROUNDS, images))  # how often each image was drawn
        for row in self._weights:
            row += np.bincount(rng.integers(0, images, images), minlength=images)

    def interval(self, sums: np.ndarray, counts: np.ndarray) -> list[float] | None:
        """[low, high] of the percentile bootstrap, 95 %; None where fewer than two images have values, or infinite."""
        if np.count_nonzero(counts) < 2 or not np.isfinite(sums).all():
            return None
        totals, numbers = self._weights @ sums, self._weights @ counts
        drawn = numbers > 0
        return np.percentile(totals[drawn] / numbers[drawn], [2.5, 97.5]).tolist()

    def p_value(self, differences: np.ndarray, counts: np.ndarray) -> float | None:
        """Two-sided sign-flip test: how often would chance alone make the methods differ at least as much?

        differences: sums over each image. Under the null hypothesis the two methods could be exchanged on any image.
        None where fewer than two images were compared, or a difference is infinite.
        """
        told = differences[counts > 0]
        if len(told) < 2 or not np.isfinite(told).all():
            return None
        rng = np.random.default_rng([self._seed, 1])
        observed, extreme = abs(told.sum()) * (1 - 1e-9), 0  # rounding must not tell equal sums apart
        for _ in range(0, PERMUTATIONS, _CHUNK):
            signs = rng.integers(0, 2, (_CHUNK, len(told))) * 2.0 - 1
            extreme += np.count_nonzero(np.abs(signs @ told) >= observed)
        return (1 + int(extreme)) / (1 + PERMUTATIONS)
