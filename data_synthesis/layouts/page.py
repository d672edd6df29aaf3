"""One page: a layout, what it says, and the camera's part."""

from collections.abc import Callable, Sequence

import numpy as np

from tadisr.data_synthesis.layouts.camera import finish, take_by_phone
from tadisr.data_synthesis.layouts.canvas import Canvas
from tadisr.data_synthesis.layouts.caption import caption
from tadisr.data_synthesis.layouts.dense import dense
from tadisr.data_synthesis.layouts.document import document
from tadisr.data_synthesis.layouts.form import form
from tadisr.data_synthesis.layouts.interface import interface
from tadisr.data_synthesis.layouts.poster import poster
from tadisr.data_synthesis.layouts.product import product
from tadisr.data_synthesis.layouts.scene import scene, sign, words
from tadisr.data_synthesis.layouts.screen import screen
from tadisr.data_synthesis.layouts.typesetting import LAYOUT_NAMES, PageStyle, Setter
from tadisr.data_synthesis.text.corpus import Corpus
from tadisr.data_synthesis.text.fonts import Font

LAYOUTS: dict[str, Callable[[Canvas, Setter], None]] = {
    "scene": scene, "sign": sign, "poster": poster, "caption": caption, "document": document, "form": form,
    "screen": screen, "product": product, "interface": interface, "dense": dense,
}  # fmt: skip


def write_page(
    image: np.ndarray, style: PageStyle, fonts: Sequence[Font], corpora: Sequence[Corpus], rng: np.random.Generator
) -> tuple[np.ndarray, list[dict]]:
    """Write text on a background, as a sign in it, a caption over it, a sheet upon it or a poster that covers it.

    image: (H, W, 3) float32 RGB in [0, 1], changed in place. corpora: a page draws most of its text from one of them.

    Returns the mask, (H, W) float32, coverage of the strokes in [0, 1], and the lines: {"text", "quad", "font"}; quad
    is (4, 2) float32, corners (x, y) clockwise from the text's own top left; font is a file's name. A line that is cut
    by the border or partly covered has the text "", since nobody can say what it reads; a cut one's quad is the upright
    box around what is seen. ValueError where no font has the characters of a corpus, or the image has another shape or
    type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32:
        raise ValueError(f"Expected a float32 image (H, W, 3), got {image.dtype} {image.shape}.")
    page = Canvas(image)
    setter = Setter(style, fonts, corpora, rng, image.copy())
    weights = np.array([getattr(style, name) for name in LAYOUT_NAMES])
    LAYOUTS[str(rng.choice(LAYOUT_NAMES, p=weights / weights.sum()))](page, setter)
    if not (lines := page.visible_lines()):  # the page is too small for the layout, or the view missed its text
        page.taken[:] = 0
        words(page, setter, 1)
        lines = page.visible_lines()
    finish(image, setter.finish, rng)
    if style.phone and setter.finish > 0.5 and rng.random() < style.phone:
        take_by_phone(image, rng)
    return page.mask, lines
