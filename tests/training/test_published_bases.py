"""The docs' commands on bases laid out as the published repositories; what is looked at before one is fetched."""

import pytest
import torch

from helpers import pages, published
from helpers import training_runs as runs
from tadisr import TADiSRPipeline, TextPrompt
from tadisr.training import train_lora
from tadisr.training.restoration.train_config import TrainConfig


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 128, font_size=(18, 32))


@pytest.fixture(scope="module", params=published.HUB_IDS)
def base(request, tmp_path_factory):
    return published.write(request.param, tmp_path_factory.mktemp(request.param) / "base")


def test_readmes_command_trains_on_it(base, data, tmp_path):
    """As written, but for the size and number of the crops, and LPIPS, whose weights are not here."""
    runs.fresh()
    train_lora.main([
        "--pretrained_model_name_or_path", str(base), "--train_data_dir", str(data), "--degradation", "stored",
        "--output_dir", str(tmp_path / "run"), "--resolution", "64", "--max_train_steps", "2", "--lpips", "0",
        "--validation_data_dir", str(data), "--num_validation_images", "1", "--dataloader_num_workers", "0",
    ])  # fmt: skip
    saved = TrainConfig(**runs.settings(tmp_path / "run"))
    assert (saved.mixed_precision, saved.gradient_checkpointing, saved.validation_tile) == ("bf16", True, 64)
    assert runs.records(tmp_path / "run")[-1]["images"] == 1  # a page of 128 pixels, by tiles of 64
    pipe = TADiSRPipeline.from_pretrained(tmp_path / "run" / "weights", dtype=torch.bfloat16)
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)


def test_the_docs_prompt_is_made_from_it(base, tmp_path):
    prompt = TextPrompt.from_base(str(base), dtype=torch.bfloat16)
    prompt.save_pretrained(tmp_path / "prompt")
    assert TextPrompt.from_pretrained(tmp_path / "prompt").config.text_positions == prompt.config.text_positions


def test_a_variant_that_is_not_there_is_not_replaced(base):
    with pytest.raises((OSError, ValueError), match="ema"):
        TextPrompt.from_base(str(base), variant="ema")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--train_data_dir", "nowhere"], "nowhere"),
        (["--resolution", "512"], r"crops of 512 need larger pages"),
        (["--validation_data_dir", "nowhere"], "nowhere"),
        (["--validation_data_dir", "DATA", "--validation_ocr", "none"], "none"),
        (["--validation_data_dir", "DATA", "--validation_lpips", "nowhere"], "nowhere"),
        (["--lpips", "5", "--lpips_weights", "nowhere.pth"], r"nowhere\.pth"),
        (["--realce_data_dir", "nowhere"], "nowhere"),
        (["--output_dir", "/proc/run"], "/proc/run"),
        (["--report_to", "comet_ml"], "comet_ml"),
        (["--optimizer", "none"], "No optimizer is called none"),
    ],
)
def test_nothing_of_a_base_is_fetched_for_what_is_wrong_elsewhere(data, tmp_path, monkeypatch, flags, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train_lora, "build_network", lambda config: pytest.fail("the base was fetched"))
    flags = [str(data) if flag == "DATA" else flag for flag in flags]
    given = {
        "--train_data_dir": str(data), "--output_dir": "run", "--resolution": "64", "--lpips": "0",
        "--degradation": "stored", "--dataloader_num_workers": "0", "--pretrained_model_name_or_path": "user/base",
    }  # fmt: skip
    rest = [part for name, value in given.items() if name not in flags for part in (name, value)]
    runs.fresh()
    with pytest.raises((OSError, ValueError, ImportError), match=message):
        train_lora.main([*flags, *rest])
