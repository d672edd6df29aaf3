"""What an evaluation measures, and what report.json holds. All but `Records` are plain JSON values.

"By method" includes the anchors. None stands for what was not measured, and for infinite values.
"""

from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

Value = float | None


class ImageRecord(TypedDict):
    name: str
    hr: str
    """Where the HR image lies."""
    size: list[int]
    """Of the HR image: height, width."""
    methods: dict[str, dict[str, Value]]
    """By method and metric."""


class Reading(TypedDict):
    text: str
    score: float
    """How sure the engine is, in [0, 1]."""


class LineRecord(TypedDict):
    image: str
    index: int
    """Its number in the image."""
    quad: list[list[float]]
    text: str
    source: str
    script: str
    height: float
    read: dict[str, dict[str, Reading]]
    """By method and engine."""
    ocr_a: dict[str, Value]
    """By method, from `summary.build_report`; empty for a line without text."""


class Comparison(TypedDict):
    """Method `b` against method `a`."""

    a: str
    b: str
    metric: str
    difference: float
    interval: list[float] | None
    p: Value
    n: int


MethodResult = dict[str, Any]
"""A method's values by metric, see `markdown.COLUMNS`, and

- `n_images`, `n_lines`, `n_annotated`;
- by metric: `intervals` ([low, high] or None) and `delta`, the differences to the LR anchor;
- `readers`: the mean of all engines, None where there is but one;
- `by_script`: {script: {"ocr_a", "exact", "n"}}, of the annotated lines where there are no others; `by_height`: a list
  of the same with "low" and "high", LR pixels, of which the second is None for the tallest; `legible_from`: LR pixels
  or None;
- `engines`: second opinions, {engine: values, "n_lines" and "n_annotated"};
- `mask`: {"iou", "f", "boundary_f"}, or None;
- `trust`: {"truth" (annotation or engine), "fine" and "to_check" (numbers of lines), "right" with "interval", and
  "wrong" (shares of those), "also_read_by" ({engine: {"fine", "right"}}), "sure_score" or None}, or None.
"""


class Measured(TypedDict):
    methods: dict[str, MethodResult]
    paired: list[Comparison]
    images: list[ImageRecord]
    lines: list[LineRecord]


class Report(Measured):
    """report.json."""

    tadisr: str
    data: str
    scale: int
    engines: dict[str, dict[str, Any]]
    judge: str
    anchors: dict[str, str]
    settings: dict[str, Any]


@dataclass
class Records:
    """What a run measured; `summary.build_report` makes the report of it."""

    images: list[ImageRecord] = field(default_factory=list)
    lines: list[LineRecord] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """By method: what FID compares."""
    failed: list[str] = field(default_factory=list)
    """Images of the data set that could not be read, and why; the others are measured nevertheless."""
    mask_counts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    boundary_f: dict[str, list[float]] = field(default_factory=dict)
