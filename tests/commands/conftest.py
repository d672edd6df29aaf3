"""The command line on the smallest model."""

import pytest
import torch

from helpers import tiny
from helpers.command_line import PROGRESS
from tadisr import cli


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder with the smallest model: its image is bicubic, so that answers are known, and its mask is noise."""
    pipe = tiny.lean()
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.weight)
    torch.nn.init.zeros_(pipe.vae.decoder.conv_out.bias)
    folder = tmp_path_factory.mktemp("model")
    pipe.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def run(model, tmp_path, monkeypatch, capfd):
    """`tadisr upscale ARGUMENTS` in an empty folder: its exit code, and its lines on stderr without those of progress.

    Stdout stays empty.
    """
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(["upscale", "--model", model, "--device", "cpu", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert out == ""
        return code, [line for line in err.splitlines() if not PROGRESS.fullmatch(line)]

    return run


@pytest.fixture
def call(model, tmp_path, monkeypatch, capfd):
    """Likewise: its exit code, stdout, and all lines on stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        code = cli.main(["upscale", "--model", model, "--device", "cpu", *map(str, arguments)])
        out, err = capfd.readouterr()
        return code, out, err.splitlines()

    return call
