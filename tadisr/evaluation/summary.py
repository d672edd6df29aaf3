"""From records to the report: means, intervals, differences, and means by script and by height."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np

from tadisr.evaluation.methods import HR_ANCHOR
from tadisr.evaluation.pairs import ANNOTATION, ENGINE
from tadisr.evaluation.records import Comparison, ImageRecord, LineRecord, Measured, Records
from tadisr.evaluation.statistics import PERMUTATIONS, ROUNDS, Resampler
from tadisr.metrics.image import DEFINITIONS as IMAGE_DEFINITIONS
from tadisr.metrics.segmentation import THRESHOLDS, foreground_scores
from tadisr.metrics.text import (
    NORMALIZATIONS,
    SCRIPTS,
    agreement,
    edit_similarity,
    normalize_text,
    ocr_accuracy,
    ocr_accuracy_levenshtein,
)
from tadisr.ocr import Reading
from tadisr.trust.check import AGREE, BOTH, CHECK, Thresholds, check_line
from tadisr.trust.conformal import least_score

DEFINITIONS = {
    "ocr_a": "paper 4.2: mean over the lines that an engine read in the HR image, however sure it was, of "
    "(a + b - dist) / (a + b), with the lengths a, b and insertions and deletions as distance (python-Levenshtein's "
    "ratio)",
    "ocr_a_annotated": "TIGER's form: the same against the annotated text, over the annotated lines",
    "ocr_a_levenshtein": "the first with the Levenshtein distance, in which a substitution costs 1",
    "exact": "share of those lines read exactly",
    "harm_rate": "of the lines read exactly in the enlarged LR image, the share that is read otherwise in this one",
    "help_rate": "of the other lines, the share that is read exactly; both over the lines of ocr_a, or over annotated "
    "ones where there are no others",
    "trust": "the lines that a trust report would call fine, because the judge reads the same in the enlarged LR image "
    "and in this one, and surely; right are those that it reads as they are annotated, or else as in the HR image, but "
    "for spaces, case and width; also_read_by: lines that read the same, surely or not, and of which a "
    "second engine reads the result the same; sure_score is the least confidence at which (wrong + 1) / (fine + 1) is "
    "at most 5 % here",
    "ned": "mean over the annotated lines of 1 - Levenshtein distance / longer length; higher is better",
    "accuracy": "TEXTS-Diff's form: share of the annotated lines read exactly",
    "blind": "an annotated line counts for an engine unless its script is one that the engine cannot read: of at least "
    "20 such lines it reads less than an OCR-A of 0.4 in the HR images",
    "readers": "mean over the engines of OCR-A, or of its annotated form where no engine's reading is the truth",
    "mask": "foreground IoU over all pixels, F of precision and recall averaged over images with text, F of outlines "
    "within 2 pixels; text is what is above 0.5",
    "crop": "perspective warp (cubic, replicated border); turned by 90 degrees where 1.5 times taller than wide",
    "interval": f"95 % percentile bootstrap over images, {ROUNDS} rounds",
    "paired": f"bootstrap and two-sided sign-flip test over images, {PERMUTATIONS} permutations; lines of one image "
    "stay together",
}
_IMAGE_METRICS = ("psnr", "psnr_text", "psnr_rest", "ssim", "lpips", "st_lpips")
_LINE_METRICS: dict[str, tuple[str, Callable[[str, str], float]]] = {
    "ocr_a": (ENGINE, ocr_accuracy),
    "ocr_a_levenshtein": (ENGINE, ocr_accuracy_levenshtein),
    "exact": (ENGINE, lambda predicted, reference: float(predicted == reference)),
    "ocr_a_annotated": (ANNOTATION, ocr_accuracy),
    "ned": (ANNOTATION, edit_similarity),
    "accuracy": (ANNOTATION, lambda predicted, reference: float(predicted == reference)),
}
_CHANGES = ("harm_rate", "help_rate")
"""Against the readings of the LR image."""
_METRICS = (*_IMAGE_METRICS, *_LINE_METRICS, *_CHANGES)
_COMPARED = ("psnr", "ssim", "lpips", "st_lpips", "ocr_a", "exact", "ocr_a_annotated", "ned", "accuracy")
"""The metrics by which every two methods are compared."""
_HEIGHTS = (0, 4, 6, 8, 11, 15, 20, 28)
"""Lower limits of the height classes, LR pixels."""
_LEGIBLE, _ENOUGH = 0.8, 5
"""The OCR-A from which on text counts as legible, and the number of lines that a height class needs to be judged."""
_READ, _MANY = 0.4, 20
"""The OCR-A in HR below which an engine cannot read a script, and the number of lines that show it."""
_MAIN = {ENGINE: ("ocr_a", "exact"), ANNOTATION: ("ocr_a_annotated", "accuracy")}
"""Likeness and share of equal readings, by where the truth comes from."""

_Table = dict[str, tuple[np.ndarray, np.ndarray]]
"""By metric: its sums and counts over the images, see `statistics`."""


class _Line(NamedTuple):
    """A line and its scores by method and metric."""

    record: LineRecord
    scores: dict[str, dict[str, float]]


def build_report(
    records: Records, engines: Sequence[str], normalization: str = "none", seed: int = 0, scale: int = 4
) -> Measured:
    """The parts of the report that are measured. `engines`: names, the judge first."""
    judge, names = engines[0], list(records.images[0]["methods"])
    source = ENGINE if any(line["source"] == ENGINE for line in records.lines) else ANNOTATION
    blind = {engine: _blind(records.lines, engine, normalization) for engine in engines}
    lines = [_scored(line, names, judge, normalization, source, blind[judge]) for line in records.lines]
    tables = {name: _tabulate(records.images, lines, name) for name in names}
    resampler = Resampler(len(records.images), seed)
    methods, base = {}, {}
    for name, table in tables.items():
        means = {metric: _ratio(*table[metric]) for metric in _METRICS} | {"fid": _fid(records, name)}
        base = base or means  # the LR anchor is the first method
        others = {
            engine: _second_opinion(records.lines, (names[0], name), engine, normalization, source, blind[engine])
            for engine in engines[1:]
        }
        likenesses = [value for part in (means, *others.values()) if (value := part[_MAIN[source][0]]) is not None]
        methods[name] = {
            **means,
            "readers": float(np.mean(likenesses)) if others and len(likenesses) > len(others) else None,
            "seconds": records.seconds.get(name),
            "n_images": len(records.images),
            "n_lines": int(table["ocr_a"][1].sum()),
            "n_annotated": int(table["ned"][1].sum()),
            "intervals": {metric: resampler.interval(*table[metric]) for metric in _METRICS},
            "delta": {
                metric: _difference(value, base[metric]) for metric, value in means.items() if metric not in _CHANGES
            },
            **_splits(lines, name, _MAIN[source], scale),
            "engines": others,
            "mask": _mask(records, name),
            "trust": None
            if name in (names[0], HR_ANCHOR)
            else _trust(records, (names[0], name, judge), engines[1:], resampler, normalization),
        }
    paired = [
        comparison
        for a, b in combinations([name for name in names if name != HR_ANCHOR], 2)
        for metric in _COMPARED
        if (comparison := _compare(tables, a, b, metric, resampler))
    ]
    return _rounded(
        {"methods": methods, "paired": paired, "images": records.images, "lines": [line.record for line in lines]}
    )


def definitions(normalization: str) -> dict[str, str]:
    """What the numbers mean, in words."""
    return {**IMAGE_DEFINITIONS, **DEFINITIONS, "normalization": f"{normalization}: {NORMALIZATIONS[normalization]}"}


def _blind(lines: Sequence[LineRecord], engine: str, normalization: str) -> set[str]:
    """Scripts of annotated lines that an engine cannot read, see `DEFINITIONS`."""
    likenesses: dict[str, list[float]] = {}
    for line in lines:
        reference = normalize_text(line["text"], normalization)
        if reference and line["source"] == ANNOTATION:
            read = normalize_text(line["read"][HR_ANCHOR][engine]["text"], normalization)
            likenesses.setdefault(line["script"], []).append(ocr_accuracy(read, reference))
    return {script for script, values in likenesses.items() if len(values) >= _MANY and np.mean(values) < _READ}


def _counts(record: LineRecord, blind: set[str]) -> bool:
    return record["source"] == ENGINE or record["script"] not in blind


def _scored(
    record: LineRecord, names: Sequence[str], judge: str, normalization: str, source: str, blind: set[str]
) -> _Line:
    reference = normalize_text(record["text"], normalization)
    read = {name: normalize_text(record["read"][name][judge]["text"], normalization) for name in names}
    counts = _counts(record, blind)
    scores = {name: _scores(read[name], reference, record["source"]) if counts else {} for name in names}
    if reference and record["source"] == source and counts:
        for name in set(names[1:]) - {HR_ANCHOR}:
            scores[name] |= _change(read[names[0]] == reference, read[name] == reference)
    ocr_a: dict[str, float | None] = {name: ocr_accuracy(read[name], reference) for name in names if reference}
    return _Line({**record, "ocr_a": ocr_a}, scores)


def _scores(read: str, reference: str, source: str) -> dict[str, float]:
    """The metrics of a line from `source`; none where the reference is empty."""
    fitting = ((metric, score) for metric, (of, score) in _LINE_METRICS.items() if of == source and reference)
    return {metric: score(read, reference) for metric, score in fitting}


def _change(before: bool, after: bool) -> dict[str, float]:
    """What a line counts among those harmed or helped, by whether it is read right in the LR image and in another."""
    return {"harm_rate": float(not after)} if before else {"help_rate": float(after)}


def _tabulate(images: Sequence[ImageRecord], lines: Sequence[_Line], name: str) -> _Table:
    table: _Table = {metric: (np.zeros(len(images)), np.zeros(len(images))) for metric in _METRICS}
    for i, image in enumerate(images):
        for metric in _IMAGE_METRICS:
            if (value := image["methods"][name].get(metric)) is not None:
                table[metric][0][i], table[metric][1][i] = value, 1
    positions = {image["name"]: i for i, image in enumerate(images)}
    for line in lines:
        for metric, value in line.scores[name].items():
            table[metric][0][positions[line.record["image"]]] += value
            table[metric][1][positions[line.record["image"]]] += 1
    return table


def _ratio(sums: np.ndarray, counts: np.ndarray) -> float | None:
    """The metric; None where nothing was measured, or where an image equals its HR and has infinite PSNR."""
    return float(sums.sum() / counts.sum()) if counts.any() and np.isfinite(sums).all() else None


def _difference(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _splits(lines: Sequence[_Line], name: str, metrics: tuple[str, str], scale: int) -> dict[str, Any]:
    """ "by_script", "by_height" and "legible_from", the least height (LR pixels) from which on all text is legible."""
    read = [line for line in lines if metrics[0] in line.scores[name]]
    by_script = {
        script: _means([line for line in read if line.record["script"] == script], name, metrics) for script in SCRIPTS
    }
    by_height = []
    for low, high in pairwise((*_HEIGHTS, None)):
        chosen = [line for line in read if (low or 0) <= line.record["height"] / scale < (high or math.inf)]
        by_height.append({"low": low, "high": high, **_means(chosen, name, metrics)})
    judged = [part for part in reversed(by_height) if part["n"] >= _ENOUGH]
    legible = [part["low"] for part in takewhile(lambda part: (part["ocr_a"] or 0.0) >= _LEGIBLE, judged)]
    return {
        "by_script": {script: means for script, means in by_script.items() if means["n"]},
        "by_height": by_height,
        "legible_from": legible[-1] if legible else None,
    }


def _means(lines: Sequence[_Line], name: str, metrics: tuple[str, str]) -> dict[str, Any]:
    """Under the names "ocr_a" and "exact", whatever their truth."""
    means = {
        key: float(np.mean([line.scores[name][metric] for line in lines])) if lines else None
        for key, metric in zip(("ocr_a", "exact"), metrics, strict=True)
    }
    return {**means, "n": len(lines)}


def _second_opinion(
    lines: Sequence[LineRecord],
    names: tuple[str, str],
    engine: str,
    normalization: str,
    source: str,
    blind: set[str],
) -> dict[str, Any]:
    """The scores of a method by another engine; `names`: the LR anchor and the method.

    The engine's own reading of the HR image is its truth; lines without one do not count.
    """
    values: dict[str, list[float]] = {metric: [] for metric in (*_LINE_METRICS, *_CHANGES)}
    for line in (line for line in lines if _counts(line, blind)):
        before, read, own = (
            normalize_text(line["read"][x][engine]["text"], normalization) for x in (*names, HR_ANCHOR)
        )
        reference = own if line["source"] == ENGINE else normalize_text(line["text"], normalization)
        scores = _scores(read, reference, line["source"])
        if reference and line["source"] == source and names[1] not in (names[0], HR_ANCHOR):
            scores |= _change(before == reference, read == reference)
        for metric, value in scores.items():
            values[metric].append(value)
    means = {metric: float(np.mean(scores)) if scores else None for metric, scores in values.items()}
    return {**means, "n_lines": len(values["ocr_a"]), "n_annotated": len(values["ned"])}


def _trust(
    records: Records, by: tuple[str, str, str], others: Sequence[str], resampler: Resampler, normalization: str
) -> dict[str, Any] | None:
    """What the verdicts on a method's lines are worth; `by`: LR anchor, method, judge; `others`: further engines."""
    source = ANNOTATION if any(line["source"] == ANNOTATION for line in records.lines) else ENGINE
    also: dict[str, list[bool]] = {engine: [] for engine in others}  # whether right, of what each reads as well
    same: list[tuple[float, bool]] = []  # of lines that read the same: how sure the less sure reading is, whether wrong
    positions = {image["name"]: i for i, image in enumerate(records.images)}
    counts = {verdict: np.zeros((2, len(records.images))) for verdict in (AGREE, CHECK)}  # all lines, and right ones
    before, after, judge = by
    for line in records.lines:
        reference = normalize_text(line["text"], normalization)
        if line["source"] != source or not reference:
            continue
        old, new = (Reading(**line["read"][name][judge]) for name in (before, after))
        checked = check_line(np.array(line["quad"], np.float32), BOTH, old, new, Thresholds())
        right = agreement(normalize_text(new.text, normalization), reference) == 1
        counts[checked.verdict][:, positions[line["image"]]] += 1, right
        if checked.reads_the_same:
            same.append((min(old.score, new.score), not right))
            for engine, rights in also.items():
                if agreement(line["read"][after][engine]["text"], new.text) == 1:
                    rights.append(right)
    (fine, right), (doubtful, saved) = counts[AGREE], counts[CHECK]
    if not fine.any() and not doubtful.any():
        return None
    return {
        "truth": source,
        "fine": int(fine.sum()),
        "right": _ratio(right, fine),
        "interval": resampler.interval(right, fine),
        "to_check": int(doubtful.sum()),
        "wrong": _ratio(doubtful - saved, doubtful),
        "also_read_by": {
            engine: {"fine": len(rights), "right": float(np.mean(rights)) if rights else None}
            for engine, rights in also.items()
        },
        "sure_score": least_score([score for score, _ in same], [bad for _, bad in same]),
    }


def _fid(records: Records, name: str) -> float | None:
    if len(records.features.get(name, [])) < 2:
        return None
    from tadisr.metrics.perceptual import frechet_distance

    return frechet_distance(np.stack(records.features[name]), np.stack(records.features[HR_ANCHOR]))


def _mask(records: Records, name: str) -> dict[str, float | None] | None:
    if name not in records.mask_counts:
        return None
    scores = foreground_scores(np.stack(records.mask_counts[name]))
    half, outlines = int(np.argmin(np.abs(THRESHOLDS - 0.5))), records.boundary_f.get(name)
    return {
        "iou": float(scores["iou"][half]),
        "f": float(scores["f"][half]),
        "boundary_f": float(np.mean(outlines)) if outlines else None,
    }


def _compare(tables: Mapping[str, _Table], a: str, b: str, metric: str, resampler: Resampler) -> Comparison | None:
    """Method b against method a; None where one of the two has no values."""
    (sums_a, counts), (sums_b, _) = tables[a][metric], tables[b][metric]
    if not counts.any() or not np.isfinite(sums_a + sums_b).all():
        return None
    differences = sums_b - sums_a
    return {
        "a": a,
        "b": b,
        "metric": metric,
        "difference": float(differences.sum() / counts.sum()),
        "interval": resampler.interval(differences, counts),
        "p": resampler.p_value(differences, counts),
        "n": int(counts.sum()),
    }


def _rounded(value: Any) -> Any:
    """Six decimals, so that the order of additions does not change a report; None for infinite values."""
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_rounded(part) for part in value]
    if isinstance(value, float):
        return round(value, 6) if np.isfinite(value) else None
    return value
