"""The same function over many tasks: in this process's children, or on a Ray cluster."""

import logging
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any


def quiet_worker() -> None:
    """One thread a process, so results never depend on how sums are split. Only the parent handles Ctrl-C."""
    from tqdm import tqdm

    if not sys.warnoptions:  # as in the command line: users can do nothing about the warnings of libraries
        warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()
    # `datasets` shows bars. Their lock between processes would be left behind if the worker is terminated.
    tqdm.set_lock(threading.RLock())
    _one_thread()


def _follow_parent() -> None:
    """End with the parent, even if the parent is killed: nobody else would end this process."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _one_thread() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def run_tasks(
    function: Callable[[Any], Any], tasks: Sequence[Any], num_proc: int = 1, backend: str = "local"
) -> Iterator[tuple[Any, Any]]:
    """Yield (task, function(task)) as tasks finish, in any order.

    `function` and tasks must pickle. "local" starts `num_proc` processes; "ray" maps over the tasks with Ray Data, one
    CPU each, on the cluster that RAY_ADDRESS names or on a local one of `num_proc` CPUs.

    RuntimeError: a worker process died (most often: out of memory). ImportError: backend "ray" without Ray.
    """
    if not tasks:
        return
    if backend == "ray":
        yield from _run_ray(function, tasks, num_proc)
        return
    # Read by libraries when the children import them, so that no child starts a thread per core.
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(num_proc, len(tasks)), context, initializer=quiet_worker)
    try:
        futures = {pool.submit(function, task): task for task in tasks}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool:
        raise RuntimeError(
            "A worker process died, probably for want of memory: run the same command again with a smaller --num-proc."
        ) from None
    except BaseException:
        # After an error or Ctrl-C nobody wants the tasks that are still running.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _run_ray(function: Callable[[Any], Any], tasks: Sequence[Any], num_proc: int) -> Iterator[tuple[Any, Any]]:
    try:
        import ray
    except ImportError:
        raise ImportError("Synthesis on a cluster needs Ray: pip install 'tadisr[ray]'.") from None
    if started := not ray.is_initialized():
        local = {} if os.environ.get("RAY_ADDRESS") else {"num_cpus": num_proc, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False

    def step(row: dict) -> dict:
        _one_thread()
        try:
            result = function(tasks[row["number"]]), None
        except Exception as error:  # Ray would wrap it in its own, with a traceback for a message
            result = None, error
        # Pickled, because Arrow would turn tuples into lists and give every dictionary the same keys.
        return {"number": row["number"], "result": pickle.dumps(result)}

    try:
        numbers = ray.data.from_items([{"number": i} for i in range(len(tasks))], override_num_blocks=len(tasks))
        for row in numbers.map(step, num_cpus=1).iter_rows():
            result, error = pickle.loads(row["result"])
            if error is not None:
                raise error
            yield tasks[row["number"]], result
    finally:
        if started:
            ray.shutdown()
