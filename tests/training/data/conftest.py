"""Toy data that the tests of this folder share."""

import pytest

from helpers import pages, source_samples


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Ten FTSR pages of 256 pixels, nine of them for training."""
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


@pytest.fixture(scope="session")
def realce(tmp_path_factory):
    """Real-CE with images of 160 x 224 pixels."""
    return source_samples.write_realce(tmp_path_factory.mktemp("realce"), (160, 224))


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """`datasets` waits five seconds for its threads after every pass."""
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.1, raising=False)  # since datasets 5
