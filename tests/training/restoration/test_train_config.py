"""TADiSR's settings: mistakes, files, the paper's recipe."""

from dataclasses import asdict, replace

import pytest

from helpers import training_runs as runs
from tadisr.training.engine.command_line import parse, read_settings
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_factor
from tadisr.training.train_segmenter import SegmenterConfig

CONFIGS = runs.ROOT / "training" / "configs"
RECIPE = CONFIGS.parent / "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rte", "1"], "learning_rte"),
        (["--base_config", "b", "--train_data_dir", "d", "--pretrained_model_name_or_path", "p"], "exactly one"),
        (["--base_config", "b"], "train_data_dir"),
        (["--mixed_precision", "fp8"], "mixed_precision is one of no, fp16, bf16, not fp8"),
        (["--lr_scheduler", "piecewise_constant"], "lr_scheduler is one of linear"),
        (["--num_validation_images", "0"], "num_validation_images must be at least 1"),
        (["--recognizer_lines", "0"], "recognizer_lines must be at least 1"),
        (["--on_nan", "pray"], "on_nan is one of stop, skip"),
        (["--degradation", "harsh"], "degradation is one of real-esrgan, mild, wide, stored"),
        (["--best_metric", "beauty"], "best_metric is one of psnr"),
        (["--best_metric", "psnr"], "best_metric needs validation_data_dir"),
        (["--best_metric", "ocr_accuracy", "--validation_data_dir", "d"], "needs validation_ocr"),
        (["--checkpointing_steps", "0"], "checkpointing_steps must be at least 1"),
        (["--resolution", "50"], "multiple of scale"),
        (["--realce_share", "1"], "realce_share"),
        (["--recognizer_strength", "1.5"], "recognizer_strength is from 0 to 1, not 1.5"),
        (["--recognizer_ctc", "5"], "recognizer_ctc and recognizer_features need recognizer"),
        (["--recognizer_width", "250"], "recognizer_width must be at least 64 and a multiple of scale, not 250"),
        (["--realce_segmenter", "text-segmenter-tiny"], "realce_mask_dir"),
        (["--degradation", "stored", "--augmentation"], "augmentation"),
        (["--degradation", "stored", "--recognizer", "r.onnx"], "set degradation to real-esrgan, mild or wide"),
        (["--streaming", "--cache_pages"], "streaming"),
        (["--device_pages", "--streaming"], "leave out streaming"),
        (["--device_pages", "--degradation", "stored"], "degradation stored"),
        (["--lpips_net", "alex"], "lpips_net is one of vgg, st_alex, st_vgg, not alex"),
        (["--lpips_net", "st_alex", "--lpips_weights", "w.pth"], "lpips_weights are of vgg: st_alex brings its own"),
        (["--lora_alpha", "0"], "lora_alpha must be at least 1"),
        (["--rank_vae", "0"], "rank_vae must be at least 1"),
        (["--mask_prompt_share", "2"], "mask_prompt_share is from 0 to 1, not 2"),
        (["--mask_prompt_blocks", "2"], "mask_prompt_blocks draw mask prompts: set mask_prompt to true"),
        (["--mask_prompt", "--joint_decoder", "false"], "mask_prompt is for the joint decoder's mask stream"),
    ],
)
def test_settings_that_cannot_work(arguments, message):
    complete = [] if "--base_config" in arguments else ["--base_config", "b", "--train_data_dir", "d"]
    with pytest.raises(SystemExit) as error:
        parse([*arguments[:0], *complete, *arguments], TrainConfig)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_defaults_are_the_papers():
    config = TrainConfig(pretrained_model_name_or_path="base", train_data_dir=["ftsr"])
    assert (config.learning_rate, config.lr_scheduler, config.train_batch_size) == (5e-5, "constant", 1)
    assert (config.max_train_steps, config.lpips, config.modified_focal) == (200_000, 5, 10)


def test_config_files_inherit_and_survive_being_written(tmp_path):
    config = parse(["--config", str(CONFIGS / "paper_sdxl.yaml")], TrainConfig)
    assert "xl" in config.pretrained_model_name_or_path and config.mixed_precision == "bf16"
    config.save(tmp_path / "c.yaml")
    assert parse(["--config", str(tmp_path / "c.yaml")], TrainConfig) == config


@pytest.mark.parametrize(
    "file", [*sorted(CONFIGS.glob("*.yaml")), *sorted(CONFIGS.parent.glob("tiny/*.yaml"))], ids=lambda p: p.name
)
def test_bundled_configs_are_read(file, monkeypatch):
    """And those from scratch make a network for their crops."""
    if file.name.startswith("segmenter"):
        assert parse(["--config", str(file)], SegmenterConfig).train_data_dir
        return
    config = parse(["--config", str(file)], TrainConfig)
    if config.base_config:
        monkeypatch.chdir(runs.ROOT)
        network = build_network(replace(config, init_from=None))
        assert config.resolution % network_factor(network) == 0


def test_paper_configs_keep_the_papers_recipe():
    paper = asdict(TrainConfig(pretrained_model_name_or_path="base", train_data_dir=["ftsr"]))
    for name in ("paper_kolors", "paper_sdxl", "sd15"):
        config = asdict(parse(["--config", str(CONFIGS / f"{name}.yaml")], TrainConfig))
        for key in ("learning_rate", "lr_scheduler", "train_batch_size", "max_train_steps", "lpips", "modified_focal",
                    "focal", "dice", "gamma", "text_l1", "text_mse", "rank_unet", "ema_decay",
                    "augmentation"):  # fmt: skip
            assert config[key] == paper[key], (name, key)
        assert config["realce_data_dir"] and config["degradation"] == "stored"


@pytest.mark.parametrize(
    ("name", "change"),
    [("wo_jsd", {"joint_decoder": False}), ("wo_taca", {"text_attention": False}), ("wo_mf", {"modified_focal": 0.0})],
)
def test_ablations_change_one_thing(name, change):
    ours, ablated = (read_settings(CONFIGS / f"{file}.yaml", TrainConfig) for file in ("table2", name))
    ours.pop("output_dir"), ablated.pop("output_dir")
    assert ablated == ours | change
    assert ours["lpips"] == 5 and ours["lpips_net"] == "st_alex"  # Eq. 7's perceptual term is at work
