"""One page: a layout, what it says, and the camera's part."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from tadisr.data_synthesis.corpus import Corpus
from tadisr.data_synthesis.fonts import Font
from tadisr.data_synthesis.layouts.camera import finish
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.caption import caption
from tadisr.data_synthesis.layouts.document import document
from tadisr.data_synthesis.layouts.form import form
from tadisr.data_synthesis.layouts.poster import poster
from tadisr.data_synthesis.layouts.product import product
from tadisr.data_synthesis.layouts.scene import scene, sign, words
from tadisr.data_synthesis.layouts.screen import screen
from tadisr.data_synthesis.layouts.style import LAYOUT_NAMES, PageStyle
from tadisr.data_synthesis.layouts.typesetting import Setter

LAYOUTS: dict[str, Callable[[Canvas, Setter], None]] = {
    "scene": scene, "sign": sign, "poster": poster, "caption": caption, "document": document, "form": form,
    "screen": screen, "product": product,
}  # fmt: skip


def write_page(
    image: np.ndarray,
    style: PageStyle,
    fonts: Sequence[Font],
    corpora: Sequence[Corpus],
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[dict]]:
    """Write text on a background, as a sign in it, a caption over it, a sheet upon it or a poster that covers it.

    image: (H, W, 3) float32 RGB in [0, 1], changed in place. corpora: a page draws most of its text from one of them.

    Returns:
        The mask, (H, W) float32, coverage of the strokes in [0, 1], and the lines: {"text", "quad", "font"}; quad is
        (4, 2) float32, corners (x, y) clockwise from the text's own top left; font is a file's name. A line that the
        border cuts has the text "", since nobody can say what it reads, and an upright quad around what is seen of it.

    Raises:
        ValueError: no font has the characters of a corpus, or the image has another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32:
        raise ValueError(f"Expected a float32 image (H, W, 3), got {image.dtype} {image.shape}.")
    page = Canvas(image)
    setter = Setter(style, fonts, corpora, rng, image.copy())
    weights = np.array([getattr(style, name) for name in LAYOUT_NAMES])
    LAYOUTS[str(rng.choice(LAYOUT_NAMES, p=weights / weights.sum()))](page, setter)
    if not (lines := _visible(page)):  # the page is too small for the layout, or the view missed its text
        page.taken[:] = 0
        words(page, setter, 1)
        lines = _visible(page)
    finish(image, setter.finish, rng)
    return page.mask, lines


def _visible(page: Canvas) -> list[dict]:
    return [clipped for line in page.lines if (clipped := _clip(line, page.size)) is not None]


def _clip(line: dict, size: tuple[int, int]) -> dict | None:
    """The line as it is seen within the page; None if it is not."""
    height, width = size
    quad = line["quad"].astype(np.float32)
    slack = 1.0  # pixels: the border of an anti-aliased stroke
    low, high = quad.min(axis=0), quad.max(axis=0)
    if (low >= -slack).all() and (high <= np.float32([width, height]) + slack).all():
        return {**line, "quad": quad.clip(0, [width, height]).astype(np.float32)}
    frame = np.float32([[0, 0], [width, 0], [width, height], [0, height]])
    area, seen = cv2.intersectConvexConvex(quad, frame)
    if area < 4:
        return None
    (x0, y0), (x1, y1) = seen.reshape(-1, 2).min(axis=0), seen.reshape(-1, 2).max(axis=0)
    return {**line, "text": "", "quad": np.float32([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])}
