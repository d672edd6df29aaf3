"""`make train-tiny` and `make train-tiny-cpu`, shortened: tadisr-tiny's recipes, from nothing, in a minute or two."""

import numpy as np
import pytest
import torch

from helpers import pages
from helpers import training_runs as runs
from helpers.reader_graph import write_graph
from tadisr import TADiSRPipeline
from tadisr.training import train_lora

RECIPE = runs.ROOT / "training" / "tiny"
SHORT = {
    "train_batch_size": 4, "resolution": 64, "lr_warmup_steps": 5, "dataloader_num_workers": 0, "cache_pages": True,
    "mixed_precision": "no", "num_validation_images": 4,
}  # fmt: skip


def stage(name, data, out, **changes):
    """Validation scores and their steps."""
    runs.fresh()
    values = {**SHORT, "train_data_dir": data, "validation_data_dir": data, "output_dir": out, **changes}
    train_lora.main(["--config", str(RECIPE / f"{name}.yaml"), *(
        part for key, value in values.items() for part in (f"--{key}", str(value))
    )])  # fmt: skip
    return [record for record in runs.records(out) if "psnr" in record]


def test_the_shipped_recipe_improves_the_validation(tmp_path, monkeypatch):
    monkeypatch.chdir(runs.ROOT)  # configs name files relative to the repository
    data = pages.data_set(tmp_path / "set", 20, 256, font_size=(24, 40))
    scores = stage("tiny_wide", data, tmp_path / "run", max_train_steps=40, validation_steps=20)
    assert scores[-1]["psnr"] > scores[0]["psnr"] > scores[0]["psnr_bicubic"]
    trained, shipped = (
        TADiSRPipeline.from_pretrained(weights) for weights in (tmp_path / "run/weights", "tadisr-tiny")
    )
    for part in ("vae", "unet", "joint_decoder"):
        own, found = (
            {key: x.shape for key, x in getattr(pipe, part).state_dict().items()} for pipe in (trained, shipped)
        )
        prompts = ("prompt_encoder.", "prompt_follower.")  # those of tiny_prompt.yaml and tiny_follow.yaml
        added = {key: shape for key, shape in found.items() if key.startswith(prompts)}
        assert found == own | added, "what is shipped has this recipe's form"


def test_a_follower_is_trained_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(runs.ROOT)
    data = pages.data_set(tmp_path / "set", 10, 256, font_size=(24, 40))
    stage("tiny_follow", data, tmp_path / "run", max_train_steps=2, validation_steps=2, train_batch_size=2)
    trained, shipped = (
        TADiSRPipeline.from_pretrained(weights) for weights in (tmp_path / "run/weights", "tadisr-tiny")
    )
    for part in ("vae", "unet", "prompt", "joint_decoder"):
        own, before = (getattr(pipe, part).state_dict() for pipe in (trained, shipped))
        changed = {key.split(".")[0] for key, value in before.items() if not torch.equal(value, own[key])}
        assert changed == ({"prompt_follower"} if part == "joint_decoder" else set())


@pytest.mark.filterwarnings("ignore::UserWarning")  # onnx2torch's own
def test_all_stages_for_two_cores_improve_the_validation(tmp_path, monkeypatch):
    pytest.importorskip("onnx2torch")
    monkeypatch.chdir(runs.ROOT)  # configs name files relative to the repository
    data = pages.data_set(tmp_path / "set", 20, 256, font_size=(24, 40))
    reader = write_graph(tmp_path / "reader.onnx", np.random.default_rng(0))

    first = stage("tiny_pixels", data, tmp_path / "one", max_train_steps=60, validation_steps=30)
    assert first[-1]["psnr"] > first[0]["psnr"] > first[0]["psnr_bicubic"]
    terms = next(record for record in runs.records(tmp_path / "one") if "lr" in record)
    assert "text_mse" in terms and not {"text_l1", "recognizer"} & terms.keys()

    start = {"init_from": tmp_path / "one" / "weights"}
    second = stage("tiny_deep", data, tmp_path / "two", **start, max_train_steps=10, validation_steps=10)
    assert second[-1]["psnr"] > first[-1]["psnr"] - 0.1

    changes = {"init_from": tmp_path / "two" / "weights", "recognizer": reader, "recognizer_lines": 2}
    third = stage("tiny_reader", data, tmp_path / "three", **changes, max_train_steps=10, validation_steps=10)
    assert third[-1]["psnr"] > first[-1]["psnr"] - 0.3 and "recognizer" in runs.records(tmp_path / "three")[0]
