"""A plugin for OCRmyPDF: pages of low resolution are restored before they are read.

    ocrmypdf --plugin tadisr.apps.ocrmypdf scan.pdf readable.pdf

What the reader sees is restored, and the pages of the PDF stay as they are; `tadisr upscale scan.pdf` restores those.
`--tadisr-model` names another model, `--tadisr-dpi` another resolution than 300.
"""

import argparse
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from ocrmypdf import hookimpl
from ocrmypdf.exceptions import BadArgsError
from PIL import Image

import tadisr
from tadisr.io.messages import one_line

if TYPE_CHECKING:
    from tadisr.loading.load import Restorer

DPI = 300
"""What OCR engines are made for."""
MOST = 4.0
"""How many times as large a page can become a side."""
LEAST = 1.25


@hookimpl
def add_options(parser: argparse.ArgumentParser) -> None:
    """The plugin's own options of `ocrmypdf`."""
    group = parser.add_argument_group("TADiSR", "Restoring pages before they are read")
    group.add_argument("--tadisr-model", default="tadisr-tiny", help="bundled name, folder or Hub id")
    group.add_argument("--tadisr-dpi", type=int, default=DPI, help="the resolution to restore to")


@hookimpl
def filter_ocr_image(page: Any, image: Image.Image) -> Image.Image | None:
    """A page as the OCR engine gets it: restored, where its resolution is below the wanted one; else None.

    Raises:
        BadArgsError: a model that cannot be loaded.
    """
    own = image.info.get("dpi", (DPI, DPI))
    factor = min(MOST, _option(page, "tadisr_dpi", DPI) / max(1.0, *map(float, own)))
    if most := _option(page, "max_ocr_image_mpixels", 0):
        factor = min(factor, math.sqrt(1e6 * float(most) / (image.width * image.height)))
    if factor < LEAST:
        return None  # other filters, of which only the first is asked that gives something
    restored = _load(_option(page, "tadisr_model", "tadisr-tiny")).restore(
        np.asarray(image.convert("RGB")), scale=factor
    )
    made = Image.fromarray(restored.image)
    if image.mode in ("1", "L"):
        made = made.convert("L")
    made.info["dpi"] = tuple(float(have) * new / old for have, new, old in zip(own, made.size, image.size, strict=True))
    return made


@lru_cache(1)
def _load(name: str) -> "Restorer":
    """Once in each of OCRmyPDF's processes."""
    try:
        return tadisr.load(name)
    except Exception as error:  # a name that is none, a model that is incomplete
        raise BadArgsError(f"--tadisr-model {name}: {one_line(error)}") from None


def _option(page: Any, name: str, default: Any) -> Any:
    """An option of the command; called from Python, OCRmyPDF may not know it."""
    value = getattr(page.options, name, None)
    return default if value is None else value
