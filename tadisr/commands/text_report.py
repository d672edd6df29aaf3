"""The thresholds of `tadisr upscale --report`."""

import argparse
from typing import TYPE_CHECKING

from tadisr.io.messages import UserError

if TYPE_CHECKING:
    from tadisr.trust.check import Thresholds

THRESHOLDS = ("min_agreement", "max_score_drop", "min_score")
"""The options that only reports have."""


def load_thresholds(args: argparse.Namespace) -> "Thresholds":
    """By what to judge; loads the engine too, so that what is missing or wrong is said before any work is done."""
    from tadisr.trust.check import Thresholds, trust_engine

    try:
        thresholds = Thresholds(**{name: getattr(args, name) for name in THRESHOLDS if getattr(args, name) is not None})
        trust_engine()
    except (ValueError, ImportError) as error:
        raise UserError(f"--report: {error}") from None
    return thresholds
