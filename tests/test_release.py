"""Bundled weights: half precision, under their own name, and as strong as asked."""

import json

import pytest
import tiny_textdiff
import torch
import training_runs as runs
from safetensors.torch import load_file
from tadisr.training.config import TrainConfig
from tadisr.training.hub import as_pipeline
from tadisr.training.release import release

from tadisr import TADiSRPipeline, TextDiffPipeline
from tadisr.images import upsample


@pytest.fixture
def trained(tmp_path):
    (tmp_path / "base.json").write_text(json.dumps(runs.BASE))
    config = TrainConfig(
        base_config=str(tmp_path / "base.json"), train_data_dir=["data"], encoder_skips=True, image_residual=True,
        lpips=0.0,
    )  # fmt: skip
    network = runs.toy_network(config)
    with torch.no_grad():
        network.vae.decoder.conv_out.weight.normal_(0, 0.1)
    as_pipeline(network, config).save_pretrained(tmp_path / "run" / "weights")
    return tmp_path / "run" / "weights"


def test_half_precision_under_its_own_name(trained, tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "README.md").write_text("the card")
    release(trained, tmp_path / "small")
    files = list((tmp_path / "small").rglob("*.safetensors"))
    assert len(files) == 4 and {x.dtype for file in files for x in load_file(file).values()} == {torch.float16}
    names = [json.loads(path.read_text()).get("_name_or_path") for path in (tmp_path / "small").rglob("*.json")]
    assert set(names) == {"small", None} and (tmp_path / "small" / "README.md").read_text() == "the card"


def test_strength_scales_what_is_added(trained, tmp_path):
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    base = upsample(lr, 4)
    release(trained, tmp_path / "weak", strength=0.5)
    (strong,), (weak,) = (
        TADiSRPipeline.from_pretrained(folder)(lr, output_type="pt").images for folder in (trained, tmp_path / "weak")
    )
    inside = (strong > 0.01) & (strong < 0.99)
    added = (strong - base[0])[inside]
    assert added.abs().mean() > 0.01
    torch.testing.assert_close((weak - base[0])[inside], added / 2, atol=2e-3, rtol=0.02)


def test_textdiff_has_no_strength(tmp_path):
    tiny_textdiff.textdiff().save_pretrained(tmp_path / "run")
    release(tmp_path / "run", tmp_path / "small")
    assert TextDiffPipeline.from_pretrained(tmp_path / "small").residual.dtype == torch.float32
    with pytest.raises(ValueError, match="adds nothing to an enlarged input"):
        release(tmp_path / "run", tmp_path / "small", strength=0.5)


def test_only_whole_pipelines(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no whole pipeline"):
        release(tmp_path, tmp_path / "small")
