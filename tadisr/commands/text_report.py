"""`tadisr upscale --report`: which lines of text to check, as JSON and as a picture beside the restored photo."""

import argparse
import json
import os
import secrets
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tadisr.io.images import ImageError, LoadedImage, write_image
from tadisr.io.messages import UserError
from tadisr.io.names import OutputPaths

if TYPE_CHECKING:
    from tadisr.evaluation.trust import Thresholds


THRESHOLDS = ("min_agreement", "max_score_drop", "min_score")
"""The options that only reports have."""


def load_thresholds(args: argparse.Namespace) -> "Thresholds":
    """By what to judge; loads the engine too, so that what is missing or wrong is said before any work is done."""
    from tadisr.evaluation.trust import Thresholds, trust_engine

    try:
        thresholds = Thresholds(**{name: getattr(args, name) for name in THRESHOLDS if getattr(args, name) is not None})
        trust_engine()
    except (ValueError, ImportError) as error:
        raise UserError(f"--report: {error}") from None
    return thresholds


def report_paths(output: OutputPaths) -> tuple[Path, Path]:
    """The JSON file and the picture that belong to one output."""
    name = output.mask.name.removesuffix("_mask.png")
    return output.mask.with_name(f"{name}_report.json"), output.mask.with_name(f"{name}_report.png")


def write_report(
    loaded: LoadedImage, pixels: np.ndarray, output: OutputPaths, thresholds: "Thresholds", model: str
) -> dict[str, Any]:
    """Read and compare, and write what came of it. The JSON values.

    Raises:
        ImageError: the text could not be read, which both files then say; or they could not be written.
    """
    from tadisr.evaluation.overlay import draw_overlay
    from tadisr.evaluation.trust import check_text

    enlarged = np.asarray(Image.fromarray(loaded.rgb).resize(pixels.shape[1::-1], Image.Resampling.BICUBIC))
    report = check_text(pixels, enlarged, thresholds)
    json_path, picture_path = report_paths(output)
    write_image(picture_path, draw_overlay(pixels, enlarged, report))
    origin = {"tadisr": version("tadisr"), "input": str(loaded.path), "output": str(output.image), "model": model}
    values = origin | report.to_dict()
    _write_json(json_path, values)
    if report.error is not None:
        raise ImageError(f"its text could not be read: {report.error}")
    return values


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all, as `write_image` does."""
    temporary = path.with_name(f".tadisr-{secrets.token_hex(8)}.part")
    text = json.dumps(values, ensure_ascii=False, indent=1) + "\n"
    try:
        # a file name that is no text is written as JSON's own escapes
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if not isinstance(error, OSError):
            raise
        raise ImageError(
            f"cannot write {path}: {error.strerror or error}: make room there or choose another folder"
        ) from error
