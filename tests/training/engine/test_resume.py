"""Checkpoints: whole or not there, rotated, resumed from exactly, whenever a run is killed."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers.training_utils import EMAModel

from helpers import pages
from helpers import training_runs as runs
from tadisr.training.engine import loop
from tadisr.training.engine.checkpoints import (
    all_checkpoints,
    delete_older,
    latest_checkpoint,
    load_checkpoint,
    read_best,
    write_best,
)

slow = pytest.mark.skipif(not os.environ.get("TADISR_SLOW"), reason="minutes; set TADISR_SLOW=1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return pages.data_set(tmp_path_factory.mktemp("ftsr") / "set", 10, 256, font_size=(18, 32))


def test_only_checkpoints_count(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ("checkpoint-900", "checkpoint-1000", ".checkpoint-3000.part", "checkpoint-best"):
        (tmp_path / name).mkdir()
    (tmp_path / "checkpoint-2000").write_text("no folder")
    assert [p.name for p in all_checkpoints(tmp_path)] == ["checkpoint-900", "checkpoint-1000"]
    assert latest_checkpoint(tmp_path).name == "checkpoint-1000"


def test_the_newest_and_the_best_are_kept(tmp_path):
    for step in (2, 4, 6, 8, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
    write_best(tmp_path, {"step": 4, "metric": "psnr", "value": 1.0})
    assert read_best(tmp_path)["step"] == 4
    delete_older(tmp_path, 2)
    assert [p.name for p in all_checkpoints(tmp_path)] == ["checkpoint-4", "checkpoint-8", "checkpoint-10"]


def test_best_and_last_are_kept(data, tmp_path):
    """A validation between two checkpoints that is the best gets one of its own."""
    out = runs.train(
        data, tmp_path / "run", validation_data_dir=data, validation_steps=3, checkpointing_steps=2,
        checkpoints_total_limit=1, max_train_steps=8, best_metric="mask_iou",
    )  # fmt: skip
    scores = {r["step"]: r["mask_iou"] for r in runs.records(out) if "mask_iou" in r}
    best = read_best(out)
    assert set(scores) == {3, 6, 8} and best["value"] == max(scores.values()) == scores[best["step"]]
    assert {p.name for p in out.glob("checkpoint-*")} == {"checkpoint-8", f"checkpoint-{best['step']}"}
    assert f"after {best['step']} steps" in (out / "best" / "README.md").read_text()
    if best["step"] == 8:
        assert all(torch.equal(x, runs.weights(out)[name]) for name, x in runs.weights(out, "best").items())
    assert not list(out.glob(".*"))


def test_the_best_of_a_later_step_is_another_runs(data, tmp_path):
    settings = {"validation_data_dir": data, "validation_steps": 2, "max_train_steps": 2}
    out = runs.train(data, tmp_path / "run", **settings)
    best = read_best(out)
    write_best(out, best | {"step": 9, "value": 1e9})
    shutil.rmtree(out / "checkpoint-2")
    runs.train(data, out, **settings)
    assert read_best(out) == best


def test_earlier_checkpoints_are_not_mixed_with_later_ones(data, tmp_path):
    """Rotation goes by number: it would delete what a run from checkpoint-2 writes, and `latest` go on with the old."""
    out = runs.train(data, tmp_path / "run", checkpoints_total_limit=3)
    wanted = {"resume_from_checkpoint": out / "checkpoint-2"}
    with pytest.raises(ValueError, match="holds checkpoint-6, later than .*checkpoint-2: delete what is later"):
        runs.train(data, out, **wanted)
    again = runs.train(data, tmp_path / "again", **wanted)
    assert all(torch.equal(x, runs.weights(again)[name]) for name, x in runs.weights(out).items())


@pytest.mark.parametrize("step", [3, 6])
def test_stopped_between_a_validation_and_its_checkpoint(data, tmp_path, monkeypatch, step):
    settings = {"validation_data_dir": data, "validation_steps": 3, "checkpointing_steps": 3, "max_train_steps": 6}
    whole = runs.train(data, tmp_path / "whole", **settings)
    save = loop.save_checkpoint

    def stop(accelerator, config, at):
        if at == step:
            raise KeyboardInterrupt
        save(accelerator, config, at)

    monkeypatch.setattr(loop, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        runs.train(data, tmp_path / "broken", **settings)
    monkeypatch.undo()
    broken = runs.train(data, tmp_path / "broken", **settings, resume_from_checkpoint="latest")
    runs.assert_same(whole, broken)
    assert read_best(whole) == read_best(broken)


def test_a_new_run_does_not_write_into_an_old_one(data, tmp_path):
    out = runs.train(data, tmp_path / "run", max_train_steps=2)
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run"):
        runs.train(data, out)
    with pytest.raises(FileNotFoundError, match="No complete checkpoint to resume from: .*checkpoint-7"):
        runs.train(data, out, resume_from_checkpoint=out / "checkpoint-7")
    with pytest.raises(FileNotFoundError, match="No complete checkpoint to resume from: .*run; name a checkpoint-N"):
        runs.train(data, out, resume_from_checkpoint=out)
    again = runs.train(data, tmp_path / "new", max_train_steps=2, resume_from_checkpoint="latest")  # none yet
    runs.assert_same(out, again)


def test_another_runs_checkpoint_is_refused(data, tmp_path):
    out = runs.train(data, tmp_path / "run", max_train_steps=2)
    base = json.loads((tmp_path / "base.json").read_text())
    base["vae"]["block_out_channels"] = [16]
    (tmp_path / "other.json").write_text(json.dumps(base))
    with pytest.raises(ValueError, match="another base or other settings"):
        runs.train(data, out, base_config=tmp_path / "other.json", resume_from_checkpoint="latest")


def test_no_disk_left_while_checkpointing(data, tmp_path):
    """A real failing write: files may not grow beyond 100 kB, and the optimiser's state is larger."""
    out = tmp_path / "run"
    runs.train(data, out, max_train_steps=2)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    run = runs.launch(runs.flags(data, out, resume_from_checkpoint="latest"), preexec_fn=limit)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    last = run.stderr.strip().splitlines()[-1]
    assert "checkpoint-4 could not be written" in last and last.endswith("--resume_from_checkpoint latest.")
    assert "the last whole checkpoint is" in last and "checkpoint-2" in last
    assert sorted(p.name for p in out.glob("*checkpoint-*")) == ["checkpoint-2"]
    runs.train(data, out, resume_from_checkpoint="latest")  # there is room again
    assert latest_checkpoint(out).name == "checkpoint-6"


def start_training(flags):
    """A run in the background that has begun to train."""
    run = subprocess.Popen(
        runs.command(flags), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=runs.environment(),
        start_new_session=True,
    )  # fmt: skip
    for line in run.stdout:
        if "trained parameters" in line:
            break
    return run


def kill_and_resume(data, tmp_path, kills, steps, seed):
    """Kill -9 at random moments until `kills` runs died, resuming each time; returns (unbroken, broken, steps seen)."""
    settings = {
        "max_train_steps": steps, "ema_decay": 0.9, "checkpointing_steps": 3, "validation_steps": 7,
        "validation_data_dir": data, "dataloader_num_workers": 1,
    }  # fmt: skip
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start_training(runs.flags(data, whole, **settings)).wait() == 0
    chance, died_at = random.Random(seed), []
    while len(died_at) < kills:
        run = start_training(runs.flags(data, broken, **settings, resume_from_checkpoint="latest"))
        for _ in range(chance.randrange(1, steps // kills)):  # each step says a line
            run.stdout.readline()
        time.sleep(chance.uniform(0, 0.2))
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
        if run.wait() != -signal.SIGKILL:  # it was through before
            break
        last = latest_checkpoint(broken)
        died_at.append(int(last.name.split("-")[1]) if last else 0)
    assert runs.launch(runs.flags(data, broken, **settings, resume_from_checkpoint="latest")).returncode == 0
    return whole, broken, died_at


def test_killed_at_random_moments(data, tmp_path):
    whole, broken, died_at = kill_and_resume(data, tmp_path, kills=2, steps=12, seed=0)
    assert died_at
    runs.assert_same(whole, broken)
    assert read_best(whole) == read_best(broken)
    assert not list(broken.glob(".*"))


@slow
def test_killed_ten_times(data, tmp_path):
    whole, broken, died_at = kill_and_resume(data, tmp_path, kills=10, steps=150, seed=1)
    print("last whole checkpoint after each kill:", died_at)
    assert len(died_at) == 10
    runs.assert_same(whole, broken)
    assert read_best(whole) == read_best(broken)


def test_averages_go_on_where_the_run_is():
    """accelerate loads what it does not know onto the CPU; the meta device stands for a GPU."""
    there, here = ([torch.nn.Parameter(torch.ones(2, device=device))] for device in ("meta", "cpu"))
    ema, saved = EMAModel(there), EMAModel(here).state_dict()
    accelerator = SimpleNamespace(load_state=lambda path: ema.load_state_dict(saved), device=torch.device("meta"))
    load_checkpoint(accelerator, Path("checkpoint-2"), ema)
    ema.step(there)
    assert ema.shadow_params[0].device.type == "meta"
