"""report.html: what it says, that it needs nothing else, and how it behaves in a real browser."""

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Page
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rapidfuzz.distance import Levenshtein

from tadisr.evaluation import html_pictures
from tadisr.evaluation.html import _COLUMNS, compare, write_html

METHODS = ("bicubic", "sharp", 'soft"<i>')
EVIL = "<script>hacked = 1</script>\"'><img src=x onerror='hacked = 1'>&amp;"
COLORS = {"bicubic": (200, 60, 60), "sharp": (60, 200, 60), 'soft"<i>': (60, 60, 200), "hr": (200, 200, 60)}

# truth; what each method reads; its OCR-A
LINES = [
    ("Exit 12", ("Exlt 12", "Exit 12", "Ex 12"), (0.857, 1.0, 0.833)),
    ("二等座", ("二等", "三等座位", ""), (0.7, 0.571, 0.1)),
    (EVIL, (EVIL, "<script>", "<b>bold</b>"), (1.0, 0.3, 0.2)),
    ("53.0", ("53.0", "53.0", "8"), (1.0, 1.0, 0.1)),
]


def line(i, truth, read, ocr_a, height=20.0, script="latin"):
    readings = dict(zip((*METHODS, "hr"), (*read, truth), strict=True))
    return {
        "image": f"00{i % 2}",
        "index": i,
        "quad": [[10, 30 * i + 5], [110, 30 * i + 5], [110, 30 * i + 5 + height], [10, 30 * i + 5 + height]],
        "text": truth,
        "source": "engine",
        "script": script,
        "height": height,
        "read": {name: {"rapidocr": {"text": text, "score": 0.9}} for name, text in readings.items()},
        "ocr_a": dict(zip((*METHODS, "hr"), (*ocr_a, 1.0), strict=True)),
    }


def method(psnr, ocr_a, **more):
    values = {"psnr": psnr, "ssim": 0.7, "lpips": None, "fid": None, "ocr_a": ocr_a, "ocr_a_levenshtein": None,
              "exact": 0.25, "ned": None, "seconds": 0.5}  # fmt: skip
    parts = {"by_script": {"latin": {"ocr_a": ocr_a, "exact": 0.5, "n": 3}},
             "by_height": [{"low": 0, "high": 16, "ocr_a": None, "exact": None, "n": 0},
                           {"low": 16, "high": None, "ocr_a": ocr_a, "exact": 0.5, "n": 4}]}  # fmt: skip
    return {**values, "n_images": 2, "n_lines": 4, "intervals": {}, "delta": {}, "engines": {}, **parts, **more}


def report(lines=None):
    """A small report, as `tadisr evaluate` writes it."""
    if lines is None:
        scripts, heights = ("latin", "chinese", "mixed", "digits"), (20.0, 12.0, 20.0, 24.0)
        lines = [line(i, *LINES[i], heights[i], scripts[i]) for i in range(4)]
    methods = {
        "bicubic": method(22.3456, 0.9),
        "sharp": method(23.0, 0.7, delta={"psnr": 0.6544, "ocr_a": -0.2}, intervals={"ocr_a": [0.6, 0.8]}),
        METHODS[2]: method(21.0, 0.4, mask={"iou": 0.5, "f": 0.61, "boundary_f": None}),
        "hr": method(None, 1.0),
    }
    paired = [
        {"a": "bicubic", "b": "sharp", "metric": "ocr_a", "difference": -0.2, "interval": None, "p": 0.03, "n": 4}
    ]
    values = {"psnr": 22.0, "ssim": None, "lpips": None}
    images = [{"name": f"00{i}", "hr": "hr.png", "size": [130, 160], "methods": {name: values for name in methods}}
              for i in range(2)]  # fmt: skip
    return {"tadisr": "0.1.0", "data": "set <b>", "scale": 4, "engines": {"rapidocr": {"engine": "rapidocr"}},
            "judge": "rapidocr", "settings": {"normalization": "none", "notes": ["FID is left empty: <no weights>"]},
            "methods": methods, "paired": paired, "images": images, "lines": lines}  # fmt: skip


def picture(name, _image):
    """Of one colour for each method, with stripes of noise."""
    pixels = np.full((130, 160, 3), COLORS[name], np.uint8)
    pixels[::7] = np.random.default_rng(0).integers(0, 256, (19, 160, 3))
    return pixels


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


def written(folder, values=None, images=picture):
    path = Path(folder) / "report.html"
    write_html(values or report(), images, path)
    return path.read_text(encoding="utf-8")


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
    assert [run.kind for run in compare("exit.", "exit", "alnum")] == ["same", "same"]
    assert [run.kind for run in compare("exat.", "exit", "alnum")] == ["same", "wrong", "same", "same"]


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


def test_table(reader):
    rows = [i for i, (tag, _) in enumerate(reader.elements) if tag == "tr"]
    cells = [[reader.texts[j] for j in range(i + 1, end) if reader.elements[j][0] in ("th", "td")]
             for i, end in zip(rows[:5], rows[1:6], strict=True)]  # fmt: skip
    heads = [re.sub("(higher|lower) is better", "", head) for head in cells[0]]
    assert heads == ["Method", "PSNR", "SSIM", "LPIPS", "FID", "OCR-A", "lines read exactly", "seconds"]
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


# ---- in a browser


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    (folder / "report.html").write_text(page, encoding="utf-8")
    with Page(folder / "profile") as opened:
        opened.address = (folder / "report.html").as_uri()
        opened.resize(1200, 900)
        yield opened


def order(browser):
    return browser.run("[...document.querySelectorAll('.line')].filter(x => !x.hidden).map(x => +x.dataset.number)")


def test_page_looks_like_something_and_has_no_errors(browser):
    browser.open(browser.address)
    light = browser.screenshot()
    assert light.shape == (900, 1200, 3) and len(np.unique(light.reshape(-1, 3), axis=0)) > 200
    assert (light == 255).all(-1).mean() < 0.95
    browser.run("document.getElementById('list').scrollIntoView()")
    picture = browser.screenshot()
    for name, color in COLORS.items():
        seen = np.abs(picture.astype(int) - color).max(-1) < 25
        assert seen.sum() > 500, f"the pictures of {name} are seen"
    browser.scheme("dark")
    dark = browser.screenshot()
    browser.scheme("light")
    assert np.median(dark) < 60 < 200 < np.median(picture)
    assert browser.problems == []
    assert {request.partition(":")[0] for request in browser.requests} == {"file", "data"}
    assert sum(request.startswith("file:") for request in browser.requests) == 1, "this page alone"
    assert browser.run("typeof hacked") == "undefined"


def test_a_link_names_a_view(browser):
    for state, expected in (
        ("sort=hurt&method=sharp", [2, 1, 3, 0]),
        ("sort=helped&method=sharp", [0, 3, 1, 2]),
        ("sort=read&method=sharp", [2, 1, 0, 3]),
        ("sort=data&method=sharp", [0, 1, 2, 3]),
        ("sort=hurt&method=soft%22%3Ci%3E", [3, 2, 1, 0]),
        ("sort=hurt&method=gone", [3, 2, 1, 0]),  # from another report: the last method, as without a link
        ("sort=hurt&method=sharp&script=latin", [0]),
        ("sort=hurt&method=sharp&height=15-", [2, 3, 0]),
        ("sort=hurt&method=sharp&height=0-20", [2, 1, 0]),
        ("sort=hurt&method=sharp&height=90-", []),
    ):
        browser.open(f"{browser.address}#{state}")
        assert order(browser) == expected, state
    assert browser.run("document.getElementById('none').checkVisibility()")
    browser.open(f"{browser.address}#sort=hurt&method=sharp")
    assert not browser.run("document.getElementById('none').checkVisibility()")
    summary = browser.run("document.getElementById('summary').textContent")
    assert summary == "4 of 4 lines: sharp reads 2 worse, 1 better, 1 alike"
    chosen = browser.run("[...new Set([...document.querySelectorAll('.chosen')].map(x => x.dataset.method))]")
    assert chosen == ["sharp"] and browser.problems == []


def test_controls_change_the_view_and_its_link(browser):
    browser.open(f"{browser.address}#sort=hurt&method=sharp")
    browser.run("document.querySelector('[name=sort]').focus()")
    browser.press("ArrowDown")  # most helped first
    assert order(browser) == [0, 3, 1, 2]
    assert browser.run("location.hash") == "#sort=helped&method=sharp"
    browser.run("document.querySelector('[name=high]').focus()")
    for key in "15":
        browser.press(key)
    assert order(browser) == [1] and browser.run("location.hash").endswith("&height=0-15")
    browser.press("Enter")
    assert order(browser) == [1], "Enter sends no form"
    assert browser.problems == []


def test_keyboard(browser):
    browser.open(f"{browser.address}#sort=data&method=sharp")
    browser.run("document.activeElement.blur()")
    at = "document.activeElement.closest('article')?.id"
    visited = []
    for key in "jjjkk":
        browser.press(key)
        visited.append(browser.run(at))
    assert visited == ["line-0", "line-1", "line-2", "line-1", "line-0"]
    for _ in range(4):  # its two links, the first picture, the second
        browser.press("Tab")
    title = "document.getElementById('zoom-title').textContent"
    browser.press("Enter")
    assert browser.run("document.getElementById('zoom').open") and browser.run(title) == "Exit 12, sharp"
    seen = []
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        browser.press(key)
        seen.append(browser.run(title).removeprefix("Exit 12, "))
    assert seen == [METHODS[2], "hr", "bicubic", "hr"]
    shown = browser.screenshot()
    assert (np.abs(shown.astype(int) - COLORS["hr"]).max(-1) < 25).sum() > 20_000, "large"
    browser.press("Escape")
    assert not browser.run("document.getElementById('zoom').open")
    assert browser.run("document.activeElement.querySelector('img').alt") == "Exit 12, hr", "focus comes back"
    browser.open(f"{browser.address}#line-3")
    assert browser.run(at) == "line-3" and browser.problems == []


def test_phone(browser):
    browser.resize(360, 740, phone=True)
    try:
        browser.open(f"{browser.address}#sort=hurt&method=sharp")
        assert browser.run("document.documentElement.scrollWidth") == 360, "nothing sticks out"
        assert browser.run("getComputedStyle(document.querySelector('.reading')).fontSize") == "16.8px"
    finally:
        browser.resize(1200, 900)


CONTRAST = """
(() => {
  const probe = document.body.appendChild(document.createElement('i'));
  const light = name => {
    probe.style.color = `var(--${name})`;
    const parts = getComputedStyle(probe).color.match(/[\\d.]+/g).slice(0, 3)
      .map(x => x / 255).map(x => x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2] + 0.05;
  };
  const ratios = {};
  for (const ink of ['ink', 'soft', 'link', 'good', 'bad']) for (const on of ['ground', 'card'])
    ratios[`${ink} on ${on}`] = light(ink) / light(on);
  for (const on of ['wrong', 'extra']) ratios[`ink on ${on}`] = light('ink') / light(on);
  ratios['soft on missing'] = light('soft') / light('missing');
  probe.remove();
  return Object.fromEntries(Object.entries(ratios).map(([k, x]) => [k, Math.max(x, 1 / x)]));
})()
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser, scheme):
    browser.open(browser.address)
    browser.scheme(scheme)
    ratios = browser.run(CONTRAST)
    browser.scheme("light")
    assert min(ratios.values()) >= 4.5, ratios


def test_without_javascript_everything_is_there(browser):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(f"{browser.address}?plain")
        document = browser.call("DOM.getDocument")["root"]["nodeId"]
        found = browser.call("DOM.querySelectorAll", nodeId=document, selector=".line:not([hidden])")["nodeIds"]
        controls = browser.call("DOM.querySelectorAll", nodeId=document, selector="#controls[hidden]")["nodeIds"]
        assert len(found) == 4 and len(controls) == 1
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
