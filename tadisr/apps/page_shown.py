"""What the page shows of a result, and what it takes from it: pictures, lines, files, strokes of a brush."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np
from PIL import Image, ImageColor

from tadisr.commands.origin import record_of
from tadisr.io.images import LoadedImage, read_image, write_image
from tadisr.io.pages import count_pages
from tadisr.lettering import draw_lines
from tadisr.transparency import seen
from tadisr.trust.check import ASSERTED, KEPT, RETRACED, with_asserted

if TYPE_CHECKING:
    from tadisr.loading.load import Restored
    from tadisr.trust.check import TrustReport

LARGEST_SHOWN = 2400  # pixels a side: browsers get slow, and the files for download are whole
COLUMNS = ["line", "read in the input", "read in the result", "trust"]
SAYS = "what it says"
"""A further column, where a person may type."""
AGREES = "agrees"
SAID = {ASSERTED: "asserted", KEPT: "kept as in the input", RETRACED: "drawn as in the input"}
RESTORED, DRAWN = "restored", "drawn as they surely read before"
DOUBTFUL: Mapping[str, dict[str, Any]] = {
    RESTORED: {}, "kept as they were": {"abstain": True}, DRAWN: {"retrace": True}
}  # fmt: skip
"""What becomes of lines that read otherwise than before, as a restorer takes it."""
COLORS = {
    "agree": "#2e8b57",
    "check": "#d9641e",
    "asserted": "#7c7f8a",
    "kept": "#7c7f8a",
    "retraced": "#7c7f8a",
}  # readable on white and on black
RED = (214, 40, 40)
TEXT, NO_TEXT = "#1e78ff", "#ffc400"
"""What is painted with these is text, or none."""

Asserted = Sequence[tuple[list[list[float]], str]]
"""Lines that a person typed: each a quad, in pixels of the result, and its text."""


@dataclass(frozen=True)
class Options:
    """How a picture is restored."""

    fidelity: float
    scale: float
    check: bool
    tile: int | str
    doubtful: str
    """One of `DOUBTFUL`."""

    @classmethod
    def of(cls, fidelity: float, scale: float, check: bool, tile: str, keep_size: bool, doubtful: str) -> "Options":
        """From what the page's controls say; raises gr.Error."""
        side = str(tile).strip()
        if side != "auto" and not side.isdecimal():
            raise gr.Error(f"A tile is auto or a number of pixels, not {tile!r:.20}.", print_exception=False)
        if doubtful not in DOUBTFUL:
            raise gr.Error(f"Doubtful lines are {', '.join(DOUBTFUL)}, not {doubtful!r:.20}.", print_exception=False)
        tile_side = side if side == "auto" else int(side)
        check = check or doubtful != RESTORED
        return cls(fidelity, 1.0 if keep_size else float(scale), check, tile_side, doubtful)

    def call(self) -> dict[str, Any]:
        """As a restorer takes them."""
        overlap = {} if self.tile == "auto" else {"overlap": min(64, int(self.tile) // 2)}
        how = {"fidelity": self.fidelity, "scale": self.scale, "report": self.check, "tile": self.tile}
        return how | overlap | DOUBTFUL[self.doubtful]


@dataclass(frozen=True)
class Task:
    """What is restored, and how."""

    file: Path
    page: int
    """Counted from 0."""
    options: Options

    @property
    def name(self) -> str:
        """What the page calls it."""
        return f"{self.file.name}, page {self.page + 1}" if self._has_pages else self.file.name

    @property
    def stem(self) -> str:
        """What the names of results begin with."""
        return f"{self.file.stem}_page{self.page + 1}" if self._has_pages else self.file.stem

    @property
    def _has_pages(self) -> bool:
        return count_pages(self.file) > 1


@dataclass(frozen=True, eq=False)
class Shown:
    """The result that a session sees."""

    task: Task
    before: np.ndarray
    after: np.ndarray
    masked: np.ndarray
    """The result with its text in red; all three are (H, W, 3), small enough to be shown."""
    report: "TrustReport | None"
    made: Path
    """The image as it was restored before anybody corrected it, an array in a file."""
    mask: Path
    """The text that was found then."""
    first: "TrustReport | None"
    """What was read then."""
    digests: Sequence[bytes]
    """Of the pixels of each of its lines."""

    def pair(self, show_mask: bool) -> tuple[np.ndarray, np.ndarray]:
        """For the slider."""
        return self.before, self.masked if show_mask else self.after


def views(loaded: LoadedImage, restored: "Restored") -> dict[str, np.ndarray]:
    """The pictures of a `Shown`."""
    before, after = seen(loaded.pixels, restored.image)
    height, width = after.shape[:2]
    share = min(1.0, LARGEST_SHOWN / max(height, width))
    size = (max(1, round(width * share)), max(1, round(height * share)))
    assert restored.mask is not None
    old, new = (
        Image.fromarray(np.ascontiguousarray(x)).resize(size, Image.Resampling.BICUBIC) for x in (before, after)
    )
    mask = Image.fromarray(restored.mask).resize(size, Image.Resampling.BILINEAR)
    red = Image.composite(Image.blend(new, Image.new("RGB", size, RED), 0.6), new, mask)
    return {"before": np.asarray(old), "after": np.asarray(new), "masked": np.asarray(red)}


def write_files(
    folder: Path, stem: str, loaded: LoadedImage, restored: "Restored", scale: float, said: Mapping[str, Any]
) -> list[Path]:
    """The files for download: the image, its mask, and the report where there is one. `said` stands in the metadata."""
    made_by = record_of(said)
    paths = [folder / f"{stem}{ending}" for ending in ("_restored.png", "_mask.png")]
    write_image(paths[0], *loaded.layers(restored.image), loaded.metadata.scaled(scale), made_by=made_by)
    assert restored.mask is not None  # a TADiSR model always gives one
    write_image(paths[1], restored.mask, made_by=made_by)
    if restored.report is not None:
        paths.append(folder / f"{stem}_report.json")
        paths[-1].write_text(json.dumps(restored.report.to_dict(), ensure_ascii=False, indent=1), encoding="utf-8")
    return paths


def rows(report: "TrustReport | None", typed: bool) -> dict[str, Any]:
    """The lines, in the colours of their verdicts; `typed`: with the column `SAYS`."""
    lines = [] if report is None else report.lines
    data, styles = [], []
    for number, line in enumerate(lines, 1):
        trust = SAID.get(line.verdict) or line.reason or AGREES
        says = [line.asserted or ""] if typed else []
        data.append([str(number), line.input.text, line.output.text, trust, *says])
        styles.append(["", "", "", f"color: {COLORS[line.verdict]}; font-weight: 600", *([""] if typed else [])])
    return {"headers": [*COLUMNS, SAYS] if typed else COLUMNS, "data": data, "metadata": {"styling": styles}}


def verdict(report: "TrustReport | None") -> str:
    """A report in a sentence."""
    if report is None:
        return ""
    if report.error is not None:
        return f"Its text could not be read: {report.error}."
    if not report.lines:
        return "No text was found."
    counts = {said: sum(line.verdict == verdict for line in report.lines) for verdict, said in SAID.items()}
    more = "".join(f", {count} {said}" for said, count in counts.items() if count)
    return f"{len(report.to_check)} of {len(report.lines)} lines to check{more}."


def show_views(kept: Shown | None, show_mask: bool) -> Any:
    """The slider with or without the text in red."""
    return gr.skip() if kept is None else kept.pair(show_mask)


def show_line(kept: Shown | None, event: gr.SelectData) -> tuple[Any, Any, Any]:
    """The line whose row was clicked, before and below it after; what it reads; and the place for both."""
    if kept is None or kept.report is None:
        return gr.skip(), gr.skip(), gr.skip()
    line = kept.report.lines[int(event.row_value[0]) - 1]  # the table may be sorted
    height, width = kept.after.shape[:2]
    quad = np.array(line.quad) * [width / kept.report.size[1], height / kept.report.size[0]]
    margin = 0.25 * np.ptp(quad[:, 1])
    left, top = np.maximum(np.floor(quad.min(0) - margin), 0).astype(int)
    right, bottom = np.ceil(quad.max(0) + margin).astype(int)
    cut = [picture[top : bottom + 1, left : right + 1] for picture in (kept.before, kept.after)]
    after = line.output.text if line.asserted is None else f"{line.asserted} (asserted)"
    return np.concatenate(cut), f"before: {line.input.text}\nafter: {after}", gr.Column(visible=True)


def to_paint(kept: Shown | None) -> Any:
    """What the editor begins with: the text that was found, in red, and nothing painted."""
    return None if kept is None else {"background": kept.masked, "layers": [], "composite": None}


def digests(report: "TrustReport | None", image: np.ndarray) -> list[bytes]:
    """Of the pixels of each line of a report on an image (H, W, 3)."""
    found = []
    for line in report.lines if report else []:
        quad = np.array(line.quad)
        (left, top), (right, bottom) = np.maximum(quad.min(0), 0).astype(int), np.ceil(quad.max(0)).astype(int)
        found.append(blake2b(image[top : bottom + 1, left : right + 1].tobytes()).digest())
    return found


def typed_lines(kept: Shown, table: Sequence[Sequence[Any]]) -> Asserted:
    """What a person typed of the lines of a result."""
    lines = {str(number): line for number, line in enumerate(kept.report.lines if kept.report else [], 1)}
    rows = [(lines.get(str(row[0])), str(row[-1]).strip()) for row in table]  # a table takes rows of others, too
    return [(line.quad, text) for line, text in rows if line is not None and text]


def painted(layers: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Strokes of a brush as a text mask (H, W, 2): white is text, black is none, alpha is 0 where nobody painted."""
    mask = np.zeros((*shape, 2), np.uint8)
    text, no_text = (np.array(ImageColor.getrgb(color)) for color in (TEXT, NO_TEXT))
    for layer in layers:
        strokes = np.asarray(
            Image.fromarray(layer).convert("RGBA").resize((shape[1], shape[0]), Image.Resampling.NEAREST)
        )
        colors, given = strokes[..., :3].astype(int), strokes[..., 3] >= 128
        is_text = np.abs(colors - text).sum(-1) < np.abs(colors - no_text).sum(-1)
        mask[given] = np.stack([np.where(is_text, 255, 0), np.full(shape, 255)], -1)[given]
    return mask


def corrected(kept: Shown, loaded: LoadedImage, layers: Sequence[np.ndarray], asserted: Asserted) -> np.ndarray:
    """What a person painted and typed, as a text mask; raises ValueError for what cannot be drawn."""
    found = read_image(kept.mask).rgb[..., 0]
    mask = painted(layers, found.shape)
    drawn = draw_lines(asserted, found, loaded.rgb)
    mask[drawn[..., 1] > 0] = drawn[drawn[..., 1] > 0]
    return mask


def assert_lines(restored: "Restored", asserted: Asserted) -> "Restored":
    """A result whose report says which lines a person typed."""
    return replace(restored, report=restored.report and with_asserted(restored.report, asserted))
