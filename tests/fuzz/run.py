"""Fuzzing at length: damaged inputs to the product, each case in a process that may die.

    python tests/fuzz/run.py images --count 100000 --seed 0 --jobs 2 --keep runs/fuzz
    python tests/fuzz/run.py images --count 1 --seed 4711        # one case again

A case is its target and its seed, nothing else. It is right if the result is right, or if the error is of an expected
kind and one line. All else is a failure: another exception, death by a signal, more than `--seconds` or `--megabytes`.
The inputs of failures are kept in KEEP/TARGET-SEED, with what happened in failure.txt. Exit code 1 if there are any.
"""

import argparse
import faulthandler
import json
import os
import resource
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 400  # cases of a process
TARGETS = ("images", "databases", "tables", "settings", "models", "commands")


def work(target: str, first: int, count: int, folder: Path, megabytes: int) -> None:
    """In a process of its own: says each seed on stdout before it is tried, and after it null or what went wrong."""
    faulthandler.register(signal.SIGUSR1)
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the product prints is not for the parent
    sys.path.insert(0, str(ROOT / "tests"))
    from fuzz.targets import open_target

    case = open_target(target, folder / "samples")
    for seed in range(first, first + count):
        (place := folder / str(seed)).mkdir()
        print(seed, file=out, flush=True)
        before, failure = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, None
        try:
            case(seed, place)
        except BaseException:
            failure = traceback.format_exc()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
        if not failure and grown > megabytes and seed > first:
            failure = f"memory grew by {grown} MB"
        if not failure:
            os.chdir(folder)
            shutil.rmtree(place, ignore_errors=True)
        print(json.dumps(failure), file=out, flush=True)


class Failures:
    """What went wrong, kept as folders."""

    def __init__(self, target: str, keep: Path):
        self.target, self.keep, self.seeds, self.lock = target, keep, [], threading.Lock()

    def add(self, seed: int, text: str, case: Path) -> None:
        with self.lock:
            self.seeds.append(seed)
            place = self.keep / f"{self.target}-{seed}"
            shutil.rmtree(place, ignore_errors=True)
            if case.is_dir():
                shutil.copytree(case, place, symlinks=True)
            place.mkdir(parents=True, exist_ok=True)
            again = f"python tests/fuzz/run.py {self.target} --count 1 --seed {seed}"
            (place / "failure.txt").write_text(f"{again}\n\n{text}\n", encoding="utf-8", errors="backslashreplace")
            print(f"{self.target} {seed}: {text.strip().splitlines()[-1][:200]}", flush=True)


def run(target: str, first: int, count: int, failures: Failures, seconds: float, megabytes: int) -> None:
    """Cases `first` to `first + count` of a target; after a death or a hang with the next one."""
    end = first + count
    while first < end:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            (folder / "samples").mkdir()
            command = [sys.executable, __file__, "--work", str(folder), target, "--seed", str(first)]
            command += ["--count", str(min(AT_ONCE, end - first)), "--megabytes", str(megabytes)]
            with (folder / "stderr").open("w+b") as stderr:
                child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, cwd=folder)
                seed, problem = _follow(child, failures, folder, seconds)
                if problem:
                    stderr.seek(0)
                    said = stderr.read()[-6000:].decode(errors="replace")
                    if seed is None:
                        raise RuntimeError(f"{target}: the samples cannot be made: {problem}\n{said}")
                    failures.add(seed, f"{said}\n{problem}", folder / str(seed))
            first = end if seed is None else seed + 1


def _follow(child: subprocess.Popen, failures: Failures, folder: Path, seconds: float) -> tuple[int | None, str]:
    """The last seed of a process, and what ended it before its time, if anything did."""
    assert child.stdout is not None
    seed, done = None, True
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(seconds if seed is not None else 300):
                child.send_signal(signal.SIGUSR1)  # the traceback goes to stderr
                time.sleep(1)
                child.kill()
                child.wait()
                return seed, f"it took more than {seconds} seconds"
            line = child.stdout.readline()
            if not line:
                break
            if done:
                seed, done = int(line), False
            else:
                done = True
                if failure := json.loads(line):
                    failures.add(seed, failure, folder / str(seed))
    code = child.wait()
    return seed, f"the process ended with {code}" if code or not done else ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"))
    parser.add_argument("--seconds", type=float, default=300, help="that one case may take")
    parser.add_argument("--megabytes", type=int, default=1000, help="by which one case may raise the process's peak")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        work(args.target, args.seed, args.count, args.work, args.megabytes)
        return 0
    failures, next_seed, lock, started = Failures(args.target, args.keep), args.seed, threading.Lock(), time.monotonic()

    def job() -> None:
        nonlocal next_seed
        while True:
            with lock:
                first, count = next_seed, min(AT_ONCE, args.seed + args.count - next_seed)
                next_seed += max(0, count)
            if count <= 0:
                return
            run(args.target, first, count, failures, args.seconds, args.megabytes)
            print(f"{args.target}: to seed {first + count}, {time.monotonic() - started:.0f} s", flush=True)

    jobs = [threading.Thread(target=job) for _ in range(args.jobs)]
    [thread.start() for thread in jobs]
    [thread.join() for thread in jobs]
    print(f"{args.target}: {args.count} cases, {len(failures.seeds)} failures {sorted(failures.seeds)[:50]}")
    return int(bool(failures.seeds))


if __name__ == "__main__":
    sys.exit(main())
