"""The server in docs/serve.md, as it stands there."""

import io
import re
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SERVE = Path(__file__).parents[2] / "docs" / "serve.md"


@pytest.fixture(scope="module")
def example():
    blocks = re.findall(r"^```python\n(.*?)^```", SERVE.read_text(), re.M | re.S)
    [code] = [block for block in blocks if "do_POST" in block]
    names = {"__name__": "example"}
    exec(compile(code, str(SERVE), "exec"), names)
    names["Handler"].log_message = lambda *_: None
    server = names["serve"](0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield names, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def png(image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_it_restores_for_several_clients(example):
    names, address = example
    images = [np.random.default_rng(i).integers(0, 256, (12 + i, 20, 3), np.uint8) for i in range(4)]
    expected = [names["restorer"].restore(image, tile=512).image for image in images]

    def post(image):
        with urllib.request.urlopen(address, png(image), timeout=100) as answer:
            return np.asarray(Image.open(io.BytesIO(answer.read())))

    with ThreadPoolExecutor(4) as pool:
        assert all(map(np.array_equal, pool.map(post, images), expected))


@pytest.mark.parametrize(
    ("body", "code"),
    [(b"no image", 415), (b"", 413), (png(np.zeros((2001, 2000, 3), np.uint8)), 413)],
)
def test_what_it_does_not_take(example, body, code):
    with pytest.raises(urllib.error.HTTPError, match=str(code)):
        urllib.request.urlopen(example[1], body, timeout=100)
