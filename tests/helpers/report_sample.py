"""A small evaluation report, with texts that are no friends of HTML, and pictures to go with it."""

from pathlib import Path

import numpy as np

from tadisr.evaluation.html import write_html

METHODS = ("bicubic", "sharp", 'soft"<i>')
EVIL = "<script>hacked = 1</script>\"'><img src=x onerror='hacked = 1'>&amp;"
COLORS = {"bicubic": (200, 60, 60), "sharp": (60, 200, 60), 'soft"<i>': (60, 60, 200), "hr": (200, 200, 60)}

# truth; what each method reads; its OCR-A
LINES = [
    ("Exit 12", ("Exlt 12", "Exit 12", "Ex 12"), (0.857, 1.0, 0.833)),
    ("二等座", ("二等", "三等座位", ""), (0.7, 0.571, 0.1)),
    (EVIL, (EVIL, "<script>", "<b>bold</b>"), (1.0, 0.3, 0.2)),
    ("53.0", ("53.0", "53.0", "8"), (1.0, 1.0, 0.1)),
]


def line(i, truth, read, ocr_a, height=20.0, script="latin"):
    readings = dict(zip((*METHODS, "hr"), (*read, truth), strict=True))
    return {
        "image": f"00{i % 2}",
        "index": i,
        "quad": [[10, 30 * i + 5], [110, 30 * i + 5], [110, 30 * i + 5 + height], [10, 30 * i + 5 + height]],
        "text": truth,
        "source": "engine",
        "script": script,
        "height": height,
        "read": {name: {"rapidocr": {"text": text, "score": 0.9}} for name, text in readings.items()},
        "ocr_a": dict(zip((*METHODS, "hr"), (*ocr_a, 1.0), strict=True)),
    }


def method(psnr, ocr_a, **more):
    nothing = ("psnr_text", "psnr_rest", "lpips", "st_lpips", "fid", "readers", "ocr_a_annotated", "ocr_a_levenshtein",
               "harm_rate", "help_rate", "ned", "accuracy", "mask", "trust")  # fmt: skip
    values = {**dict.fromkeys(nothing), "psnr": psnr, "ssim": 0.7, "ocr_a": ocr_a, "exact": 0.25, "seconds": 0.5}
    parts = {"by_script": {"latin": {"ocr_a": ocr_a, "exact": 0.5, "n": 3}},
             "by_height": [{"low": 0, "high": 16, "ocr_a": None, "exact": None, "n": 0},
                           {"low": 16, "high": None, "ocr_a": ocr_a, "exact": 0.5, "n": 4}]}  # fmt: skip
    return {
        **values,
        "n_images": 2,
        "n_lines": 4,
        "n_annotated": 0,
        "intervals": {},
        "delta": {},
        "engines": {},
        **parts,
        **more,
    }


def report(lines=None):
    """A small report, as `tadisr evaluate` writes it."""
    if lines is None:
        scripts, heights = ("latin", "chinese", "mixed", "digits"), (20.0, 12.0, 20.0, 24.0)
        lines = [line(i, *LINES[i], heights[i], scripts[i]) for i in range(4)]
    methods = {
        "bicubic": method(22.3456, 0.9),
        "sharp": method(23.0, 0.7, delta={"psnr": 0.6544, "ocr_a": -0.2}, intervals={"ocr_a": [0.6, 0.8]}),
        METHODS[2]: method(21.0, 0.4, mask={"iou": 0.5, "f": 0.61, "boundary_f": None}),
        "hr": method(None, 1.0),
    }
    paired = [
        {"a": "bicubic", "b": "sharp", "metric": "ocr_a", "difference": -0.2, "interval": None, "p": 0.03, "n": 4}
    ]
    values = {"psnr": 22.0, "ssim": None, "lpips": None}
    images = [{"name": f"00{i}", "hr": "hr.png", "size": [130, 160], "methods": {name: values for name in methods}}
              for i in range(2)]  # fmt: skip
    return {"tadisr": "0.1.0", "data": "set <b>", "scale": 4, "engines": {"rapidocr": {"engine": "rapidocr"}},
            "judge": "rapidocr", "settings": {"normalization": "none", "notes": ["FID is left empty: <no weights>"]},
            "methods": methods, "paired": paired, "images": images, "lines": lines}  # fmt: skip


def picture(name, _image):
    """Of one colour for each method, with stripes of noise."""
    pixels = np.full((130, 160, 3), COLORS[name], np.uint8)
    pixels[::7] = np.random.default_rng(0).integers(0, 256, (19, 160, 3))
    return pixels


def written(folder, values=None, images=picture):
    path = Path(folder) / "report.html"
    write_html(values or report(), images, path)
    return path.read_text(encoding="utf-8")
