"""From which confidence on a line may be called fine, so that few of the lines called so are wrong."""

from collections.abc import Sequence

import numpy as np

WRONG = 0.05
"""The share of the lines called fine that may be wrong."""


def least_score(scores: Sequence[float], wrong: Sequence[bool], share: float = WRONG) -> float | None:
    """The least score from which on (wrong + 1) / (fine + 1) is at most `share`.

    The form is that of conformal risk control (Angelopoulos et al., 2024), on the lines that a threshold calls fine.
    Its guarantee supposes that the share of wrong lines falls as scores rise. It need not, so check it on other lines.

    Args:
        scores: of each line that reads the same before and after: how sure the less sure reading is.
        wrong: of each line, whether it reads something else than it says.
        share: between 0 and 1.

    Returns:
        A score, or None where there are too few lines, or no score will do.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ranked, errors = np.asarray(scores, np.float64)[order], np.cumsum(np.asarray(wrong, bool)[order])
    fine = np.arange(1, len(order) + 1)
    last = np.append(ranked[1:] != ranked[:-1], True)[: len(order)]  # lines of one score are called fine together
    holds = last & ((errors + 1) / (fine + 1) <= share)
    return float(ranked[holds][-1]) if holds.any() else None
