"""The page of `tadisr app`: its handlers by Gradio's own client, and its clicks in a real browser."""

import importlib
import json
import re
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pikepdf
import pytest
from PIL import Image

import tadisr
from helpers.browser import CHROMIUM
from helpers.browser import Page as Browser
from tadisr.cli import main
from tadisr.transparency import sliding_maximum

gradio_client = pytest.importorskip("gradio_client")
page = pytest.importorskip("tadisr.apps.page")
page_shown, page_work = (importlib.import_module(f"tadisr.apps.page_{name}") for name in ("shown", "work"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    patch.chdir(tmp_path_factory.mktemp("served"))
    Path("secret.txt").write_text("secret")
    blocks = page.launch(page.Page("tadisr-tiny", "cpu", "onnx"))
    yield blocks
    blocks.close()
    patch.undo()


@pytest.fixture(scope="module")
def client(served):
    return gradio_client.Client(served.local_url, verbose=False)


@pytest.fixture
def scans(line, tmp_path):
    """A PDF of two pages, 100 dots per inch: the line, and the half of it."""
    with Image.open(line) as image:
        image.save(tmp_path / "scans.pdf", resolution=100)
        image.crop((0, 0, 150, 37)).save(tmp_path / "scans.pdf", resolution=100, append=True)
    return tmp_path / "scans.pdf"


def test_a_picture(client, line):
    (before, after), lines, said, files = client.predict(
        gradio_client.handle_file(str(line)), 0.5, 4, True, False, api_name="/restore"
    )
    assert said.startswith("300 × 37 became 1200 × 148 pixels. ") and said.endswith(" lines to check.")
    assert [Image.open(x).size for x in (before, after)] == [(1200, 148)] * 2
    assert lines["headers"] == [*page_shown.COLUMNS, page_shown.SAYS] and "segmentation" in " ".join(
        row[2] for row in lines["data"]
    )
    image, mask, report = map(Path, files)
    assert [x.name for x in (image, mask, report)] == ["line_restored.png", "line_mask.png", "line_report.json"]
    wanted = tadisr.load("tadisr-tiny", runtime="onnx").restore(
        np.asarray(Image.open(line).convert("RGB")), fidelity=0.5
    )
    with Image.open(image) as made, Image.open(mask) as found:
        assert made.mode == "L" and made.info["dpi"] == pytest.approx((600, 600), abs=0.5)
        assert np.array_equal(np.asarray(made), np.asarray(Image.fromarray(wanted.image).convert("L")))
        assert np.array_equal(np.asarray(found), wanted.mask)
    assert json.loads(report.read_text(encoding="utf-8"))["counts"]["lines"] == len(lines["data"])


def test_what_is_asked_for(client, line):
    (_, masked), lines, _, files = client.predict(
        gradio_client.handle_file(str(line)), 0.5, 2, False, True, api_name="/restore"
    )
    assert lines["data"] == [] and len(files) == 2
    shown = np.asarray(Image.open(masked).convert("RGB")).astype(int)
    mask = np.asarray(Image.open(files[1]))
    far = ~sliding_maximum(mask > 20, 3)
    assert shown.shape[:2] == (74, 600) and (shown[mask > 200][:, 0] - shown[mask > 200][:, 1]).mean() > 50
    assert np.abs(shown[far][:, 0] - shown[far][:, 1]).mean() < 12


def test_several_files(client, line, tmp_path):
    other = tmp_path / "b" / "line.png"
    other.parent.mkdir()
    other.write_bytes(line.read_bytes())
    (tmp_path / "bad.png").write_text("no picture")
    files = [gradio_client.handle_file(str(x)) for x in (line, tmp_path / "bad.png", other)]
    archive, results = client.predict(files, 1, 1, False, api_name="/restore_files")
    names = ["line_restored.png", "line_mask.png", "line_2_restored.png", "line_2_mask.png"]
    assert zipfile.ZipFile(archive).namelist() == names
    assert [row[0] for row in results["data"]] == ["line.png", "bad.png", "line.png"]
    assert results["data"][0][1] == "restored" and results["data"][1][1].startswith("bad.png ")


def test_a_page_of_a_pdf_and_of_a_tiff(client, scans, line, tmp_path):
    with Image.open(line) as image:
        image.save(tmp_path / "two.tif", save_all=True, append_images=[image.crop((0, 0, 150, 37))])
    for file in (scans, tmp_path / "two.tif"):
        given = gradio_client.handle_file(str(file))
        *_, said, files = client.predict(given, 1, 1, False, False, 2, api_name="/restore")
        assert said.startswith("150 × 37 became 150 × 37 pixels.")
        assert Path(files[0]).name == f"{file.stem}_page2_restored.png"
    with pytest.raises(Exception, match="two.tif has no page 3: it has 2"):
        client.predict(given, 1, 1, False, False, 3, api_name="/restore")


def test_all_pages_of_several_files(client, scans, line):
    files = [gradio_client.handle_file(str(x)) for x in (scans, line)]
    archive, results = client.predict(files, 1, 1, False, api_name="/restore_files")
    assert [row[0] for row in results["data"]] == ["scans.pdf, page 1", "scans.pdf, page 2", "line.png"]
    assert "scans_page2_restored.png" in zipfile.ZipFile(archive).namelist()


def test_more_pages_than_are_possible(client, scans, monkeypatch):
    monkeypatch.setattr(page_work, "MOST_FILES", 1)
    with pytest.raises(Exception, match="They have 2 pages: at most 1 at a time"):
        client.predict([gradio_client.handle_file(str(scans))], 1, 1, False, api_name="/restore_files")


def test_pdfs_that_cannot_be_read(client, scans, tmp_path, monkeypatch):
    with pikepdf.open(scans) as pdf:
        pdf.save(tmp_path / "locked.pdf", encryption=pikepdf.Encryption(user="u", owner="o"))
    (tmp_path / "bad.pdf").write_text("no pages")
    for name, said in {
        "locked.pdf": "locked.pdf is encrypted: remove its password first", "bad.pdf": "bad.pdf is no PDF, or a damaged"
    }.items():  # fmt: skip
        with pytest.raises(Exception, match=f"^{said}"):
            client.predict(gradio_client.handle_file(str(tmp_path / name)), 1, 1, False, False, api_name="/restore")
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(Exception, match=r"^PDF pages need pypdfium2: pip install 'tadisr\[documents\]'"):
        client.predict(gradio_client.handle_file(str(scans)), 1, 1, False, False, api_name="/restore")


def test_tiles_and_the_size_of_the_picture(client, line):
    given, files = gradio_client.handle_file(str(line)), {}
    for tile in ("auto", "256"):
        *_, said, files[tile] = client.predict(given, 1, 4, False, False, 1, tile, True, api_name="/restore")
        assert said.startswith("300 × 37 became 300 × 37 pixels.")
    one, other = (np.asarray(Image.open(names[0])).astype(int) for names in files.values())
    assert (one != other).any() and np.abs(one - other).mean() < 2
    for tile, said in {"large": "A tile is auto or a number of pixels, not 'large'", "16": "tile must be"}.items():
        with pytest.raises(Exception, match=said):
            client.predict(given, 1, 4, False, False, 1, tile, True, api_name="/restore")


def test_the_time_that_is_left(monkeypatch):
    monkeypatch.setattr(page_work.time, "monotonic", lambda: 100.0)
    said = [page_work._left(started, share) for started, share in ((100, 0), (99.9, 0.5), (90, 0.25), (0, 0.1))]
    assert said == ["", "", ", about 30 s left", ", about 15 min left"]


def test_mistakes_are_said_in_one_line(client, tmp_path, monkeypatch):
    (tmp_path / "notes.png").write_text("no picture")
    monkeypatch.setattr(page_work, "MOST_PIXELS", 1000)
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    for file, said in (
        (None, "Choose a picture first"), (tmp_path / "notes.png", "notes.png"),
        (tmp_path / "large.png", "large.png: (40, 40) pixels are more than 1000: crop or shrink the image"),
    ):  # fmt: skip
        given = file and gradio_client.handle_file(str(file))
        with pytest.raises(Exception, match=re.escape(said)) as caught:
            client.predict(given, 0.5, 4, False, False, api_name="/restore")
        assert str(tmp_path) not in str(caught.value) and "Traceback" not in str(caught.value)


def test_no_file_of_the_server_can_be_read(served):
    for path in ("/etc/passwd", str(Path("secret.txt").resolve()), str(Path(tadisr.__file__)), "../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{served.local_url}gradio_api/file={path}")
        assert caught.value.code in (403, 404)
    assert served.local_url.startswith("http://127.0.0.1:") and not served.share_url


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_in_a_browser(served, line, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.resize(1000, 1400)
        browser.open(served.local_url)
        browser.choose(line)
        browser.wait("[...document.images].some(x => x.src.includes('gradio_api/file'))")
        browser.click("button", "Restore")
        browser.wait("document.body.innerText.includes('became 1200 × 148 pixels')")
        browser.wait("document.body.innerText.includes('line_restored')")
        assert "Correct where text is" in browser.run("document.body.innerText")
        browser.click("[role=gridcell]", "segmentation")
        browser.wait("[...document.querySelectorAll('textarea')].some(x => x.value.includes('after: '))")
        before = browser.screenshot()
        browser.click("label", "Show where text was found")
        time.sleep(2)
        assert (browser.screenshot() != before).any()
        browser.resize(400, 800)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth + 1")
        own = served.local_url, "data:", "blob:", "chrome", "about:"
        assert all(request.startswith(own) for request in browser.requests), browser.requests


PASTED = """(async () => {
  const data = new DataTransfer();
  const picture = await new Promise((done) => Object.assign(document.createElement("canvas"), SIZE).toBlob(done));
  data.items.add(new File([picture], NAME, {type: "image/png"}));
  document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data}));
})()"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_pages_and_what_is_pasted_in_a_browser(served, scans, tmp_path):
    def pictures():
        return browser.run("[...document.images].filter(x => x.offsetParent).map(x => `${x.naturalWidth}`).join()")

    (tmp_path / "bad.pdf").write_text("no pages")
    with Browser(tmp_path / "profile") as browser:
        browser.open(served.local_url)
        browser.choose(scans)
        browser.wait("document.body.innerText.includes('of 2')")
        assert pictures() == "300"
        browser.click("#page input", count=3)
        browser.type("2")
        browser.wait("[...document.images].some(x => x.offsetParent && x.naturalWidth === 150)")
        for width in (30, 50):  # the second takes the place of the first
            browser.run(PASTED.replace("SIZE", f"{{width: {width}, height: 20}}").replace("NAME", f'"{width}.png"'))
            browser.wait(f"[...document.images].some(x => x.offsetParent && x.naturalWidth === {width})")
        assert not browser.run("Boolean(document.querySelector('#page')?.offsetParent)")
        browser.click("button[aria-label=Clear]")
        browser.choose(tmp_path / "bad.pdf")
        browser.wait("document.body.innerText.includes('bad.pdf is no PDF, or a damaged one')")
        assert pictures() == ""


def test_a_space(tmp_path, capsys):
    assert main(["app", "--export-space", str(tmp_path / "space"), "--model", "user/adapter"]) == 0
    names = sorted(x.name for x in (tmp_path / "space").iterdir())
    assert names == ["README.md", "app.py", "requirements.txt"]
    program = (tmp_path / "space" / "app.py").read_text()
    compile(program, "app.py", "exec")
    assert 'Page("user/adapter")' in program.replace("'", '"')
    readme = (tmp_path / "space" / "README.md").read_text(encoding="utf-8")
    assert "sdk: gradio" in readme and "models: [user/adapter]" in readme
    assert main(["app", "--export-space", str(tmp_path / "space")]) == 2
    assert "is no empty folder: name a new one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "0"], "--port must be from 1 to 65535, not 0"),
        (["--model", "nothing"], "cannot load nothing: No model nothing"),
    ],
)
def test_mistakes(arguments, message, capsys):
    assert main(["app", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_taken_port(served, capsys):
    port = served.local_url.rstrip("/").rpartition(":")[2]
    assert main(["app", "--port", port]) == 2
    assert f"port {port} is taken: name another with --port" in capsys.readouterr().err
