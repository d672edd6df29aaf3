"""The command line on the smallest model."""

import pytest
import torch

from helpers import tiny
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
    """`tadisr upscale ARGUMENTS` in an empty folder: its exit code and its lines on stderr; stdout stays empty."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        code = cli.main(["upscale", "--model", model, "--device", "cpu", *map(str, arguments)])
        out, err = capfd.readouterr()
        assert out == ""
        return code, err.splitlines()

    return run
