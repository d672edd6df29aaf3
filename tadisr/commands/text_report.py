"""The report of `tadisr upscale --report`: its thresholds, and its files beside the restored photo."""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np

from tadisr.io.images import ImageError, LoadedImage, write_file, write_image
from tadisr.io.messages import UserError
from tadisr.io.names import OutputPaths
from tadisr.trust import check


def load_thresholds(args: argparse.Namespace) -> check.Thresholds | None:
    """By what to judge, if a report is asked for; loads the engine too, so that mistakes are said before any work."""
    values = {name: getattr(args, name) for name in ("min_agreement", "max_score_drop", "min_score")}
    given = {name: value for name, value in values.items() if value is not None}
    if not args.report:
        if given:
            raise UserError(f"--{next(iter(given)).replace('_', '-')} is for reports: add --report")
        return None
    try:
        thresholds = check.Thresholds(**given)
        check.trust_engine()
    except (ValueError, ImportError) as error:
        raise UserError(f"--report: {error}") from None
    return thresholds


def report_paths(output: OutputPaths) -> tuple[Path, Path]:
    """The JSON file and the picture that belong to one output."""
    name = output.mask.name.removesuffix("_mask.png")
    return output.mask.with_name(f"{name}_report.json"), output.mask.with_name(f"{name}_report.png")


def write_report(
    loaded: LoadedImage, sr: np.ndarray, output: OutputPaths, thresholds: check.Thresholds, model: str
) -> check.TrustReport:
    """Check the text of `sr`, a restored photo (H, W, 3) uint8 RGB, and write both files of `report_paths`.

    Raises ImageError where the files could not be written, or the text not be read, which both files then say.
    """
    from tadisr.trust.overlay import draw_overlay  # and OpenCV, which `tadisr upscale --help` does without

    report = check.check_text(loaded.rgb, sr, thresholds)
    json_path, picture_path = report_paths(output)
    write_image(picture_path, draw_overlay(loaded.rgb, sr, report))
    origin = {"tadisr": version("tadisr"), "input": str(loaded.path), "output": str(output.image), "model": model}
    write_file(json_path, json.dumps(origin | report.to_dict(), ensure_ascii=False, indent=1) + "\n")
    if report.error is not None:
        raise ImageError(f"its text could not be read: {report.error}")
    return report
