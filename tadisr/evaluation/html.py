"""report.html: an evaluation as one self-contained page, on which people can judge the lines and images themselves.

Style, script and pictures are part of the page, and its Content Security Policy admits no others. Jinja escapes all
text that comes from data. Without JavaScript everything is shown, in the data's order.
"""

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from tadisr.evaluation.html_pictures import IMAGE_SIDE, LINE_SIZE, QUALITY, Images, Pictures
from tadisr.evaluation.markdown import COLUMNS, MASK, shown_columns
from tadisr.evaluation.methods import HR_ANCHOR
from tadisr.evaluation.records import LineRecord, MethodResult, Report
from tadisr.io.atomic import write_atomically
from tadisr.io.messages import visible
from tadisr.metrics.text import normalize_text


class Column(NamedTuple):
    """How a metric is shown: its head, with an arrow to the better values, and its format."""

    head: str
    form: str

    @property
    def label(self) -> str:
        return self.head.rstrip(" ↑↓")

    @property
    def better(self) -> int:
        """1 where higher values are better, -1 where lower ones are, 0 where neither."""
        return self.head.endswith("↑") - self.head.endswith("↓")

    def show(self, value: float | None, sign: bool = False) -> str:
        """A value as text; an en dash where there is none."""
        if value is None or math.isnan(value):
            return "–"
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        text = (self.form.replace(":", ":+") if sign else self.form).format(value)
        return text.replace("-", "−").replace("%", "\N{NARROW NO-BREAK SPACE}%")


_COLUMNS = {key: Column(*shown) for key, shown in COLUMNS.items()}


class Run(NamedTuple):
    """A part of a reading. kind: "same", "wrong" (`text` was read instead of `truth`), "extra" or "missing"."""

    kind: str
    text: str
    truth: str


def compare(read: str, truth: str, rule: str = "none") -> list[Run]:
    """Align a reading with the truth by the fewest edits; characters that are equal under `rule` count as the same.

    >>> [run[:2] for run in compare("Exlt 1", "Exit 12")]
    [('same', 'Ex'), ('wrong', 'l'), ('same', 't 1'), ('missing', '')]
    """
    from rapidfuzz.distance import Levenshtein

    before, after = _pieces(truth, rule), _pieces(read, rule)
    runs = []
    for code in Levenshtein.opcodes([piece for piece, _ in before], [piece for piece, _ in after]):
        kind, a, b, c, d = code.tag, code.src_start, code.src_end, code.dest_start, code.dest_end
        name = {"equal": "same", "replace": "wrong", "insert": "extra", "delete": "missing"}[kind]
        if kind != "equal" and not any(piece for piece, _ in before[a:b] + after[c:d]):
            name = "same"  # all these characters are left out by the rule
        runs.append(Run(name, *("".join(whole for _, whole in part) for part in (after[c:d], before[a:b]))))
    return runs


def _pieces(text: str, rule: str) -> list[tuple[str, str]]:
    """The characters after normalisation, each with the original: the character and the dropped ones around it."""
    pieces: list[tuple[str, str]] = []
    dropped = ""
    for character in text:
        if normal := normalize_text(character, rule):
            pieces.append((normal, dropped + character))
            dropped = ""
        elif pieces:
            pieces[-1] = (pieces[-1][0], pieces[-1][1] + character)
        else:
            dropped += character
    return pieces or ([("", dropped)] if dropped else [])


def _shown(value: Any) -> Any:
    """Text from outside, with escapes for what would reorder the page; markup as it is."""
    return visible(value) if type(value) is str else value


def write_html(report: Report, images: Images, path: Path) -> None:
    """Write a report as a page: its methods in their order, with changes counted from the first.

    images: gives, for (method or "hr", image name), uint8 RGB (H, W, 3) of the HR image's size.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    home = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(home),
        autoescape=True,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    script, style = ((home / f"report.html.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    methods = [*(name for name in report["methods"] if name != HR_ANCHOR), HR_ANCHOR]
    columns = shown_columns(report)
    best = {}  # values of columns, where there is a choice; anchors do not count
    for key in columns:
        values = [value for name in methods[1:-1] if (value := report["methods"][name][key]) is not None]
        if _COLUMNS[key].better and len(values) > 1:
            best[key] = (max if _COLUMNS[key].better > 0 else min)(values)
    pictures = Pictures(report, methods, images)
    numbers = {image["name"]: i for i, image in enumerate(report["images"])}
    lines = [_line(i, line, report, methods, pictures) for i, line in enumerate(report["lines"])]
    details = json.dumps({key: report[key] for key in ("engines", "settings")}, indent=2, ensure_ascii=False)
    page = environment.get_template("report.html.jinja").render(
        report=report,
        methods=methods,
        base=methods[0],
        own=methods[1:-1],
        metrics=_COLUMNS,
        columns=columns,
        best=best,
        groups=_groups(report["methods"]),
        masks=MASK,
        lines=lines,
        numbers=numbers,
        pictures=pictures,
        pictureless_lines=len(lines) - len({i for i, _ in pictures.lines}),
        pictureless_images=len(numbers) - len({name for name, _ in pictures.images}),
        limits={"quality": QUALITY, "line": LINE_SIZE[1], "image": IMAGE_SIDE},
        scripts=sorted({line["script"] for line in report["lines"]}),
        details=Markup("\n").join(map(visible, details.splitlines())),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
    )
    write_atomically(path, page)


def _groups(methods: dict[str, MethodResult]) -> list[dict[str, Any]]:
    """Further tables of one row per method: {"title", "heads": [(label, number of lines)], "rows"}."""
    titles = {"by_script": "By script", "by_height": "By height of the text", "engines": "Read by other engines"}
    tables = []
    for key, title in titles.items():
        heads, rows = [], []
        for name, method in methods.items():
            parts = method[key]
            if key == "by_height":
                parts = {
                    f"from {part['low']} px" if part["high"] is None else f"{part['low']} to {part['high']} px": part
                    for part in parts
                    if part["n"]
                }
            annotated = key == "engines" and not method["n_lines"]
            number = "n" if key != "engines" else "n_annotated" if annotated else "n_lines"
            shown = ("ocr_a_annotated", "accuracy") if annotated else ("ocr_a", "exact")
            heads = [(label, part[number]) for label, part in parts.items()]
            cells = [[_COLUMNS[metric].show(part[metric]) for metric in shown] for part in parts.values()]
            rows.append({"name": name, "cells": cells})
        tables += [{"title": title, "heads": heads, "rows": rows}] if heads else []
    return tables


def _line(i: int, line: LineRecord, report: Report, methods: list[str], pictures: Pictures) -> dict[str, Any]:
    """A line on the page: for each method its picture, its OCR-A and the engines' readings."""
    scores = {name: score for name in methods if (score := line["ocr_a"].get(name)) is not None}
    base = methods[0]
    changes = {name: round(scores[name] - scores[base], 4) for name in scores if base in scores}
    views = [
        {
            "method": name,
            "picture": pictures.lines.get((i, name)),
            "score": scores.get(name),
            "change": changes.get(name) if name not in (base, HR_ANCHOR) else None,
            "readings": _readings(line, name, report),
        }
        for name in methods
    ]
    widths = [view["picture"].shown_width for view in views if view["picture"]]
    return {
        "number": i,
        **{key: line[key] for key in ("image", "index", "text", "source", "script")},
        "height": round(line["height"], 1),
        "scores": json.dumps(scores),
        "changes": json.dumps(changes),
        "views": views,
        "width": max(150, min(max(widths, default=0) + 14, 480)),  # least width of a view, in CSS pixels
    }


def _readings(line: LineRecord, method: str, report: Report) -> list[dict[str, Any]]:
    """The engines' readings, the judge's first. Where a reading is the truth, each engine has its own."""
    rule, judge = report["settings"]["normalization"], report["judge"]
    readings = []
    for engine in sorted(line["read"].get(method, {}), key=lambda name: name != judge):
        text, truth = line["read"][method][engine]["text"], line["text"]
        if engine != judge and line["source"] == "engine":
            truth = line["read"][HR_ANCHOR][engine]["text"]
        runs = compare(text, truth, rule) if truth else [Run("same", text, "")]  # there is nothing to compare it with
        exact = bool(text and truth) and all(run.kind == "same" for run in runs)
        readings.append({"engine": engine, "judge": engine == judge, "text": text, "runs": runs, "exact": exact})
    return readings
