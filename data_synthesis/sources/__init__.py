"""Where synthesis takes its photographs and text crops from: a reader per dataset, for the layouts it comes in."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadisr.data_synthesis.sources.annotated import BTS, TextSeg
from tadisr.data_synthesis.sources.ctr import CTR
from tadisr.data_synthesis.sources.free import Free
from tadisr.data_synthesis.sources.photographs import DIV2K, LSDIR, Flickr2K, Folder, find_images
from tadisr.data_synthesis.sources.realce import RealCE
from tadisr.data_synthesis.sources.source import Pair, Sample, Source, split_names, split_of
from tadisr.data_synthesis.sources.tables import Table

__all__ = [
    "READERS", "Pair", "Sample", "Source", "find_images", "open_source", "parse_spec", "split_names",
    "split_of",
]  # fmt: skip

READERS: dict[str, type[Source]] = {
    "free": Free,
    "folder": Folder,
    "datasets": Table,
    "lsdir": LSDIR,
    "div2k": DIV2K,
    "flickr2k": Flickr2K,
    "textseg": TextSeg,
    "bts": BTS,
    "ctr": CTR,
    "realce": RealCE,
}


def parse_spec(spec: str | Mapping[str, Any]) -> dict[str, Any]:
    """A source's {"kind": KIND, "path": PATH, ...}, from that or from "KIND:PATH"; ValueError for anything else."""
    if isinstance(spec, str):
        kind, _, path = spec.partition(":")
        spec = {"kind": kind, "path": path} if path else {"kind": kind}
    if not isinstance(spec, Mapping) or "kind" not in spec:
        raise ValueError(f'A source is "KIND:PATH" or has a kind among its keys, unlike {repr(spec)[:200]}.')
    return dict(spec)


def open_source(spec: str | Mapping[str, Any]) -> Source:
    """A source from "KIND:PATH" or {"kind": KIND, "path": PATH, ...}; the other keys are its reader's parameters.

    FileNotFoundError: the dataset is not there; the message says what to download and where it belongs. ValueError: an
    unknown kind or key, or a value that does not fit. ImportError: a package that the reader needs.
    """
    options = parse_spec(spec)
    kind = options.pop("kind")
    if kind not in READERS:
        raise ValueError(f"Unknown kind of source {kind!r}: known are {', '.join(READERS)} (as in folder:PATH).")
    parameters = inspect.signature(READERS[kind]).parameters
    if unknown := [str(key) for key in options if key not in parameters]:
        raise ValueError(f"Unknown keys for {kind}: {', '.join(unknown)}; known are {', '.join(parameters)}.")
    for key, value in options.items():
        if isinstance(value, Path):
            options[key] = str(value)
        # Defaults show what a parameter takes: switches are bool, everything else is text.
        elif value is not None and isinstance(parameters[key].default, bool) != isinstance(value, bool):
            raise ValueError(f"{kind}: {key} cannot be {value!r}.")
        elif parameters[key].default is None and value is not None and not isinstance(value, str):
            raise ValueError(f"{kind}: {key} must be text, not {value!r}.")
    return READERS[kind](**options)
