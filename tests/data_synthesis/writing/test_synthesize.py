"""The data set: the same bytes whatever happens on the way, readable by `datasets`, nothing half-written."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from datasets import load_dataset

from helpers import pages
from helpers.hub_server import HubServer
from tadisr import cli
from tadisr.data_synthesis import opened
from tadisr.data_synthesis.writing import synthesize
from tadisr.datasets.ftsr import open_pages

ROOT = Path(__file__).parents[3]
SIZE = 64
RECIPE = """
photos: 0.7
text_free_backgrounds: false
min_background: 100
corpora: {latin: 1}
backgrounds: [{kind: folder, path: PHOTOS}]
degradation: mild
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe on five small photographs."""
    folder = tmp_path_factory.mktemp("material")
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for i in range(5):
        coarse = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"photos/{i}.png"), cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.replace("PHOTOS", str(folder / "photos")))
    return path


def command(recipe, out, *more):
    return ["synthesize", "-o", str(out), "--recipe", str(recipe), "--num", "20", "--size", str(SIZE), *map(str, more)]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def made(recipe, tmp_path_factory):
    out = tmp_path_factory.mktemp("ftsr") / "set"
    assert cli.main(command(recipe, out, "--num-proc", 1)) == 0
    return out


def test_files(made):
    names = [f"data/train-{i:05d}-of-00003.parquet" for i in range(3)] + ["data/test-00000-of-00001.parquet"]
    assert sorted(contents(made)) == sorted([*names, "README.md", "contact_sheet.jpg", "manifest.json"])
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["job"]["seed"] == 0 and manifest["job"]["recipe"]["photos"] == 0.7
    assert set(manifest["files"]) == set(names)
    assert manifest["stages"][0]["kept"] == 5 and manifest["lines"] > 5
    sheet = cv2.imread(str(made / "contact_sheet.jpg"))
    assert sheet.std() > 20


@pytest.mark.parametrize("streaming", [False, True])
def test_loads_as_a_hugging_face_data_set(made, streaming, tmp_path):
    data = load_dataset(str(made), streaming=streaming, cache_dir=str(tmp_path))
    assert set(data) == {"train", "test"}
    rows = {split: list(data[split]) for split in data}
    assert {split: len(part) for split, part in rows.items()} == {"train": 18, "test": 2}
    for row in rows["train"] + rows["test"]:
        assert row["hr"].size == row["mask"].size == (SIZE, SIZE) and row["lr"].size == (SIZE // 4, SIZE // 4)
        assert (row["hr"].mode, row["mask"].mode) == ("RGB", "L")
        assert len(row["text"]) == len(row["boxes"]) and all(len(box) == 8 for box in row["boxes"])
        assert row["seed"] >= 0 and all(isinstance(source, str) for source in row["sources"])
    assert len({row["seed"] for part in rows.values() for row in part}) == 20
    assert any(np.asarray(row["mask"]).any() for row in rows["train"])
    # LR is what HR shows, smaller
    for row in rows["train"]:
        small = np.asarray(row["hr"].resize(row["lr"].size), float)
        assert np.abs(small - np.asarray(row["lr"], float)).mean() < 40


def test_folders_of_one_name_are_not_taken_for_each_other(tmp_path):
    """`datasets` keeps what it has loaded under the folder's last name."""
    lengths = {}
    for name, num in (("a", 2), ("b", 3)):
        folder = pages.data_set(tmp_path / name / "set", num, 64)
        lengths[name] = len(load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache")))
    assert lengths == {"a": 2, "b": 3}


def test_train_and_test_share_no_photograph_and_no_family(made, tmp_path):
    data = load_dataset(str(made), cache_dir=str(tmp_path))
    used = {split: {name for names in data[split]["sources"] for name in names} for split in data}
    photos = {split: {name for name in names if name.endswith(".png")} for split, names in used.items()}
    assert photos["train"] and not used["train"] & used["test"]


def test_workers_do_not_matter_and_the_seed_does(recipe, made, tmp_path):
    assert cli.main(command(recipe, tmp_path / "two", "--num-proc", 2)) == 0
    assert contents(tmp_path / "two") == contents(made)
    assert cli.main(command(recipe, tmp_path / "other", "--num-proc", 1, "--seed", 1)) == 0
    other = contents(tmp_path / "other")
    assert all(other[name] != data for name, data in contents(made).items() if name.endswith(".parquet"))


def test_folders_hold_the_same_triplets(recipe, made, tmp_path):
    out = tmp_path / "plain"
    assert cli.main(command(recipe, out, "--layout", "folders", "--num-proc", 1)) == 0
    for split, count in (("train", 18), ("test", 2)):
        plain, parquet = open_pages(out, split), open_pages(made, split)
        assert len(plain) == len(parquet) == count
        for i in range(count):
            for kind in ("lr", "hr", "mask"):
                assert (getattr(plain, kind)(i) == getattr(parquet, kind)(i)).all()
            lines = parquet.lines(i)
            assert [line["text"] for line in plain.lines(i)] == [line["text"] for line in lines]
            for a, b in zip(plain.lines(i), lines, strict=True):
                np.testing.assert_allclose(a["quad"], b["quad"], atol=0.051)


def run_in_background(arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tadisr", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


@pytest.mark.parametrize("shards", [1, 3])
def test_killed_and_run_again_it_ends_the_same(recipe, made, tmp_path, shards):
    out = tmp_path / "killed"
    process = run_in_background(command(recipe, out, "--num-proc", 1))
    deadline = time.time() + 120
    while process.poll() is None and len(list(out.glob("data/*.parquet"))) < shards and time.time() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "manifest.json").exists()
    (out / "data").mkdir(exist_ok=True)
    (out / "data/.train-00001-of-00003.parquet.part").write_bytes(b"half")  # as a kill in mid-write leaves it
    done = len(list((out / ".work/shards").glob("*.json")))
    assert done < 4
    assert cli.main(command(recipe, out, "--num-proc", 1)) == 0
    assert contents(out) == contents(made)


def test_killed_at_the_very_beginning_and_at_the_very_end(recipe, made, tmp_path):
    (tmp_path / "begun/.work").mkdir(parents=True)
    (tmp_path / "begun/.work/.job.json.part").write_bytes(b"{")
    shutil.copytree(made, tmp_path / "ended")
    (tmp_path / "ended/.work/shards").mkdir(parents=True)
    for name in ("begun", "ended"):
        assert cli.main(command(recipe, tmp_path / name, "--num-proc", 1)) == 0
        assert contents(tmp_path / name) == contents(made)


def test_interrupted(recipe, tmp_path):
    out = tmp_path / "interrupted"
    process = run_in_background(command(recipe, out, "--num-proc", 1, "--num", 60))
    deadline = time.time() + 120
    while not list(out.glob("data/*.parquet")) and time.time() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        "Traceback" not in err and err.splitlines()[-1] == f"tadisr: interrupted; the same command goes on with {out}"
    )
    assert not list(out.rglob("*.part"))


@pytest.fixture
def unfinished(recipe, made, tmp_path):
    """A run that was killed after its last shard."""
    out, finish = tmp_path / "unfinished", synthesize.make_manifest
    synthesize.make_manifest = lambda *_: (_ for _ in ()).throw(ValueError("stopped here"))
    try:
        assert cli.main(command(recipe, out, "--num-proc", 1)) == 2
    finally:
        synthesize.make_manifest = finish
    assert len(list(out.glob("data/*.parquet"))) == 4
    return out


def test_damaged_shards_are_made_again(recipe, made, unfinished, capsys):
    shard = unfinished / "data/train-00001-of-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:1000])
    (unfinished / "data/test-00000-of-00001.parquet").unlink()
    (unfinished / ".work/shards/train-00000-of-00003.json").write_text("{")
    assert cli.main(command(recipe, unfinished, "--num-proc", 1)) == 0
    err = " ".join(capsys.readouterr().err.split())
    assert f"{shard} is damaged or missing: made again" in err
    assert "train-00000-of-00003.json is damaged: its shard is made again" in err
    assert contents(unfinished) == contents(made)


def test_finished_is_finished(recipe, made, capsys):
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert cli.main(command(recipe, made, "--num-proc", 1)) == 0
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    assert (
        f"20 triplets with {json.loads((made / 'manifest.json').read_text())['lines']} lines" in capsys.readouterr().err
    )


def test_a_finished_set_that_was_damaged_is_mended(recipe, made, tmp_path, capsys):
    out = tmp_path / "damaged"
    shutil.copytree(made, out)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("data/*")}
    (out / "data/train-00001-of-00003.parquet").write_bytes(b"garbage")
    (out / "data/test-00000-of-00001.parquet").unlink()
    assert cli.main(command(recipe, out, "--num-proc", 1)) == 0
    assert "was finished, but files of it are damaged or missing" in " ".join(capsys.readouterr().err.split())
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("data/*")}
    again = {name for name, when in after.items() if when != before[name]}
    assert again == {"train-00001-of-00003.parquet", "test-00000-of-00001.parquet"}
    assert contents(out) == contents(made)


def test_a_finished_set_that_cannot_be_mended_now_is_mended_later(recipe, made, tmp_path):
    out, photos, away = tmp_path / "damaged", recipe.parent / "photos", recipe.parent / "away"
    shutil.copytree(made, out)
    (out / "data/test-00000-of-00001.parquet").unlink()
    photos.rename(away)
    photos.mkdir()  # a disk that is not mounted
    cv2.imwrite(str(photos / "small.png"), np.zeros((20, 20, 3), np.uint8))
    opened._source.cache_clear()
    try:
        assert cli.main(command(recipe, out, "--num-proc", 1)) == 2
    finally:
        shutil.rmtree(photos)
        away.rename(photos)
        opened._source.cache_clear()
    assert cli.main(command(recipe, out, "--num-proc", 1)) == 0
    assert contents(out) == contents(made)


def test_a_finished_set_of_folders_that_lacks_an_image_is_mended(recipe, tmp_path):
    out = tmp_path / "folders"
    arguments = command(recipe, out, "--num-proc", 1, "--layout", "folders")
    assert cli.main(arguments) == 0
    whole = contents(out)
    (out / "train/hr/0000003.png").unlink()
    assert cli.main(arguments) == 0
    assert contents(out) == whole


def test_a_source_that_is_away_loses_nothing_of_an_unfinished_run(recipe, made, unfinished, capsys):
    photos, away = recipe.parent / "photos", recipe.parent / "away"
    before = contents(unfinished)
    photos.rename(away)
    opened._source.cache_clear()  # a process of its own has not seen it
    try:
        assert cli.main(command(recipe, unfinished, "--num-proc", 1)) == 2
    finally:
        away.rename(photos)
    assert "No images in" in capsys.readouterr().err and contents(unfinished) == before
    assert cli.main(command(recipe, unfinished, "--num-proc", 1)) == 0
    assert contents(unfinished) == contents(made)


@pytest.mark.parametrize("where", ["finished", "unfinished"])
def test_another_run_in_the_same_folder_is_refused(recipe, made, request, capsys, where):
    out = made if where == "finished" else request.getfixturevalue("unfinished")
    before = contents(out)
    assert cli.main(command(recipe, out, "--seed", 5, "--num", 21)) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"tadisr: {out} holds another data set (differs in: num, seed): name a new folder, or repeat the command that "
        "began it to go on with it."
    )
    assert contents(out) == before


def test_a_full_disk(recipe, tmp_path):
    """Files may not grow beyond 8 KiB: what `write` answers then differs from a full disk's answer in one number."""
    out = tmp_path / "full"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    process = run_in_background(command(recipe, out, "--num-proc", 1, "--size", 64), preexec_fn=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert err.splitlines()[-1].endswith(".parquet: File too large") or err.splitlines()[-1].endswith(
        ".part: File too large"
    )
    assert "Traceback" not in err
    assert not list(out.glob("data/*")) and not list(out.rglob("*.part"))


def test_ray_writes_the_same_bytes(recipe, made, tmp_path):
    pytest.importorskip("ray")
    out = tmp_path / "ray"
    process = run_in_background(command(recipe, out, "--num-proc", 2, "--backend", "ray"))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert contents(out) == contents(made)


def test_the_hub_takes_it_and_gives_it_back(made, tmp_path):
    with HubServer(tmp_path) as hub:
        push = (
            "import sys; from pathlib import Path; from tadisr.data_synthesis.writing.card import push_to_hub\n"
            "print(push_to_hub(Path(sys.argv[1]), 'tester/ftsr'))\n"
        )
        assert hub.run(push, made).strip() == f"{hub.url}/datasets/tester/ftsr"
        load = (
            "from datasets import load_dataset\n"
            "print({split: len(part) for split, part in load_dataset('tester/ftsr').items()})\n"
            "row = next(iter(load_dataset('tester/ftsr', split='test', streaming=True)))\n"
            "print(row['hr'].size)\n"
        )
        assert hub.run(load).splitlines() == ["{'train': 18, 'test': 2}", f"({SIZE}, {SIZE})"]
        refused = (
            "from pathlib import Path; from tadisr.data_synthesis.writing.card import push_to_hub\n"
            "try:\n"
            "    push_to_hub(Path('.'), 'a/b/c')\n"
            "except RuntimeError as error:\n"
            "    print(error)\n"
        )
        assert hub.run(refused).startswith("The Hub did not take a/b/c: ")
