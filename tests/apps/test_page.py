"""The page of `tadisr app`: its handlers by Gradio's own client, and its clicks in a real browser."""

import json
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tadisr
from helpers.browser import CHROMIUM
from helpers.browser import Page as Browser
from tadisr.cli import main
from tadisr.transparency import sliding_maximum

gradio_client = pytest.importorskip("gradio_client")
page = pytest.importorskip("tadisr.apps.page")


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
def line(tmp_path):
    """The title of the example."""
    path = tmp_path / "line.png"
    with Image.open(page.EXAMPLE) as image:
        image.crop((0, 8, 300, 45)).save(path, dpi=(150, 150))
    return path


def test_a_picture(client, line):
    (before, after), lines, said, files, _ = client.predict(
        gradio_client.handle_file(str(line)), 0.5, 4, True, False, api_name="/restore"
    )
    assert said.startswith("300 × 37 became 1200 × 148 pixels. ") and said.endswith(" lines to check.")
    assert [Image.open(x).size for x in (before, after)] == [(1200, 148)] * 2
    assert lines["headers"] == page.COLUMNS and "segmentation" in " ".join(row[2] for row in lines["data"])
    image, mask, report = map(Path, files)
    assert [x.name for x in (image, mask, report)] == ["line_restored.png", "line_mask.png", "line_report.json"]
    wanted = tadisr.load("tadisr-tiny", runtime="onnx").restore(
        np.asarray(Image.open(line).convert("RGB")), fidelity=0.5
    )
    with Image.open(image) as made, Image.open(mask) as found:
        assert made.mode == "L" and made.info["dpi"] == pytest.approx((600, 600), abs=0.5)
        assert np.abs(np.asarray(made).astype(int) - wanted.image.mean(2)).max() <= 2
        assert np.array_equal(np.asarray(found), wanted.mask)
    assert json.loads(report.read_text(encoding="utf-8"))["counts"]["lines"] == len(lines["data"])


def test_what_is_asked_for(client, line):
    (_, masked), lines, _, files, _ = client.predict(
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


def test_mistakes_are_said_in_one_line(client, tmp_path, monkeypatch):
    (tmp_path / "notes.png").write_text("no picture")
    monkeypatch.setattr(page, "MOST_PIXELS", 1000)
    Image.new("L", (40, 40)).save(tmp_path / "large.png")
    for file, said in (
        (None, "Choose a picture first"), (tmp_path / "notes.png", "notes.png"),
        (tmp_path / "large.png", "large.png has 0 megapixels, and 0 are possible: crop or shrink it"),
    ):  # fmt: skip
        given = file and gradio_client.handle_file(str(file))
        with pytest.raises(Exception, match=said) as caught:
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
    def wait(condition, seconds=90):
        deadline = time.monotonic() + seconds
        while not browser.run(condition):
            assert time.monotonic() < deadline, browser.run("document.body.innerText")
            time.sleep(0.2)

    def click(kind, text):
        found = f"[...document.querySelectorAll('{kind}')].findLast(x => x.textContent.includes('{text}'))"
        wait(f"Boolean({found})")
        x, y = browser.run(
            f"(({{left, top, width, height}}) => [left + Math.min(width, 40) / 2, top + height / 2])"
            f"(({found}.scrollIntoView({{block: 'center', behavior: 'instant'}}), {found}.getBoundingClientRect()))"
        )
        for event in ("mousePressed", "mouseReleased"):
            browser.call("Input.dispatchMouseEvent", type=event, x=x, y=y, button="left", buttons=1, clickCount=1)

    with Browser(tmp_path / "profile") as browser:
        browser.resize(1000, 1400)
        browser.open(served.local_url)
        wait("Boolean(document.querySelector('input[type=file]'))")
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        node = browser.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=node, files=[str(line)])
        wait("[...document.images].some(x => x.src.includes('line.png'))")
        click("button", "Restore")
        wait("document.body.innerText.includes('became 1200 × 148 pixels')")
        wait("document.body.innerText.includes('line_restored')")
        click("[role=gridcell]", "segmentation")
        wait("document.body.innerText.includes('after: ')")
        before = browser.screenshot()
        click("label", "Show where text was found")
        time.sleep(2)
        assert (browser.screenshot() != before).any()
        browser.resize(400, 800)
        assert browser.run("document.documentElement.scrollWidth <= innerWidth + 1")
        own = served.local_url, "data:", "blob:", "chrome", "about:"
        assert all(request.startswith(own) for request in browser.requests), browser.requests


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
