"""Training a segmenter: crops, losses, the whole script, resuming, and the benchmark on what came out."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from helpers import training_runs
from helpers.segmenters import sam, training_pages
from tadisr.data_synthesis.judging.sam_ts import Adapter
from tadisr.data_synthesis.judging.segment import TextSegmenter
from tadisr.training import train_segmenter
from tadisr.training.engine.checkpoints import read_best
from tadisr.training.engine.command_line import parse

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return training_pages(tmp_path_factory.mktemp("ftsr"))


@pytest.fixture
def train(monkeypatch, data, capsys):
    """Run the script in this process: its settings as keywords, its output back."""

    def run(out, **settings):
        settings = {
            "output_dir": str(out), "train_data_dir": [str(data)], "validation_data_dir": str(data),
            "photo_list": str(data / "photos.txt"), "photo_share": 0.3, "widths": [8, 8], "resolution": 64,
            "bce": 1.0, "focal": 1.0, "train_batch_size": 2, "learning_rate": 1e-2, "lr_warmup_steps": 2,
            "ema_decay": 0.9, "max_train_steps": 6, "checkpointing_steps": 2, "validation_steps": 3,
            "dataloader_num_workers": 0, **settings,
        }  # fmt: skip
        file = out.parent / "config.yaml"
        file.write_text(yaml.safe_dump(settings))
        monkeypatch.setattr(sys, "argv", ["train_segmenter.py", "--config", str(file)])
        training_runs.fresh()
        try:
            runpy.run_path(str(ROOT / "training" / "train_segmenter.py"), run_name="__main__")
        finally:
            torch.set_flush_denormal(False)
        return capsys.readouterr().out

    return run


class TestScript:
    def test_train_and_resume(self, train, tmp_path):
        train(tmp_path / "whole")
        # as if interrupted after four of six steps
        shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
        shutil.rmtree(tmp_path / "resumed" / "checkpoint-6")
        shutil.rmtree(tmp_path / "resumed" / "weights")
        assert "steps 4 to 6" in train(tmp_path / "resumed", resume_from_checkpoint="latest")
        whole, resumed = (load_file(tmp_path / run / "weights" / "model.safetensors") for run in ("whole", "resumed"))
        assert whole.keys() == resumed.keys() and all(torch.equal(whole[name], resumed[name]) for name in whole)
        other = load_file(train_and_load(train, tmp_path / "other", seed=1))
        assert not torch.equal(whole["head.weight"], other["head.weight"])
        with pytest.raises(SystemExit, match="holds checkpoints of an earlier run"):
            train(tmp_path / "whole")

        records = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records] == [3, 6, 6]
        assert {"step", "fgiou", "f", "fgiou_worn", "f_worn"} == records[-1].keys()
        best = read_best(tmp_path / "whole")
        assert best["metric"] == "fgiou" and best["value"] == max(records[0]["fgiou"], records[2]["fgiou"])
        kept = {f"checkpoint-{step}" for step in (4, 6, best["step"])}
        assert {p.name for p in (tmp_path / "whole").glob("checkpoint-*")} == kept
        saved = yaml.safe_load((tmp_path / "whole" / "checkpoint-6" / "config.yaml").read_text())
        assert saved["learning_rate"] == 1e-2 and saved["gradient_accumulation_steps"] == 1
        assert TextSegmenter.from_pretrained(tmp_path / "whole" / "weights").config.widths == [8, 8]

    def test_it_learns(self, train, tmp_path):
        train(
            tmp_path / "run", max_train_steps=60, validation_steps=60, train_batch_size=4, photo_share=0.0,
            checkpointing_steps=60, ema_decay=None, learning_rate=2e-2, focal=0.0,
        )  # fmt: skip
        records = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
        assert records[0].keys() == {"step", "s/step", "lr", "bce", "dice"}
        assert records[-1]["fgiou"] > 0.4

    def test_sam_ts(self, train, tmp_path):
        sam().save_pretrained(tmp_path / "base")
        train(
            tmp_path / "run", pretrained_model_name_or_path=str(tmp_path / "base"), max_train_steps=2,
            checkpointing_steps=2, validation_data_dir=None, validation_steps=2, gradient_checkpointing=True,
            gradient_accumulation_steps=2, bce=0.0, focal=20.0,
        )  # fmt: skip
        segmenter = TextSegmenter.from_pretrained(tmp_path / "run" / "weights")
        adapters = [module for module in segmenter.modules() if isinstance(module, Adapter)]
        assert adapters and all(adapter.expand.weight.abs().sum() > 0 for adapter in adapters)
        assert not [name for name in load_file(tmp_path / "run" / "weights" / "model.safetensors") if ".base." in name]

    def test_mistakes_are_one_line(self, train, tmp_path):
        for settings, message in (
            ({"learning_rte": 1}, "unknown keys learning_rte"),
            ({"train_data_dir": None}, "at least one data set"),
            ({"train_data_dir": [str(tmp_path / "nowhere" / "else")]}, "nowhere"),
            ({"train_data_dir": ["textseg:nowhere"]}, "TextSeg is not in nowhere"),
            ({"validation_steps": 0}, "validation_steps must be at least 1, not 0"),
            ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps must be at least 1"),
            ({"bce": 0.0, "focal": 0.0, "dice": 0.0}, "at least one of bce, focal and dice"),
            ({"photo_list": "nowhere.txt"}, "No list of photographs nowhere.txt"),
            ({"resume_from_checkpoint": "nowhere"}, "No complete checkpoint to resume from: nowhere"),
            ({"pretrained_model_name_or_path": str(tmp_path / "sam")}, "No model"),
        ):
            with pytest.raises(SystemExit) as stopped:
                train(tmp_path / "run", **settings)
            assert message in str(stopped.value) and "\n" not in str(stopped.value), settings
        sam().save_pretrained(tmp_path / "sam")
        with pytest.raises(SystemExit, match="works at 64 pixels: set resolution to that, not 96"):
            train(tmp_path / "run", pretrained_model_name_or_path=str(tmp_path / "sam"), resolution=96)
        with pytest.raises(SystemExit, match="No config file"):
            parse(["--config", "nowhere.yaml"], train_segmenter.SegmenterConfig)

    def test_flags_go_over_the_file_and_the_shipped_files_are_valid(self):
        tiny = parse(
            ["--config", str(ROOT / "training/configs/segmenter_tiny.yaml"), "--learning_rate", "5", "--seed", "3"],
            train_segmenter.SegmenterConfig,
        )
        assert (tiny.learning_rate, tiny.seed, tiny.pretrained_model_name_or_path) == (5, 3, None)
        paper = parse(["--config", str(ROOT / "training/configs/segmenter_sam.yaml")], train_segmenter.SegmenterConfig)
        assert paper.train_data_dir == ["textseg:data/TextSeg", "bts:data/BTS"]
        assert (paper.focal, paper.dice, paper.prompt_tokens, paper.resolution) == (20, 1, 12, 1024)

    def test_benchmark(self, data, monkeypatch, capsys):
        monkeypatch.setattr(sys, "argv", ["segmenter.py", str(data), "--limit", "2"])
        runpy.run_path(str(ROOT / "benchmarks" / "segmenter.py"), run_name="__main__")
        rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| 2 ")]
        assert len(rows) == 4 and "(best)" in rows[1][2]
        assert float(rows[1][3]) >= float(rows[0][3]) > 0.3
        assert float(rows[0][7]) > 0


def train_and_load(train, out, **settings):
    train(out, **settings)
    return out / "weights" / "model.safetensors"


class TestLoss:
    def test_every_level_counts_and_weights_apply(self):
        config = train_segmenter.SegmenterConfig(train_data_dir=["x"], bce=2.0, focal=0.0, dice=0.5)
        mask = torch.zeros(1, 1, 8, 8)
        mask[..., :4] = 1
        right, low = 40 * (mask - 0.5), 40 * (mask[..., ::4, ::4] - 0.5)
        assert sum(train_segmenter.segmentation_loss([low, right], mask, config).values()) < 1e-6
        terms = train_segmenter.segmentation_loss([-low, right], mask, config)
        assert terms.keys() == {"bce", "dice"}
        assert terms["bce"] == pytest.approx(2 * 20, rel=1e-3) and terms["dice"] == pytest.approx(0.5 * 0.8, rel=1e-3)
