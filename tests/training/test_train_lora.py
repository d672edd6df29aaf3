"""The whole chain at toy size: synthesise, train, resume, load, restore; and the configuration."""

import json
import shutil

import pytest
import torch
import yaml

from helpers import pages, tiny
from helpers import training_runs as runs
from tadisr import TADiSRPipeline


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


def test_pages_on_the_device(data, tmp_path):
    """Crops that the device makes: a resumed run equals an unbroken one, and learns something else than from files."""
    whole = runs.train(data, tmp_path / "whole", device_pages=True, augmentation=True)
    shutil.copytree(whole, resumed := tmp_path / "resumed")
    for name in ("checkpoint-6", "weights"):
        shutil.rmtree(resumed / name)
    runs.train(data, resumed, device_pages=True, augmentation=True, resume_from_checkpoint="latest")
    runs.assert_same(whole, resumed)
    assert runs.records(whole)[-1]["step"] == 6


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_compiled_blocks_learn_the_same(data, tmp_path):
    losses = []
    for compiled in (False, True):
        run = runs.train(data, tmp_path / str(compiled), device_pages=True, compile_blocks=compiled, max_train_steps=3)
        losses.append([record["mse"] for record in runs.records(run)])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert runs.weights(tmp_path / "True").keys() == runs.weights(tmp_path / "False").keys()


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
        "--mixed_precision", "bf16", "--mask_block_out_channels", "4", "8", "8",
    ])  # fmt: skip
    weights = out / "weights"
    assert {path.name for path in weights.iterdir()} == {
        "tadisr_adapter.json", "unet_lora", "vae_lora", "prompt", "joint_decoder", "README.md", "train_config.yaml",
        "model_index.json", "pipeline_adapter.py",
    }  # fmt: skip
    assert {x.dtype for x in runs.weights(out).values()} == {torch.float32}
    pipe = TADiSRPipeline.from_pretrained(weights)
    assert [block.mask.split.in_channels for block in pipe.joint_decoder.interactions] == [8, 8, 8]
    assert pipe.joint_decoder.mask_decoder.conv_out.in_channels == 4
    assert any(parameter.abs().sum() > 0 for name, parameter in pipe.unet.named_parameters() if "lora_B" in name)
    assert pipe(torch.rand(1, 3, 16, 16), output_type="pt").images[0].shape == (3, 64, 64)
    # a checkpoint holds what is trained, not the base
    kept = runs.load_file(out / "checkpoint-2" / "model.safetensors")
    assert kept and not [name for name in kept if "base_layer" in name or name.startswith("prompt")]


def test_mask_prompts_are_learned_beside_the_rest(data, tmp_path):
    out = runs.train(data, tmp_path / "run", mask_prompt=True, max_train_steps=3)
    pipe = TADiSRPipeline.from_pretrained(out / "weights")
    assert pipe.joint_decoder.config.mask_prompt
    assert all(parameter.any() for parameter in pipe.joint_decoder.prompt_encoder.parameters())


@pytest.mark.parametrize("net", ["st_alex", "st_vgg"])
def test_the_perceptual_term_by_published_weights(data, tmp_path, net):
    out = runs.train(data, tmp_path / "run", max_train_steps=2, lpips=5, lpips_net=net)
    terms = [record["lpips"] for record in runs.records(out)]
    assert len(terms) == 2 and all(0.1 < term < 5 for term in terms)
    without = runs.train(data, tmp_path / "without", max_train_steps=2)
    assert "lpips" not in runs.records(without)[0]
    a, b = runs.weights(out), runs.weights(without)
    assert any(not torch.equal(a[name], b[name]) for name in a)


def test_learning_rate_follows_the_schedule(data, tmp_path):
    run = runs.train(data, tmp_path / "run", lr_scheduler="constant_with_warmup", max_train_steps=4)
    assert [record["lr"] for record in runs.records(run)] == [5e-4, 1e-3, 1e-3, 1e-3]


def test_mistakes_are_one_line(data, tmp_path):
    """As the command line says them; the other messages are tested where they are raised."""
    run = runs.launch(runs.flags(data, tmp_path / "run", lpips=5, lpips_weights="nowhere.pth"))
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert run.stderr.strip().splitlines()[-1].startswith("No LPIPS backbone at nowhere.pth")


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
