"""Real font files of a few glyphs, so that tests need no installed fonts."""

from pathlib import Path

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont


def _glyph(boxes):
    pen = TTGlyphPen(None)
    for x0, y0, x1, y1 in boxes:
        pen.moveTo((x0, y0))
        for point in ((x0, y1), (x1, y1), (x1, y0)):
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def build_font(chars: str, family: str = "Tiny", style: str = "Regular", empty: str = "", boxed: str = "") -> TTFont:
    """A face of 1000 units per em whose glyphs are bars, each character's at other heights.

    empty: characters with an empty glyph; boxed: characters whose glyph looks like the placeholder.
    """
    placeholder = [(100, 0, 900, 60), (100, 740, 900, 800), (100, 60, 160, 740), (840, 60, 900, 740)]
    shapes = {".notdef": placeholder, "space": []}
    codes = {0x20: "space"}
    for char in dict.fromkeys(chars + empty + boxed):
        name = f"u{ord(char):04X}"
        codes[ord(char)] = name
        heights = [(ord(char) >> shift & 7) * 60 for shift in (0, 3)]
        bars = [(100, height + 80 * i, 900, height + 80 * i + 70) for i, height in enumerate(heights)]
        shapes[name] = [] if char in empty else placeholder if char in boxed else [*bars, (460, -100, 540, 850)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(shapes))
    builder.setupCharacterMap(codes)
    builder.setupGlyf({name: _glyph(boxes) for name, boxes in shapes.items()})
    builder.setupHorizontalMetrics({name: (1000, 100) for name in shapes})
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    builder.setupNameTable({"familyName": family, "styleName": style})
    builder.setupOS2(usWeightClass={"Thin": 100, "Bold": 700}.get(style, 400))
    builder.setupPost()
    return builder.font


def write_font(path: Path, chars: str, **settings: str) -> Path:
    """`build_font` to a file."""
    build_font(chars, **settings).save(path)
    return path


def write_collection(path: Path, *fonts: TTFont) -> Path:
    """Faces in one .ttc file."""
    collection = TTCollection()
    collection.fonts = list(fonts)
    collection.save(path)
    return path


def write_packages(root: Path, latin: str, han: str) -> Path:
    """`root` as `pip install --target` and `npm install --prefix` leave it, each with one package of fonts.

    The package of pip has a variable font's name and draws `latin`; npm's has several weights, pictures beside them,
    and draws `latin` and `han`.
    """
    files = root / "fontpkg_pip_serif/files"
    weights = root / "node_modules/@expo-google-fonts/npm-sans"
    for folder in (
        files,
        root / "fontpkg_pip_serif-2.0.dist-info/licenses",
        weights / "400Regular",
        weights / "700Bold",
    ):
        folder.mkdir(parents=True)
    write_font(files / "PipSerif[wght].ttf", latin, family="Pip Serif")
    (files.parent / "__init__.py").write_text("")
    (root / "fontpkg_pip_serif-2.0.dist-info/licenses/LICENSE").write_text("SIL OPEN FONT LICENSE")
    for folder, style in (("400Regular", "Regular"), ("700Bold", "Bold")):
        path = write_font(weights / folder / f"NpmSans_{folder}.ttf", latin + han, family="Npm Sans", style=style)
        path.with_suffix(".ttf.png").write_bytes(b"\x89PNG")
        (weights / folder / "index.js").write_text("")
    (weights / "package.json").write_text("{}")
    return root
