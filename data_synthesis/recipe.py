"""What a data set is made of: one documented dataclass, read from YAML."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as repr_
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from tadisr.data_synthesis.degrade import AnyDegradation, Degradation
from tadisr.data_synthesis.judging.rules import FilterConfig
from tadisr.data_synthesis.layouts import PageStyle
from tadisr.data_synthesis.sources import parse_spec
from tadisr.io.messages import shortened
from tadisr.io.structured import read_yaml

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_RECIPES = Path(__file__).parent / "recipes"
T = TypeVar("T", bound="DataclassInstance")


@dataclass
class PasteStyle:
    """How text crops are pasted (the authors' script, section 3.5)."""

    count: tuple[int, int] = (1, 5)
    """Crops per page, both ends included."""
    long_edge: tuple[float, float] = (0.15, 1.0)
    """Long edge of a pasted crop, in units of the page's side."""
    tries: int = 100
    """Places that are tried before the crop shrinks by a tenth."""
    max_enlargement: float = 4.0
    """A crop is never enlarged more than this beyond its own pixels or, if it was super-resolved, beyond those of the
    model's result. The paper's recipe has 1: HR pages must be sharp."""
    feather: float = 0.0
    """Width of the soft border, pixels; 0 is the paper's hard paste."""
    poisson: float = 0.0
    """Share of crops that are blended in by Poisson editing (cv2.seamlessClone)."""

    def __post_init__(self):
        for name in ("count", "long_edge"):
            ends = getattr(self, name)
            whole = int if name == "count" else (int, float)
            fits = isinstance(ends, tuple) and len(ends) == 2 and all(isinstance(end, whole) for end in ends)
            if not fits or not 0 < ends[0] <= ends[1]:
                raise ValueError(f"paste.{name} must be [low, high] with 0 < low <= high, not {ends!r}.")


@dataclass
class Recipe:
    """Where pages come from and what happens to them."""

    backgrounds: list[dict] = field(default_factory=lambda: [{"kind": "free"}])
    """Photographs, as `open_source` takes them; kept as mappings."""
    crops: list[dict] = field(default_factory=list)
    """Text crops, with masks or without. Crops without a mask are segmented and filtered first."""
    photos: float = 0.6
    """Share of pages on a photograph; the others stand on procedural surfaces."""
    rendered: float = 1.0
    """Share of pages with rendered text; the others have pasted crops."""
    min_background: int = 256
    """Least short edge of a photograph, pixels. Whatever it says, photographs smaller than a page are left out: no HR
    page is enlarged."""
    text_free_backgrounds: bool = True
    """Whether to leave out photographs in which the OCR engine finds text: it would be text without a mask."""
    fonts: list[str] = field(default_factory=list)
    """Folders of fonts to use instead of the installed fonts."""
    corpora: dict[str, int] = field(default_factory=lambda: {"latin": 12, "chinese": 10, "kana": 1})
    """What the text says, and how often: built-in names, or text files with one item a line, with whole numbers."""
    engine: str = "rapidocr"
    """OCR engine of the filters."""
    segmenter: str = "text-segmenter-tiny"
    """Bundled name, folder or Hub id of the model that makes masks for crops without one."""
    enhancer: str | None = None
    """Super-resolution model for the crops that are kept: a file that spandrel loads, or a TADiSR pipeline. Without one
    they stay as they are."""
    text: PageStyle = field(default_factory=PageStyle)
    paste: PasteStyle = field(default_factory=PasteStyle)
    filter: FilterConfig = field(default_factory=FilterConfig)
    degradation: AnyDegradation = field(default_factory=Degradation)

    def __post_init__(self):
        for name in ("backgrounds", "crops", "fonts"):
            if not isinstance(getattr(self, name), list):
                raise ValueError(f"{name} must be a list, not {repr_(getattr(self, name))}.")
        self.backgrounds, self.crops = list(map(parse_spec, self.backgrounds)), list(map(parse_spec, self.crops))
        if self.filter.small == "enhance" and self.enhancer is None:
            raise ValueError("filter.small is enhance: name an enhancer, such as tadisr-tiny.")
        for name in ("photos", "rendered"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share between 0 and 1, not {getattr(self, name)}.")
        if self.rendered < 1 and not self.crops:
            raise ValueError("Pages without rendered text need crops: name a source of them, or set rendered to 1.")
        if self.photos > 0 and not self.backgrounds:
            raise ValueError("Pages on photographs need backgrounds: name a source of them, or set photos to 0.")
        shares = self.corpora.values() if isinstance(self.corpora, dict) else ()
        if not shares or not all(isinstance(n, int) and n > 0 for n in shares):
            raise ValueError(
                f"corpora are names with whole numbers above 0, such as latin: 1, not {repr_(self.corpora)}."
            )


def from_dict(cls: type[T], values: dict[str, Any], where: str = "recipe") -> T:
    """The dataclass `cls` out of plain YAML values, nested dataclasses too.

    ValueError: an unknown key, or a value of the wrong shape.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{where}: expected keys and values, got {repr_(values)}.")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if unknown := sorted(map(str, set(values) - set(fields))):
        raise ValueError(f"{where}: unknown keys {shortened(unknown)}; known are {', '.join(fields)}.")
    made = {}
    try:
        for name, value in values.items():
            if hints[name] == AnyDegradation:
                value = Degradation.preset(value) if isinstance(value, str) else Degradation.from_dict(value)
            elif dataclasses.is_dataclass(hints[name]):
                value = from_dict(hints[name], value, f"{where}.{name}")
            elif isinstance(value, list) and "tuple" in str(hints[name]):
                value = tuple(value)
            made[name] = value
        return cls(**made)
    except TypeError as error:  # a value of another kind
        raise ValueError(f"{where}: {error}") from None


def load_recipe(name: str) -> Recipe:
    """A bundled recipe ("free", "paper", "tiny", "tiny_lines") or a YAML file.

    FileNotFoundError: neither of them. ValueError: unknown keys or impossible values.
    """
    path = Path(name)
    if not path.suffix:
        path = _RECIPES / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in _RECIPES.glob("*.yaml")))
        raise FileNotFoundError(f"No recipe {name}: bundled are {known}, or name a .yaml file.")
    values = read_yaml(path)
    return from_dict(Recipe, {} if values is None else values, path.name)
