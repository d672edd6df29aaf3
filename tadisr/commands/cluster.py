"""`tadisr upscale --backend ray`: the images of a plan by the workers of a Ray cluster, which see the same files."""

import argparse
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadisr.commands.one_image import restore_job, say_job
from tadisr.commands.options import load_restorer
from tadisr.commands.plan import PLANNED, Job, Plan
from tadisr.io.messages import UserError, one_line
from tadisr.io.progress import Bars

if TYPE_CHECKING:
    from tadisr.commands.origin import Maker


def check_options(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    if args.backend != "ray":
        if args.workers is not None or args.gpus_per_worker is not None:
            raise UserError("--workers and --gpus-per-worker are for --backend ray")
        return
    if args.workers is not None and args.workers < 1:
        raise UserError(f"--workers must be at least 1, not {args.workers}")
    if args.gpus_per_worker is not None and not 0 <= args.gpus_per_worker <= 64:
        raise UserError(f"--gpus-per-worker must be from 0 to 64, not {args.gpus_per_worker:g}")
    if args.text_mask is not None:
        raise UserError("--text-mask is for one image: leave out --backend ray")
    if args.asserted is not None:
        raise UserError("--asserted is for one image: leave out --backend ray")


class Worker:
    """One model in a process of its own."""

    def __init__(self, args: argparse.Namespace, found: Path, folder: str):
        os.chdir(folder)  # names of files are relative to where the command runs
        self.restorer = load_restorer(args, found)

    def about(self) -> dict[str, str]:
        """See `Restorer.about`."""
        return self.restorer.about()

    def restore(self, job: Job, maker: "Maker") -> tuple[Job, bool]:
        """The job with what became of it, and whether the disk is full."""
        full = restore_job(job, self.restorer, maker)
        return job, full


def restore_on_ray(plan: Plan, maker: "Maker", remarks: list[str]) -> dict[str, str]:
    """Restore all that is planned; `remarks` get what is to be said at the end.

    A job whose worker dies (most often: out of memory) goes to another worker once, and fails after that.

    Returns what the workers run: runtime, dtype, device. Raises UserError without Ray, for a model that cannot be
    loaded, and where an error would come with every image.
    """
    try:
        import ray
        from ray.exceptions import RayError, RayTaskError
    except ImportError:
        raise UserError("--backend ray needs Ray: pip install 'tadisr[ray]'") from None
    args, jobs = maker.args, plan.of(PLANNED)
    with started(args.workers):
        count, remote = _workers(ray, args, len(jobs))

        def start() -> Any:
            return remote.remote(args, maker.model.path, os.getcwd())

        idle = [start() for _ in range(count)]
        try:
            about: dict[str, str] = ray.get([idle[0].about.remote()])[0]
        except RayError as error:
            raise UserError(f"no worker starts: {_of_a_worker(error)}") from None
        waiting, tries = list(reversed(jobs)), dict.fromkeys(map(id, jobs), 0)
        running: dict[Any, tuple[Any, Job]] = {}
        done, stop = 0, False
        with Bars(pause=60, quiet=args.quiet) as bars:
            while running or (waiting and not stop):
                while idle and waiting and not stop:
                    worker, job = idle.pop(), waiting.pop()
                    tries[id(job)] += 1
                    running[worker.restore.remote(job, maker)] = worker, job
                bars.set("images", done, len(jobs), line=False)
                (finished, *_), _ = ray.wait(list(running))
                worker, job = running.pop(finished)
                try:
                    result, full = ray.get(finished)
                    idle.append(worker)
                    job.__dict__.update(result.__dict__)
                except RayTaskError as error:
                    if isinstance(error.cause, UserError):
                        raise UserError(str(error.cause)) from None
                    raise
                except RayError as error:  # the process is gone
                    idle.append(start())
                    if tries[id(job)] == 1:
                        waiting.append(job)
                        continue
                    job.fail(f"{job.name}: its worker ended twice, probably for want of memory: {_of_a_worker(error)}")
                    job.seconds, full = 0.0, False
                done += 1
                stop = say_job(plan, job, maker, remarks, bars, (done, len(jobs))) or full or stop
        return about


@contextmanager
def started(workers: int | None) -> Iterator[None]:
    """Within, the cluster that RAY_ADDRESS names, or one of this machine, is there."""
    import ray

    if here := not ray.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": workers, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    try:
        yield
    finally:
        if here:
            ray.shutdown()


def _workers(ray: Any, args: argparse.Namespace, jobs: int) -> tuple[int, Any]:
    """How many workers, and what starts one: as many as were asked for, else as the cluster has GPUs or processors for.

    Never more than jobs.
    """
    have = ray.cluster_resources()
    share = args.gpus_per_worker
    if share is None:
        share = 1.0 if have.get("GPU") and args.device in ("auto", "cuda") else 0.0
    if share > have.get("GPU", 0):
        raise UserError(f"--gpus-per-worker {share:g}: the cluster has {have.get('GPU', 0):g} GPUs")
    room = have["GPU"] / share if share else have.get("CPU", 1)
    count = max(1, min(jobs, args.workers or int(room)))
    if count > room:
        raise UserError(f"--workers {args.workers}: the cluster has room for {int(room)}")
    return count, ray.remote(num_cpus=0 if share else 1, num_gpus=share)(Worker)


def _of_a_worker(error: Exception) -> str:
    """The reason alone, without the traceback that Ray adds."""
    cause = getattr(error, "cause", None)
    return one_line(cause if isinstance(cause, Exception) else RuntimeError(str(error).strip().rpartition("\n")[2]))
