"""web/ in a real browser, against Python's result. Needs Chromium, and web/dist, which `make web` builds with npm."""

import base64
import functools
import http.server
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tadisr.tiling
from helpers.browser import CHROMIUM, Page
from tadisr.pipelines.pipeline_onnx import TADiSROnnxPipeline

ROOT = Path(__file__).parents[2]
DIST = ROOT / "web/dist"
EXAMPLE = ROOT / "demo/example.png"  # a photograph of a printed page
TILE, OVERLAP = 128, 16  # LR pixels, as worker.js has them

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    pytest.mark.skipif(not (DIST / "sw.js").exists(), reason="no web/dist here: make web"),
]


class Handler(http.server.SimpleHTTPRequestHandler):
    """As any static host: no headers of its own."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    handler = functools.partial(Handler, directory=str(DIST))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.fixture(scope="module")
def browser(server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web")
    with Page(folder / "profile") as opened:
        opened.folder = folder / "downloads"
        opened.folder.mkdir()
        opened.address = f"http://127.0.0.1:{server.server_port}/"
        opened.resize(1000, 900)
        opened.open(opened.address)
        wait(opened, "document.getElementById('ready').textContent.includes('computes')")
        yield opened


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A part of the photo, less than a tile: quick."""
    return saved(tmp_path_factory.mktemp("line") / "line.png", (30, 20, 126, 60))


def saved(path, box, color=False):
    """A part of the photo, without its colour profile: browsers convert to sRGB, Python keeps numbers and profile."""
    page = np.array(Image.open(EXAMPLE).convert("RGB" if color else "L").crop(box))
    if color:
        page[..., 2] //= 2
    Image.fromarray(page).save(path)
    return path


def wait(browser, condition, seconds=120):
    """Until a JavaScript expression is true; a page that is opened anew meanwhile loses its context for a moment."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if browser.run(condition):
                return
        except AssertionError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"{condition} is still false; the page says: {browser.run('document.body.innerText')}")


def text(browser, name):
    return browser.run(f"document.getElementById('{name}').textContent")


def choose(browser, path):
    """A file, as by its dialog."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    node = browser.call("DOM.querySelector", nodeId=root, selector="#file")["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


def restored(browser, path):
    """The image and the mask that the page offers for download."""
    choose(browser, path)
    wait(browser, "!document.getElementById('result').hidden")
    return [downloaded(browser, name) for name in ("save-image", "save-mask")]


def downloaded(browser, link):
    name = browser.run(f"document.getElementById('{link}').download")
    file = browser.folder / name
    file.unlink(missing_ok=True)
    browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(browser.folder))
    browser.run(f"document.getElementById('{link}').click()")
    deadline = time.monotonic() + 30
    while not file.exists():  # it has another name until it is complete
        assert time.monotonic() < deadline, f"{name} was not downloaded"
        time.sleep(0.05)
    with Image.open(file) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def python(path, gray=False, fidelity=None):
    picture = Image.open(path).convert("RGB")
    pipe = TADiSROnnxPipeline.from_pretrained("tadisr-tiny", precision="int8")
    result = pipe(picture, tile=TILE * 4, overlap=OVERLAP * 4, fidelity=fidelity)
    image = result.images[0].convert("L") if gray else result.images[0]
    return [np.asarray(made.convert("RGB")) for made in (image, result.text_masks[0])]


def difference(a, b):
    """Mean, in gray levels."""
    assert a.shape == b.shape
    return np.abs(a.astype(float) - b).mean()


def test_photo_becomes_what_python_makes_of_it(browser, tmp_path):
    photo = saved(tmp_path / "photo.png", (20, 20, 260, 160))  # four tiles
    image, mask = restored(browser, photo)
    ours, our_mask = python(photo, gray=True)
    bicubic = np.asarray(Image.open(photo).convert("RGB").resize(ours.shape[1::-1], Image.Resampling.BICUBIC))
    assert difference(image, bicubic) > 2  # it is restored, not enlarged
    print("mean difference in gray levels:", difference(image, ours), difference(mask, our_mask))
    assert difference(image, ours) < 0.5
    assert difference(mask, our_mask) < 0.5
    assert (image[..., 0] == image[..., 1]).all()  # gray stays gray
    assert browser.problems == []


@pytest.mark.parametrize("size", [(13, 9), (150, 40)])
def test_small_colour_pictures_are_padded_and_tiled_as_in_python(browser, tmp_path, size):
    picture = saved(tmp_path / "colour.png", (30, 20, 30 + size[0], 20 + size[1]), color=True)
    image, mask = restored(browser, picture)
    ours, our_mask = python(picture)
    assert difference(image, ours) < 0.5
    assert difference(mask, our_mask) < 4  # of a few letters' parts it is unsure: 2.3 between int8 and float32


def test_windows_and_shares_are_those_of_python(browser):
    cases = [(10, 4, 1), (128, 128, 16), (129, 128, 16), (300, 128, 16), (1000, 96, 32)]
    code = f"""import('./tiling.js').then(({{windows, shares}}) =>
        {[list(case) for case in cases]}.map(([length, tile, overlap]) => {{
        const spans = windows(length, tile, overlap);
        return [spans, shares(spans, length, overlap).map(share => [...share])];
    }}))"""
    for (length, tile, overlap), (spans, shares) in zip(cases, browser.run(code), strict=True):
        expected = tadisr.tiling.windows(length, tile, overlap)
        assert [tuple(span) for span in spans] == expected
        weights = [tadisr.tiling.blend_weights(window, length, overlap) for window in expected]
        total = np.zeros(length)
        for (start, stop), weight in zip(expected, weights, strict=True):
            total[start:stop] += weight
        for (start, stop), weight, share in zip(expected, weights, shares, strict=True):
            assert np.allclose(share, weight / total[start:stop], atol=1e-6)


def test_threads_work_on_a_plain_host_and_nothing_leaves_it(browser):
    assert browser.run("crossOriginIsolated") is True
    assert browser.requests and all(request.startswith((browser.address, "blob:")) for request in browser.requests)
    refused = "fetch('https://example.org/').then(() => 'sent', () => 'refused')"
    assert browser.run(refused) == "refused"
    browser.problems.clear()  # the browser tells of the refusal


def test_slider_mask_and_size_work(browser, line):
    restored(browser, line)
    assert browser.run("document.activeElement.id") == "result-title"
    browser.press("Tab")
    while browser.run("document.activeElement.id") != "slider":
        browser.press("Tab")
    browser.press("ArrowLeft")
    assert browser.run("document.getElementById('picture').style.getPropertyValue('--at')") == "49%"
    box = browser.run(
        "(({left, top, width}) => [left, top, width])(document.getElementById('picture').getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        x, y = box[0] + box[2] / 4, box[1] + 20
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)
    assert browser.run("document.getElementById('slider').value") == "25"
    before = browser.screenshot()
    browser.run("document.getElementById('show-mask').click()")
    assert (browser.screenshot() != before).mean() > 0.005
    browser.run("document.getElementById('full-size').click()")
    assert browser.run("document.getElementById('picture').offsetWidth") == 96 * 4
    browser.run("document.getElementById('full-size').click(), document.getElementById('show-mask').click()")
    names = browser.run("['save-image', 'save-mask'].map(id => document.getElementById(id).download)")
    assert names == ["line_restored.png", "line_mask.png"]


def test_dial_restores_the_picture_anew(browser, line):
    own, _ = restored(browser, line)
    dial = "document.getElementById('fidelity')"
    for fidelity, said in ((0, "as they were"), (1, "as sharp as they come")):
        browser.run(f"{dial}.value = {fidelity}, {dial}.dispatchEvent(new Event('input'))")
        assert browser.run(f"{dial}.getAttribute('aria-valuetext')") == said
        browser.run(f"document.getElementById('result').hidden = true, {dial}.dispatchEvent(new Event('change'))")
        wait(browser, "!document.getElementById('result').hidden")
        image = downloaded(browser, "save-image")
        off = difference(image, python(line, gray=True, fidelity=fidelity)[0])
        assert off < 0.5 and off < 0.75 * difference(image, own)
    browser.open(browser.address)
    wait(browser, "document.getElementById('ready').textContent.includes('computes')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1000])
def test_page_fits_narrow_and_wide_screens(browser, scheme, width):
    browser.resize(width, 900)
    browser.scheme(scheme)
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    corner = browser.screenshot()[5, 5]
    assert (corner > 200).all() if scheme == "light" else (corner < 60).all()
    browser.resize(1000, 900)
    browser.scheme("light")


@pytest.mark.parametrize(("event", "data"), [("DragEvent", "dataTransfer"), ("ClipboardEvent", "clipboardData")])
def test_pictures_are_dropped_and_pasted(browser, line, event, data):
    file = base64.b64encode(line.read_bytes()).decode()
    name = {"DragEvent": "drop", "ClipboardEvent": "paste"}[event]
    browser.run(f"""(() => {{
        const bytes = Uint8Array.from(atob("{file}"), letter => letter.charCodeAt());
        const {data} = new DataTransfer();
        {data}.items.add(new File([bytes], "{name}.png", {{type: "image/png"}}));
        document.body.dispatchEvent(new {event}("{name}", {{{data}, bubbles: true, cancelable: true}}));
    }})()""")
    wait(browser, "!document.getElementById('result').hidden")
    assert browser.run("document.getElementById('save-image').download") == f"{name}_restored.png"
    browser.run(f"document.body.dispatchEvent(new {event}('{name}', {{{data}: new DataTransfer(), bubbles: true}}))")
    assert text(browser, "error").startswith(("What was dropped is no file", "There is no picture"))


def test_what_cannot_be_restored_is_said_in_one_line(browser, line, tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    Image.new("L", (4001, 10)).save(tmp_path / "long.png")
    Image.new("L", (2001, 2000)).save(tmp_path / "large.png")
    for name, said in (("notes.txt", "is not a picture"), ("long.png", "too large"), ("large.png", "too large")):
        choose(browser, tmp_path / name)
        wait(browser, f"document.getElementById('error').textContent.includes('{said}')")
        assert "\n" not in text(browser, "error")
    assert browser.run("document.getElementById('work').hidden")
    assert restored(browser, line)[0].shape == (160, 384, 3) and text(browser, "error") == ""


def test_cancelling_leaves_the_page_ready(browser, line):
    choose(browser, EXAMPLE)
    wait(browser, "!document.getElementById('work').hidden")
    browser.run("document.getElementById('cancel').click()")
    assert browser.run("document.getElementById('work').hidden && document.getElementById('error').textContent === ''")
    assert restored(browser, line)[0].shape == (160, 384, 3)


def test_page_without_its_model_says_so(browser, tmp_path):
    for path in DIST.iterdir():
        if not path.name.startswith("model"):
            (tmp_path / path.name).symlink_to(path)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))
    ) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        browser.open(f"http://127.0.0.1:{other.server_port}/")
        wait(browser, "document.getElementById('error').textContent.includes('the server has no model_int8.onnx.gz')")
        other.shutdown()
    browser.open(browser.address)
    wait(browser, "document.getElementById('ready').textContent.includes('computes')")


def test_worker_knows_the_graph():
    info = TADiSROnnxPipeline.from_pretrained("tadisr-tiny", precision="int8").graph.info
    assert info.multiple == 1 and info.tile is None
    sizes = f"{{tile: {TILE}, overlap: {OVERLAP}, scale: {info.scale}, least: {info.least_side}}}"
    assert sizes in (DIST / "worker.js").read_text(encoding="utf-8")
    dial = re.search(r'id="fidelity".*? value="([^"]*)"', (DIST / "index.html").read_text(encoding="utf-8"))
    assert dial and float(dial[1]) == pytest.approx(info.fidelity)


def test_files_are_less_than_20_megabytes():
    assert sum(path.stat().st_size for path in DIST.rglob("*")) < 20e6


def test_page_works_without_its_server(browser, server, line):
    """The last test: the server ends."""
    server.shutdown()
    server.server_close()
    browser.open(browser.address)
    wait(browser, "document.getElementById('ready').textContent.includes('without a network')")
    assert difference(restored(browser, line)[0], python(line, gray=True)[0]) < 0.5
    browser.run("document.getElementById('example').click()")
    wait(browser, "document.getElementById('doing').textContent.includes('384 × 191')")
