"""Recognisers that are taught to read soft lines."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from helpers import pages
from helpers import training_runs as runs
from helpers.reader_graph import write_graph
from tadisr.training.data.line_strips import FTSRLines
from tadisr.training.data.page_crops import ConcatPages
from tadisr.training.recognizer.onnx_graph import load_onnx
from tadisr.training.recognizer.recognizer_loss import cut_lines, reading
from tadisr.training.restoration.validation import network_input
from tadisr.training.tiny import adapt_recognizer

pytest.importorskip("onnx2torch")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_adapting_teaches_to_read_lr_lines(tmp_path, monkeypatch, capsys):
    graph = write_graph(tmp_path / "recogniser.onnx", np.random.default_rng(0))
    monkeypatch.chdir(runs.ROOT)
    runs.fresh()
    data = pages.data_set(tmp_path / "set", 6, 256, font_size=(24, 40))
    # characters everywhere, of whose reading the teacher is sure
    monkeypatch.setattr(
        adapt_recognizer, "reading", lambda *args: (label := reading(*args)[0], label.new_ones(label.shape))
    )
    out = tmp_path / "soft.safetensors"
    flags = [graph, "--data", data, "--restorer", "tadisr-tiny", "-o", out, "--steps", 40, "--learning-rate", 1e-2]
    adapt_recognizer.main([*map(str, flags)])
    assert len(capsys.readouterr().out.splitlines()) == 2
    plain, adapted = load_onnx(graph), load_onnx(out)
    assert not adapted.training and not any(p.requires_grad for p in adapted.parameters())

    batch = next(iter(DataLoader(FTSRLines(ConcatPages([data]), 16, seed=1), batch_size=16)))
    lines = cut_lines(network_input(batch["lr"], adapt_recognizer.SCALE), batch["box"])
    label, _ = reading(plain(cut_lines(batch["hr"] * 2 - 1, batch["box"])))

    def loss(model):
        with torch.no_grad():
            return F.nll_loss(model(lines).clamp_min(1e-6).log().flatten(0, 1), label.flatten()).item()

    assert loss(adapted) < loss(plain)
    x = torch.rand(1, 3, 48, 64)
    assert (plain(x) - adapted(x)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="--output must be a .safetensors file in "):
        adapt_recognizer.main([*map(str, flags[:6]), "elsewhere/soft.safetensors"])
