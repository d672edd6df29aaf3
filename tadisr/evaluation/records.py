"""What an evaluation measures, and what report.json holds. All but `Records` are plain JSON values."""

from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

import numpy as np

ImageMetric = Literal["psnr", "ssim", "lpips"]
LineMetric = Literal["ocr_a", "ocr_a_levenshtein", "exact", "ned", "accuracy"]
Metric = Literal[ImageMetric, LineMetric]
ColumnKey = Literal[Metric, "fid", "seconds"]
Interval = list[float] | None
"""[low, high]; None where there are too few images for one."""


class Reading(TypedDict):
    """What an engine read, and how sure it is, in [0, 1]."""

    text: str
    score: float


class ImageRecord(TypedDict):
    """One image of the data set."""

    name: str
    hr: str
    """Where the HR image lies."""
    size: list[int]
    """Of the HR image: height, width."""
    methods: dict[str, dict[ImageMetric, float | None]]


class LineRecord(TypedDict):
    """One line of text, as it was read."""

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
    """A line in the report."""

    ocr_a: dict[str, float | None]
    """By method; empty for a line without text."""


class Means(TypedDict):
    """Of some lines; None without lines."""

    ocr_a: float | None
    exact: float | None
    n: int


class HeightMeans(Means):
    """Of the lines from `low` to below `high` HR pixels; None: without limit."""

    low: int
    high: int | None


class LineMeans(TypedDict):
    """The line metrics' means; None where nothing was measured."""

    ocr_a: float | None
    ocr_a_levenshtein: float | None
    exact: float | None
    ned: float | None
    accuracy: float | None
    n_lines: int
    n_annotated: int


class MaskScores(TypedDict):
    """Of a method's text masks."""

    iou: float
    f: float
    boundary_f: float | None


class MethodResult(LineMeans):
    """A method's row of the report."""

    psnr: float | None
    ssim: float | None
    lpips: float | None
    fid: float | None
    seconds: float | None
    """In all; None for a method whose time says nothing."""
    n_images: int
    intervals: dict[ColumnKey, Interval]
    delta: dict[ColumnKey, float | None]
    """The difference to the LR anchor."""
    by_script: dict[str, Means]
    by_height: list[HeightMeans]
    legible_from: int | None
    engines: dict[str, LineMeans]
    """Second opinions."""
    mask: MaskScores | None


class Comparison(TypedDict):
    """Method `b` against method `a`."""

    a: str
    b: str
    metric: Metric
    difference: float
    interval: Interval
    p: float | None
    n: int


class Measured(TypedDict):
    """The part of the report that is measured."""

    methods: dict[str, MethodResult]
    paired: list[Comparison]
    images: list[ImageRecord]
    lines: list[ScoredLine]


class Report(Measured):
    """What report.json holds."""

    tadisr: str
    data: str
    scale: int
    engines: dict[str, dict[str, Any]]
    judge: str
    anchors: dict[str, str]
    settings: dict[str, Any]


@dataclass
class Records:
    """What a run measured, image by image and line by line; `summary.build_report` makes the report of it."""

    images: list[ImageRecord] = field(default_factory=list)
    lines: list[LineRecord] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    features: dict[str, list[np.ndarray]] = field(default_factory=dict)
    """By method: what FID compares."""
    failed: list[str] = field(default_factory=list)
    """Images of the data set that could not be read, and why; the others are measured nevertheless."""
    mask_counts: dict[str, list[np.ndarray]] = field(default_factory=dict)
    boundary_f: dict[str, list[float]] = field(default_factory=dict)
