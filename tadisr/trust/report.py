"""A report in files: JSON, and a picture, beside the restored photo."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tadisr.io.atomic import write_atomically
from tadisr.io.images import ImageError, LoadedImage, write_image
from tadisr.io.names import OutputPaths
from tadisr.trust.check import Thresholds, check_text


def report_paths(output: OutputPaths) -> tuple[Path, Path]:
    """The JSON file and the picture that belong to one output."""
    name = output.mask.name.removesuffix("_mask.png")
    return output.mask.with_name(f"{name}_report.json"), output.mask.with_name(f"{name}_report.png")


def write_report(
    loaded: LoadedImage, sr: np.ndarray, output: OutputPaths, thresholds: Thresholds, model: str
) -> dict[str, Any]:
    """Check a restored photo's text and write both files of `report_paths`.

    Args:
        loaded: the input.
        sr: the restored photo, (H, W, 3) uint8 RGB.
        output: where the restored photo is written.
        thresholds: as for `check_text`.
        model: the name of the model, for the JSON file.

    Returns:
        What the JSON file holds.

    Raises:
        ImageError: the files could not be written; or the text could not be read, which both files then say.
    """
    from tadisr.trust.overlay import draw_overlay  # and OpenCV, which `tadisr upscale --help` does without

    report = check_text(loaded.rgb, sr, thresholds)
    json_path, picture_path = report_paths(output)
    write_image(picture_path, draw_overlay(loaded.rgb, sr, report))
    origin = {"tadisr": version("tadisr"), "input": str(loaded.path), "output": str(output.image), "model": model}
    values = origin | report.to_dict()
    try:
        write_atomically(json_path, json.dumps(values, ensure_ascii=False, indent=1) + "\n")
    except OSError as error:
        reason = error.strerror or error
        raise ImageError(f"cannot write {json_path}: {reason}: make room there or choose another folder") from error
    if report.error is not None:
        raise ImageError(f"its text could not be read: {report.error}")
    return values
