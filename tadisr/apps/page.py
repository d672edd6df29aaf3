"""A web page of one's own: drop a picture, see it before and after, where its text is, and which lines to check.

`tadisr app` serves it. Everything is computed where it runs: the page loads nothing from elsewhere.
"""

import atexit
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # before it is imported
try:
    import gradio as gr
except ImportError:
    raise ImportError("The page needs Gradio: pip install 'tadisr[app]'.") from None

from tadisr.apps.page_shown import (
    COLUMNS,
    DOUBTFUL,
    DRAWN,
    NO_TEXT,
    RESTORED,
    SAYS,
    TEXT,
    show_line,
    show_views,
    to_paint,
)
from tadisr.apps.page_work import MOST_FILES, MOST_SESSIONS, Page, choose, preview

LARGEST_FILE = "50mb"
LARGEST_SCALE = 8
KEPT = 6 * 3600  # seconds that results can be downloaded
TITLE = "Sharper text in pictures"
ABOUT = (
    "Drop a photo, a scan or a PDF with text. It becomes larger and its text sharper, and the page says which lines to "
    "check. Nothing leaves the machine that serves this page."
)
CAUTION = (
    "Strokes that are nearly lost can come out as the wrong letter. Compare with the picture as it was before you "
    "believe a reading."
)
PAINT = (
    f"Paint <span style='color:{TEXT}'>■</span> where text is and <span style='color:{NO_TEXT}'>■</span> where none "
    "is. Red is the text that was found. The model decides wherever you paint nothing."
)
EXAMPLE = Path(__file__).with_name("example.jpg")  # a page from scikit-image (BSD-3-Clause)
FONTS = ("system-ui", "Noto Sans", "sans-serif")  # of the reader's own system
CSS = "footer {display: none !important}"
PASTE = """() => document.addEventListener("paste", async (event) => {
  const files = event.clipboardData.files;
  if (!files.length) return;
  document.querySelector("#picture button[aria-label=Clear]")?.click();
  let input;
  while (!(input = document.querySelector("#picture input[type=file]"))) {
    await new Promise(requestAnimationFrame);
  }
  input.files = files;
  input.dispatchEvent(new Event("change"));
})"""
"""A picture from the clipboard, pasted anywhere."""


def can_read() -> bool:
    """Whether the packages are there that read lines."""
    return find_spec("rapidocr") is not None and find_spec("rapidfuzz") is not None


def build(page: Page) -> gr.Blocks:
    """The page's controls, around its handlers."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT)) as blocks:
        gr.Markdown(f"# {TITLE}\n{ABOUT}")
        settings, more = _settings(page)
        with gr.Tab("One picture"):
            _one_picture(page, settings, more)
        with gr.Tab("Several files"):
            _several_files(page, [*settings, *more])
    return blocks


def _settings(page: Page) -> tuple[list[Any], list[Any]]:
    """How pictures are restored: what everybody sees, and what is under "Advanced"."""
    reads = can_read()
    with gr.Row():
        fidelity = gr.Slider(0, 1, page.fidelity, step=0.05, label="Doubtful letters", info="0 as they were, 1 sharp")
        scale = gr.Slider(
            1, LARGEST_SCALE, page.native_scale or 4, step=0.5, label="Times as large",
            info="of each side",
        )  # fmt: skip
        check = gr.Checkbox(
            reads, label="Check the lines of text", interactive=reads,
            info="reads every line before and after" if reads else "needs pip install 'tadisr[ocr]'",
        )  # fmt: skip
    with gr.Accordion("Advanced", open=False), gr.Row():
        tile = gr.Dropdown(
            ["auto", "256", "512", "1024"], value="auto", label="Tile", allow_custom_value=True,
            info="pixels a side of a part; smaller ones need less memory",
        )  # fmt: skip
        keep_size = gr.Checkbox(False, label="Keep the picture's size", info="sharper text, and no more pixels")
        doubtful = gr.Dropdown(
            [name for name in DOUBTFUL if name != DRAWN or page.takes_masks], value=RESTORED, label="Doubtful lines",
            interactive=reads, info="those that read otherwise than before are",
        )  # fmt: skip
    return [fidelity, scale, check], [tile, keep_size, doubtful]


def _one_picture(page: Page, settings: list[Any], more: list[Any]) -> None:
    kept = gr.State(None)
    file = gr.File(label="Picture, scan or PDF: drop, choose or paste it", height=130, elem_id="picture")
    number = gr.Number(1, label="Page", minimum=1, precision=0, visible=False, elem_id="page")
    shown = gr.Image(label="As it is", interactive=False, height=220, visible=False, buttons=[])
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
            headers=[*COLUMNS, SAYS] if page.takes_masks else COLUMNS, datatype="str", wrap=True, type="array",
            label="Lines: click one to see it", interactive=page.takes_masks, static_columns=[0, 1, 2, 3],
            column_widths=["8%", "26%", "26%", "16%", "24%"] if page.takes_masks else ["8%", "34%", "34%", "24%"],
        )  # fmt: skip
        with gr.Column(visible=False) as zoom:
            line = gr.Image(show_label=False, interactive=False, buttons=[])
            reads = gr.Textbox(show_label=False, lines=2, interactive=False)
        gr.Markdown(CAUTION)
        editing = _correction() if page.takes_masks else None
    file.change(choose, [file], [number, shown], show_progress="hidden", api_visibility="private")
    number.input(preview, [file, number], [shown], show_progress="hidden", api_visibility="private")
    outputs, one = [slider, lines, said, files, kept, zoom, result], {"concurrency_limit": 1, "concurrency_id": "model"}
    first = go.click(
        page.restore, [file, *settings, show_mask, number, *more], outputs, api_name="restore",
        show_progress_on=[shown], **one,
    )  # fmt: skip
    running: list[dict[str, Any]] = [first]
    if editing is not None:
        editor, again, stop_again, told = editing
        first.success(to_paint, [kept], [editor], show_progress="hidden", api_visibility="private")
        second = again.click(
            page.correct, [kept, editor, lines, show_mask], outputs, api_name="correct", show_progress_on=[told], **one
        )
        second.success(lambda text: text, [said], [told], show_progress="hidden", api_visibility="private")
        running.append(second)
        stop_again.click(page.cancel, cancels=running, queue=False, api_visibility="private")
    stop.click(page.cancel, cancels=running, queue=False, api_visibility="private")
    show_mask.change(show_views, [kept, show_mask], [slider], show_progress="hidden", api_visibility="private")
    lines.select(show_line, [kept], [line, reads, zoom], show_progress="hidden", api_visibility="private")


def _correction() -> tuple[Any, Any, Any, Any]:
    """Where a person corrects what the model found: the editor, two buttons, and a place for words."""
    with gr.Accordion("Correct where text is", open=False):
        gr.Markdown(PAINT)
        editor = gr.ImageEditor(
            sources=(), transforms=(), layers=False, format="png", show_label=False, buttons=[], height=560,
            brush=gr.Brush(default_size=8, colors=[TEXT, NO_TEXT], default_color=TEXT, color_mode="fixed"),
            eraser=gr.Eraser(default_size=16),
        )  # fmt: skip
    gr.Markdown(f"Type what a line reads into the column “{SAYS}”: it is drawn, and marked as asserted.")
    with gr.Row():
        again = gr.Button("Restore what changed", variant="primary")
        stop = gr.Button("Cancel")
    return editor, again, stop, gr.Markdown(min_height=100)  # room for how far the work is


def _several_files(page: Page, settings: list[Any]) -> None:
    many = gr.File(label=f"Pictures and PDFs, at most {MOST_FILES} pages", file_count="multiple", type="filepath")
    with gr.Row():
        go = gr.Button("Restore all", variant="primary")
        stop = gr.Button("Cancel")
    archive = gr.File(label="Download", interactive=False)
    results = gr.Dataframe(headers=["file", "result"], datatype="str", interactive=False, wrap=True)
    running = go.click(
        page.restore_files, [many, *settings], [archive, results], api_name="restore_files", concurrency_limit=1,
        concurrency_id="model", show_progress_on=[archive],
    )  # fmt: skip
    stop.click(page.cancel, cancels=[running], queue=False, api_visibility="private")


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
        max_file_size=LARGEST_FILE, state_session_capacity=MOST_SESSIONS, theme=theme, css=CSS, js=PASTE,
    )  # fmt: skip
    return blocks
