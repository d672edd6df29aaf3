"""The whole chain at toy size: synthesise, train, resume, load, restore; and the configuration."""

import json
import shutil
from dataclasses import asdict, replace

import pytest
import torch
import yaml

from helpers import pages, tiny
from helpers import training_runs as runs
from tadisr import TADiSRPipeline
from tadisr.training.engine.command_line import parse, read_settings
from tadisr.training.engine.train_state import build_optimizer
from tadisr.training.restoration.build import build_network
from tadisr.training.restoration.terms import load_lpips
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import network_factor
from tadisr.training.train_segmenter import SegmenterConfig

CONFIGS = runs.ROOT / "training" / "configs"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_train_resume_load_restore(data, tmp_path, optimizer):
    options = {"ema_decay": 0.9, "validation_data_dir": data, "optimizer": optimizer}
    whole = runs.train(data, tmp_path / "whole", **options)
    # as if interrupted after four of six steps
    shutil.copytree(whole, resumed := tmp_path / "resumed")
    for name in ("checkpoint-6", "weights", "best"):
        shutil.rmtree(resumed / name)
    (resumed / "best.json").unlink()
    runs.train(data, resumed, **options, resume_from_checkpoint="latest")
    runs.assert_same(whole, resumed)

    pipe = TADiSRPipeline.from_pretrained(resumed / "weights")
    lr = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    assert pipe(lr, output_type="pt").images[0].shape == (3, 48, 80)
    assert {"psnr", "psnr_bicubic", "ssim", "mask_iou"} <= runs.records(whole)[-1].keys()
    saved = yaml.safe_load((whole / "checkpoint-6" / "config.yaml").read_text())
    assert saved["learning_rate"] == 1e-3 and saved["lpips"] == 0
    assert sorted(p.name for p in whole.glob("checkpoint-*")) == ["checkpoint-4", "checkpoint-6"]


def test_lora_on_a_pretrained_base(data, tmp_path):
    """The paper's mode: only adapters and the new decoder are trained and saved, and they load on their base."""
    (tmp_path / "tokenizer").mkdir()
    tiny.sd(tmp_path / "tokenizer").save_pretrained(tmp_path / "base")
    runs.fresh()
    out = tmp_path / "run"
    runs.train_lora.main([
        "--train_data_dir", str(data), "--resolution", "64", "--pretrained_model_name_or_path", str(tmp_path / "base"),
        "--lpips", "0", "--max_train_steps", "2", "--gradient_checkpointing", "--degradation", "stored",
        "--output_dir", str(out), "--dataloader_num_workers", "0", "--learning_rate", "1e-2",
        "--mixed_precision", "bf16",
    ])  # fmt: skip
    weights = out / "weights"
    assert {path.name for path in weights.iterdir()} == {
        "tadisr_adapter.json", "unet_lora", "vae_lora", "prompt", "joint_decoder", "README.md", "train_config.yaml",
    }  # fmt: skip
    assert {x.dtype for x in runs.weights(out).values()} == {torch.float32}
    pipe = TADiSRPipeline.from_pretrained(weights)
    assert any(parameter.abs().sum() > 0 for name, parameter in pipe.unet.named_parameters() if "lora_B" in name)
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)
    # a checkpoint holds what is trained, not the base
    kept = runs.load_file(out / "checkpoint-2" / "model.safetensors")
    assert kept and not [name for name in kept if "base_layer" in name or name.startswith("prompt")]


def test_learning_rate_follows_the_schedule(data, tmp_path):
    run = runs.train(data, tmp_path / "run", lr_scheduler="constant_with_warmup", max_train_steps=4)
    assert [record["lr"] for record in runs.records(run)] == [5e-4, 1e-3, 1e-3, 1e-3]


def test_optimizers_are_timms_with_the_configured_values():
    weights = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4))]
    values = {"base_config": "b", "train_data_dir": ["d"], "learning_rate": 0.5, "adam_beta2": 0.9}
    for name in ("adamw", "nadamw", "muon"):
        optimizer = build_optimizer(TrainConfig(**values, optimizer=name), weights)
        assert name in type(optimizer).__name__.lower()
        assert {(group["lr"], group["betas"][1]) for group in optimizer.param_groups} == {(0.5, 0.9)}
    with pytest.raises(ValueError, match="No optimizer is called muom: take adamw, muon"):
        build_optimizer(TrainConfig(**values, optimizer="muom"), weights)
    with pytest.raises(ValueError, match="adan does not work with these settings .*: take adamw or muon"):
        build_optimizer(TrainConfig(**values, optimizer="adan"), weights)


def test_mistakes_are_one_line(data, tmp_path):
    """As the command line says them; the other messages are tested where they are raised."""
    run = runs.launch(runs.flags(data, tmp_path / "run", lpips=5, lpips_weights="nowhere.pth"))
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("No LPIPS backbone at nowhere.pth")


def test_files_of_another_kind_are_named(tmp_path):
    (file := tmp_path / "notes.md").write_text("# Notes\n")
    config = TrainConfig(base_config="b", train_data_dir=["d"], lpips=5, lpips_weights=str(file))
    with pytest.raises(ValueError, match=r"notes\.md is no copy of torchvision's vgg16 weights"):
        load_lpips(config)
    shape = runs.BASE | {"vae": runs.BASE["vae"] | {"layers": 3}}
    for text, message in (
        ("{", "base.json is not JSON"),
        ("[]", "base.json holds no object"),
        ("{}", "base_config lacks prompt, scheduler, unet, vae"),
        ('{"vae": 3}', "each part, such as vae, must be an object"),
        ('{"extends": "base.json"}', "extends itself"),
        (json.dumps(shape), "vae is no LeanAutoencoderKL: .*layers"),
    ):
        (tmp_path / "base.json").write_text(text)
        with pytest.raises(ValueError, match=message) as error:
            build_network(TrainConfig(base_config=str(tmp_path / "base.json"), train_data_dir=["d"]))
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning_rte", "1"], "learning_rte"),
        (["--config"], "--config needs a file"),
        (["--config", "nowhere.yaml"], "No config file nowhere.yaml"),
        (["--base_config", "b", "--train_data_dir", "d", "--pretrained_model_name_or_path", "p"], "exactly one"),
        (["--base_config", "b"], "train_data_dir"),
        (["--mixed_precision", "fp8"], "mixed_precision is one of no, fp16, bf16, not fp8"),
        (["--lr_scheduler", "piecewise_constant"], "lr_scheduler is one of linear"),
        (["--num_validation_images", "0"], "num_validation_images must be at least 1"),
        (["--recognizer_lines", "0"], "recognizer_lines must be at least 1"),
        (["--on_nan", "pray"], "on_nan is one of stop, skip"),
        (["--degradation", "harsh"], "degradation is one of real-esrgan, mild, stored"),
        (["--best_metric", "beauty"], "best_metric is one of psnr"),
        (["--best_metric", "psnr"], "best_metric needs validation_data_dir"),
        (["--best_metric", "ocr_accuracy", "--validation_data_dir", "d"], "needs validation_ocr"),
        (["--checkpointing_steps", "0"], "checkpointing_steps must be at least 1"),
        (["--resolution", "50"], "multiple of scale"),
        (["--realce_share", "1"], "realce_share"),
        (["--recognizer_strength", "1.5"], "recognizer_strength is a share from 0 to 1, not 1.5"),
        (["--realce_segmenter", "text-segmenter-tiny"], "realce_mask_dir"),
        (["--degradation", "stored", "--augmentation"], "augmentation"),
        (["--degradation", "stored", "--recognizer", "r.onnx"], "set degradation to real-esrgan or mild"),
        (["--streaming", "--cache_pages"], "streaming"),
    ],
)
def test_settings_that_cannot_work(arguments, message):
    complete = [] if "--base_config" in arguments else ["--base_config", "b", "--train_data_dir", "d"]
    with pytest.raises(SystemExit) as error:
        parse([*arguments[:0], *complete, *arguments], TrainConfig)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_config_defaults_are_the_papers_and_unknown_keys_fail(tmp_path):
    config = TrainConfig(pretrained_model_name_or_path="base", train_data_dir=["ftsr"])
    assert (config.learning_rate, config.lr_scheduler, config.train_batch_size) == (5e-5, "constant", 1)
    assert (config.max_train_steps, config.lpips, config.modified_focal) == (200_000, 5, 10)
    file = tmp_path / "c.yaml"
    for text, message in (
        ("train_data_dir: [a]\nbase_config: b\nlearning_rte: 1\n", "learning_rte"),
        ("- a\n", "key: value"),
        ("a: [\n", "not YAML"),
        ("lpips:\n", "lpips must have a value"),
        ("extends: c.yaml\n", "c.yaml extends itself"),
    ):
        file.write_text(text)
        with pytest.raises(SystemExit, match=message):
            parse(["--config", str(file)], TrainConfig)
    file.write_text(
        "train_data_dir: [a, b]\nbase_config: c\nlearning_rate: 1.0e-3\nema_decay: null\nmixed_precision: no"
    )
    config = parse(["--config", str(file), "--learning_rate=2e-3"], TrainConfig)
    assert (config.learning_rate, config.train_data_dir, config.ema_decay) == (2e-3, ["a", "b"], None)
    assert config.mixed_precision == "no"


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
    ours, ablated = (read_settings(CONFIGS / f"{file}.yaml", TrainConfig) for file in ("tiny", name))
    ours.pop("output_dir"), ablated.pop("output_dir")
    assert ablated == ours | change


@pytest.mark.parametrize("change", [{"joint_decoder": False}, {"text_attention": False}, {"modified_focal": 0.0}])
def test_ablations_train_and_load(data, tmp_path, change):
    out = runs.train(data, tmp_path / "run", max_train_steps=2, **change)
    pipe = TADiSRPipeline.from_pretrained(out / "weights")
    result = pipe(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)), output_type="pt")
    assert result.images[0].shape == (3, 64, 64)
    terms = runs.records(out)[0].keys()
    if "joint_decoder" in change:
        assert not terms & {"modified_focal", "mask_mse", "focal", "dice"}
        assert result.text_masks[0].max() < 1e-3
        first = json.loads((out / "weights" / "joint_decoder" / "config.json").read_text())
        assert first["attention_layers"]
    elif "text_attention" in change:
        assert pipe.joint_decoder.config.attention_layers == [] and "dice" in terms
    else:
        assert "modified_focal" not in terms and "dice" in terms
