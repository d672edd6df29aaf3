"""What several tests of the page drop on it."""

import pytest
from PIL import Image


@pytest.fixture
def line(tmp_path):
    """The title of the page's example."""
    from tadisr.apps import page

    path = tmp_path / "line.png"
    with Image.open(page.EXAMPLE) as image:
        image.crop((0, 8, 300, 45)).save(path, dpi=(150, 150))
    return path
