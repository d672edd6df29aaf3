"""report.html: an evaluation as one self-contained page, for people to judge what the numbers say.

The page asks nothing of any server: style, script and pictures (WebP) lie in it, and its Content Security Policy admits
no other. Whatever comes from data is escaped by Jinja. Without JavaScript everything is shown, in the data's order.
"""

import base64
import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tadisr.evaluation.html_pictures import IMAGE_SIDE, LINE_SIZE, QUALITY, Images, Pictures
from tadisr.evaluation.markdown import ALWAYS, COLUMNS, MASK
from tadisr.metrics.text import normalize_text

HR = "hr"


@dataclass(frozen=True)
class Column:
    """A metric as it is shown: its head with an arrow to the better values, and its format."""

    key: str
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


_COLUMNS = {key: Column(key, *shown) for key, shown in COLUMNS.items()}
_MASK = [Column(key, head, "{:.3f}") for key, head in MASK.items()]


class Run(NamedTuple):
    """A stretch of a reading. kind: "same", "wrong" (read `text` instead of `truth`), "extra" or "missing"."""

    kind: str
    text: str
    truth: str


def compare(read: str, truth: str, rule: str = "none") -> list[Run]:
    """What was read, beside the truth, by the fewest edits; characters that are equal under `rule` count as the same.

    >>> [run[:2] for run in compare("Exlt 1", "Exit 12")]
    [('same', 'Ex'), ('wrong', 'l'), ('same', 't 1'), ('missing', '')]
    """
    from rapidfuzz.distance import Levenshtein

    before, after = _pieces(truth, rule), _pieces(read, rule)
    runs = []
    for kind, a, b, c, d in Levenshtein.opcodes([piece for piece, _ in before], [piece for piece, _ in after]):
        name = {"equal": "same", "replace": "wrong", "insert": "extra", "delete": "missing"}[kind]
        if kind != "equal" and not any(piece for piece, _ in before[a:b] + after[c:d]):
            name = "same"  # characters that the rule leaves out
        runs.append(Run(name, *("".join(whole for _, whole in part) for part in (after[c:d], before[a:b]))))
    return runs


def _pieces(text: str, rule: str) -> list[tuple[str, str]]:
    """The characters as `rule` has them, each with what it was, and with the characters around that the rule drops."""
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


def write_html(report: dict[str, Any], images: Images, path: Path) -> None:
    """Write a report, as `report.json` holds it, as a page.

    Args:
        report: with "methods" in the order to show; the first is what changes are counted from.
        images: (method or "hr", image name) to uint8 RGB (H, W, 3), the HR image's size.
        path: of the HTML file.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    home = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(home), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    script, style = ((home / f"report.html.{kind}").read_text(encoding="utf-8") for kind in ("js", "css"))
    methods = [*(name for name in report["methods"] if name != HR), HR]
    base = methods[0]
    columns = [
        column
        for key, column in _COLUMNS.items()
        if key in ALWAYS or any(method.get(key) is not None for method in report["methods"].values())
    ]
    pictures = Pictures(report, methods, images)
    numbers = {image["name"]: i for i, image in enumerate(report["images"])}
    lines = [_line(i, line, report, methods, pictures) for i, line in enumerate(report["lines"])]
    page = environment.get_template("report.html.jinja").render(
        report=report,
        methods=methods,
        base=base,
        candidates=methods[1:-1] or methods[:1],
        columns=columns,
        rows=_rows(report["methods"], columns, base),
        groups=_groups(report["methods"]),
        masks=_masks(report["methods"]),
        notes=report["settings"].get("notes", []),
        paired=[_paired(test) for test in report["paired"]],
        lines=[line | {"image_number": numbers[line["image"]]} for line in lines],
        images=[_image(i, image, methods, lines, pictures) for i, image in enumerate(report["images"])],
        pictureless_lines=len(lines) - len({i for i, _ in pictures.lines}),
        pictureless_images=len(numbers) - len({name for name, _ in pictures.images}),
        limits={"quality": QUALITY, "line": LINE_SIZE[1], "image": IMAGE_SIDE},
        scripts=sorted({line["script"] for line in report["lines"]}),
        details=json.dumps({key: report[key] for key in ("engines", "settings")}, indent=2, ensure_ascii=False),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=Markup(style),
    )
    # lone surrogates, from file names that are no text
    path.write_bytes(page.encode("utf-8", "backslashreplace"))


# ---- tables


def _rows(methods: dict[str, dict[str, Any]], columns: list[Column], base: str) -> list[dict[str, Any]]:
    """One row per method: a cell for each column, the best of each but the anchors' marked."""
    own = [name for name in methods if name not in (base, HR)]
    best = {}
    for column in columns:
        values = [methods[name][column.key] for name in own if _known(methods[name].get(column.key))]
        if column.better and len(values) > 1:
            best[column.key] = max(values, key=lambda value: value * column.better)
    rows = []
    for name, method in methods.items():
        cells = []
        for column in columns:
            value, delta = method.get(column.key), method["delta"].get(column.key)
            interval = method["intervals"].get(column.key)
            cells.append(
                {
                    "value": column.show(value),
                    "best": name in own and _known(value) and value == best.get(column.key),
                    "interval": interval and [column.show(end) for end in interval],
                    "delta": column.show(delta, sign=True) if _known(delta) and name in own else None,
                    "good": (delta or 0) * column.better,
                }
            )
        rows.append({"name": name, "anchor": name not in own, "cells": cells})
    return rows


def _groups(methods: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Further tables of one row per method: {"title", "heads": [(label, number of lines)], "rows"}."""
    by_script = {name: method["by_script"] for name, method in methods.items()}
    by_height = {
        name: {_height_label(part): part for part in method["by_height"] if part["n"]}
        for name, method in methods.items()
    }
    by_engine = {
        name: {engine: part | {"n": part["n_lines"]} for engine, part in method["engines"].items()}
        for name, method in methods.items()
    }
    tables = []
    for title, groups in (
        ("By script", by_script),
        ("By height of the text", by_height),
        ("Read by other engines", by_engine),
    ):
        heads = {label: part["n"] for parts in groups.values() for label, part in parts.items()}
        rows = [
            {
                "name": name,
                "cells": [[_COLUMNS[key].show(parts[label][key]) for key in ("ocr_a", "exact")] for label in heads],
            }
            for name, parts in groups.items()
        ]
        tables += [{"title": title, "heads": heads.items(), "rows": rows}] if heads else []
    return tables


def _masks(methods: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """How well the methods' text masks fit; None where none has any."""
    rows = [
        {"name": name, "cells": [column.show(method["mask"][column.key]) for column in _MASK]}
        for name, method in methods.items()
        if method.get("mask")
    ]
    return {"heads": [column.head for column in _MASK], "rows": rows} if rows else None


def _height_label(part: dict[str, Any]) -> str:
    return f"from {part['low']} px" if part["high"] is None else f"{part['low']} to {part['high']} px"


def _paired(test: dict[str, Any]) -> dict[str, Any]:
    column = _COLUMNS[test["metric"]]
    return test | {
        "label": column.label,
        "difference": column.show(test["difference"], sign=True),
        "interval": test["interval"] and [column.show(end, sign=True) for end in test["interval"]],
        "p": "–" if test["p"] is None else f"{test['p']:.4f}",
    }


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


# ---- lines and pictures


def _line(
    i: int, line: dict[str, Any], report: dict[str, Any], methods: list[str], pictures: Pictures
) -> dict[str, Any]:
    """What the page shows of a line: for each method its picture, its OCR-A, and what each engine read in it."""
    scores = {name: line["ocr_a"][name] for name in methods if _known(line["ocr_a"].get(name))}
    base = methods[0]
    changes = {name: round(scores[name] - scores[base], 4) for name in scores if base in scores}
    views = [
        {
            "method": name,
            "picture": pictures.lines.get((i, name)),
            "score": scores.get(name),
            "change": changes.get(name) if name not in (base, HR) else None,
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
        "width": max(150, min(max(widths, default=0) + 14, 480)),  # least of a view, in CSS pixels
    }


def _readings(line: dict[str, Any], method: str, report: dict[str, Any]) -> list[dict[str, Any]]:
    """What each engine read, the judge first. Where an engine's reading is the truth, each has its own."""
    rule, judge = report["settings"].get("normalization", "none"), report["judge"]
    readings = []
    for engine in sorted(line["read"].get(method, {}), key=lambda name: name != judge):
        text, truth = line["read"][method][engine]["text"], line["text"]
        if engine != judge and line["source"] == "engine":
            truth = line["read"][HR][engine]["text"]
        runs = compare(text, truth, rule) if truth else [Run("same", text, "")]  # nothing to hold it against
        exact = bool(text and truth) and all(run.kind == "same" for run in runs)
        readings.append({"engine": engine, "judge": engine == judge, "text": text, "runs": runs, "exact": exact})
    return readings


def _image(
    number: int, image: dict[str, Any], methods: list[str], lines: list[dict[str, Any]], pictures: Pictures
) -> dict[str, Any]:
    """What the page shows of a whole image: for each method its picture and its metrics."""
    return {
        "number": number,
        "name": image["name"],
        "size": image["size"],
        "lines": [(line["number"], line["index"]) for line in lines if line["image"] == image["name"]],
        "views": [
            {
                "method": name,
                "picture": pictures.images.get((image["name"], name)),
                "values": [
                    (column.label, column.show(image["methods"][name][column.key]))
                    for column in _COLUMNS.values()
                    if image["methods"].get(name, {}).get(column.key) is not None
                ],
            }
            for name in methods
        ],
    }
