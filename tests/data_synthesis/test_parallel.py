"""Tasks in child processes and on Ray: the same results, errors and interruptions passed on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import workers
from tadisr.data_synthesis.parallel import run_tasks


def test_every_task_once_on_one_thread():
    environment = dict(os.environ)
    assert sorted(run_tasks(workers.square, [3, 1, 2], 2)) == [(1, 1), (2, 4), (3, 9)]
    assert [result for _, result in run_tasks(workers.threads, [0], 1)] == [(1, 1, "1")]
    assert dict(os.environ) == environment


def test_ray_gives_the_same():
    pytest.importorskip("ray")
    # In a process of its own, and started once: Ray ends the whole process when a machine is too busy for it to start.
    code = (
        "import ray\n"
        "from tadisr.data_synthesis.parallel import run_tasks\n"
        "def work(x):\n"
        "    import torch\n"
        "    if x == 'bad':\n"
        "        raise ValueError(f'{x} is refused')\n"
        "    return x * x, {str(x): torch.get_num_threads()}\n"
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)\n"
        "print(sorted(run_tasks(work, [3, 1, 2], 2, 'ray')))\n"
        "try:\n"
        "    list(run_tasks(work, ['bad'], 2, 'ray'))\n"
        "except ValueError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    results = str([(1, (1, {"1": 1})), (2, (4, {"2": 1})), (3, (9, {"3": 1}))])
    assert done.stdout.splitlines() == [results, "bad is refused"], done.stderr


def test_nothing_to_do():
    assert list(run_tasks(workers.square, [])) == []


def test_errors_come_through():
    with pytest.raises(ValueError, match="no 7"):
        list(run_tasks(workers.refuse, [7], 2))


def test_a_dead_worker_is_told():
    with pytest.raises(RuntimeError, match="A worker process died.*smaller --num-proc"):
        list(run_tasks(workers.die, [1], 1))


def test_ray_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install 'tadisr\[ray\]'"):
        list(run_tasks(workers.square, [1], 1, "ray"))


SLEEPERS = """
import pathlib, sys, time
from tadisr.data_synthesis.parallel import run_tasks

def work(mark):
    pathlib.Path(mark).touch()
    time.sleep(60)

def main():
    try:
        list(run_tasks(work, ["one.mark", "two.mark"], 2))
    except KeyboardInterrupt:
        sys.exit(130)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_children_end_with_their_parent(tmp_path, how):
    (tmp_path / "sleepers.py").write_text(SLEEPERS)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "sleepers.py"], stderr=subprocess.PIPE, text=True, start_new_session=True,
        cwd=tmp_path,
    )  # fmt: skip
    deadline = time.time() + 120
    listing = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(list(tmp_path.glob("*.mark"))) < 2 and time.time() < deadline:  # until both workers are at work
        time.sleep(0.1)
    children = listing.read_text().split()
    assert len(children) == 3  # workers, a resource tracker
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does: to every process of the group
    else:
        process.kill()
    _, err = process.communicate(timeout=30)
    if how == signal.SIGINT:
        assert process.returncode == 130 and "Traceback" not in err
    while any(Path(f"/proc/{child}").exists() for child in children) and time.time() < deadline + 30:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)
