"""The report as Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tadisr.evaluation.records import Comparison, MethodResult, Report
from tadisr.io.messages import visible

_MARKUP = re.compile(r"[\\`*<>\[\]|&~$]|(?<!\w)_|_(?!\w)|^[#+-]")
COLUMNS = {
    "psnr": ("PSNR ↑", "{:.2f}"),
    "psnr_text": ("PSNR on text ↑", "{:.2f}"),
    "psnr_rest": ("PSNR elsewhere ↑", "{:.2f}"),
    "ssim": ("SSIM ↑", "{:.3f}"),
    "lpips": ("LPIPS ↓", "{:.3f}"),
    "st_lpips": ("ST-LPIPS ↓", "{:.3f}"),
    "fid": ("FID ↓", "{:.2f}"),
    "readers": ("mean of all readers ↑", "{:.3f}"),
    "ocr_a": ("OCR-A ↑", "{:.3f}"),
    "ocr_a_annotated": ("OCR-A, annotated ↑", "{:.3f}"),
    "ocr_a_levenshtein": ("OCR-A, unit cost ↑", "{:.3f}"),
    "exact": ("lines read exactly ↑", "{:.1%}"),
    "harm_rate": ("lines harmed ↓", "{:.1%}"),
    "help_rate": ("lines helped ↑", "{:.1%}"),
    "ned": ("NED, annotated ↑", "{:.3f}"),
    "accuracy": ("accuracy, annotated ↑", "{:.1%}"),
    "seconds": ("seconds", "{:.2f}"),
}
_TABLE_1 = ("psnr", "ssim", "lpips", "fid", "ocr_a")
_READ = ("exact", "harm_rate", "help_rate")
MASK = {"iou": "mask IoU ↑", "f": "mask F ↑", "boundary_f": "outline F ↑"}


def plain(text: str) -> str:
    """A name from outside as Markdown that shows it as it is, in one line."""
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def shown_columns(report: Report) -> list[str]:
    """The columns of the main table: Table 1's, and those in which there is something."""
    rows = list(report["methods"].values())
    always = (*_TABLE_1, *_READ) if rows[0]["n_lines"] or not rows[0]["n_annotated"] else _TABLE_1[:-1]
    return [key for key in COLUMNS if key in always or any(row[key] is not None for row in rows)]


def main_table(report: Report) -> str:
    """Table 1 of the paper behind what each method changes in the LR image: a row each, the anchors first and last."""
    shown = shown_columns(report)
    masks = MASK if any(row["mask"] for row in report["methods"].values()) else {}
    labels = {report["anchors"]["lr"]: f"{report['anchors']['lr']} (LR)", report["anchors"]["hr"]: "HR"}
    rows = [
        [
            labels.get(name) or plain(name),
            _gain(report, name),
            *_cells(row, shown),
            *(_cell("{:.3f}", row["mask"][key] if row["mask"] else None) for key in masks),
        ]
        for name, row in report["methods"].items()
    ]
    method, *heads = _heads(shown)
    return _table([method, f"{COLUMNS[_main(report)][0][:-2]} against LR [95 %]", *heads, *masks.values()], rows)


def _main(report: Report) -> str:
    """The measure of reading: the paper's OCR-A, or its annotated form where no engine's reading is the truth."""
    first = next(iter(report["methods"].values()))
    return "ocr_a" if first["n_lines"] or not first["n_annotated"] else "ocr_a_annotated"


def _gain(report: Report, name: str) -> str:
    """By how much a method changes the OCR-A of the LR image, and the interval."""
    main = _main(report)
    for one in report["paired"]:
        if (one["a"], one["b"], one["metric"]) == (report["anchors"]["lr"], name, main):
            low, high = (_cell("{:.3f}", x, sign=True) for x in one["interval"] or (None, None))
            return f"{_cell('{:.3f}', one['difference'], sign=True)} [{low}, {high}]"
    return _cell("", None)


def trust_table(report: Report) -> str:
    """How many lines a trust report would call fine, and how many of them are right."""
    found = {name: row["trust"] for name, row in report["methods"].items() if row["trust"]}
    if not found:
        return "No line of a restored image was compared with a text."
    rows = []
    for name, one in found.items():
        right, wrong = _share(one["right"], one["interval"]), _share(one["wrong"])
        least = _cell("{:.3f}", one["sure_score"])
        rows.append([plain(name), str(one["fine"]), right, str(one["to_check"]), wrong, least])
        for engine, two in one["also_read_by"].items():
            rows.append([f"read so by {engine}, too", str(two["fine"]), _share(two["right"]), "–", "–", "–"])
    head = ["method", "lines called fine", "right among them [95 %]", "lines to check", "wrong among them"]
    head.append("5 % wrong from a confidence of")
    return _table(head, rows)


def _share(value: float | None, interval: Sequence[float] | None = None) -> str:
    text = _cell("{:.1%}", value)
    return text if interval is None else f"{text} [{', '.join(_cell('{:.1%}', x) for x in interval)}]"


def to_markdown(report: Report) -> str:
    """report.md."""
    methods = report["methods"]
    first = next(iter(methods.values()))
    reader = (
        f"{report['judge']} reads" if report["settings"]["finds_lines"] else "an engine read, as the data set says,"
    )
    compared = (
        "psnr",
        "ssim",
        "lpips",
        *(("ocr_a", "exact") if _main(report) == "ocr_a" else ("ocr_a_annotated", "accuracy")),
    )
    parts = [
        f"# {plain(report['data'])}, {report['scale']}x",
        f"{first['n_images']} images, {first['n_lines']} lines that {reader} in the HR images, "
        f"{first['n_annotated']} annotated lines. Differences are to the LR row; brackets hold 95 % intervals.",
        main_table(report),
        *(f"- {plain(note)}" for note in report["settings"]["notes"]),
        "## Against the LR images",
        _table(
            _heads(compared),
            ([plain(name), *(_interval(row, key) for key in compared)] for name, row in methods.items()),
        ),
    ]
    if any(row["trust"] for row in methods.values()):
        parts += ["## Lines called fine", trust_table(report)]
    if report["paired"]:
        # the other metrics are in report.json
        shown = ("psnr", "ssim", "lpips", "ocr_a", "ocr_a_annotated", "ned")
        rows = [_paired(one) for one in report["paired"] if one["metric"] in shown]
        heads = ["methods", "metric", "difference", "95 % interval", "p", "n"]
        parts += ["## Between methods, on the same images and lines", _table(heads, rows)]
    if first["by_script"]:
        rows = [[plain(name), *_ocr_a(row["by_script"].values())] for name, row in methods.items()]
        heads = [f"{script} (n = {part['n']})" for script, part in first["by_script"].items()]
        parts += ["## OCR-A by script", _table(["method", *heads], rows)]
        rows = [
            [plain(name), *_ocr_a(row["by_height"]), _cell("{}", row["legible_from"])] for name, row in methods.items()
        ]
        heads = [
            f"{part['low']}{'+' if part['high'] is None else '–' + str(part['high'])} (n = {part['n']})"
            for part in first["by_height"]
            if part["n"]
        ]
        table = _table(["method", *heads, "legible (0.8) from"], rows)
        parts += ["## OCR-A by height of the text, in LR pixels", table]
    read = ("ocr_a", "ocr_a_levenshtein", "exact", "harm_rate", "help_rate", "ocr_a_annotated", "ned", "accuracy")
    for engine in first["engines"]:
        second = {name: row["engines"][engine] for name, row in methods.items()}
        rows = [
            [plain(name), *_cells(row, read), str(row["n_lines"] or row["n_annotated"])] for name, row in second.items()
        ]
        parts += [f"## Read by {engine}", _table([*_heads(read), "n"], rows)]
    parts += ["## Settings", _settings(report)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _heads(keys: Iterable[str]) -> list[str]:
    return ["method", *(COLUMNS[key][0] for key in keys)]


def _cells(row: MethodResult, keys: Iterable[str]) -> list[str]:
    return [_cell(COLUMNS[key][1], row[key]) for key in keys]


def _cell(form: str, value: float | None, sign: bool = False) -> str:
    form = form.replace(":", ":+") if sign else form
    return "–" if value is None else form.format(value).replace("%", " %")


def _ocr_a(parts: Iterable[dict[str, Any]]) -> list[str]:
    """The cells of scripts or heights, without those that no line has."""
    return [_cell("{:.3f}", part["ocr_a"]) for part in parts if part["n"]]


def _interval(row: MethodResult, key: str) -> str:
    form = COLUMNS[key][1]
    text, interval, delta = _cell(form, row[key]), row["intervals"][key], row["delta"][key]
    if interval is not None:
        text += f" [{_cell(form, interval[0])}, {_cell(form, interval[1])}]"
    return f"{text} ({_cell(form, delta, sign=True)})" if delta else text


def _paired(one: Comparison) -> list[str]:
    head, form = COLUMNS[one["metric"]]
    interval = "–" if one["interval"] is None else " to ".join(_cell(form, x, sign=True) for x in one["interval"])
    difference = _cell(form, one["difference"], sign=True)
    return [
        f"{plain(one['b'])} – {plain(one['a'])}",
        head,
        difference,
        interval,
        _cell("{:.4f}", one["p"]),
        str(one["n"]),
    ]


def _settings(report: Report) -> str:
    settings = report["settings"]
    lines = [f"- {name}: {text}" for name, text in settings["definitions"].items()]
    for name, engine in report["engines"].items():
        packages = ", ".join(f"{package} {version}" for package, version in engine["packages"].items())
        lines.append(f"- {name}: {packages}; models {', '.join(engine['models'])} (SHA-256 in report.json)")
    lines += [f"- data: {plain(settings['data'])}"] if settings["data"] else []
    versions = ", ".join(f"{package} {version}" for package, version in settings["packages"].items())
    return "\n".join([*lines, f"- seed {settings['seed']}; tadisr {report['tadisr']}, {versions}"])
