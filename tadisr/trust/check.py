"""Trust in use: which lines of a restored photo a person should check, without any ground truth.

Every line is read twice with the same engine and in the same region: in the restored photo and in its input, enlarged
with bicubic interpolation. Where the two readings agree with confidence, restoring changed no text. Where they differ,
restoring may have made the line legible, or may have made it up: only a person who knows can tell.

Measured with tadisr-tiny and the thresholds below (`benchmarks/trust.py`), "right" meaning as the engine reads the same
region of the original:

    18 real photos           22 lines agree, 17 of them right;   62 to check, 52 of them wrong
    60 synthesised pages    214 lines agree, 195 of them right;  141 to check, 124 of them wrong
"""

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tadisr.ocr import LARGEST_PHOTO, OCREngine, Reading, TextLine, crop_line, is_box, load_photo_engine

AGREE, CHECK = "agree", "check"
BOTH, OUTPUT, INPUT = "both", "output", "input"

ONLY_IN_OUTPUT = "found only in the restored picture"
ONLY_IN_INPUT = "found only in the input"
READINGS_DIFFER = "reads differently in the input"
CONFIDENCE_FELL = "read with less confidence than in the input"
HARDLY_LEGIBLE = "hardly legible"

WHOLE = 0.8  # share of a line's area that stands for all of it: two detections of one line are never quite the same
SEARCH_SIDES = (2000, LARGEST_PHOTO)
"""Pixels. Lines are searched for at half size, where text that was legible in the input still is, but with the longer
side in these bounds: beyond them a detector misses large text, and takes gigabytes. They are read at full size."""


@dataclass(frozen=True)
class Thresholds:
    """When a line is to be checked; all in [0, 1]."""

    min_agreement: float = 1.0
    """Least Levenshtein ratio of the two readings, compared without spaces, case and full-width forms. With an earlier
    tadisr-tiny a fourth of the agreeing lines were wrong at 0.9, nearly half at 0.8: one wrong character in a long line
    is a small difference."""
    max_score_drop: float = 0.1
    """By how much the engine's confidence may be lower in the restored photo."""
    min_score: float = 0.5
    """Least confidence in the restored photo."""
    min_overlap: float = 0.5
    """Share of a line's area that lines found in the other picture must cover for it to be found there too."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}.")


@dataclass(frozen=True)
class CheckedLine:
    """One line. `quad`: four (x, y) in pixels of the restored photo, clockwise from the text's top left."""

    quad: list[list[float]]
    found_in: str  # "both", "output" or "input"
    input: Reading
    output: Reading
    agreement: float  # Levenshtein ratio of the readings, in [0, 1]
    verdict: str  # "agree" or "check"
    reason: str | None  # why it is to be checked


@dataclass(frozen=True)
class TrustReport:
    """What was read in one photo. `lines` in reading order, those found only in the input last.

    size: (height, width) of the restored photo. engine: as `OCREngine.describe` gives it. error: why the photo could
    not be read, and `lines` is empty; None where it could.
    """

    size: tuple[int, int]
    engine: dict[str, Any]
    thresholds: Thresholds
    lines: list[CheckedLine] = field(default_factory=list)
    error: str | None = None

    @property
    def to_check(self) -> list[CheckedLine]:
        """The lines that a person should look at."""
        return [line for line in self.lines if line.verdict == CHECK]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; lines are numbered from 1, as in the picture that `draw_overlay` makes."""
        lines = [
            {"number": i} | asdict(line) | {"input": line.input._asdict(), "output": line.output._asdict()}
            for i, line in enumerate(self.lines, 1)
        ]
        counts = {"lines": len(lines), CHECK: len(self.to_check), AGREE: len(lines) - len(self.to_check)}
        return asdict(self) | {"size": list(self.size), "counts": counts, "lines": lines}


@functools.cache
def trust_engine() -> OCREngine:
    """The engine that reports use, loaded once.

    Raises:
        ImportError: a package is missing; names the extra to install.
    """
    try:
        import rapidfuzz  # noqa: F401  else the first photo would miss it
    except ImportError:
        raise ImportError("Checking text needs RapidOCR and RapidFuzz: pip install 'tadisr[ocr]'.") from None
    return load_photo_engine()


def check_text(
    restored: np.ndarray,
    enlarged: np.ndarray,
    thresholds: Thresholds | None = None,
    engine: OCREngine | None = None,
) -> TrustReport:
    """Read a restored photo and its enlarged input, both (H, W, 3) uint8 RGB, and compare them line by line.

    `engine` is `trust_engine()` by default. What an engine raises on a photo becomes the report's `error`: a report
    must not cost the restored photo.

    Raises:
        ValueError: other arrays, or of unequal sizes.
        ImportError: see `trust_engine`.
    """
    for image in (restored, enlarged):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape != restored.shape:
            raise ValueError(
                "Expected two uint8 RGB images of one size (H, W, 3), got "
                f"{restored.dtype} {restored.shape} and {enlarged.dtype} {enlarged.shape}."
            )
    thresholds = thresholds or Thresholds()
    engine = engine or trust_engine()
    report = functools.partial(TrustReport, restored.shape[:2], engine.describe(), thresholds)
    try:
        return report(_check(restored, enlarged, thresholds, engine))
    except Exception as error:  # an engine's own, and whatever its runtime raises
        return report(error=" ".join((str(error) or type(error).__name__).split()))


def judge(found_in: str, before: Reading, after: Reading, thresholds: Thresholds) -> str | None:
    """Why a line read as `before` in the input and `after` in the restored photo is to be checked; None: it agrees."""
    if found_in != BOTH:
        return ONLY_IN_OUTPUT if found_in == OUTPUT else ONLY_IN_INPUT
    from tadisr.metrics.text import agreement  # needs RapidFuzz, see `trust_engine`

    if agreement(before.text, after.text) < thresholds.min_agreement:
        return READINGS_DIFFER
    if before.score - after.score > thresholds.max_score_drop:
        return CONFIDENCE_FELL
    return HARDLY_LEGIBLE if after.score < thresholds.min_score else None


def _check(restored: np.ndarray, enlarged: np.ndarray, thresholds: Thresholds, engine: OCREngine) -> list[CheckedLine]:
    from tadisr.metrics.text import agreement

    regions = match(_find(restored, engine), _find(enlarged, engine), thresholds.min_overlap)
    # in the same region of both, so that a line that was found in two parts is compared as a whole
    after, before = (engine.read([crop_line(image, quad) for quad, _ in regions]) for image in (restored, enlarged))
    lines = []
    for (quad, found_in), old, new in zip(regions, before, after, strict=True):
        if not (old.text.strip() or new.text.strip()):
            continue
        reason = judge(found_in, old, new, thresholds)
        lines.append(
            CheckedLine(
                np.round(quad.astype(float), 1).tolist(),
                found_in,
                *(Reading(reading.text, round(reading.score, 4)) for reading in (old, new)),
                round(agreement(old.text, new.text), 4),
                AGREE if reason is None else CHECK,
                reason,
            )
        )
    return lines


def _find(image: np.ndarray, engine: OCREngine) -> list[TextLine]:
    import cv2

    side = max(image.shape[:2])
    scale = min(1, min(max(side / 2, SEARCH_SIDES[0]), SEARCH_SIDES[1]) / side)
    if scale == 1:
        return engine.find(image)
    size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
    lines = engine.find(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    return [
        line._replace(quad=line.quad * np.float32([image.shape[1] / size[0], image.shape[0] / size[1]]))
        for line in lines
    ]


def match(after: Sequence[TextLine], before: Sequence[TextLine], min_overlap: float) -> list[tuple[np.ndarray, str]]:
    """The regions to read, (quad, found in): the output's lines, and those of the input that they do not cover.

    Where the input's line is longer than the output's, the output may have lost a part: then the input's is read.
    """
    outputs, inputs = ([line.quad for line in lines if is_box(line.quad)] for lines in (after, before))
    shares = [_covered(quad, outputs) for quad in inputs]
    longer = [quad for quad, share in zip(inputs, shares, strict=True) if min_overlap <= share < WHOLE]
    regions, waiting = [], list(range(len(longer)))
    for quad in outputs:
        around = [i for i, other in enumerate(longer) if _covered(quad, [other]) >= WHOLE]
        regions += [(longer[i], BOTH) for i in around if i in waiting]
        waiting = [i for i in waiting if i not in around]
        if not around:
            regions.append((quad, BOTH if _covered(quad, inputs) >= min_overlap else OUTPUT))
    regions += [(longer[i], BOTH) for i in waiting]
    return regions + [(quad, INPUT) for quad, share in zip(inputs, shares, strict=True) if share < min_overlap]


def _covered(quad: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Share of a convex quad that others cover together; where these overlap each other, they count twice."""
    import cv2

    return sum(cv2.intersectConvexConvex(quad, other)[0] for other in others) / cv2.contourArea(quad)
