"""What every pipeline that restores photos checks of its arguments, before any work and without a model."""

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from tadisr.arrays import COLOR_FIXES
from tadisr.tiling import MIN_SIDE
from tadisr.trust.check import Thresholds, trust_engine

MAX_SCALE = 100
INTEGERS = (int, np.integer)


def check_inputs(
    scale: float,
    tile: int | str | None,
    overlap: int,
    color_fix: str,
    output_type: str,
    report: bool | Thresholds = False,
    tile_batch: int | None = None,
    fidelity: float | None = None,
    output_types: Sequence[str] = ("pil", "uint8", "np"),
) -> None:
    """Raise ValueError for arguments that cannot work, ImportError for a report without the packages that read."""
    if isinstance(scale, bool) or not isinstance(scale, Real) or not 0 < scale <= MAX_SCALE:
        raise ValueError(f"scale must be a number above 0 and at most {MAX_SCALE}, got {scale!r}.")
    least = max(MIN_SIDE, math.ceil(scale))
    if tile is not None and tile != "auto" and (not isinstance(tile, INTEGERS) or tile < least):
        raise ValueError(f'tile must be "auto", None or at least {least} output pixels, got {tile!r}.')
    if not isinstance(overlap, INTEGERS) or overlap < 0 or (isinstance(tile, INTEGERS) and overlap > tile // 2):
        raise ValueError(f"overlap must be an integer from 0 to half a tile, got {overlap!r} for tiles of {tile}.")
    if tile_batch is not None and (not isinstance(tile_batch, INTEGERS) or tile_batch < 1):
        raise ValueError(f"tile_batch must be None or an integer of at least 1, got {tile_batch!r}.")
    check_fidelity(fidelity)
    if color_fix not in COLOR_FIXES:
        raise ValueError(f"color_fix must be one of {', '.join(COLOR_FIXES)}, got {color_fix!r}.")
    if output_type not in output_types:
        raise ValueError(f"output_type must be one of {', '.join(output_types)}, got {output_type!r}.")
    if not isinstance(report, (bool, Thresholds)):
        raise ValueError(f"report must be True, False or Thresholds, got {report!r}.")
    if report:
        trust_engine()


def check_fidelity(fidelity: float | None) -> None:
    """Raise ValueError for what is no point of the dial; None is the model's own."""
    if fidelity is None:
        return
    if isinstance(fidelity, bool) or not isinstance(fidelity, Real) or not 0 <= fidelity <= 1:
        raise ValueError(f"fidelity must be from 0, faithful and soft, to 1, sharp, or None, got {fidelity!r:.50}.")
