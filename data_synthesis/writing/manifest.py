"""The manifest of a data set: everything that it was made of and by, and so what may go on in its folder."""

import json
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tadisr.data_synthesis import opened
from tadisr.data_synthesis.judging.judge import Selection
from tadisr.data_synthesis.writing.job import Job
from tadisr.data_synthesis.writing.shards import WORK

MANIFEST = "manifest.json"
BEGUN = f"{WORK}/job.json"
"""Says which job is at work in a folder."""
_PACKAGES = ("tadisr", "numpy", "opencv-python-headless", "pillow", "torch", "datasets", "pyarrow")


def check_folder(out: Path, job: Job) -> dict[str, Any] | None:
    """The manifest if this very job was finished in `out`; None if it may begin there, or go on.

    Raises:
        ValueError: the folder holds something else.
    """
    description = job.describe()
    for path in (out / MANIFEST, out / BEGUN):
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
            found = there.get("job", {})
            if found != description:
                keys = sorted(key for key in {*found, *description} if found.get(key) != description.get(key))
                raise ValueError(
                    f"{out} holds another data set (differs in: {', '.join(keys)}): name a new folder, "
                    "or repeat the command that began it to go on with it."
                )
            return there if path.name == MANIFEST else None
    # A run that was killed before it wrote BEGUN left an empty folder of its own.
    if out.exists() and any(path.name != WORK for path in out.iterdir()):
        raise ValueError(f"{out} is not empty: name a new folder, so that no two data sets mix.")
    return None


def make_manifest(job: Job, selection: Selection, records: Sequence[dict]) -> dict[str, Any]:
    """The manifest; the same for the same job, however often the job was interrupted.

    Args:
        job: what was asked for.
        selection: what pages were made of.
        records: of all shards, in order; see `shards`.
    """
    used = Counter()
    for record in records:
        used.update(record["sources"])
    fonts = opened.fonts(tuple(job.recipe.fonts)) if any(selection.families.values()) else []
    return {
        "job": job.describe(),
        "lines": sum(record["lines"] for record in records),
        "sources": selection.sources,
        "stages": selection.stages,
        "engine": selection.engine,
        "used": dict(sorted(used.items())),
        "fonts": [font.describe() for font in fonts if Path(font.path).name in used],
        # Only Parquet files are listed: the other layout has too many files.
        "files": {} if job.layout == "folders" else {name: sha for r in records for name, sha in r["files"].items()},
        "versions": {name: version(name) for name in _PACKAGES},
    }
