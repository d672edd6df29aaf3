"""Which fonts there are, what they draw, how often each is picked."""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.tiny_fonts import build_font, write_collection, write_font, write_packages
from tadisr.data_synthesis.text.fonts import Font, Fonts, discover_fonts

LETTERS = "ABCabc012"
BUILT_IN = Font("")


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def folder(tmp_path):
    write_font(tmp_path / "latin.ttf", LETTERS, family="Plain")
    write_font(tmp_path / "thin.ttf", LETTERS, family="Plain", style="Thin")
    (tmp_path / "more").mkdir()
    faces = (build_font(LETTERS + "汉字", family=f"Han {region}") for region in ("CN", "TW"))
    write_collection(tmp_path / "more" / "han.ttc", *faces)
    (tmp_path / "broken.otf").write_bytes(b"OTTO" + bytes(100))
    (tmp_path / "readme.txt").write_text("not a font")
    return tmp_path


def test_a_folder_of_fonts_is_read_in_a_fixed_order(folder):
    fonts = discover_fonts([folder])
    assert [(f.family, f.style, f.index, f.rare) for f in fonts] == [
        ("Han CN", "Regular", 0, False),
        ("Han TW", "Regular", 1, False),
        ("Plain", "Regular", 0, False),
        ("Plain", "Thin", 0, True),
    ]
    assert [f.root for f in fonts] == ["Han", "Han", "Plain", "Plain"]
    assert fonts[0].describe() == {"family": "Han CN", "style": "Regular", "file": "han.ttc", "version": "1.000"}
    assert list(discover_fonts([str(folder)])) == list(fonts)
    assert fonts[1:3][0] == fonts[1] and fonts[1:3].where == str(folder)


def test_packages_of_pip_and_npm_are_folders_of_fonts(tmp_path):
    fonts = discover_fonts([write_packages(tmp_path, LETTERS, "汉字")])
    assert [(f.family, f.style, Path(f.path).name) for f in fonts] == [
        ("Npm Sans", "Bold", "NpmSans_700Bold.ttf"),
        ("Npm Sans", "Regular", "NpmSans_400Regular.ttf"),
        ("Pip Serif", "Regular", "PipSerif[wght].ttf"),
    ]
    fonts.require("Cab 汉字")
    assert {fonts.pick("Cab", rng(seed)).family for seed in range(20)} == {"Npm Sans", "Pip Serif"}


def test_coverage_is_what_the_files_say(folder):
    fonts = discover_fonts([folder])
    assert [f.family for f in fonts.covering("汉字 AB")] == ["Han CN", "Han TW"]
    assert len(fonts.covering(LETTERS)) == 4 and fonts.covering("D") == []
    assert {fonts.pick("字", rng(seed)).family for seed in range(20)} == {"Han CN", "Han TW"}


@settings(deadline=None, derandomize=True, max_examples=60)
@given(text=st.text(st.sampled_from("aZ~ 0é汉あ\n\x7f\ue000"), max_size=4))
def test_coverage_of_many_fonts_agrees_with_each_fonts_own(text):
    ranges = [((), ()), ((0x21, 0x4E00), (0xFF, 0x9FFF)), ((0x30, 0x3040), (0x39, 0x30FF)), ((0xE000,), (0xE000,))]
    fonts = Fonts([Font(f"{i}.ttf", 0, *r, family=f"F{i}") for i, r in enumerate(ranges) if i] + [BUILT_IN])
    assert fonts.covering(text) == [font for font in fonts if font.covers(text)]


def test_glyphs_that_are_empty_or_placeholders_are_not_drawn(tmp_path):
    write_font(tmp_path / "a.ttf", LETTERS, family="Gaps", empty="汉", boxed="字")
    (font,) = discover_fonts([tmp_path])
    assert font.covers("汉字") and not font.draws("汉") and not font.draws("字")
    assert font.draws("A b c") and not font.draws("A汉")
    with pytest.raises(ValueError, match="draws Chinese"):
        discover_fonts([tmp_path]).pick("汉", rng())
    write_font(tmp_path / "b.ttf", LETTERS + "汉", family="Whole")
    assert all(discover_fonts([tmp_path]).pick("汉", rng(seed)).family == "Whole" for seed in range(10))


def test_a_font_that_breaks_after_it_was_listed_is_passed_over(folder):
    fonts = discover_fonts([folder])
    (folder / "more" / "han.ttc").write_bytes(b"gone")
    assert not fonts[0].draws("汉")
    with pytest.raises(ValueError, match="Chinese"):
        fonts.pick("汉", rng())
    assert {fonts.pick("ABC", rng(seed)).family for seed in range(20)} == {"Plain"}
    with pytest.raises(OSError):
        fonts[0].load(20)


@pytest.mark.parametrize("char", ["汉", "é", "\ue123", "\U0010fffd", "\n", "\x00"])
def test_the_built_in_face_claims_ascii_only(char):
    assert not BUILT_IN.covers(char)
    assert not Fonts([BUILT_IN]).covering(char) and not Fonts([]).covering(char)
    with pytest.raises(ValueError, match="No installed font draws"):
        Fonts([BUILT_IN]).pick(char, rng())


def test_installed_fonts_draw_what_they_are_picked_for():
    from fontTools.ttLib import TTFont

    fonts = discover_fonts()
    assert [f.path for f in fonts] == [f.path for f in discover_fonts()]
    for seed, text in enumerate(["Hamburg 12", "O'Brien & Sons, 5 km", "$4.20", "(88)"] * 5):
        font = fonts.pick(text, rng(seed))
        if not font.path:
            continue
        cmap = TTFont(font.path, fontNumber=font.index, lazy=True).getBestCmap()
        face = font.load(40)
        assert all(ord(char) in cmap and cmap[ord(char)] != ".notdef" for char in text)
        assert all(char == " " or face.getmask(char).getbbox() for char in text)


def test_a_script_nobody_draws_is_an_error_that_says_what_to_install(folder):
    installed, own = Fonts([BUILT_IN]), discover_fonts([folder])
    for text, script, package in (
        ("汉A", "Chinese", "cjk"),
        ("カ", "Japanese", "cjk"),
        ("한", "Korean", "cjk"),
        ("ب", "Arabic", "core"),
    ):
        with pytest.raises(ValueError, match=f"No installed font draws {script} .*install e.g. fonts-noto-{package}"):
            installed.require(text)
    with pytest.raises(ValueError, match="No installed font draws these characters"):
        installed.require("\ue000")
    with pytest.raises(ValueError, match=r"No font in .* draws Arabic \('ب'\): add one"):
        own.require("A ب")
    own.require("A 汉")
    write_font(folder / "arabic.ttf", "ب", family="Arabic")
    with pytest.raises(ValueError, match="mixes scripts"):
        discover_fonts([folder]).require("汉ب")


def test_large_families_and_decorative_faces_do_not_crowd_out_the_others():
    crowd = [Font("", style=f"{weight}", family=f"Big {i}") for i in range(8) for weight in range(10)]
    fonts = Fonts(
        [*crowd, Font("", family="One"), Font("", family="Two"), Font("", family="Two", style="Thin", rare=True)]
    )
    picked = Counter(fonts.pick("abc", generator).root for generator in [rng()] for _ in range(4000))
    # Big's 80 faces weigh 1 + log2(8) = 4, One and Two 1 each, Two's hairline 0.2
    assert picked["Big"] / 4000 == pytest.approx(4 / 6.2, abs=0.03)
    assert picked["One"] / 4000 == pytest.approx(1 / 6.2, abs=0.02)
    assert picked["Two"] / 4000 == pytest.approx(1.2 / 6.2, abs=0.02)


def test_picks_follow_the_generator_alone():
    fonts = Fonts(Font("", family=f"F{i}") for i in range(30))
    first = [fonts.pick(text, generator).family for generator in [rng(5)] for text in ("ab", "cd", "ef")]
    fonts.pick("xyz", rng())  # what was asked before must not matter
    assert first == [fonts.pick(text, generator).family for generator in [rng(5)] for text in ("ab", "cd", "ef")]
    assert first != [fonts.pick(text, generator).family for generator in [rng(6)] for text in ("ab", "cd", "ef")]


def test_pictures_behind_letters_are_left_out(tmp_path):
    for family in ("Some Emoji", "Font Awesome 6", "DSEG7 Classic", "Linux Biolinum Keyboard O"):
        write_font(tmp_path / f"{family}.ttf", LETTERS, family=family)
    with pytest.raises(ValueError, match="No usable fonts in .*: it has no"):
        discover_fonts([tmp_path])
    write_font(tmp_path / "text.ttf", LETTERS, family="Text")
    write_font(tmp_path / "brush.ttf", LETTERS, family="Brush Script")
    assert [(f.family, f.rare) for f in discover_fonts([tmp_path])] == [("Brush Script", True), ("Text", False)]


def test_folders_without_fonts(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="No folder .*nowhere: name one with .ttf"):
        discover_fonts([tmp_path / "nowhere"])
    with pytest.raises(ValueError, match="No usable fonts in .*: it has no .ttf, .otf or .ttc files"):
        discover_fonts([tmp_path])
    (tmp_path / "a.ttf").write_bytes(b"not a font")
    with pytest.raises(ValueError, match="its 1 font files cannot be read"):
        discover_fonts([tmp_path])
    monkeypatch.setitem(sys.modules, "fontTools", None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[synth\]'"):
        discover_fonts([tmp_path])


def test_fontconfigs_listing_is_read(monkeypatch):
    listing = "\n".join(
        [
            r"/f/Roboto.ttf|0|Roboto|Bold|200|137626|20-7e a0-ff 4e00",
            r"/f/Roboto.ttf|65536|Roboto|Black|210|137626|20-7e",  # a named instance: Pillow cannot open it by number
            r"/f/Var.otf|0|OSP\-DIN|Regular|[0 200]|65536|20-7e",
            r"/f/Thin.otf|0|Some|Thin|0|65536|20-7e",
            r"/f/old.pfb|0|Old|Regular|80|65536|20-7e",
            r"/f/NotoColorEmoji.ttf|0|Noto Color Emoji|Regular|80|65536|20-7e",
            r"/f/Nothing.ttf|0|Nothing|Regular|80|65536|",
        ]
    )
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, stdout=listing + "\n")
    )
    fonts = discover_fonts()
    assert [(f.family, f.style, f.version, f.rare) for f in fonts] == [
        ("OSP-DIN", "Regular", "1.000", False),
        ("Roboto", "Bold", "2.100", False),
        ("Some", "Thin", "1.000", True),
    ]
    assert fonts[1].covers("Aÿ 一") and not fonts[1].covers("\x7f") and fonts[1].starts == (0x20, 0xA0, 0x4E00)


def test_without_fontconfig_there_is_the_built_in_face(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    fonts = discover_fonts()
    assert list(fonts) == [BUILT_IN] and fonts.pick("Abc 12", rng()) == BUILT_IN
    assert BUILT_IN.describe()["family"] == "Pillow's built-in face"


def test_a_pillow_without_freetype_is_named(monkeypatch):
    from PIL import features

    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(ImportError, match="without FreeType"):
        Font("").load(123.456)
