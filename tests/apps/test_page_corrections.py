"""What a person corrects on the page of `tadisr app`: where text is, and what lines read."""

import importlib
import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from helpers import tiny
from helpers.browser import CHROMIUM
from helpers.browser import Page as Browser
from tadisr.io.images import read_made_by
from tadisr.pipelines.tile_memory import TileMemory
from tadisr.trust import check

gradio_client = pytest.importorskip("gradio_client")
page = pytest.importorskip("tadisr.apps.page")
page_shown = importlib.import_module("tadisr.apps.page_shown")

TILE, COUNT = "256", 2  # the tiles of the result, 1200 x 148, are decoded in two batches


@pytest.fixture(scope="module")
def handlers(tmp_path_factory):
    """For a model that follows masks."""
    folder = tmp_path_factory.mktemp("model")
    tiny.lean(mask_prompt=True).save_pretrained(folder)
    return page.Page(str(folder), "cpu", "torch")


@pytest.fixture(scope="module")
def served(handlers, tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    blocks = page.launch(handlers)
    yield blocks
    blocks.close()
    patch.undo()


@pytest.fixture
def client(served):
    return gradio_client.Client(served.local_url, verbose=False)


@pytest.fixture
def decoded(handlers, monkeypatch):
    """How many tiles were decoded since this was last asked."""
    pipe, tiles = handlers.restorer.pipe, []
    decode = pipe.decode
    monkeypatch.setattr(pipe, "decode", lambda *args: tiles.append(1) or decode(*args))
    monkeypatch.setattr(pipe, "_tiles", TileMemory())

    def since():
        count = len(tiles)
        tiles.clear()
        return count

    return since


def strokes(path, **boxes):
    """What the editor sends: a layer with a box of each colour."""
    layer = Image.new("RGBA", (1200, 148))
    for name, box in boxes.items():
        layer.paste(ImageColor.getrgb(getattr(page_shown, name)), box)
    layer.save(path)
    return {"background": None, "layers": [gradio_client.handle_file(str(path))], "composite": None}


def restore(client, line, check=False, doubtful=page_shown.RESTORED):
    given = gradio_client.handle_file(str(line))
    return client.predict(given, 0, 4, check, False, 1, TILE, False, doubtful, api_name="/restore")


def pixels(files):
    return [np.asarray(Image.open(file).convert("RGB")) for file in files[:2]]


NOTHING = {"background": None, "layers": [], "composite": None}


def test_only_what_was_painted_is_restored_again(client, line, decoded, tmp_path):
    _, lines, _, files = restore(client, line)
    assert decoded() == COUNT and lines["headers"] == [*page_shown.COLUMNS, page_shown.SAYS]
    before = pixels(files)
    edited = strokes(tmp_path / "paint.png", TEXT=(20, 20, 60, 60), NO_TEXT=(80, 20, 120, 60))
    *_, files = client.predict(edited, lines, False, api_name="/correct")
    assert decoded() == 1
    changed = pixels(files)
    for old, new in zip(before, changed, strict=True):
        assert (old != new).any() and np.array_equal(old[:, 300:], new[:, 300:])
    assert " text_mask=painted" in read_made_by(files[0])
    client.predict(edited, lines, False, api_name="/correct")
    assert decoded() == 0, "what was painted before is known"
    *_, files = client.predict(NOTHING, lines, False, api_name="/correct")
    assert decoded() == 0 and "text_mask" not in read_made_by(files[0])
    assert all(np.array_equal(*both) for both in zip(before, pixels(files), strict=True)), "all is as it was"


def test_the_pipeline_gets_what_was_painted(tmp_path):
    strokes(tmp_path / "paint.png", TEXT=(20, 20, 60, 60), NO_TEXT=(80, 20, 120, 60))
    layer = np.asarray(Image.open(tmp_path / "paint.png"))
    mask = page_shown.painted([layer], (74, 600))
    assert (mask[10:30, 10:30] == 255).all() and (mask[10:30, 40:60] == [0, 255]).all()
    assert (mask[..., 1] > 0).sum() == 2 * 20 * 20


def test_what_a_line_says(client, line, decoded):
    _, lines, _, files = restore(client, line, check=True)
    before = pixels(files)
    assert decoded() == COUNT and lines["data"]
    first = lines["data"][0]
    lines["data"][0] = [*first[:4], "Region-based segmentations"]
    _, lines, said, files = client.predict(NOTHING, lines, False, api_name="/correct")
    assert decoded() and said.endswith(", 1 asserted.")
    assert all((old != new).any() for old, new in zip(before, pixels(files), strict=True))
    report = json.loads(Path(files[2]).read_text(encoding="utf-8"))
    (asserted,) = (one for one in report["lines"] if one["verdict"] == "asserted")
    assert asserted["asserted"] == "Region-based segmentations" and report["counts"]["asserted"] == 1
    assert asserted["output"] == {"text": "", "score": 0.0} and asserted["input"]["text"] == first[1]
    assert all("asserted=%5B%22Region-based%20segmentations%22%5D" in read_made_by(file) for file in files[:2])
    (row,) = (row for row in lines["data"] if row[4])
    assert row[1:] == [first[1], "", "asserted", "Region-based segmentations"]
    row[4] = " "
    lines["data"].append(["99", "", "", "", "a row that somebody added"])
    _, lines, said, files = client.predict(NOTHING, lines, False, api_name="/correct")
    assert "asserted" not in said and "asserted" not in read_made_by(files[0])
    assert all(np.array_equal(*both) for both in zip(before, pixels(files), strict=True)), "all is as it was"


def test_only_lines_that_changed_are_read_again(client, line, tmp_path, monkeypatch):
    """What is typed changes a line that is known; strokes may show others, so all is searched again then."""
    found, read, engine = [], [], type(check.trust_engine())
    own_find, own_read = engine.find, engine.read
    monkeypatch.setattr(engine, "find", lambda *args: found.append(1) or own_find(*args))
    monkeypatch.setattr(engine, "read", lambda *args: read.append(1) or own_read(*args))
    _, lines, _, _ = restore(client, line, check=True)
    assert len(found) == 2 and read and lines["data"]
    found.clear(), read.clear()
    first = lines["data"][0]
    _, lines, said, files = client.predict(NOTHING, lines, False, api_name="/correct")
    assert not found and not read and lines["data"][0] == first and len(files) == 3
    lines["data"][0] = [*first[:4], "Region-based segmentations"]
    _, lines, said, _ = client.predict(NOTHING, lines, False, api_name="/correct")
    assert not found and len(read) == 1 and said.endswith(", 1 asserted.")
    edited = strokes(tmp_path / "paint.png", TEXT=(20, 20, 60, 60))
    client.predict(edited, lines, False, api_name="/correct")
    assert len(found) == 2


def test_doubtful_lines_that_are_kept_can_be_asserted(client, line, monkeypatch):
    """Every reading differs from the one before, and none is surer."""
    readings = iter(range(1000))
    monkeypatch.setattr(
        type(check.trust_engine()),
        "read",
        lambda _, crops: [check.Reading(f"read {next(readings)}", 0.8) for _ in crops],
    )
    _, lines, said, files = restore(client, line, doubtful="kept as they were")
    kept = [row for row in lines["data"] if row[3] == "kept as in the input"]
    assert kept and f"0 of {len(lines['data'])} lines to check, {len(kept)} kept as in the input" in said
    before = pixels(files)[0]
    lines["data"][0][4] = "Region-based segmentations"
    _, lines, said, files = client.predict(NOTHING, lines, False, api_name="/correct")
    assert ", 1 asserted" in said and (pixels(files)[0] != before).any()


def test_mistakes_are_said_in_one_line(client, line):
    with pytest.raises(Exception, match=r"^Restore a picture first"):
        client.predict(NOTHING, {"headers": page_shown.COLUMNS, "data": []}, False, api_name="/correct")
    _, lines, _, _ = restore(client, line, check=True)
    lines["data"][0][4] = "\U000104a0"
    with pytest.raises(Exception, match=r"^No installed font draws"):
        client.predict(NOTHING, lines, False, api_name="/correct")


def test_a_transparent_picture_is_restored_and_not_corrected(client, line):
    with Image.open(line) as image:
        image.convert("LA").save(line)
        alpha = Image.new("L", image.size, 255)
        alpha.paste(0, (0, 0, 20, 20))
        Image.merge("LA", [image.convert("L"), alpha]).save(line)
    _, lines, said, _ = restore(client, line)
    assert "became" in said
    with pytest.raises(Exception, match=r"^text_mask is for opaque images"):
        client.predict(NOTHING, lines, False, api_name="/correct")


def test_the_page_as_everybody_starts_it(line, tmp_path, monkeypatch):
    """By ONNX Runtime, with the bundled model: a typed line changes its own tiles, and no others."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))
    handlers = page.Page("tadisr-tiny", "cpu")
    assert handlers.restorer.graph is not None and handlers.takes_masks
    blocks = page.launch(handlers)
    try:
        client = gradio_client.Client(blocks.local_url, verbose=False)
        _, lines, _, files = restore(client, line, check=True)
        before = pixels(files)
        lines["data"][0][4] = "Region-based segmentations"
        _, lines, said, files = client.predict(NOTHING, lines, False, api_name="/correct")
    finally:
        blocks.close()
    assert said.endswith(", 1 asserted.")
    assert all((old != new).any() for old, new in zip(before, pixels(files), strict=True))


def test_a_model_that_takes_no_masks(handlers, tmp_path):
    tiny.lean().save_pretrained(tmp_path / "model")
    without = page.Page(str(tmp_path / "model"), "cpu", "torch")
    shown = [str(page.build(each).config) for each in (handlers, without)]
    assert not without.takes_masks and ["Correct where text is" in text for text in shown] == [True, False]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_in_a_browser(served, line, tmp_path):
    with Browser(tmp_path / "profile") as browser:
        browser.resize(1000, 1400)
        browser.open(served.local_url)
        browser.choose(line)
        browser.wait("[...document.images].some(x => x.src.includes('gradio_api/file'))")
        browser.click("button", "Restore")
        browser.wait("document.body.innerText.includes('line_restored')")
        browser.click("button", "Correct where text is")
        browser.wait("document.querySelectorAll('canvas').length > 0")
        left, top, width, height = browser.place("[...document.querySelectorAll('canvas')].at(-1)")
        plain = browser.screenshot()
        browser.drag([(left + width * (0.4 + i / 100), top + height / 2) for i in range(10)])
        blue = np.array(ImageColor.getrgb(page_shown.TEXT))
        shown = browser.screenshot()
        assert ((np.abs(shown.astype(int) - blue).sum(-1) < 30) & (shown != plain).any(-1)).sum() > 100
        cell = "[...document.querySelectorAll('[role=gridcell]')].filter(x => x.offsetParent)[4]"
        x, y, width, height = browser.place(cell)
        browser.drag([(x + width / 2, y + height / 2)], count=2)
        time.sleep(1)  # until the cell can be typed into
        browser.type("Region-based segmentations")
        browser.press("Enter")
        time.sleep(1)
        browser.click("button", "Restore what changed")
        browser.wait("document.body.innerText.includes(', 1 asserted')")
        assert browser.run("[...document.querySelectorAll('[role=gridcell]')].some(x => x.innerText === 'asserted')")
