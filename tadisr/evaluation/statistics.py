"""How certain a mean is: bootstrap intervals and paired tests, with whole images as the unit.

Lines of one photograph share its blur and its noise, so resampling single lines would make intervals too narrow. A
metric is given as two arrays over the images: the sum of its values in each image, and their number (1 for PSNR, the
number of lines for OCR-A). The metric is the ratio of the two totals. scipy.stats draws anew for every metric; here all
metrics and methods share the draws.
"""

import numpy as np

ROUNDS = 2000
PERMUTATIONS = 10_000
_CHUNK = 1000


class Resampler:
    """Draws images, of which there are `images`, with replacement; every metric and method gets the same draws."""

    def __init__(self, images: int, seed: int):
        self._seed = seed
        rng = np.random.default_rng([seed, 0])
        self._weights = np.zeros((ROUNDS, images))  # how often each image was drawn
        for row in self._weights:
            row += np.bincount(rng.integers(0, images, images), minlength=images)

    def interval(self, sums: np.ndarray, counts: np.ndarray) -> list[float] | None:
        """[low, high]: the 95 % percentile bootstrap interval.

        None where fewer than two images have values, or a value is infinite.
        """
        if np.count_nonzero(counts) < 2 or not np.isfinite(sums).all():
            return None
        totals, numbers = self._weights @ sums, self._weights @ counts
        drawn = numbers > 0
        return np.percentile(totals[drawn] / numbers[drawn], [2.5, 97.5]).tolist()

    def p_value(self, differences: np.ndarray, counts: np.ndarray) -> float | None:
        """Two-sided sign-flip test: how often would chance alone make the methods differ at least as much?

        Under the null hypothesis the two methods could be exchanged on any image. `differences`: the sums over each
        image. None where fewer than two images were compared, or a difference is infinite.
        """
        compared = differences[counts > 0]
        if len(compared) < 2 or not np.isfinite(compared).all():
            return None
        rng = np.random.default_rng([self._seed, 1])
        observed, extreme = abs(compared.sum()) * (1 - 1e-9), 0  # equal sums may differ by rounding
        for _ in range(0, PERMUTATIONS, _CHUNK):
            signs = rng.integers(0, 2, (_CHUNK, len(compared))) * 2.0 - 1
            extreme += np.count_nonzero(np.abs(signs @ compared) >= observed)
        return (1 + int(extreme)) / (1 + PERMUTATIONS)
