"""What the page does: reads what was dropped, restores it, and restores again what a person corrected."""

import json
import os
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import gradio as gr
import numpy as np
import psutil
from PIL import Image

import tadisr
from tadisr.apps.page_shown import (
    RESTORED,
    Options,
    Shown,
    Task,
    assert_lines,
    corrected,
    digests,
    rows,
    typed_lines,
    verdict,
    views,
    write_files,
)
from tadisr.commands.plan import PIXEL_MEMORY, SCALE
from tadisr.io.images import ImageError, LoadedImage, read_image
from tadisr.io.messages import one_line
from tadisr.io.pages import count_pages, read_page
from tadisr.loading.load import Restored, Restorer
from tadisr.trust.check import check_again

MOST_PIXELS = 16_000_000  # of a picture, before it is enlarged
MOST_FILES = 100
MOST_SESSIONS = 50  # whose last result is in memory
LARGEST_PREVIEW = 1200  # pixels a side
NOTHING: Mapping[str, str | None] = MappingProxyType({})


class Page:
    """What the page does, for one model; its methods are the page's handlers.

    Args:
        model: bundled name, folder or Hub id, as `tadisr.load` takes it.
        device, runtime: likewise.
    """

    def __init__(self, model: str = "tadisr-tiny", device: str = "auto", runtime: str = "auto"):
        self.model = model
        self._load = lru_cache(1)(lambda: tadisr.load(model, device, pipeline="TADiSRPipeline", runtime=runtime))
        self._one_at_a_time = threading.Lock()
        self._stops: dict[str | None, threading.Event] = {}
        """Of each session, what stops its run: Gradio ends the waiting, and not the work."""

    @property
    def restorer(self) -> Restorer:
        """The model, loaded when it is first used."""
        return self._load()

    @property
    def fidelity(self) -> float:
        """Where the dial stands at first."""
        pipe = self.restorer.pipe
        return float(pipe.graph.info.fidelity if self.restorer.graph else pipe.default_fidelity)

    @property
    def native_scale(self) -> int | None:
        """The factor that the model was trained for."""
        pipe = self.restorer.pipe
        return pipe.native_scale if self.restorer.graph else pipe.config["native_scale"]

    @property
    def takes_masks(self) -> bool:
        """Whether a person can correct where text is."""
        return self.restorer.pipe.takes_masks

    def restore(
        self,
        file: str | None,
        fidelity: float,
        scale: float,
        check: bool,
        show_mask: bool,
        page: int,
        tile: str,
        keep_size: bool,
        doubtful: str,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008  Gradio finds it there
    ) -> tuple:
        """A page of a file to what the page shows of it: see `build`."""
        if file is None:
            raise gr.Error("Choose a picture first.", print_exception=False)
        stop, options = self._begin(request), Options.of(fidelity, scale, check, tile, keep_size, doubtful)
        task = Task(Path(file), max(0, int(page or 1) - 1), options)
        loaded = _read(task.file, task.page)
        restored = self._restored(loaded, options, _told(stop, progress))
        files = self._files(task, loaded, restored)
        np.save(made := files[0].with_name("restored.npy"), restored.image)
        kept = Shown(
            task, **views(loaded, restored), report=restored.report, made=made, mask=files[1], first=restored.report,
            digests=digests(restored.report, restored.image),
        )  # fmt: skip
        return self._outputs(kept, loaded, restored, show_mask, files)

    def correct(
        self,
        kept: Shown | None,
        edited: dict | None,
        table: list[list[str]],
        show_mask: bool,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> Iterator[tuple]:
        """The same result with what was painted in the editor and typed into the table; what is untouched is kept.

        It is shown first, and then once more with its files: to write a large picture takes seconds.
        """
        if kept is None:
            raise gr.Error("Restore a picture first.", print_exception=False)
        stop, task = self._begin(request), kept.task
        loaded = _read(task.file, task.page)
        layers, asserted = (edited or {}).get("layers") or [], typed_lines(kept, table)
        painted = any(layer[..., 3].any() for layer in layers)
        with _said_in_one_line():
            mask = corrected(kept, loaded, layers, asserted)
        # Strokes may show lines that were not found before; what is typed changes lines that are known.
        known = None if painted or (kept.first and kept.first.error) else kept.first
        # What a person says is not doubted, and lines that were kept or drawn before are so in `made`.
        options = replace(task.options, doubtful=RESTORED, check=task.options.check and known is None)
        first = Restored(np.load(kept.made), read_image(kept.mask).rgb[..., 0])
        restored = self._restored(loaded, options, _told(stop, progress), text_mask=mask, first=first)
        if known is not None:
            same = zip(digests(known, restored.image), kept.digests, strict=True)
            report = check_again(known, restored.image, [one != other for one, other in same])
            restored = replace(restored, report=report)
        corrections = {
            "text_mask": "painted" if painted else None,
            "asserted": json.dumps([text for _, text in asserted], ensure_ascii=False) if asserted else None,
        }
        restored = assert_lines(restored, asserted)
        kept = replace(kept, **views(loaded, restored), report=restored.report)
        yield self._outputs(kept, loaded, restored, show_mask)
        yield self._outputs(kept, loaded, restored, show_mask, self._files(task, loaded, restored, corrections))

    def _files(
        self, task: Task, loaded: LoadedImage, restored: Restored, corrections: Mapping[str, str | None] = NOTHING
    ) -> list[Path]:
        """What is offered for download."""
        with _results() as folder:
            record = self._record(corrections)
            return write_files(folder, task.stem, loaded, restored, task.options.scale, record)

    def _outputs(
        self, kept: Shown, loaded: LoadedImage, restored: Restored, show_mask: bool, files: Iterable[Path] = ()
    ) -> tuple:
        """What the page shows of a result."""
        height, width = restored.image.shape[:2]
        done = f"{loaded.rgb.shape[1]} × {loaded.rgb.shape[0]} became {width} × {height} pixels. "
        return (
            kept.pair(show_mask), rows(restored.report, self.takes_masks), done + verdict(restored.report),
            [str(path) for path in files] or None, kept, gr.Column(visible=False), gr.Column(visible=True),
        )  # fmt: skip

    def restore_files(
        self,
        files: list[str] | None,
        fidelity: float,
        scale: float,
        check: bool,
        tile: str,
        keep_size: bool,
        doubtful: str,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, list[list[str]]]:
        """All pages of several files to one archive, and a row for each; one that cannot be restored stops no other."""
        if not files:
            raise gr.Error("Choose pictures first.", print_exception=False)
        tasks = _tasks(files, Options.of(fidelity, scale, check, tile, keep_size, doubtful))
        if len(tasks) > MOST_FILES:
            raise gr.Error(f"They have {len(tasks)} pages: at most {MOST_FILES} at a time.", print_exception=False)
        stop, results, taken, started = self._begin(request), [], set(), time.monotonic()
        with _results() as folder, zipfile.ZipFile(archive := folder / "restored.zip", "w") as whole:
            for done, task in enumerate(tasks):
                name = task.file.name
                progress((done, len(tasks)), desc=f"{name}{_left(started, done / len(tasks))}", unit="pages")
                try:
                    loaded, name, stem = _read(task.file, task.page), task.name, _unlike(task.stem, taken)
                    restored = self._restored(loaded, task.options, _told(stop))
                    for path in write_files(folder, stem, loaded, restored, task.options.scale, self._record()):
                        whole.write(path, path.name)
                        path.unlink()
                    results.append([name, verdict(restored.report) or "restored"])
                except Cancelled:
                    raise
                except Exception as error:  # whatever one picture may raise
                    results.append([name, error.message if isinstance(error, gr.Error) else one_line(error, 200)])
        return str(archive), results

    def cancel(self, request: gr.Request) -> None:
        """Stop what this session runs, after the tile that is being restored."""
        if stop := self._stops.get(request.session_hash):
            stop.set()

    def _record(self, corrections: Mapping[str, str | None] = NOTHING) -> dict[str, Any]:
        """What made a result, and what a person decided of it."""
        return {"model": Path(self.model).name, **corrections}

    def _begin(self, request: gr.Request) -> threading.Event:
        self.cancel(request)
        while len(self._stops) > MOST_SESSIONS:
            del self._stops[next(iter(self._stops))]
        stop = self._stops[request.session_hash] = threading.Event()
        return stop

    def _restored(self, loaded: LoadedImage, options: Options, told: Callable, **correction: Any) -> Restored:
        height, width = loaded.rgb.shape[:2]
        needed = PIXEL_MEMORY * height * width * max(options.scale, SCALE) ** 2
        needed *= 2 if correction else 1
        if needed > (free := psutil.virtual_memory().available):
            raise gr.Error(
                f"It would take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: take a smaller factor, "
                "or crop the picture.",
                print_exception=False,
            )
        with _said_in_one_line(), self._one_at_a_time:
            return self.restorer.restore(loaded.pixels, tile_progress=told, **options.call(), **correction)


def choose(file: str | None) -> tuple[Any, Any]:
    """The control for a file's pages, where it has several, and its first page."""
    if file is not None:
        try:
            with _said_in_one_line(Path(file)):
                pages = count_pages(file)
            return gr.Number(1, maximum=pages, info=f"of {pages}", visible=pages > 1), preview(file, 1)
        except gr.Error as error:
            gr.Warning(error.message, duration=None, title="Cannot be read")
    return gr.Number(1, visible=False), gr.Image(None, visible=False)


def preview(file: str | None, page: int | None) -> Any:
    """A page of a file, small."""
    if file is None:
        return gr.skip()
    loaded = _read(Path(file), max(0, int(page or 1) - 1))
    image = Image.fromarray(np.ascontiguousarray(loaded.pixels))
    image.thumbnail((LARGEST_PREVIEW, LARGEST_PREVIEW))
    return gr.Image(image, visible=True)


def _cache() -> str:
    """Where results lie: Gradio serves files below it, and no others."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


class Cancelled(gr.Error):
    """The work was stopped."""

    def __init__(self):
        super().__init__("Cancelled.", print_exception=False)


@contextmanager
def _results() -> Iterator[Path]:
    """A folder for what is offered for download; gone after an exception."""
    folder = Path(tempfile.mkdtemp(prefix="tadisr-", dir=_cache()))
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


@contextmanager
def _said_in_one_line(path: Path | None = None) -> Iterator[None]:
    """What a person can do something about, as a message of the page; `path` is shown by its name alone."""
    try:
        yield
    except (ValueError, ImportError, MemoryError, FloatingPointError) as error:
        said = one_line(error)
        raise gr.Error(said if path is None else said.replace(str(path), path.name), print_exception=False) from None


def _read(path: Path, page: int) -> LoadedImage:
    with _said_in_one_line(path):
        return read_page(path, page, MOST_PIXELS)


def _tasks(files: Iterable[str], options: Options) -> list[Task]:
    """All pages of all files; of a file that cannot be read one, which will say so."""
    tasks = []
    for file in map(Path, files):
        try:
            pages = count_pages(file)
        except (ImageError, ImportError):
            pages = 1
        tasks += [Task(file, page, options) for page in range(pages)]
    return tasks


def _unlike(stem: str, taken: set[str]) -> str:
    """A stem that no other result has; it is taken then."""
    number, tried = 1, stem
    while tried in taken:
        number += 1
        tried = f"{stem}_{number}"
    taken.add(tried)
    return tried


def _told(stop: threading.Event, progress: Callable | None = None) -> Callable[[Iterable], Iterator]:
    """What to wrap an image's tiles in: it says how far the work is, and stops it."""

    def tiles(grid: Iterable) -> Iterator:
        every, started = list(grid), time.monotonic()
        for done, tile in enumerate(every):
            if stop.is_set():
                raise Cancelled
            if progress is not None:
                left = _left(started, done / len(every))
                progress((done, len(every)), desc=f"Restoring{left}", unit="parts")
            yield tile

    return tiles


def _left(started: float, share: float) -> str:
    """The time that is left where a share of the work is done, in words; nothing where that says nothing yet."""
    seconds = (time.monotonic() - started) * (1 / share - 1) if share else 0
    if seconds < 1:
        return ""
    return f", about {f'{seconds:.0f} s' if seconds < 90 else f'{seconds / 60:.0f} min'} left"
