"""What made an output: recorded in the output itself, so that `--skip-existing` leaves only what would be made again.

A record is one line of `key=value`. The device, the type and the tiles are not in it: they change a level here and
there.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from tadisr.commands.pages import records
from tadisr.commands.plan import Job
from tadisr.io.hashing import hashes, sha256
from tadisr.loading.graphs import FOLDER as GRAPHS
from tadisr.trust.check import Thresholds

Asserted = Sequence[tuple[np.ndarray, str]]
"""What somebody said that lines read: each a quad (4, 2), as shares of the photo's width and height, and a text."""

# The keys of a record that are compared, and what it means that they differ.
_OTHER = {
    "weights": "by another model",
    "base": "on another base",
    "input": "of another input",
    "page": "of another page",
    "size": "at another size",
    "color_fix": "with another --color-fix",
    "text_mask": "with another --text-mask",
    "asserted": "with another --asserted",
    "fidelity": "with another --fidelity",
    "reduction": "with another --reduction",
    "only_text": "with or without --only-text",
    "abstain": "with or without --abstain",
    "retrace": "with or without --retrace",
    "quality": "with another --quality",
    "metadata": "with another --metadata",
    "thresholds": "with other thresholds",
}


@dataclass(frozen=True)
class Model:
    """The model that a command uses, as far as its files tell."""

    name: str
    path: Path
    """Its folder, or its ONNX graph."""
    base: str | None = None

    @cached_property
    def sha256(self) -> str:
        """One digest of all weights and configurations; where there are none beside a graph, the graph's."""
        folder = self.path
        if folder.is_file():
            folder = folder.parent.parent if folder.parent.name == GRAPHS else folder.parent
            if not (folder / "model_index.json").is_file() or not any(folder.rglob("*.safetensors")):
                return sha256(self.path)
        files = [path for suffix in ("safetensors", "json") for path in folder.rglob(f"*.{suffix}")]
        lines = sorted(f"{digest} {name}\n" for name, digest in hashes(files, folder).items())
        return sha256("".join(lines).encode(errors="surrogateescape"))


@dataclass(frozen=True)
class Maker:
    """What decides the outputs of a command, beside the inputs."""

    model: Model
    args: argparse.Namespace
    thresholds: Thresholds | None = None
    asserted: Asserted = ()

    def record(self, job: Job, kind: str) -> str:
        """What made one output of a job; `kind` as in `Job.outputs`."""
        height, width = job.size
        values = {
            "model": Path(self.model.name).name,
            "weights": self.model.sha256[:16],
            "base": self.model.base,
            "input": job.input_hash[:16],
            "page": job.page + 1,
            "size": f"{width}x{height}",
            "color_fix": self.args.color_fix,
            "text_mask": self.args.text_mask and sha256(Path(self.args.text_mask))[:16],
            "asserted": json.dumps([text for _, text in self.asserted], ensure_ascii=False) if self.asserted else None,
            "fidelity": self.args.fidelity,
            "reduction": None if self.args.reduction == 1 else self.args.reduction,
            "only_text": "yes" if self.args.only_text else None,
            "abstain": "yes" if self.args.abstain else None,
            "retrace": "yes" if self.args.retrace else None,
        }
        if kind == "image":
            values |= {"quality": self.args.quality, "metadata": self.args.metadata}
        if kind == "report_picture" and self.thresholds:
            values["thresholds"] = ",".join(f"{value:g}" for value in astuple(self.thresholds))
        return record_of(values)

    def difference(self, job: Job) -> str | None:
        """How outputs that are there were made otherwise, in words; None: they would be made again as they are."""
        for kind in job.outputs:
            if kind == "report":  # its picture says it
                continue
            new = _values(self.record(job, kind))
            found = [_values(made) for made in records(job, kind) if made is not None]
            if not found:
                return "by something that left no record"
            if kind == "image" and job.part:
                found = [old for old in found if old.get("page") == new["page"]]
            differ = [[words for key, words in _OTHER.items() if old.get(key) != new.get(key)] for old in found]
            if not found:
                return "without this page"
            if all(differ):
                return differ[0][0]
        return None


def record_of(values: Mapping[str, Any]) -> str:
    """The record of what is known; None is left out."""
    said = (f"{key}={quote(str(value), safe='/:,')}" for key, value in values.items() if value is not None)
    return " ".join([f"tadisr {version('tadisr')}", *said])


def _values(record: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in record.split() if "=" in part)
