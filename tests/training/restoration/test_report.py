"""Validation in the loop, trackers, the model card and the Hub."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import save_file

from helpers import pages, tiny
from helpers import training_runs as runs
from helpers.hub_server import HubServer
from tadisr.datasets.ftsr import open_pages
from tadisr.metrics.image import psnr, ssim
from tadisr.training.engine.task import Validation
from tadisr.training.restoration.hub import command_line, create_repository, model_card, push
from tadisr.training.restoration.train_config import TrainConfig
from tadisr.training.restoration.validation import (
    SHEET_COLUMNS,
    SHEET_SIDE,
    Validator,
    draw_sheet,
    load_judge,
    main_metric,
    summarize,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 20, 128, font_size=(18, 30))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run with everything that reports switched on."""
    return runs.train(
        data, tmp_path_factory.mktemp("reported") / "run", validation_data_dir=data, validation_ocr="rapidocr",
        validation_steps=2, max_train_steps=4, report_to="tensorboard", hub_model_id="tester/sharp",
    )  # fmt: skip


class Echo(torch.nn.Module):
    """Returns its input and a mask that says text in the left half."""

    def __init__(self):
        super().__init__()
        self.vae, self.backbone = tiny.vae(levels=2), tiny.unet()

    def forward(self, x):
        logits = torch.full_like(x[:, :1], -9.0)
        logits[..., : x.shape[-1] // 2] = 9.0
        return x, logits


def test_scores_are_what_they_are_called(data):
    """Of a network whose output is known: bicubic, and text in the left half."""
    from accelerate import Accelerator

    runs.fresh()
    config = TrainConfig(base_config="b", train_data_dir=["d"], validation_data_dir=str(data), num_validation_images=2)
    scores, metric, sheet = Validator(config, Accelerator(cpu=True))(Echo())
    rows = open_pages(data, "test")
    wanted, overlap, union = [], 0, 0
    for i in range(2):
        lr, hr, text = rows.lr(i), rows.hr(i), rows.mask(i) > 127
        big = torch.nn.functional.interpolate(
            torch.from_numpy(lr).permute(2, 0, 1)[None].float(), scale_factor=4, mode="bicubic", antialias=True
        )
        big = big.clamp(0, 255).round().byte()[0].permute(1, 2, 0).numpy()
        wanted.append((psnr(big, hr), ssim(big, hr)))
        half = np.zeros_like(text)
        half[:, : half.shape[1] // 2] = True
        overlap, union = overlap + (text & half).sum(), union + (text | half).sum()
    assert scores["images"] == 2 and metric == "psnr"
    assert (scores["psnr"], scores["ssim"]) == pytest.approx(tuple(np.mean(wanted, 0)), rel=1e-3)
    assert scores["psnr_bicubic"] == scores["psnr"] and scores["mask_iou"] == pytest.approx(overlap / union)
    assert sheet.shape == (24 + 2 * SHEET_SIDE, len(SHEET_COLUMNS) * SHEET_SIDE, 3)


def test_reading_what_is_written(run):
    scores = runs.records(run)[-1]
    assert 0 <= scores["ocr_accuracy"] <= 1 and scores["ocr_lines"] > 2
    assert {"psnr", "ssim", "mask_iou", "ocr_accuracy_bicubic"} <= scores.keys()
    best = json.loads((run / "best.json").read_text())
    assert best["metric"] == "ocr_accuracy" and best["value"] == best["scores"]["ocr_accuracy"]


def test_summary_and_best():
    records = [
        {"psnr": 20.0, "psnr_bicubic": 10.0, "overlap": 1, "union": 2, "ocr_accuracy": [1.0, 0.0], "lpips": 0.2},
        {"psnr": 30.0, "psnr_bicubic": 10.0, "overlap": 0, "union": 2, "ocr_accuracy": [1.0]},
    ]
    scores = summarize(records)
    assert scores["psnr"] == 25 and scores["mask_iou"] == 0.25 and scores["ocr_accuracy"] == pytest.approx(2 / 3)
    assert scores["ocr_lines"] == 3 and scores["lpips"] == 0.2 and "ssim" not in scores
    assert main_metric(scores, None) == "ocr_accuracy"
    assert Validation(scores, main_metric(scores, "psnr")).value == 25
    assert Validation(scores, main_metric(scores, "lpips")).value == -0.2
    with pytest.raises(ValueError, match="best_metric is ssim, but validation measured psnr"):
        main_metric(scores, "ssim")


def test_a_judge_is_not_the_teacher(tmp_path):
    judge = load_judge("rapidocr", [])
    import rapidocr

    names = {name.rsplit("/", 1)[1] for name in judge.describe()["models"]}
    models = [path for path in Path(rapidocr.__file__).parent.rglob("*.onnx") if path.name in names]
    teacher = next(path for path in models if "rec" in path.name)
    with pytest.raises(ValueError, match="judge with another engine"):
        load_judge("rapidocr", ["none.onnx", str(teacher)])
    shutil.copy(teacher, tmp_path)
    save_file({"weight": torch.zeros(1)}, adapted := tmp_path / "soft.safetensors", {"onnx": teacher.name})
    with pytest.raises(ValueError, match="judge with another engine"):
        load_judge("rapidocr", [str(adapted)])
    save_file({"weight": torch.zeros(1)}, adapted)
    with pytest.raises(ValueError, match="soft.safetensors names no ONNX file: .*adapt_recognizer.py writes"):
        load_judge("rapidocr", [str(adapted)])


def test_trackers_get_terms_scores_and_pictures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tadisr"))
    events.Reload()
    tags = events.Tags()
    assert {"mse", "lr", "psnr", "ocr_accuracy"} <= set(tags["scalars"])
    assert [e.step for e in events.Scalars("psnr")] == [2, 4]
    assert len(events.Images("validation")) == 2
    on_disk = Image.open(run / "validation" / "0000004.jpg")
    assert on_disk.size == (events.Images("validation")[1].width, events.Images("validation")[1].height)


def test_a_tracker_that_is_not_there(data, tmp_path):
    with pytest.raises(ValueError, match="comet_ml"):
        runs.train(data, tmp_path / "run", report_to="comet_ml")


def test_sheet_keeps_pictures_in_proportion():
    wide = np.full((10, 40, 3), 7, np.uint8)
    row = {name: wide for name in ("lr", "bicubic", "sr", "hr")} | dict.fromkeys(("mask", "true_mask"), wide[..., 0])
    sheet = draw_sheet([row])
    assert sheet.shape == (24 + SHEET_SIDE, 6 * SHEET_SIDE, 3)
    picture = sheet[24:, :SHEET_SIDE] == 7
    height, width = picture.any((1, 2)).sum(), picture.any((0, 2)).sum()
    assert width == SHEET_SIDE - 4 and height == round((SHEET_SIDE - 4) / 4)


def test_model_card_holds_the_metrics_and_the_command(run):
    card = (run / "weights" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["library_name"] == "diffusers" and "tadisr" in front["tags"]
    metrics = {m["type"]: m["value"] for m in front["model-index"][0]["results"][0]["metrics"]}
    scores = runs.records(run)[-1]
    assert metrics["psnr"] == round(scores["psnr"], 4) and "ocr_accuracy" in metrics
    assert 'from_pretrained("tester/sharp")' in card and "accelerate launch training/train_lora.py" in card
    assert yaml.safe_load((run / "weights" / "train_config.yaml").read_text())["hub_model_id"] == "tester/sharp"
    assert (run / "weights" / "validation.jpg").is_file()
    assert (
        command_line(["x", "--seed", "1"], 4) == "accelerate launch --num_processes 4 training/train_lora.py --seed 1"
    )
    assert "psnr" in front["metrics"] and "ocr_accuracy" in front["metrics"] and front["pipeline_tag"]
    plain = model_card(TrainConfig(base_config="b", train_data_dir=["d"], output_dir="runs/a"), 3, {})
    assert "model-index" not in plain and "# a" in plain
    front = yaml.safe_load(plain.split("---")[1])
    assert not {"license", "base_model", "base_model_relation", "datasets", "metrics"} & set(front)


def test_model_card_says_what_the_hub_reads(tmp_path):
    config = TrainConfig(
        pretrained_model_name_or_path="Kwai-Kolors/Kolors-diffusers", train_data_dir=["user/ftsr", str(tmp_path)],
        hub_model_id="user/tadisr-kolors", hub_license="apache-2.0",
    )  # fmt: skip
    card = ModelCard(model_card(config, 3, {"psnr": 23.0, "psnr_bicubic": 22.0, "images": 4}))
    found = {name: getattr(card.data, name) for name in ("license", "library_name", "pipeline_tag", "base_model")}
    assert found == {
        "license": "apache-2.0", "library_name": "diffusers", "pipeline_tag": "image-to-image",
        "base_model": "Kwai-Kolors/Kolors-diffusers",
    }  # fmt: skip
    assert (card.data.datasets, card.data.metrics) == (["user/ftsr"], ["psnr"]), "no folder of this machine"
    assert card.data.get("base_model_relation") == "adapter" and "lora" not in card.data.tags
    assert [result.metric_value for result in card.data.eval_results] == [23.0]
    assert 'DiffusionPipeline.from_pretrained("user/tadisr-kolors", trust_remote_code=True)' in card.text


def test_push_to_hub_and_back(data, tmp_path):
    with HubServer(tmp_path / "hub") as server:
        arguments = runs.flags(
            data, tmp_path / "run", push_to_hub=True, hub_model_id="tester/sharp", max_train_steps=2,
            validation_data_dir=data,
        )  # fmt: skip
        result = runs.launch(arguments, env={**runs.environment(), **server.environment()})
        assert result.returncode == 0, result.stderr[-2000:]
        code = """
import sys, torch
from huggingface_hub import hf_hub_download
from tadisr import TADiSRPipeline
pipe = TADiSRPipeline.from_pretrained("tester/sharp")
here = TADiSRPipeline.from_pretrained(sys.argv[1])
photo = torch.linspace(0, 1, 3 * 16 * 16).reshape(1, 3, 16, 16)
a, b = (p(photo, output_type="pt").images[0] for p in (pipe, here))
assert torch.equal(a, b)
print(open(hf_hub_download("tester/sharp", "README.md")).read())
"""
        card = server.run(code, tmp_path / "run" / "best", home=tmp_path / "home")
        assert "PSNR" in card and "--push_to_hub True" in card
    # the server is gone now: before training, and after it
    result = runs.launch(arguments, env={**runs.environment(), **server.environment()})
    assert result.returncode == 1 and "Traceback" not in result.stderr


def test_a_hub_that_is_out_of_reach(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = TrainConfig(base_config="b", train_data_dir=["d"], hub_model_id="tester/x")
    with pytest.raises(
        ValueError, match="Nothing can be uploaded to tester/x .* cannot be reached .*: check the network"
    ):
        create_repository(config)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="could not be uploaded .*hf upload tester/x"):
        push(tmp_path, "tester/x", 1)
