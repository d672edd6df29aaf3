"""report.html in a real browser: how it looks and behaves. Needs Debian's chromium, or any other Chromium."""

import numpy as np
import pytest

from helpers.browser import CHROMIUM, Page
from helpers.report_sample import COLORS, METHODS, written

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    written(folder)
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
