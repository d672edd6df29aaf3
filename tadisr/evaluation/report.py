"""The whole evaluation: measure, then write report.json, report.md and report.html."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tadisr.evaluation.html import write_html
from tadisr.evaluation.markdown import to_markdown
from tadisr.evaluation.methods import HR_ANCHOR, LR_ANCHOR, Method
from tadisr.evaluation.pairs import Pairs
from tadisr.evaluation.records import Report
from tadisr.evaluation.runner import Runner
from tadisr.evaluation.summary import build_report, definitions
from tadisr.io.atomic import write_atomically
from tadisr.io.images import read_image
from tadisr.metrics.text import normalize_text
from tadisr.ocr import OCREngine, load_engine

_PACKAGES = ("numpy", "pillow", "scikit-image", "rapidfuzz", "torch")


@dataclass(frozen=True)
class EvaluationOptions:
    """How an evaluation measures."""

    engines: Sequence[str] = ("rapidocr",)
    """Names and options, see `open_engine`. The first engine judges; the others give second opinions."""
    weights: Path | None = None
    """Folder with the backbones of LPIPS and FID; None: torch.hub's cache, or a download."""
    device: str = "cpu"
    """Where LPIPS and FID run."""
    workers: int | None = None
    """Number of lines that are read side by side; None: one per core."""
    normalization: str = "none"
    """How texts are normalised before they are compared: one of `metrics.text.NORMALIZATIONS`."""
    seed: int = 0
    """Seed of the bootstrap and the tests."""
    limit: int | None = None
    """Number of pairs to measure, from the first on; None: all."""

    def __post_init__(self):
        normalize_text("", self.normalization)  # unknown rules are refused before the work, not after
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"At least one image is needed, not {self.limit}.")


def evaluate(
    data: Pairs,
    methods: Sequence[Method],
    out: Path,
    options: EvaluationOptions,
    progress: Callable[[int, int], None] = lambda done, total: None,
    engines: Mapping[str, OCREngine] | None = None,
) -> Report:
    """Evaluate methods (`load_methods`) on a data set (`open_data`); returns what report.json holds.

    `out`: folder of the reports and of the restored images. `progress`: called with the number of images restored so
    far, and with their number in all. `engines`: what `open_engines` made of the options; None: made now.

    Raises:
        ValueError: an engine is unknown, or images cannot be read or do not fit.
        ImportError: an engine's package is missing.
    """
    loaded = open_engines(options) if engines is None else engines
    lpips, inception, notes = _perceptual(options.weights, options.device)
    shift_tolerant = _shift_tolerant(options.device)
    distances = {name: one for name, one in (("lpips", lpips), ("st_lpips", shift_tolerant)) if one}
    records = Runner(data, methods, loaded, out, distances, inception).run(options.limit, progress)
    notes += [f"left out: {failed}" for failed in records.failed]
    if not records.lines:
        notes.append("No text was found in the HR images: there is nothing to read.")
    report: Report = {
        "tadisr": version("tadisr"),
        "data": data.name,
        "scale": data.scale,
        "engines": {name: engine.describe() for name, engine in loaded.items()},
        "judge": next(iter(loaded)),
        "anchors": {"lr": LR_ANCHOR, "hr": HR_ANCHOR},
        "settings": {
            "definitions": definitions(options.normalization),
            "normalization": options.normalization,
            "seed": options.seed,
            "data": data.note,
            "finds_lines": data.find_lines,
            "methods": {method.name: method.describe() for method in methods},
            "lpips": lpips and lpips.description,
            "st_lpips": shift_tolerant and shift_tolerant.description,
            "fid": inception and inception.description,
            "packages": {"opencv": cv2.__version__, **{package: version(package) for package in _PACKAGES}},
            "notes": notes,
        },
        **build_report(records, list(loaded), options.normalization, options.seed, data.scale),
    }
    _write(report, data, out)
    return report


def open_engines(options: EvaluationOptions) -> dict[str, OCREngine]:
    """The engines of the options by name; errors as `open_engine`, and ValueError for one that is named twice."""
    loaded = {}
    for spec in options.engines:
        name, engine = open_engine(spec, options.workers or os.cpu_count() or 1)
        if name in loaded:
            raise ValueError(f"The engine {name} is named twice.")
        loaded[name] = engine
    return loaded


def open_engine(spec: str, workers: int) -> tuple[str, OCREngine]:
    """The engine `NAME` or `NAME:KEY=VALUE;...`, with options of its class, reading on `workers` cores.

    Errors as `load_engine`; ValueError also for an option that the class does not have.
    """
    name, _, rest = spec.partition(":")
    options: dict[str, Any] = {}
    for option in filter(None, rest.split(";")):
        key, _, value = option.partition("=")
        options[key] = int(value) if value.isdecimal() else {"true": True, "false": False}.get(value.lower(), value)
        if key in ("threads", "workers", "batch_size") and (not value.isdecimal() or int(value) < 1):
            raise ValueError(f"The engine {spec} cannot be opened: {key} must be a number of at least 1, not {value}.")
    try:
        return name, load_engine(name, cores=workers, **options)
    except TypeError as error:  # an argument that the class does not take
        raise ValueError(f"The engine {spec} cannot be opened: {error}.") from None


def _perceptual(weights: Path | None, device: str) -> tuple[Any, Any, list[str]]:
    """LPIPS, the features for FID, and notes. Where weights or a package are missing, None and a note that says why."""
    loaded, notes = [], []
    for name, column in (("LPIPS", "LPIPS"), ("InceptionFeatures", "FID")):
        try:
            from tadisr.metrics import perceptual

            loaded.append(getattr(perceptual, name)(weights, device))
        except (FileNotFoundError, ImportError) as error:
            loaded.append(None)
            notes.append(f"{column} is left empty: {error}")
    return (*loaded, notes)


def _shift_tolerant(device: str) -> Any:
    """ST-LPIPS, where the extra that brings its weights is installed."""
    from tadisr.metrics.perceptual import ShiftTolerantLPIPS

    try:
        return ShiftTolerantLPIPS(device)
    except ImportError:
        return None


def _write(report: Report, data: Pairs, out: Path) -> None:
    index = {name: i for i, name in enumerate(data.names())}

    def picture(method: str, name: str) -> np.ndarray:
        return data[index[name]].hr if method == HR_ANCHOR else read_image(out / "images" / method / f"{name}.png").rgb

    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(out / "report.json", text + "\n")
    write_atomically(out / "report.md", to_markdown(report))
    write_html(report, picture, out / "report.html")
