"""`tadisr upscale --backend ray`: the same files as on one machine, whatever becomes of a worker."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from helpers.command_line import PROGRESS, child, noise, three, tree
from tadisr.commands import cluster

pytest.importorskip("ray")

# In a process of its own: Ray ends the whole process where a machine is too busy for it to start.
PROGRAM = """
import os, sys
from tadisr import cli
from tadisr.commands import cluster

class Dying(cluster.Worker):
    def restore(self, job, maker):
        return os._exit(1) if job.source.stem == "b" else super().restore(job, maker)

if sys.argv.pop(1) == "dying":
    cluster.Worker = Dying
sys.exit(cli.main(["upscale", "--device", "cpu", "--backend", "ray", *sys.argv[1:]]))
"""


@pytest.fixture
def on_ray(model, run):
    def on_ray(*arguments, worker="usual"):
        done = child(PROGRAM, worker, "--model", model, *map(str, arguments))
        return done.returncode, [line for line in done.stderr.splitlines() if not PROGRESS.fullmatch(line)]

    return on_ray


def test_the_same_files(run, on_ray):
    three()
    Image.fromarray(noise(20, 9).reshape(20, 9, 3)).save("in/d.png")
    Path("in/e.png").write_bytes(Path("in/d.png").read_bytes()[:90])
    code, said = run("in", "-o", "here")
    assert code == 1 and said[-1] == "tadisr: 4 of 5 restored, in here"
    assert on_ray("in", "-o", "there", "--workers", 2) == (code, [line.replace("here", "there") for line in said])
    assert tree("here") == tree("there")
    for name in tree("here"):
        assert Path("here", name).read_bytes() == Path("there", name).read_bytes(), name
    # one machine goes on with what a cluster began, and the other way round
    Path("there/b.png").unlink()
    assert on_ray("in", "-o", "there", "--skip-existing", "--workers", 1)[1][-1] == "tadisr: 1 of 2 restored, in there"
    assert run("in", "-o", "there", "--skip-existing")[1][-1] == "tadisr: 0 of 1 restored"


def test_a_worker_that_dies(on_ray):
    """Its image goes to another worker once; after that it has failed, and the others are whole."""
    three()
    code, said = on_ray("in", "-o", "out", "--workers", 1, worker="dying")
    assert code == 1 and said[-1] == "tadisr: 2 of 3 restored, in out"
    assert any("in/b.png: its worker ended twice, probably for want of memory" in line for line in said)
    assert tree("out") == ["a.png", "a_mask.png", "c.png", "c_mask.png"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--workers", 2), "--workers and --gpus-per-worker are for --backend ray"),
        (("--backend", "ray", "--workers", 0), "--workers must be at least 1, not 0"),
        (("--backend", "ray", "--gpus-per-worker", -1), "--gpus-per-worker must be from 0 to 64, not -1"),
        (("--backend", "ray", "--text-mask", "a.png"), "--text-mask is for one image: leave out --backend ray"),
    ],
)
def test_options(run, options, message):
    three()
    assert run("in", *options) == (2, [f"tadisr: {message}"])


def test_how_many_workers():
    """With GPUs as many as their shares allow, else a processor each, and never more than images."""
    ray = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0}, remote=lambda **needs: lambda _: needs
    )  # what a worker needs, in place of what starts one
    args = SimpleNamespace(workers=None, gpus_per_worker=None, device="auto")
    assert cluster._workers(ray, args, 100) == (2, {"num_cpus": 0, "num_gpus": 1})
    args.gpus_per_worker = 0.25
    assert cluster._workers(ray, args, 100) == (8, {"num_cpus": 0, "num_gpus": 0.25})
    assert cluster._workers(ray, args, 3)[0] == 3
    args.device, args.gpus_per_worker = "cpu", None
    assert cluster._workers(ray, args, 100) == (8, {"num_cpus": 1, "num_gpus": 0})
    args.workers = 9
    with pytest.raises(cluster.UserError, match=r"--workers 9: the cluster has room for 8"):
        cluster._workers(ray, args, 100)
    args.gpus_per_worker = 3.0
    with pytest.raises(cluster.UserError, match=r"--gpus-per-worker 3: the cluster has 2 GPUs"):
        cluster._workers(ray, args, 100)


def test_without_ray(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    three()
    assert run("in", "--backend", "ray") == (2, ["tadisr: --backend ray needs Ray: pip install 'tadisr[ray]'"])
