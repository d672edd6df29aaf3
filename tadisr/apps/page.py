"""A web page of one's own: drop a picture, see it before and after, where its text is, and which lines to check.

`tadisr app` serves it. Everything is computed where it runs: the page loads nothing from elsewhere.
"""

import atexit
import json
import os
import shutil
import tempfile
import threading
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
from PIL import Image

import tadisr
from tadisr.commands.plan import PIXEL_MEMORY, SCALE
from tadisr.io.images import ImageError, LoadedImage, read_image, write_image
from tadisr.io.messages import one_line
from tadisr.transparency import seen

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before it is imported
try:
    import gradio as gr
except ImportError:
    raise ImportError("The page needs Gradio: pip install 'tadisr[app]'.") from None

if TYPE_CHECKING:
    from tadisr.loading.load import Restored, Restorer
    from tadisr.trust.check import TrustReport

LARGEST_FILE = "50mb"
MOST_PIXELS = 16_000_000  # of a picture, before it is enlarged
MOST_FILES = 100
LARGEST_SCALE = 8
KEPT = 6 * 3600  # seconds that results can be downloaded
MOST_SESSIONS = 50  # whose last result is in memory
LARGEST_SHOWN = 2400  # pixels a side: browsers get slow, and the files for download are whole
TITLE = "Sharper text in pictures"
ABOUT = (
    "Drop a photo or scan with text. It becomes larger and its text sharper, and the page says which lines to check. "
    "Nothing leaves the machine that serves this page."
)
CAUTION = (
    "Strokes that are nearly lost can come out as the wrong letter. Compare with the picture as it was before you "
    "believe a reading."
)
COLUMNS = ["line", "read in the input", "read in the result", "trust"]
AGREES = "agrees"
COLORS = {"agree": "#2e8b57", "check": "#d9641e"}  # readable on white and on black
RED = (214, 40, 40)
EXAMPLE = Path(__file__).with_name("example.jpg")  # a page from scikit-image (BSD-3-Clause)
FONTS = ("system-ui", "Noto Sans", "sans-serif")  # of the reader's own system
CSS = "footer {display: none !important}"


def can_read() -> bool:
    """Whether the packages are there that read lines."""
    return find_spec("rapidocr") is not None and find_spec("rapidfuzz") is not None


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
    def restorer(self) -> "Restorer":
        """The model, loaded when it is first used."""
        return self._load()

    @property
    def fidelity(self) -> float:
        """Where the dial stands at first."""
        pipe = self.restorer.pipe
        return float(pipe.graph.info.fidelity if self.restorer.graph else pipe.default_fidelity)

    def restore(
        self,
        file: str | None,
        fidelity: float,
        scale: float,
        check: bool,
        show_mask: bool,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008  Gradio finds it there
    ) -> tuple:
        """A picture's file to what the page shows of it: see `build`."""
        if file is None:
            raise gr.Error("Choose a picture first.", print_exception=False)
        stop = self._begin(request)
        loaded = _read(Path(file))
        restored = self._restored(loaded, fidelity, scale, check, _told(stop, progress))
        with _results() as folder:
            files = _write(folder, Path(file).stem, loaded, restored, scale, self.model)
        before, after, masked = _views(loaded, restored)
        kept = {"before": before, "after": after, "masked": masked, "report": restored.report}
        image = restored.image
        done = f"{loaded.rgb.shape[1]} × {loaded.rgb.shape[0]} became {image.shape[1]} × {image.shape[0]} pixels. "
        return (
            (before, masked if show_mask else after), _rows(restored.report), done + _verdict(restored.report),
            [str(path) for path in files], kept, gr.Gallery([], visible=False), gr.Column(visible=True),
        )  # fmt: skip

    def restore_files(
        self,
        files: list[str] | None,
        fidelity: float,
        scale: float,
        check: bool,
        request: gr.Request,
        progress: Any = gr.Progress(),  # noqa: B008
    ) -> tuple[str, list[list[str]]]:
        """Several pictures to one archive, and a row for each; one that cannot be restored stops no other."""
        if not files:
            raise gr.Error("Choose pictures first.", print_exception=False)
        if len(files) > MOST_FILES:
            raise gr.Error(f"At most {MOST_FILES} pictures at a time.", print_exception=False)
        stop, rows, taken = self._begin(request), [], set()
        with _results() as folder, zipfile.ZipFile(archive := folder / "restored.zip", "w") as whole:
            for number, file in enumerate(map(Path, files)):
                progress((number, len(files)), desc=file.name)
                stem, count = file.stem, 1
                while stem in taken:
                    stem, count = f"{file.stem}_{count + 1}", count + 1
                taken.add(stem)
                try:
                    loaded = _read(file)
                    restored = self._restored(loaded, fidelity, scale, check, _told(stop))
                    for path in _write(folder, stem, loaded, restored, scale, self.model):
                        whole.write(path, path.name)
                        path.unlink()
                    rows.append([file.name, _verdict(restored.report) or "restored"])
                except _Cancelled:
                    raise
                except Exception as error:  # whatever one picture may raise
                    said = error.message if isinstance(error, gr.Error) else one_line(error, 200)
                    rows.append([file.name, said])
        return str(archive), rows

    def cancel(self, request: gr.Request) -> None:
        """Stop what this session runs, after the tile that is being restored."""
        if stop := self._stops.get(request.session_hash):
            stop.set()

    def _begin(self, request: gr.Request) -> threading.Event:
        self.cancel(request)
        while len(self._stops) > MOST_SESSIONS:
            del self._stops[next(iter(self._stops))]
        stop = self._stops[request.session_hash] = threading.Event()
        return stop

    def _restored(self, loaded: LoadedImage, fidelity: float, scale: float, check: bool, told: Callable) -> "Restored":
        image = loaded.pixels
        needed = PIXEL_MEMORY * image.shape[0] * image.shape[1] * max(scale, SCALE) ** 2
        if needed > (free := psutil.virtual_memory().available):
            raise gr.Error(
                f"It would take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} are free: take a smaller factor, "
                "or crop the picture.",
                print_exception=False,
            )
        try:
            with self._one_at_a_time:
                return self.restorer.restore(
                    image, fidelity=fidelity, scale=float(scale), report=check, tile_progress=told
                )
        except (ValueError, ImportError, MemoryError, FloatingPointError) as error:
            raise gr.Error(one_line(error), print_exception=False) from None


def _cache() -> str:
    """Where results lie: Gradio serves files below it, and no others."""
    folder = os.environ.get("GRADIO_TEMP_DIR") or str(Path(tempfile.gettempdir()) / "gradio")
    Path(folder).mkdir(parents=True, exist_ok=True)
    return folder


class _Cancelled(gr.Error):
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


def _read(path: Path) -> LoadedImage:
    try:
        loaded = read_image(path)
    except ImageError as error:
        raise gr.Error(str(error).replace(str(path), path.name), print_exception=False) from None
    height, width = loaded.rgb.shape[:2]
    if height * width > MOST_PIXELS:
        most = MOST_PIXELS / 1e6
        raise gr.Error(
            f"{path.name} has {height * width / 1e6:.0f} megapixels, and {most:.0f} are possible: crop or shrink it.",
            print_exception=False,
        )
    return loaded


def _told(stop: threading.Event, progress: Callable | None = None) -> Callable[[Iterable], Iterator]:
    """What to wrap an image's tiles in: it says how far the work is, and stops it."""

    def tiles(grid: Iterable) -> Iterator:
        every = list(grid)
        for done, tile in enumerate(every):
            if stop.is_set():
                raise _Cancelled
            if progress is not None:
                progress((done, len(every)), desc="Restoring", unit="parts")
            yield tile

    return tiles


def _write(folder: Path, stem: str, loaded: LoadedImage, restored: "Restored", scale: float, model: str) -> list[Path]:
    """The files for download: the image, its mask, and the report where there is one."""
    made_by = f"tadisr {version('tadisr')} model={Path(model).name}"
    paths = [folder / f"{stem}{ending}" for ending in ("_restored.png", "_mask.png")]
    write_image(paths[0], *loaded.layers(restored.image), loaded.metadata.scaled(scale), made_by=made_by)
    assert restored.mask is not None  # a TADiSR model always gives one
    write_image(paths[1], restored.mask, made_by=made_by)
    if restored.report is not None:
        paths.append(folder / f"{stem}_report.json")
        paths[-1].write_text(json.dumps(restored.report.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")
    return paths


def _views(loaded: LoadedImage, restored: "Restored") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The input enlarged, the result, and the result with its text in red, (H, W, 3), small enough to be shown."""
    before, after = seen(loaded.pixels, restored.image)
    height, width = after.shape[:2]
    share = min(1.0, LARGEST_SHOWN / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    assert restored.mask is not None
    views = [Image.fromarray(np.ascontiguousarray(x)).resize(size, Image.Resampling.BICUBIC) for x in (before, after)]
    mask = Image.fromarray(restored.mask).resize(size, Image.Resampling.BILINEAR)
    red = Image.blend(views[1], Image.new("RGB", size, RED), 0.6)
    return np.asarray(views[0]), np.asarray(views[1]), np.asarray(Image.composite(red, views[1], mask))


def _rows(report: "TrustReport | None") -> dict[str, Any]:
    """The lines, those to check in another colour."""
    lines = [] if report is None else report.lines
    rows = [[str(number), one.input.text, one.output.text, one.reason or AGREES] for number, one in enumerate(lines, 1)]
    styles = [["", "", "", f"color: {COLORS[one.verdict]}; font-weight: 600"] for one in lines]
    return {"headers": COLUMNS, "data": rows, "metadata": {"styling": styles}}


def _verdict(report: "TrustReport | None") -> str:
    if report is None:
        return ""
    if report.error is not None:
        return f"Its text could not be read: {report.error}."
    if not report.lines:
        return "No text was found."
    return f"{len(report.to_check)} of {len(report.lines)} lines to check."


def show_views(kept: dict | None, show_mask: bool) -> Any:
    """The slider with or without the text in red."""
    return gr.skip() if kept is None else (kept["before"], kept["masked" if show_mask else "after"])


def show_line(kept: dict | None, event: gr.SelectData) -> Any:
    """The line whose row was clicked, before and after."""
    if kept is None or kept["report"] is None:
        return gr.skip()
    report = kept["report"]
    line = report.lines[int(event.row_value[0]) - 1]  # the table may be sorted
    height, width = kept["after"].shape[:2]
    quad = np.array(line.quad) * [width / report.size[1], height / report.size[0]]
    margin = 0.25 * np.ptp(quad[:, 1])
    left, top = np.maximum(np.floor(quad.min(0) - margin), 0).astype(int)
    right, bottom = np.ceil(quad.max(0) + margin).astype(int)
    shown = [
        (kept[name][top : bottom + 1, left : right + 1], f"{name}: {read.text}")
        for name, read in (("before", line.input), ("after", line.output))
    ]
    return gr.Gallery(shown, visible=True)


def build(page: Page) -> gr.Blocks:
    """The page's controls, around its handlers."""
    reads = can_read()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT)) as blocks:
        gr.Markdown(f"# {TITLE}\n{ABOUT}")
        kept = gr.State(None)
        with gr.Row():
            fidelity = gr.Slider(
                0, 1, page.fidelity, step=0.05, label="Doubtful letters", info="0 as they were, 1 sharp"
            )
            scale = gr.Slider(
                1, LARGEST_SCALE, page.restorer.pipe.native_scale or 4, step=0.5, label="Times as large",
                info="of each side",
            )  # fmt: skip
            check = gr.Checkbox(
                reads, label="Check the lines of text", interactive=reads,
                info="reads every line before and after" if reads else "needs pip install 'tadisr[ocr]'",
            )  # fmt: skip
        with gr.Tab("One picture"):
            file = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Picture", height=260
            )
            gr.Examples([[str(EXAMPLE)]], [file], label="Example")
            with gr.Row():
                go = gr.Button("Restore", variant="primary")
                stop = gr.Button("Cancel")
            said = gr.Markdown()
            with gr.Column(visible=False) as result:
                slider = gr.ImageSlider(label="Before and after", type="numpy", interactive=False, max_height=700)
                show_mask = gr.Checkbox(False, label="Show where text was found")
                files = gr.File(label="Download", file_count="multiple", interactive=False)
                lines = gr.Dataframe(
                    headers=COLUMNS, datatype="str", interactive=False, label="Lines: click one to see it", wrap=True,
                    column_widths=["8%", "34%", "34%", "24%"],
                )  # fmt: skip
                zoom = gr.Gallery(
                    label="The line, before and after", columns=1, height="auto", object_fit="contain", visible=False
                )
                gr.Markdown(CAUTION)
            running = go.click(
                page.restore, [file, fidelity, scale, check, show_mask],
                [slider, lines, said, files, kept, zoom, result], api_name="restore", concurrency_limit=1,
                concurrency_id="model", show_progress_on=[said],
            )  # fmt: skip
            stop.click(page.cancel, cancels=[running], queue=False, api_visibility="private")
            show_mask.change(show_views, [kept, show_mask], [slider], show_progress="hidden", api_visibility="private")
            lines.select(show_line, [kept], [zoom], show_progress="hidden", api_visibility="private")
        with gr.Tab("Several files"):
            many = gr.File(label=f"Pictures, at most {MOST_FILES}", file_count="multiple", type="filepath")
            with gr.Row():
                go_many = gr.Button("Restore all", variant="primary")
                stop_many = gr.Button("Cancel")
            archive = gr.File(label="Download", interactive=False)
            results = gr.Dataframe(headers=["file", "result"], datatype="str", interactive=False, wrap=True)
            running_many = go_many.click(
                page.restore_files, [many, fidelity, scale, check], [archive, results], api_name="restore_files",
                concurrency_limit=1, concurrency_id="model",
            )  # fmt: skip
            stop_many.click(page.cancel, cancels=[running_many], queue=False, api_visibility="private")
    return blocks


def launch(page: Page, port: int | None = None, host: str = "127.0.0.1", share: bool = False) -> Any:
    """Serve the page. Returns the `gr.Blocks`: `local_url` is its address, `block_thread()` waits for Ctrl-C.

    Raises OSError where the port is taken.
    """
    if "GRADIO_TEMP_DIR" not in os.environ:  # Gradio serves all that lies below it, also other programs' files
        os.environ["GRADIO_TEMP_DIR"] = folder = tempfile.mkdtemp(prefix="tadisr-app-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
    blocks = build(page)
    blocks.queue(max_size=20)
    theme = gr.themes.Default(primary_hue="blue", font=FONTS, font_mono=("monospace",))
    blocks.launch(
        server_name=host, server_port=port, share=share, quiet=True, prevent_thread_lock=True, show_error=True,
        max_file_size=LARGEST_FILE, state_session_capacity=MOST_SESSIONS, theme=theme, css=CSS,
    )  # fmt: skip
    return blocks
