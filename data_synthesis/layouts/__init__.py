"""Pages of text as they are met: scenes, posters, captions, documents, forms, screens, products, labels."""

from tadisr.data_synthesis.layouts.page import write_page
from tadisr.data_synthesis.layouts.typesetting import LAYOUT_NAMES, PageStyle

__all__ = ["LAYOUT_NAMES", "PageStyle", "write_page"]
