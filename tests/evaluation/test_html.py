"""report.html: what it says, and that it needs nothing else."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rapidfuzz.distance import Levenshtein

from helpers.report_sample import COLORS, EVIL, METHODS, line, method, picture, report, written
from tadisr.evaluation import html_pictures
from tadisr.evaluation.html import _COLUMNS, compare


class Reader(HTMLParser):
    """Elements with their attributes, and the text of each."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.texts, self._open = [], {}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input"):
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag):
        assert self.elements[self._open.pop()][0] == tag, "elements are closed in order"

    def handle_data(self, data):
        for i in self._open:
            self.texts[i] = self.texts.get(i, "") + data

    def text(self, tag, **attributes):
        """Of each such element."""
        wanted = attributes.items()
        return [
            self.texts.get(i, "")
            for i, (name, has) in enumerate(self.elements)
            if name == tag and wanted <= has.items()
        ]

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return written(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def reader(page):
    return Reader(page)


# ---- what was read


@pytest.mark.parametrize(
    ("read", "truth", "runs"),
    [
        ("Exit", "Exit", [("same", "Exit", "Exit")]),
        ("Exlt", "Exit", [("same", "Ex", "Ex"), ("wrong", "l", "i"), ("same", "t", "t")]),
        ("Exiit", "Exit", [("same", "Exi", "Exi"), ("extra", "i", ""), ("same", "t", "t")]),
        ("Ext", "Exit", [("same", "Ex", "Ex"), ("missing", "", "i"), ("same", "t", "t")]),
        ("", "ab", [("missing", "", "ab")]),
        ("ab", "", [("extra", "ab", "")]),
        ("", "", []),
    ],
)
def test_wrong_characters_are_told_apart(read, truth, runs):
    assert [tuple(run) for run in compare(read, truth)] == runs


@settings(deadline=None, max_examples=100)
@given(st.text("ab１ c", max_size=8), st.text("ab１ c", max_size=8))
def test_runs_make_up_both_texts_with_the_fewest_edits(read, truth):
    runs = compare(read, truth)
    assert "".join(run.text for run in runs) == read and "".join(run.truth for run in runs) == truth
    edits = sum(max(len(run.text), len(run.truth)) for run in runs if run.kind != "same")
    assert edits == Levenshtein.distance(read, truth)


def test_what_the_rule_ignores_is_not_wrong():
    assert [run.kind for run in compare("EXIT-12", "exit １２", "alnum")] == ["same"]
    assert [run.kind for run in compare("EXIT-12", "exit １２", "none")] == ["wrong"]
    for read, truth in (("exit.", "exit"), ("ab-", "a-b"), ("-!", ""), ("(a)", "a")):
        assert [tuple(run) for run in compare(read, truth, "alnum")] == [("same", read, truth)]
    assert [run.kind for run in compare("exat.", "exit", "alnum")] == ["same", "wrong", "same"]


def test_numbers_as_shown():
    psnr, lpips, exact, seconds = (_COLUMNS[key] for key in ("psnr", "lpips", "exact", "seconds"))
    assert [psnr.show(x) for x in (22.345, -1.0, None, float("inf"), float("nan"))] == ["22.34", "−1.00", "–", "∞", "–"]
    assert psnr.show(0.5, sign=True) == "+0.50" and exact.show(0.25).replace("\u202f", " ") == "25.0 %"
    assert (psnr.better, lpips.better, seconds.better) == (1, -1, 0) and psnr.label == "PSNR"


# ---- the page


def test_page_needs_nothing_else(page, reader):
    links = [value for _, attributes in reader.elements for key, value in attributes.items() if key in ("src", "href")]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert not re.search(r"url\(|@import|https?:", page)
    ids = {attributes["id"] for _, attributes in reader.elements if "id" in attributes}
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    policy = next(a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    (script,) = reader.text("script")
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_text_is_text(reader):
    assert len(reader.all("script")) == 1
    assert reader.text("h1") == ["set <b>"] and "FID is left empty: <no weights>" in reader.text("p")
    assert [a for _, a in reader.elements if "onerror" in a] == []
    assert set(reader.text("h3")) >= {EVIL, "Exit 12", "二等座", "53.0"}
    assert all(a["src"].startswith("data:image/webp;base64,") for a in reader.all("img") if "src" in a)


def test_names_do_not_reorder_the_page(tmp_path):
    """An override in a name would turn the rest of its line around; a break would end it."""
    values = report()
    values["data"], values["images"][0]["name"] = "set\u202egpj", "a\u2066\nb\x1b[2J"
    values["lines"] = []
    html = written(tmp_path, values, lambda method, _image: picture(method, "000"))
    assert "<h1><bdi>set\\u202egpj</bdi></h1>" in html and "<bdi>a\\u2066\\nb\\x1b[2J</bdi>" in html
    assert not {"\u202e", "\u2066", "\x1b"} & set(html)


def test_table(reader):
    rows = [i for i, (tag, _) in enumerate(reader.elements) if tag == "tr"]
    cells = [[reader.texts[j] for j in range(i + 1, end) if reader.elements[j][0] in ("th", "td")]
             for i, end in zip(rows[:5], rows[1:6], strict=True)]  # fmt: skip
    heads = [re.sub("(higher|lower) is better", "", head) for head in cells[0]]
    assert heads == [
        "Method",
        "PSNR",
        "SSIM",
        "LPIPS",
        "FID",
        "OCR-A",
        "lines read exactly",
        "lines harmed",
        "lines helped",
        "seconds",
    ]
    assert cells[1][:6] == ["bicubicthe input, enlarged", "22.35", "0.700", "–", "–", "0.900"]
    assert cells[2][1] == "23.00▲\xa0+0.65" and cells[2][5] == "0.700▼\xa0−0.2000.600 to 0.800"
    assert cells[3][0] == METHODS[2] and cells[4][0] == "hrthe original" and cells[4][1] == "–"
    best = reader.text("strong")
    assert best.count("23.00") == 1 and "22.35" not in best, "an anchor is not the best method"


def test_every_line_and_image_is_shown_for_every_method(reader):
    articles = [a for a in reader.all("article") if a["class"] == "line"]
    assert [json.loads(a["data-changes"])["sharp"] for a in articles] == [0.143, -0.129, -0.7, 0.0]
    shown = [a["data-method"] for a in reader.all("figure")]
    assert shown == [*METHODS, "hr"] * 6, "four lines, two images"
    alts = [a["alt"] for a in reader.all("img") if a["alt"]]
    assert alts[:4] == [f"Exit 12, {name}" for name in (*METHODS, "hr")]
    assert reader.text("ins") == ["x", " extra: 位"] + reader.text("ins")[2:]
    assert " missing: 座" in reader.text("del") and "nothing read" in reader.text("span", **{"class": "nothing"})
    assert any("wrong: l" in text and "for i" in text for text in reader.text("ruby"))
    assert len(reader.text("span", **{"class": "exact"})) == 4 + 4


def test_pictures_are_the_regions(reader):
    images = [a for a in reader.all("img") if a["alt"].endswith(", sharp") and "image" not in a["alt"]]
    for attributes in images:
        data = base64.b64decode(attributes["src"].partition(",")[2])
        pixels = np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape == (int(attributes["height"]), int(attributes["width"]), 3)
        assert 100 < pixels.shape[1] < 110 and 12 < pixels.shape[0] < 32, "the box and a margin"
        np.testing.assert_allclose(np.median(pixels, (0, 1)), COLORS["sharp"], atol=12)


def test_each_picture_is_asked_for_once(tmp_path):
    asked = []
    written(tmp_path, images=lambda *what: asked.append(what) or picture(*what))
    assert sorted(asked) == sorted((name, image) for name in (*METHODS, "hr") for image in ("000", "001"))


def test_a_large_report_keeps_the_pictures_that_changed_most(tmp_path, monkeypatch):
    monkeypatch.setattr(html_pictures, "LINE_PIXELS", 4 * 100 * 20 * 1.5)  # room for one line
    monkeypatch.setattr(html_pictures, "IMAGE_PIXELS", 4 * 130 * 160 * 1.5)
    reader = Reader(written(tmp_path))
    alts = [a["alt"] for a in reader.all("img") if a["alt"]]
    assert alts == [f"53.0, {name}" for name in (*METHODS, "hr")] + [f"image 001, {n}" for n in (*METHODS, "hr")]
    notes = [text for text in reader.text("p") if "left out" in text]
    assert [re.findall(r"\d+ \w+", text) for text in notes] == [["3 lines"], ["1 images"]]


def test_two_engines_side_by_side(tmp_path):
    values = report()
    values["engines"] = {"rapidocr": {}, "tesseract": {}}
    for one in values["lines"]:
        one["read"] = {
            name: {"tesseract": {"text": "Exot", "score": 0.5}, **read} for name, read in one["read"].items()
        }
    for one in values["methods"].values():
        one["engines"] = {"tesseract": {"ocr_a": 0.5, "exact": 0.125, "n_lines": 4}}
    page = Reader(written(tmp_path, values))
    assert page.text("span", **{"class": "engine"}) == ["tesseract"] * 16
    readings = page.text("p", **{"class": "reading"})
    assert "Exot" in readings[1] and "Exot" not in readings[0], "the judge comes first"
    assert len(page.text("span", **{"class": "exact"})) == 8 + 16, "its own reading of the original is its truth"
    for one in values["lines"]:
        one["read"]["hr"]["tesseract"]["text"] = ""
    page = Reader(written(tmp_path, values))
    assert page.text("p", **{"class": "reading"})[1] == "tesseract Exot", "no truth, so nothing is wrong"
    assert "Read by other engines" in page.text("summary")


def test_odd_reports(tmp_path):
    odd = [
        line(0, "", ("", "x", "y"), (None, None, None)),
        line(1, "flat", ("a", "b", "c"), (0.0, 0.0, 0.0), height=0.2),
        line(2, "שלום \u202e\0\x07", ("a\0", "\ud800", "क्षि"), (0.5, 0.5, 0.5)),
    ]
    page = written(tmp_path, report(odd))
    reader = Reader(page)
    assert "(no text)" in reader.text("h3") and "\\ud800" in page
    assert not [a for a in reader.all("img") if a["alt"].startswith("flat")], "too thin for a picture"
    empty = report([])
    empty["methods"] = {name: method(None, None, by_script={}, by_height=[]) for name in ("bicubic", "hr")}
    empty["images"] = empty["paired"] = []
    assert "0 images, 0 lines" in Reader(written(tmp_path, empty)).text("p")[0]
