"""The report as Markdown."""

from collections.abc import Callable, Iterable, Sequence

from tadisr.evaluation.records import ColumnKey, Comparison, LineMetric, MaskMetric, MethodResult, Metric, Report

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
MASK: dict[MaskMetric, str] = {"iou": "mask IoU ↑", "f": "mask F ↑", "boundary_f": "outline F ↑"}


Methods = dict[str, MethodResult]


def shown_columns(report: Report) -> list[ColumnKey]:
    """The columns of the main table: Table 1's, and those in which there is something."""
    rows = report["methods"].values()
    return [key for key in COLUMNS if key in _ALWAYS or any(row[key] is not None for row in rows)]


def main_table(report: Report) -> str:
    """Table 1 of the paper: a row per method, the anchors first and last."""
    shown = shown_columns(report)
    masks = list(MASK) if any(row["mask"] for row in report["methods"].values()) else []
    labels = {report["anchors"]["lr"]: f"{report['anchors']['lr']} (LR)", report["anchors"]["hr"]: "HR"}
    rows = [
        [
            labels.get(name, name),
            *(_cell(COLUMNS[key][1], row[key]) for key in shown),
            *(_cell("{:.3f}", row["mask"][key] if row["mask"] else None) for key in masks),
        ]
        for name, row in report["methods"].items()
    ]
    return _table(["method", *(COLUMNS[key][0] for key in shown), *(MASK[key] for key in masks)], rows)


def to_markdown(report: Report) -> str:
    """report.md."""
    methods = report["methods"]
    first = next(iter(methods.values()))
    reader = (
        f"{report['judge']} reads" if report["settings"]["finds_lines"] else "an engine read, as the data set says,"
    )
    compared: tuple[Metric, ...] = ("psnr", "ssim", "lpips", "ocr_a", "exact")
    parts = [
        f"# {report['data']}, {report['scale']}x",
        f"{first['n_images']} images, {first['n_lines']} lines that {reader} in the HR images, "
        f"{first['n_annotated']} annotated lines. Differences are to the LR row; brackets hold 95 % intervals.",
        main_table(report),
        *(f"- {note}" for note in report["settings"]["notes"]),
        "## Against the LR images",
        _by_method(methods, _heads(compared), lambda row: [_interval(row, key) for key in compared]),
    ]
    if report["paired"]:
        parts += ["## Between methods, on the same images and lines", _paired(report["paired"])]
    if first["n_lines"]:
        parts += ["## OCR-A by script", _by_script(methods, first)]
        parts += ["## OCR-A by height of the text, in HR pixels", _by_height(methods, first)]
    read: tuple[LineMetric, ...] = ("ocr_a", "ocr_a_levenshtein", "exact", "ned", "accuracy")
    for engine in first["engines"]:
        second = {name: row["engines"][engine] for name, row in methods.items()}
        rows = [
            [name, *(_cell(COLUMNS[key][1], row[key]) for key in read), str(row["n_lines"])]
            for name, row in second.items()
        ]
        parts += [f"## Read by {engine}", _table(["method", *_heads(read), "n"], rows)]
    parts += ["## Settings", _settings(report)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _by_method(methods: Methods, heads: Sequence[str], cells: Callable[[MethodResult], list[str]]) -> str:
    return _table(["method", *heads], [[name, *cells(row)] for name, row in methods.items()])


def _heads(keys: Iterable[ColumnKey]) -> list[str]:
    return [COLUMNS[key][0] for key in keys]


def _cell(form: str, value: float | None) -> str:
    return "–" if value is None else form.format(value).replace("%", " %")


def _by_script(methods: Methods, first: MethodResult) -> str:
    heads = [f"{name} (n = {part['n']})" for name, part in first["by_script"].items()]
    scripts = list(first["by_script"])
    return _by_method(methods, heads, lambda row: [_cell("{:.3f}", row["by_script"][x]["ocr_a"]) for x in scripts])


def _by_height(methods: Methods, first: MethodResult) -> str:
    used = [i for i, part in enumerate(first["by_height"]) if part["n"]]
    limits = [first["by_height"][i] for i in used]
    heads = [
        f"{part['low']}{'+' if part['high'] is None else '–' + str(part['high'])} (n = {part['n']})" for part in limits
    ]

    def cells(row: MethodResult) -> list[str]:
        values = [_cell("{:.3f}", row["by_height"][i]["ocr_a"]) for i in used]
        return [*values, _cell("{}", row["legible_from"])]

    return _by_method(methods, [*heads, "legible (0.8) from"], cells)


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


def _settings(report: Report) -> str:
    settings = report["settings"]
    lines = [f"- {name}: {text}" for name, text in settings["definitions"].items()]
    for name, engine in report["engines"].items():
        packages = ", ".join(f"{package} {version}" for package, version in engine["packages"].items())
        lines.append(f"- {name}: {packages}; models {', '.join(engine['models'])} (SHA-256 in report.json)")
    lines += [f"- data: {settings['data']}"] if settings["data"] else []
    versions = ", ".join(f"{package} {version}" for package, version in settings["packages"].items())
    return "\n".join([*lines, f"- seed {settings['seed']}; tadisr {report['tadisr']}, {versions}"])
