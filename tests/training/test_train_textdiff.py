"""Training TextDiff: the whole script, resuming, the shipped config files, and mistakes in both scripts' settings."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from helpers import textdiff_runs
from helpers import training_runs as runs
from helpers.reader_graph import write_graph
from helpers.textdiff_runs import READER, SHARED, TOY, flags, interrupted, save_reader
from tadisr.models.textdiff.objective import TextDiffLossWeights
from tadisr.models.textdiff.recognizer import CRNN
from tadisr.pipelines.pipeline_textdiff import TextDiffPipeline
from tadisr.training import train_crnn, train_textdiff
from tadisr.training.engine.checkpoints import read_best
from tadisr.training.engine.command_line import parse
from tadisr.training.textdiff.line_config import CRNNConfig, TextDiffConfig

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "training" / "configs" / "textdiff"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return textdiff_runs.databases(tmp_path_factory.mktemp("lines"))


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return save_reader(tmp_path_factory.mktemp("reader") / "crnn")


@pytest.fixture
def train(data, reader):
    return lambda out, **changes: textdiff_runs.train(train_textdiff, out, data, reader, **changes)


class TestTextDiff:
    def test_train_and_resume(self, train, tmp_path):
        """Bit-equal, with everything that carries a state: averages, batch statistics, dropout, accumulation."""
        settings = {"ema_decay": 0.9, "gradient_accumulation_steps": 2, "max_grad_norm": 1.0, "max_train_steps": 3}
        whole = train(tmp_path / "whole", **settings)
        broken = interrupted(whole, tmp_path / "broken", 2)
        train(broken, **settings, resume_from_checkpoint="latest")
        runs.assert_same(whole, broken)
        terms, scores = runs.records(whole)[-2:]
        assert terms.keys() == {
            "step", "lr", "gradient", "mask", "diffusion", "edge", "text_prior", "joint",
        }  # fmt: skip
        names = {f"{name}{of}" for name in ("psnr", "ssim", "accuracy/crnn") for of in ("", "_coarse", "_bicubic")}
        assert scores.keys() == {"step", *names}
        assert read_best(whole)["metric"] == "accuracy/crnn"

        folders = {p.name for p in (whole / "weights").iterdir() if p.is_dir()}
        assert folders == {"enhancement", "prior", "residual", "scheduler"}
        pipe = TextDiffPipeline.from_pretrained(whole / "best")
        image = pipe(torch.rand(3, 16, 64, generator=torch.Generator().manual_seed(0)), 2, output_type="pt").images[0]
        assert image.shape == (3, 32, 128)

    @pytest.mark.filterwarnings("ignore::UserWarning")  # onnx2torch's own
    def test_other_readers_judge_coarse_and_final_images(self, train, tmp_path):
        pytest.importorskip("onnx2torch")
        graph = write_graph(tmp_path / "reader.onnx", np.random.default_rng(0))
        settings = {"foreign": 0.5, "readers": [graph], "reading": 2.0, "reading_lines": 1, "max_train_steps": 4}
        whole = train(tmp_path / "whole", **settings)
        readings = [record["reading"] for record in runs.records(whole) if "reading" in record]
        assert len(readings) == 4 and 0 < max(readings) <= 2 * 2  # 0 where the reader is unsure of the HR line
        broken = interrupted(whole, tmp_path / "broken", 2)
        train(broken, **settings, resume_from_checkpoint="latest")
        runs.assert_same(whole, broken)

    def test_it_learns(self, train, tmp_path):
        """A few lines by heart: masks, residuals and readings."""
        out = train(
            tmp_path / "run", max_train_steps=16, train_batch_size=5, learning_rate=1e-2,
            logging_steps=4, validation_steps=16, checkpointing_steps=16, degradation="stored", joint=0.0, pixel=10.0,
            dropout=0.0, best_metric="psnr",
        )  # fmt: skip
        records = runs.records(out)
        first, last = (next(r for r in way if "mask" in r) for way in (records, reversed(records)))
        assert all(
            last[name] < share * first[name] for name, share in (("mask", 0.85), ("edge", 0.6), ("text_prior", 0.6))
        )
        assert read_best(out)["metric"] == "psnr"

    @pytest.mark.parametrize("name", sorted({p.stem for p in CONFIGS.glob("*.yaml")} - {"crnn_tiny", "tiny_reader"}))
    def test_every_config_takes_a_step(self, train, tmp_path, name):
        file = CONFIGS / f"{name}.yaml"
        out = train(
            tmp_path / "run", config=file, max_train_steps=1, num_validation_lines=2,
            validation_steps=1, gradient_accumulation_steps=1,
        )  # fmt: skip
        config = yaml.safe_load((out / "config.yaml").read_text())
        assert (config["joint"] == 0) == (name == "wo_joint")
        pipe = TextDiffPipeline.from_pretrained(out / "weights")
        assert (pipe.enhancement.config.mask_branch, pipe.residual.config.mask) == ((name != "wo_mask"),) * 2
        assert pipe.scheduler.config.prediction_type == ("epsilon" if name == "noise_prediction" else "sample")
        assert pipe.scheduler.config.beta_end == pytest.approx(
            0.01 if name in ("paper", "published_schedule") else 0.05
        )
        assert pipe.config.diffusion == (name != "unet")
        assert ("mask" in runs.records(out)[0]) == (name != "wo_mask")

    def test_frozen_prior_generator(self, train, reader, tmp_path):
        """Without its loss the prior generator is left as it is, statistics and all."""
        out = train(tmp_path / "run", text_prior=0.0, max_train_steps=2, max_grad_norm=None)
        before, after = CRNN.from_pretrained(reader), CRNN.from_pretrained(out / "weights" / "prior")
        assert all(torch.equal(x, after.state_dict()[name]) for name, x in before.state_dict().items())

    def test_go_on_from_weights(self, train, tmp_path):
        first = train(tmp_path / "first", max_train_steps=1)
        again = train(
            tmp_path / "again", max_train_steps=1, learning_rate=1e-9, init_from=first / "weights",
            tem_channels=16,
        )  # fmt: skip
        one, other = runs.weights(first), runs.weights(again)
        assert one.keys() == other.keys()
        same = [name for name in one if "running" not in name and "num_batches" not in name]
        assert max(float((one[name] - other[name]).abs().max()) for name in same) < 1e-6

    def test_subsets_are_scored_apart(self, train, data, tmp_path):
        out = train(
            tmp_path / "run", max_train_steps=1,
            validation_data_dir=[data / "validation", data / "plain"],
        )  # fmt: skip
        scores = runs.records(out)[-1]
        assert {"psnr", "validation/psnr", "plain/accuracy/crnn", "psnr_bicubic"} <= scores.keys()
        mean = (3 * scores["validation/psnr"] + 2 * scores["plain/psnr"]) / 5
        assert scores["psnr"] == pytest.approx(mean)

    def test_a_loss_that_is_not_finite(self, train, tmp_path):
        settings = {"learning_rate": 1e30, "lr_scheduler": "constant", "lr_warmup_steps": 0, "validation_steps": 100}
        with pytest.raises(ValueError, match="Step 2: the loss is not finite .*nan_batch.json names the crops"):
            train(tmp_path / "run", **settings)
        named = json.loads((tmp_path / "run" / "nan_batch.json").read_text())["crops"]
        assert len(named) == 2 and {crop["name"] for crop in named} <= {"Exit", "taxi", "7up", "no-go", "Zoo"}


class TestConfig:
    def test_shipped_files(self):
        paper = parse(["--config", str(CONFIGS / "paper.yaml")], TextDiffConfig)
        assert (paper.learning_rate, paper.train_batch_size, paper.max_train_steps) == (1e-4, 16, 1_000_000)
        assert (paper.gradient, paper.mask, paper.joint, paper.text_prior) == (0.5, 3.0, 5.0, 100.0)
        assert (paper.mask_rule, paper.degradation, paper.unet_channels) == ("mean", "stored", [64, 128, 256, 256])
        assert paper.dropout == 0.1 and not paper.corrected_schedule
        tiny = parse(["--config", str(CONFIGS / "tiny.yaml"), "--seed=3"], TextDiffConfig)
        assert (tiny.tem_channels, tiny.mask_rule, tiny.seed) == (32, "exact", 3)
        second = parse(["--config", str(CONFIGS / "tiny_reader.yaml")], TextDiffConfig)
        assert len(second.readers) == 3 and (second.reading, second.reading_lines, second.pixel) == (10.0, 8, 100.0)
        crnn = parse(["--config", str(CONFIGS / "crnn_tiny.yaml"), "--hidden", "16"], CRNNConfig)
        assert (crnn.channels, crnn.hidden) == ([32, 64, 128, 128, 256, 256, 256], 16)
        for name in ("wo_mask", "noise_prediction", "unet", "wo_joint", "published_schedule"):
            other = parse(["--config", str(CONFIGS / f"{name}.yaml")], TextDiffConfig)
            changed = {k for k, v in vars(other).items() if v != getattr(tiny, k)} - {"output_dir", "seed"}
            assert len(changed) == 1 + (name in ("published_schedule", "noise_prediction"))
            assert other.output_dir == f"runs/textdiff_{name}"

    def test_weights_are_settings(self):
        assert {f for f in vars(TextDiffLossWeights())} <= set(vars(TextDiffConfig(recognizer="x")))


@pytest.fixture
def script(data, reader, monkeypatch, tmp_path):
    """Run a script as its users do, and return the line that it ends with."""

    def run(name, **settings):
        toy = READER if name == "train_crnn" else {"recognizer": reader, **TOY}
        settings = {"output_dir": tmp_path / "run", "train_data_dir": [data / "train"], **SHARED, **toy, **settings}
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *flags(settings)])
        runs.fresh()
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(ROOT / "training" / f"{name}.py"), run_name="__main__")
        torch.set_flush_denormal(False)
        message = stopped.value.code
        assert isinstance(message, str) and message and "\n" not in message  # printed, and the status is 1
        return message

    return run


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("train_crnn", {"train_data_dir": ["nowhere"]}, "No folder nowhere"),
        ("train_crnn", {"train_data_dir": ["{}/greek"]}, "No label in .*greek holds any of 0123456789abc"),
        ("train_crnn", {"train_data_dir": ["{}/none"]}, "There are no lines in .*none"),
        ("train_crnn", {"hr_share": 0.7, "lr_share": 0.4}, "shares of one whole, not 0.7 and 0.4"),
        ("train_crnn", {"init_from": "nowhere"}, "No CRNN nowhere"),
        ("train_crnn", {"channels": [8, 8]}, "seven convolutions"),
        ("train_crnn", {"degradation": "awful"}, "degradation is one of stored, fresh, not awful"),
        ("train_crnn", {"train_batch_size": 0}, "train_batch_size must be at least 1, not 0"),
        ("train_crnn", {"learning_rte": 1}, "not used by the HfArgumentParser.*learning_rte"),
        ("train_crnn", {"resume_from_checkpoint": "nowhere"}, "No complete checkpoint to resume from: nowhere"),
        ("train_crnn", {"validation_data_dir": ["{}/plain", "{}/greek/../plain"]}, "Folders of one name"),
        ("train_textdiff", {"recognizer": None}, "Set recognizer to a CRNN .*train_crnn.py"),
        ("train_textdiff", {"recognizer": None, "init_from": "x"}, "set recognizer"),
        ("train_textdiff", {"foreign": 1.5}, "foreign is from 0 to 1, not 1.5"),
        ("train_textdiff", {"temperature": 2.0}, "temperature is from 0 to 1, not 2.0"),
        ("train_textdiff", {"num_inference_steps": 500}, "num_inference_steps is from 1 to 200, not 500"),
        ("train_textdiff", {"heads": 0}, "heads must be at least 1, not 0"),
        ("train_textdiff", {"recognizer": "crnn-tiny", "init_from": "textdiff-tiny", "corrected_schedule": True,
                            "mask_branch": False}, "textdiff-tiny was trained with mask_branch True"),
        ("train_textdiff", {"recognizer": "nowhere"}, "No CRNN nowhere: give crnn-tiny"),
        ("train_textdiff", {"init_from": "nowhere/at/all"}, "nowhere/at/all"),
        ("train_textdiff", {"train_data_dir": ["{}/plain"], "mask_rule": "exact"}, "plain stores no masks: set"),
        ("train_textdiff", {"prediction_type": "velocity"}, "prediction_type is one of sample, epsilon, not velocity"),
        ("train_textdiff", {"best_metric": "lpips"}, "best_metric is one of accuracy, psnr, ssim, not lpips"),
        ("train_textdiff", {"validation_ocr": "aster"}, "No recogniser 'aster'"),
        ("train_textdiff", {"tem_channels": 6}, "must be a multiple of 4"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(script, data, name, settings, message):
    settings = {
        k: [x.format(data) if isinstance(x, str) else x for x in v] if isinstance(v, list) else v
        for k, v in settings.items()
    }
    given = {"validation_data_dir": [str(data / "validation")], **settings}
    found = script(name, **given)
    assert re.search(message, found), found


def test_another_alphabets_recogniser(script, tmp_path):
    found = script("train_textdiff", recognizer=save_reader(tmp_path / "cased", num_classes=63))
    assert "has 63 classes, of another alphabet than 0123" in found


def test_another_runs_checkpoint(script, data, tmp_path):
    textdiff_runs.train(
        train_crnn, tmp_path / "run", data, max_train_steps=1, validation_steps=9, checkpointing_steps=9
    )
    assert "holds checkpoints of an earlier run" in script("train_crnn")
    found = script("train_crnn", hidden=4, resume_from_checkpoint="latest")
    assert "was written with another base or other settings" in found
