"""What pages look like: the shares of the layouts and the sizes of text."""

from dataclasses import dataclass, field, fields

from tadisr.data_synthesis.text.effects import Effects


@dataclass
class PageStyle:
    """Relative weights of the layouts, sizes in HR pixels, probabilities in [0, 1]."""

    scene: float = 0.22
    """Signs, plates, shop fronts, stickers and banners that stand in the background, and words painted on it."""
    sign: float = 0.12
    """One sign, seen from near by."""
    poster: float = 0.14
    """Posters and advertisements: title, prices, footers, blocks of colour, pictures."""
    caption: float = 0.1
    """A photograph with words over it: subtitles, quotations, dates, labels in boxes."""
    document: float = 0.13
    """Printed pages: headings, paragraphs, columns."""
    form: float = 0.15
    """Tables, forms, receipts, menus, tickets."""
    screen: float = 0.06
    """Windows, telephones, terminals."""
    product: float = 0.08
    """Packages, bottles, price tags on shelves, book covers and rows of spines."""
    font_size: tuple[int, int] = (20, 120)
    """Pixels per em of the smallest and the largest text, in Latin letters; hanzi are a quarter larger. After a 4x
    reduction 20 pixels are at the edge of what can be read (see `render.SMALLEST`)."""
    effects: float = 0.4
    """Share of headlines, signs and captions that are more than flat ink."""
    inks: Effects = field(default_factory=lambda: Effects(soft=0.0))
    """The effects. Their softness is 0, since `finish` adds the camera's softness at the end."""
    vertical: float = 0.12
    """Share of single lines that run downwards, where a layout allows it."""
    min_contrast: float = 0.3
    """Least luma difference, of 1, between text and what is beneath it; small text gets half as much again."""
    max_lines: int = 40
    """Lines at most that a layout writes on a page."""
    finish: float = 1.0
    """Strength of the camera's part: softness, uneven light, tone. 0 leaves pages as they were drawn."""

    def __post_init__(self):
        for name in LAYOUT_NAMES:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is a layout's weight and must be 0 or more, not {getattr(self, name)}.")
        if sum(getattr(self, name) for name in LAYOUT_NAMES) <= 0:
            raise ValueError(f"At least one layout needs a weight above 0: {', '.join(LAYOUT_NAMES)}.")
        for name, most in (("effects", 1), ("vertical", 1), ("min_contrast", 0.4), ("finish", 1)):
            if not 0 <= getattr(self, name) <= most:  # more contrast than 0.4 no ink has on a middle gray
                raise ValueError(f"{name} must lie between 0 and {most}, not {getattr(self, name)}.")
        if len(self.font_size) != 2 or not 4 <= self.font_size[0] <= self.font_size[1]:
            raise ValueError(f"font_size must be two sizes, 4 <= smallest <= largest, not {self.font_size}.")
        if self.max_lines < 1:
            raise ValueError(f"max_lines must be at least 1, not {self.max_lines}.")


LAYOUT_NAMES = tuple(f.name for f in fields(PageStyle))[:8]
