"""Read every line of text in a photo before and after it was restored, and compare.

Every line is read twice, by the same engine and in the same region: in the restored photo and in its input, enlarged
with bicubic interpolation. If the two readings agree with confidence, restoring changed no text. If they differ,
restoring may have made the line legible, or it may have made the text up: only a person who knows can tell.

`tadisr evaluate --trust` measures how many of the lines that agree are right; docs/upscale.md has the table.
"""

import functools
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from PIL import Image

from tadisr.io.messages import one_line
from tadisr.ocr import LARGEST_PHOTO, OCREngine, Reading, TextLine, crop_line, is_box, load_photo_engine
from tadisr.ocr.engine import check_image
from tadisr.transparency import seen

AGREE, CHECK, ASSERTED, KEPT, RETRACED = "agree", "check", "asserted", "kept", "retraced"
BOTH, OUTPUT, INPUT = "both", "output", "input"

ONLY_IN_OUTPUT = "found only in the restored picture"
ONLY_IN_INPUT = "found only in the input"
READINGS_DIFFER = "reads differently in the input"
CONFIDENCE_FELL = "read with less confidence than in the input"
HARDLY_LEGIBLE = "hardly legible"
UNSURE = "reads the same in the input, but not surely"

SEARCH_SIDES = (2000, LARGEST_PHOTO)
"""Pixels. A photo is searched for lines at half its size, where text that was legible in the input still is, but with
its longer side in these bounds: a detector misses larger text, and takes gigabytes. Lines are read at full size."""

_WHOLE = 0.8  # A line that covers this share of another's area covers all of it: no two detections are quite the same.


@dataclass(frozen=True)
class Thresholds:
    """When a line is to be checked; all in [0, 1]."""

    min_agreement: float = 1.0
    """Least `tadisr.metrics.text.agreement` of the two readings. With an earlier tadisr-tiny a fourth of the agreeing
    lines were wrong at 0.9, nearly half at 0.8: in a long line one wrong character is a small difference."""
    max_score_drop: float = 0.1
    """By how much the engine's confidence may be lower in the restored photo."""
    min_score: float = 0.5
    """Least confidence in the restored photo."""
    sure_score: float = 0.97
    """Least confidence in both. On set P's lines (docs/upscale.md) it is the least from which on at most a twentieth of
    the agreeing lines is wrong by `tadisr.trust.conformal.least_score`."""
    min_overlap: float = 0.5
    """A line counts as found in the other picture, too, if the lines found there cover this share of its area."""

    def __post_init__(self):
        for name, value in asdict(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be between 0 and 1, not {value}.")


@dataclass(frozen=True)
class CheckedLine:
    """One line. `quad`: four (x, y) in pixels of the restored photo, clockwise from the text's top left."""

    quad: list[list[float]]
    found_in: str  # BOTH, OUTPUT or INPUT
    input: Reading
    output: Reading
    agreement: float  # of the two readings, in [0, 1]
    verdict: str  # AGREE, CHECK, ASSERTED, KEPT or RETRACED
    reason: str | None  # why it is to be checked, or was kept as it is in the input
    asserted: str | None = None  # what a person said that it reads: the output's strokes are drawn, and not read

    @property
    def reads_the_same(self) -> bool:
        """Whether it reads the same before and after, surely or not."""
        return self.verdict == AGREE or self.reason == UNSURE


@dataclass(frozen=True)
class TrustReport:
    """The lines of one photo, in reading order; lines that were found only in the input come last.

    size: (height, width) of the restored photo. engine: as `OCREngine.describe` gives it. error: why the photo could
    not be read; then there are no `lines`. None if the photo was read.
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
        verdicts = [line.verdict for line in self.lines]
        counts = {"lines": len(lines)} | {
            verdict: verdicts.count(verdict) for verdict in (CHECK, AGREE, ASSERTED, KEPT, RETRACED)
        }
        return asdict(self) | {"size": list(self.size), "counts": counts, "lines": lines}


def trust_engine() -> OCREngine:
    """The engine that reports use, loaded once a process; an ImportError names the extra to install."""
    with _LOADING:
        return _engine(os.getpid())  # a fork leaves the engine's threads behind


_LOADING = threading.Lock()


@functools.cache
def _engine(process: int) -> OCREngine:
    try:
        import rapidfuzz  # noqa: F401  `agreement` needs it
    except ImportError:
        raise ImportError("Checking text needs RapidOCR and RapidFuzz: pip install 'tadisr[ocr]'.") from None
    return load_photo_engine()


def find_text(lr: np.ndarray, engine: OCREngine | None = None) -> list[np.ndarray]:
    """Where lines of text are in a photo before it is restored: quads (4, 2), x and y in its pixels.

    Args:
        lr: (h, w, 3) uint8 RGB. It is searched enlarged, as `check_text` does.
        engine: None: `trust_engine()`.

    Raises:
        ImportError: see `trust_engine`.
    """
    side, factor = max(lr.shape[:2]), 4
    factor = min(factor, max(1, SEARCH_SIDES[1] / side))
    size = [max(1, round(factor * length)) for length in lr.shape[1::-1]]
    enlarged = np.asarray(Image.fromarray(lr).resize(size, Image.Resampling.BICUBIC))
    back = np.array([lr.shape[1] / size[0], lr.shape[0] / size[1]], np.float32)
    return [line.quad * back for line in _find(enlarged, engine or trust_engine()) if is_box(line.quad)]


def check_text(
    lr: np.ndarray, sr: np.ndarray, thresholds: Thresholds | None = None, engine: OCREngine | None = None
) -> TrustReport:
    """Compare the text of a restored photo with the text of its input, line by line.

    Args:
        lr: the input, (h, w, 3) uint8 RGB, or (h, w, 4) with alpha: it is then read on the ground that shows it.
        sr: the restored photo, (H, W, 3) uint8 RGB, or (H, W, 4) with alpha: laid on the same ground.
        thresholds: None: the usual ones.
        engine: None: `trust_engine()`. An error that the engine raises becomes the report's `error`, so a report never
            costs the restored photo.

    Raises:
        TypeError, ValueError: no arrays, other arrays, or two of different aspects.
        ImportError: see `trust_engine`.
    """
    enlarged, sr = as_read(lr, sr)
    thresholds = thresholds or Thresholds()
    engine = engine or trust_engine()
    report = functools.partial(TrustReport, sr.shape[:2], engine.describe(), thresholds)
    try:
        regions = match_lines(_find(enlarged, engine), _find(sr, engine), thresholds.min_overlap)
        # Both pictures are read in the same regions, so a line that was found in two parts is compared as a whole.
        before, after = (engine.read([crop_line(image, quad) for quad, _ in regions]) for image in (enlarged, sr))
        lines = [
            check_line(quad, found_in, old, new, thresholds)
            for (quad, found_in), old, new in zip(regions, before, after, strict=True)
            if old.text.strip() or new.text.strip()
        ]
    except Exception as error:  # engines raise errors of any kind
        return report(error=one_line(error, limit=None))
    return report(lines)


def check_again(
    report: TrustReport, sr: np.ndarray, changed: Sequence[bool], engine: OCREngine | None = None
) -> TrustReport:
    """A report after parts of the photo were restored anew: lines that `changed` are read again, where they are.

    Args:
        report: of the photo before.
        sr: the photo now, (H, W, 3) uint8 RGB. No new lines are looked for in it.
        changed: of each line of the report.
        engine: None: `trust_engine()`.
    """
    places = [i for i, each in enumerate(changed) if each]
    quads = [np.array(report.lines[i].quad, np.float32) for i in places]
    read = (engine or trust_engine()).read([crop_line(sr, quad) for quad in quads]) if places else []
    lines = list(report.lines)
    for i, quad, after in zip(places, quads, read, strict=True):
        lines[i] = check_line(quad, lines[i].found_in, lines[i].input, after, report.thresholds)
    return replace(report, lines=lines)


def with_asserted(report: TrustReport, asserted: Sequence[tuple[ArrayLike, str]]) -> TrustReport:
    """A report of a photo for which a person said what lines read; each a quad, four (x, y), and its text.

    The engine reads there what was drawn. So that does not count: such a line has the verdict ASSERTED, the reading of
    the input, and none of the output. It is listed even if the engine found no line there.
    """
    quads = [np.asarray(quad, np.float32) for quad, _ in asserted]
    over = [[i for i, quad in enumerate(quads) if _meet(line, quad, report.thresholds)] for line in report.lines]

    def made(index: int) -> CheckedLine:
        before = [line.input for line, found in zip(report.lines, over, strict=True) if index in found]
        read = Reading(" ".join(one.text for one in before), min((one.score for one in before), default=0.0))
        quad = np.round(quads[index].astype(float), 1).tolist()
        return CheckedLine(quad, INPUT, read, Reading("", 0.0), 0.0, ASSERTED, None, asserted[index][1])

    lines, left = [], list(range(len(quads)))
    for line, found in zip(report.lines, over, strict=True):
        lines += [made(i) for i in found if i in left] if found else [line]
        left = [i for i in left if i not in found]
    return replace(report, lines=lines + [made(i) for i in left])


def _meet(line: CheckedLine, quad: np.ndarray, thresholds: Thresholds) -> bool:
    own = np.array(line.quad, np.float32)
    return max(_covered(own, [quad]), _covered(quad, [own])) >= thresholds.min_overlap


def as_read(lr: np.ndarray, sr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The input and its restored version as they are read: both (H, W, 3), uint8.

    The input is enlarged with Pillow's bicubic interpolation. Images with alpha, (h, w, 4), are laid on the ground that
    shows the input. Raises TypeError for what is no array; ValueError for other arrays, and for two of different
    aspects.
    """
    for image in (lr, sr):
        if not isinstance(image, np.ndarray):
            name = type(image).__name__
            raise TypeError(f"Expected an array, got {name}: np.asarray(IMAGE) makes one of a PIL image.")
        check_image(image[..., :3] if image.ndim == 3 and image.shape[2] == 4 else image)
    (h, w), (height, width) = lr.shape[:2], sr.shape[:2]
    if abs(height * w - width * h) > max(height, width, h, w):  # sides are rounded
        raise ValueError(f"Expected an image and its restored version, got {w} x {h} and {width} x {height} pixels.")
    lr, sr = seen(lr, sr)
    return np.asarray(Image.fromarray(lr).resize((width, height), Image.Resampling.BICUBIC)), sr


def check_line(quad: np.ndarray, found_in: str, before: Reading, after: Reading, thresholds: Thresholds) -> CheckedLine:
    """Judge a line that reads `before` in the input and `after` in the restored photo."""
    from tadisr.metrics.text import agreement  # and RapidFuzz, for which `trust_engine` asks

    similarity = agreement(before.text, after.text)
    reasons = {
        ONLY_IN_OUTPUT: found_in == OUTPUT,
        ONLY_IN_INPUT: found_in == INPUT,
        READINGS_DIFFER: similarity < thresholds.min_agreement,
        CONFIDENCE_FELL: before.score - after.score > thresholds.max_score_drop,
        HARDLY_LEGIBLE: after.score < thresholds.min_score,
        UNSURE: min(before.score, after.score) < thresholds.sure_score,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    return CheckedLine(
        quad=np.round(quad.astype(float), 1).tolist(),
        found_in=found_in,
        input=Reading(before.text, round(before.score, 4)),
        output=Reading(after.text, round(after.score, 4)),
        agreement=round(similarity, 4),
        verdict=CHECK if reason else AGREE,
        reason=reason,
    )


def _find(image: np.ndarray, engine: OCREngine) -> list[TextLine]:
    """The lines of a photo, searched for at the size that `SEARCH_SIDES` says."""
    import cv2

    side = max(image.shape[:2])
    scale = min(1, min(max(side / 2, SEARCH_SIDES[0]), SEARCH_SIDES[1]) / side)
    if scale == 1:
        return engine.find(image)
    size = [max(1, round(scale * length)) for length in image.shape[1::-1]]
    lines = engine.find(cv2.resize(image, size, interpolation=cv2.INTER_AREA))
    back = np.array([image.shape[1] / size[0], image.shape[0] / size[1]], np.float32)
    return [line._replace(quad=line.quad * back) for line in lines]


def match_lines(
    before: Sequence[TextLine], after: Sequence[TextLine], min_overlap: float
) -> list[tuple[np.ndarray, str]]:
    """The regions to read, (quad, found in): the output's lines, then lines of the input that no output line covers.

    Where the input's line is longer than the output's line, the output may have lost a part of the text: there the
    input's region is read.
    """
    inputs, outputs = ([line.quad for line in lines if is_box(line.quad)] for lines in (before, after))
    shares = [_covered(quad, outputs) for quad in inputs]
    longer = [quad for quad, share in zip(inputs, shares, strict=True) if min_overlap <= share < _WHOLE]
    regions, unread = [], list(range(len(longer)))
    for quad in outputs:
        around = [i for i, other in enumerate(longer) if _covered(quad, [other]) >= _WHOLE]
        regions += [(longer[i], BOTH) for i in around if i in unread]
        unread = [i for i in unread if i not in around]
        if not around:
            regions.append((quad, BOTH if _covered(quad, inputs) >= min_overlap else OUTPUT))
    regions += [(longer[i], BOTH) for i in unread]
    return regions + [(quad, INPUT) for quad, share in zip(inputs, shares, strict=True) if share < min_overlap]


def _covered(quad: np.ndarray, others: Sequence[np.ndarray]) -> float:
    """Share of a convex quad's area that others cover together; an area that two of them cover counts twice."""
    import cv2

    return sum(cv2.intersectConvexConvex(quad, other)[0] for other in others) / cv2.contourArea(quad)
