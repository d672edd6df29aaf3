"""The report as Markdown."""

from collections.abc import Iterable, Sequence
from typing import Literal

from tadisr.evaluation.records import ColumnKey, Comparison, LineMetric, MethodResult, Metric, Report

COLUMNS: dict[ColumnKey, tuple[str, str]] = {
    "psnr": ("PSNR ↑", "{:.2f}"),
    "ssim": ("SSIM ↑", "{:.3f}"),
    "lpips": ("LPIPS ↓", "{:.3f}"),
    "fid": ("FID ↓", "{:.2f}"),
    "ocr_a": ("OCR-A ↑", "{:.3f}"),
    "ocr_a_levenshtein": ("OCR-A, unit cost ↑", "{:.3f}"),
    "exact": ("lines read exactly ↑", "{:.1%}"),
    "ned": ("NED, annotated ↑", "{:.3f}"),
    "accuracy": ("accuracy, annotated ↑", "{:.1%}"),
    "seconds": ("seconds", "{:.2f}"),
}
_ALWAYS: tuple[ColumnKey, ...] = ("psnr", "ssim", "lpips", "fid", "ocr_a", "exact")  # Table 1's, and one more
MASK: dict[Literal["iou", "f", "boundary_f"], str] = {"iou": "mask IoU ↑", "f": "mask F ↑", "boundary_f": "outline F ↑"}


def shown_columns(report: Report) -> list[ColumnKey]:
    """The columns of the main table: Table 1's, and those in which there is something."""
    rows = report["methods"].values()
    return [key for key in COLUMNS if key in _ALWAYS or any(row[key] is not None for row in rows)]


def main_table(report: Report) -> str:
    """Table 1 of the paper: a row per method, the anchors first and last."""
    methods = report["methods"]
    shown = shown_columns(report)
    masks = any(row["mask"] for row in methods.values())
    rows = []
    for name, row in methods.items():
        label = {report["anchors"]["lr"]: f"{name} (LR)", report["anchors"]["hr"]: "HR"}.get(name, name)
        cells = [_cell(COLUMNS[key][1], row[key]) for key in shown]
        rows.append([label, *cells, *([_cell("{:.3f}", row["mask"] and row["mask"][key]) for key in MASK] * masks)])
    return _table(["method", *(COLUMNS[key][0] for key in shown), *(MASK.values() if masks else ())], rows)


def to_markdown(report: Report) -> str:
    """report.md."""
    methods = report["methods"]
    first = next(iter(methods.values()))
    finds = report["settings"]["finds_lines"]
    reader = f"{report['judge']} reads" if finds else "an engine read, as the data set says,"
    parts = [
        f"# {report['data']}, {report['scale']}x",
        f"{first['n_images']} images, {first['n_lines']} lines that {reader} in the HR images, "
        f"{first['n_annotated']} annotated lines. Differences are to the LR row; brackets hold 95 % intervals.",
        main_table(report),
        *(f"- {note}" for note in report["settings"]["notes"]),
        "## Against the LR images",
        _against_lr(methods),
    ]
    if report["paired"]:
        parts += ["## Between methods, on the same images and lines", _paired(report["paired"])]
    if first["n_lines"]:
        parts += ["## OCR-A by script", _by_script(methods)]
        parts += ["## OCR-A by height of the text, in HR pixels", _by_height(methods)]
    for engine in first["engines"]:
        parts += [f"## Read by {engine}", _second(methods, engine)]
    parts += ["## Settings", _settings(report)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value).replace("%", " %")


def _against_lr(methods: dict[str, MethodResult]) -> str:
    keys: tuple[Metric, ...] = ("psnr", "ssim", "lpips", "ocr_a", "exact")
    rows = [[name, *(_interval(row, key) for key in keys)] for name, row in methods.items()]
    return _table(["method", *(COLUMNS[key][0] for key in keys)], rows)


def _interval(row: MethodResult, key: Metric) -> str:
    form = COLUMNS[key][1]
    text, interval, delta = _cell(form, row[key]), row["intervals"][key], row["delta"][key]
    if interval is not None:
        text += f" [{_cell(form, interval[0])}, {_cell(form, interval[1])}]"
    return text if not delta else f"{text} ({_cell(form.replace(':', ':+'), delta)})"


def _paired(paired: Sequence[Comparison]) -> str:
    rows = []
    for one in paired:
        if one["metric"] not in ("psnr", "ssim", "lpips", "ocr_a", "ned"):  # the others are in report.json
            continue
        head, form = COLUMNS[one["metric"]]
        interval = (
            "–" if one["interval"] is None else " to ".join(_cell(form.replace(":", ":+"), x) for x in one["interval"])
        )
        difference = _cell(form.replace(":", ":+"), one["difference"])
        rows.append([f"{one['b']} – {one['a']}", head, difference, interval, _cell("{:.4f}", one["p"]), str(one["n"])])
    return _table(["methods", "metric", "difference", "95 % interval", "p", "n"], rows)


def _by_script(methods: dict[str, MethodResult]) -> str:
    scripts = next(iter(methods.values()))["by_script"]
    heads = [f"{name} (n = {part['n']})" for name, part in scripts.items()]
    rows = [[name, *(_cell("{:.3f}", row["by_script"][script]["ocr_a"]) for script in scripts)]
            for name, row in methods.items()]  # fmt: skip
    return _table(["method", *heads], rows)


def _by_height(methods: dict[str, MethodResult]) -> str:
    used = [i for i, part in enumerate(next(iter(methods.values()))["by_height"]) if part["n"]]
    first = [next(iter(methods.values()))["by_height"][i] for i in used]
    heads = [
        f"{part['low']}{'+' if part['high'] is None else '–' + str(part['high'])} (n = {part['n']})" for part in first
    ]
    rows = [
        [name, *(_cell("{:.3f}", row["by_height"][i]["ocr_a"]) for i in used), _cell("{}", row["legible_from"])]
        for name, row in methods.items()
    ]
    return _table(["method", *heads, "legible (0.8) from"], rows)


def _second(methods: dict[str, MethodResult], engine: str) -> str:
    keys: tuple[LineMetric, ...] = ("ocr_a", "ocr_a_levenshtein", "exact", "ned", "accuracy")
    rows = []
    for name, method in methods.items():
        row = method["engines"][engine]
        rows.append([name, *(_cell(COLUMNS[key][1], row[key]) for key in keys), str(row["n_lines"])])
    return _table(["method", *(COLUMNS[key][0] for key in keys), "n"], rows)


def _settings(report: Report) -> str:
    settings = report["settings"]
    lines = [f"- {name}: {text}" for name, text in settings["definitions"].items()]
    for name, engine in report["engines"].items():
        packages = ", ".join(f"{package} {version}" for package, version in engine["packages"].items())
        lines.append(f"- {name}: {packages}; models {', '.join(engine['models'])} (SHA-256 in report.json)")
    lines += [f"- data: {settings['data']}"] if settings["data"] else []
    versions = ", ".join(f"{package} {version}" for package, version in settings["packages"].items())
    return "\n".join([*lines, f"- seed {settings['seed']}; tadisr {report['tadisr']}, {versions}"])
