"""The report of `tadisr upscale --report`: its thresholds, and its files beside the restored photo."""

import argparse
import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from tadisr.io.images import ImageError, write_file, write_image
from tadisr.io.messages import UserError, one_line
from tadisr.io.names import OutputPaths
from tadisr.io.structured import read_json
from tadisr.trust import check


def load_thresholds(args: argparse.Namespace) -> check.Thresholds | None:
    """By what to judge, if a report is asked for; loads the engine too, so that mistakes are said before any work."""
    values = {name: getattr(args, name) for name in ("min_agreement", "max_score_drop", "min_score", "sure_score")}
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


def load_asserted(path: Path) -> list[tuple[np.ndarray, str]]:
    """The lines of a report of which somebody wrote what they say, into `asserted`: quads (4, 2), as shares of the
    photo's width and height, and texts. Raises UserError for any other file, and where no line has such a text."""
    if find_spec("cv2") is None:
        raise UserError("--asserted needs OpenCV: pip install 'tadisr[ocr]'")
    try:
        report = read_json(path)
        height, width = report["size"]
        lines = [(np.array(line["quad"], float), line["asserted"]) for line in report["lines"] if line["asserted"]]
        asserted = [(quad / [width, height], str(text)) for quad, text in lines]
        shapes = {quad.shape for quad, _ in asserted}
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError) as error:
        reason = one_line(error) if isinstance(error, OSError) else "it is no report of tadisr upscale --report"
        raise UserError(f"--asserted {path}: {reason}") from None
    if shapes != {(4, 2)}:
        raise UserError(f'--asserted {path}: write what a line says into its "asserted", in quotes')
    return asserted


def report_paths(output: OutputPaths) -> tuple[Path, Path]:
    """The JSON file and the picture that belong to one output."""
    name = output.mask.name.removesuffix("_mask.png")
    return output.mask.with_name(f"{name}_report.json"), output.mask.with_name(f"{name}_report.png")


def write_report(
    lr: np.ndarray, sr: np.ndarray, report: check.TrustReport, outputs: dict[str, Path], origin: dict[str, str]
) -> None:
    """Write both files of a report on `sr`, (H, W, 3), restored from `lr`, (h, w, 3), both uint8 RGB.

    `outputs` names them, see `plan.Job`. `origin`: the input, the model, and by "made_by" the record for the picture.
    Raises ImageError where the files could not be written, or the text not be read, which both files then say.
    """
    from tadisr.trust.overlay import draw_overlay  # and OpenCV, which `tadisr upscale --help` does without

    write_image(outputs["report_picture"], draw_overlay(lr, sr, report), made_by=origin["made_by"])
    said = {"tadisr": version("tadisr"), "output": str(outputs["image"])} | origin | report.to_dict()
    write_file(outputs["report"], json.dumps(said, ensure_ascii=False, indent=1) + "\n")
    if report.error is not None:
        raise ImageError(f"its text could not be read: {report.error}")
