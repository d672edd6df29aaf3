"""What an evaluation measures, and what report.json holds. All but `Records` are plain JSON values.

"By method" includes the anchors. None stands for what was not measured, and for infinite values.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

ImageMetric = Literal["psnr", "ssim", "lpips"]
LineMetric = Literal["ocr_a", "ocr_a_levenshtein", "exact", "ned", "accuracy"]
Metric = Literal[ImageMetric, LineMetric]
ColumnKey = Literal[Metric, "fid", "seconds"]
MaskMetric = Literal["iou", "f", "boundary_f"]
Value = float | None
Interval = list[float] | None


class ImageRecord(TypedDict):
    name: str
    hr: str
    """Where the HR image lies."""
    size: list[int]
    """Of the HR image: height, width."""
    methods: dict[str, dict[ImageMetric, Value]]


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


class ScoredLine(LineRecord):
    ocr_a: dict[str, Value]
    """By method; empty for a line without text."""


class Means(TypedDict):
    ocr_a: Value
    exact: Value
    n: int


class HeightMeans(Means):
    """Of the lines from `low` to below `high` HR pixels; None: without limit."""

    low: int
    high: int | None


class LineMeans(TypedDict):
    ocr_a: Value
    ocr_a_levenshtein: Value
    exact: Value
    ned: Value
    accuracy: Value
    n_lines: int
    n_annotated: int


class MethodResult(LineMeans):
    psnr: Value
    ssim: Value
    lpips: Value
    fid: Value
    seconds: Value
    """In all."""
    n_images: int
    intervals: dict[ColumnKey, Interval]
    delta: dict[ColumnKey, Value]
    """The differences to the LR anchor."""
    by_script: dict[str, Means]
    by_height: list[HeightMeans]
    legible_from: int | None
    engines: dict[str, LineMeans]
    """Second opinions."""
    mask: dict[MaskMetric, Value] | None


class Comparison(TypedDict):
    """Method `b` against method `a`."""

    a: str
    b: str
    metric: Metric
    difference: float
    interval: Interval
    p: Value
    n: int


class Measured(TypedDict):
    methods: dict[str, MethodResult]
    paired: list[Comparison]
    images: list[ImageRecord]
    lines: list[ScoredLine]


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
