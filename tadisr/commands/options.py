"""What several commands do with their options."""

import argparse
import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadisr.io.images import ImageError
from tadisr.io.messages import UserError, one_line

if TYPE_CHECKING:
    from tadisr.loading.load import Restored, Restorer

OVERLAP = 64  # output pixels
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


def usable_device(name: str) -> str:
    """The device of that name, or for "auto" the fastest here; raises UserError for one that cannot be used."""
    from tadisr.loading.load import choose_device

    try:
        return choose_device(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def find_model(name: str, pipeline: str, revision: str | None = None) -> Path:
    """The folder of a model of that class, fetched if it is not here; without torch.

    Raises UserError where there is none, or one of another class.
    """
    from tadisr.loading.repositories import pipeline_kind, resolve

    try:
        folder = resolve(name, pipeline, revision=revision)
        pipeline_kind(folder, pipeline)
    except Exception as error:  # of the disk, the network, the Hub, or a damaged index
        raise UserError(f"cannot load {name}: {_of_hub(error, revision) or one_line(error)}") from None
    return folder


def find_graph(args: argparse.Namespace) -> Path | None:
    """The ONNX graph that runs the model of a command, or None where PyTorch is to run it; without torch.

    Raises UserError where neither can.
    """
    from tadisr.loading.graphs import graph_to_run

    if args.base_model is not None:
        return None
    try:
        return graph_to_run(args.model, args.device, args.dtype, args.runtime, revision=args.revision)
    except ImportError as error:
        raise UserError(str(error)) from None
    except Exception as error:  # of the disk, the network, the Hub, or a damaged index
        raise UserError(f"cannot load {args.model}: {_of_hub(error, args.revision) or one_line(error)}") from None


def find_base(name: str) -> None:
    """Raise UserError where there is no pipeline of that name, a folder or a Hub id; its weights are not fetched."""
    from tadisr.loading.repositories import resolve

    try:
        folder = resolve(name, allow_patterns=["model_index.json"])
    except Exception as error:  # of the disk, the network or the Hub
        raise UserError(f"--base-model {name}: {_of_hub(error, None) or one_line(error)}") from None
    if not (folder / "model_index.json").is_file():
        raise UserError(f"--base-model {name}: holds no pipeline (model_index.json)")


def _of_hub(error: Exception, revision: str | None) -> str | None:
    """In one short line why the Hub gave nothing; None for an error of another origin."""
    from huggingface_hub import errors

    wrapped = type(error) is FileNotFoundError and isinstance(error.__cause__, Exception)
    cause: BaseException = error.__cause__ if wrapped and error.__cause__ else error
    beside = "no such folder here, and " if wrapped else ""
    if isinstance(cause, errors.GatedRepoError):
        return f"{beside}the Hub asks for access: ask for it on the model's page, then hf auth login"
    if isinstance(cause, errors.RepositoryNotFoundError):
        return f"{beside}the Hub has no such model: check the name; for a private one, hf auth login"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"the Hub's model has no revision {revision}"
    if isinstance(cause, (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, ConnectionError)):
        return f"{beside}the Hub cannot be reached: check the name and the network"
    return None


def load_model(
    name: str, device: str, pipeline: str, dtype: str = "auto", found: Path | None = None, **options: Any
) -> "Restorer":
    """See `tadisr.load`; raises UserError for a device or a model that cannot be used.

    `found`: the folder that `find_model` found, or the graph that `find_graph` did.
    """
    from tadisr.loading.load import load

    runs_graph = found is not None and found.is_file()
    if not runs_graph:
        device = usable_device(device)
    try:
        return load(found or name, device, dtype, pipeline, "onnx" if runs_graph else "torch", **options)
    except Exception as error:  # an incomplete, damaged or foreign model raises nearly anything
        advice = one_line(error).replace("base_model=FOLDER", "--base-model FOLDER")
        raise UserError(f"cannot load {name}: {advice}") from None


def load_restorer(args: argparse.Namespace, found: Path) -> "Restorer":
    """The model of a command that restores images, see `load_model`; UserError also where it lacks an option."""
    # These are not options of every command.
    reading = [name for name in ("only_text", "abstain", "retrace") if getattr(args, name, False)]
    if reading:
        from tadisr.trust.check import trust_engine

        try:
            trust_engine()
        except ImportError as error:
            raise UserError(f"--{reading[0].replace('_', '-')}: {error}") from None
    base = {} if args.base_model is None else {"base_model": args.base_model}
    restorer = load_model(args.model, args.device, "TADiSRPipeline", args.dtype, found, **base)
    if args.fidelity is not None and restorer.graph and not restorer.pipe.graph.has_dial:
        raise UserError(f"{restorer.graph} has no fidelity to choose: take --runtime torch")
    if getattr(args, "retrace", False) and not restorer.pipe.takes_masks:
        raise UserError(f"--retrace is for models that follow masks, and {args.model} does not: leave it out")
    return restorer


def call_options(args: argparse.Namespace) -> dict[str, Any]:
    """What the options of a command say to the pipeline's call."""
    overlap = args.overlap
    if overlap is None:
        overlap = OVERLAP if args.tile in (None, "auto") else min(OVERLAP, args.tile // 2)
    return {
        "tile": args.tile,
        "overlap": overlap,
        "color_fix": args.color_fix,
        "fidelity": args.fidelity,
        "reduction": args.reduction,
        "only_text": args.only_text,
        "abstain": args.abstain,
        "retrace": args.retrace,
    }


def how_restored(restored: "Restored") -> list[str]:
    """Lines about an image that was made smaller first, restored in part, or not restored where that was doubtful."""
    said = []
    if restored.share < 1:
        said.append(f"only its text was restored, {100 * restored.share:.0f} % of it; the rest is enlarged bicubically")
    if restored.reduction > 1:
        said.append(f"soft, so made {restored.reduction:.1f} times smaller first")
    if restored.report and restored.report.error:
        said.append(f"its text could not be read, so no line is kept or retraced: {restored.report.error}")
    if kept := restored.kept:
        said.append(f"{kept} of its lines {'is' if kept == 1 else 'are'} kept as in the input, enlarged")
    if retraced := restored.retraced:
        said.append(f"{retraced} of its lines {'is' if retraced == 1 else 'are'} drawn as the input surely reads")
    return said


def is_full(error: BaseException | None) -> bool:
    """Whether an ImageError says that the disk is full. Then every further image would cost its time and fail too."""
    return getattr(getattr(error, "__cause__", None), "errno", None) in _DISK_FULL


def check_folder(folder: Path) -> None:
    """Raise UserError where nothing can be written, now rather than after the work."""
    try:
        with tempfile.TemporaryFile(dir=existing(folder)) as file:
            file.write(bytes(4096))
    except OSError as error:
        advice = "make room there or choose another folder"
        raise UserError(f"cannot write in {folder}: {error.strerror}: {advice}") from None


def existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.parents) if os.path.lexists(path))


def check_numbers(args: argparse.Namespace, *counts: str) -> None:
    """Raise UserError for a count below 1, where one is given, or a seed below 0."""
    for name, least in [*((name, 1) for name in counts), ("seed", 0)]:
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")


@contextmanager
def one_line_errors(memory_advice: str) -> Iterator[None]:
    """Within, whatever the data, the methods or the machine may raise becomes a `UserError`."""
    try:
        yield
    except OSError as error:  # a data set that is not there, a disk that is full
        raise UserError(f"{error.filename}: {error.strerror}" if error.strerror else str(error)) from None
    except MemoryError:
        raise UserError(f"not enough memory: try {memory_advice}") from None
    except (ValueError, ImportError, RuntimeError, FloatingPointError) as error:
        raise UserError(str(error)) from None


@contextmanager
def enough_memory(source: str | Path, advice: str) -> Iterator[None]:
    """Within, an error of too little memory becomes an `ImageError` that gives advice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "memory" not in str(error).lower():
            raise
        raise ImageError(f"{source}: not enough memory: {advice}") from None
