"""One model, used by many calls at once: by threads, by asyncio's tasks, by forked processes.

A call leaves a model as it is, so that others can run it meanwhile. What must be changed once, before the first call,
is changed here under a lock. Calls that have to change the model, because it is offloaded, wait here for their turn.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import nn

from tadisr.models.weights import default_dtype_kept

logger = logging.getLogger(__name__)
Function = TypeVar("Function", bound=Callable[..., Any])

LOCK = threading.Lock()
"""Held for moments by whoever changes what calls share; a fork waits for it, and gets it free."""

_TURNS = threading.RLock()  # of calls on offloaded models
_LOADS = threading.RLock()


def bound_cache(environment: MutableMapping[str, str]) -> None:
    """Let oneDNN, PyTorch's library of layers for CPUs, keep its code for 256 pairs of a layer and a size.

    That holds what tiles of one size need. It would keep 1024, and grow with every new size of images until then. A
    host that has set a number has it. It is read when oneDNN first runs.
    """
    if not {"ONEDNN_PRIMITIVE_CACHE_CAPACITY", "DNNL_PRIMITIVE_CACHE_CAPACITY"} & set(environment):
        environment["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "256"


bound_cache(os.environ)


class _Process:
    """What has been done in this process, as far as a process that is forked from it must know."""

    used = False  # a model was loaded or run: PyTorch's threads are there, and are not where a fork leads
    running = 0  # calls and loads under way
    fork = ""  # of a forked process: "used" or "running", as its parent was


def _in_child() -> None:
    LOCK.release()
    if _Process.used:
        _Process.fork = "running" if _Process.running else "used"
    _Process.running = 0


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_in_child)


@contextmanager
def _at_work() -> Iterator[None]:
    """A call or a load, in a process that can do one."""
    if _Process.fork == "running":
        raise RuntimeError(
            "This process was forked while its parent was using a model, and would hang: start processes by the "
            'method "spawn", or fork when no call is under way.'
        )
    with LOCK:
        if _Process.fork == "used":
            torch.set_num_threads(1)  # a parallel loop would wait for threads that only the parent has
            _Process.fork = ""
            logger.warning('In a forked process models run on one thread: the method "spawn" gives them all.')
        _Process.used = True
        _Process.running += 1
    try:
        yield
    finally:
        with LOCK:
            _Process.running -= 1


@contextmanager
def call_on(models: Sequence[nn.Module]) -> Iterator[None]:
    """A call of a pipeline that consists of `models`; many can be under way at once.

    The weights are brought to the layout of images by the first one. Calls on models that are offloaded take turns.

    Raises:
        RuntimeError: in a process that cannot run models, see "Processes" in docs/serve.md.
    """
    with _at_work(), _TURNS if any(map(_is_offloaded, models)) else nullcontext():
        if any(map(_in_other_layout, models)):
            with LOCK:
                for model in filter(_in_other_layout, models):
                    model.to(memory_format=torch.channels_last)  # else every layer copies its input
        yield


def shared_by_calls(method: Function) -> Function:
    """Decorator of a pipeline's methods that run its models, as `call_on` says."""

    @wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        with call_on([part for part in self.components.values() if isinstance(part, nn.Module)]):
            return method(self, *args, **kwargs)

    return call  # type: ignore[return-value]


def one_load_at_a_time(function: Function) -> Function:
    """Decorator of functions that load a model: meanwhile diffusers changes how PyTorch makes any layer anywhere."""

    @wraps(function)
    def load(*args: Any, **kwargs: Any) -> Any:
        with _at_work(), _LOADS, default_dtype_kept():
            return function(*args, **kwargs)

    return load  # type: ignore[return-value]


def _is_offloaded(model: nn.Module) -> bool:
    """Whether hooks of accelerate or diffusers move the model's weights when it runs."""
    for module in model.modules():
        registry = getattr(module, "_diffusers_hook", None)
        if hasattr(module, "_hf_hook") or (registry is not None and registry.hooks):
            return True
    return False


def _in_other_layout(model: nn.Module) -> bool:
    return any(p.dim() == 4 and not p.is_contiguous(memory_format=torch.channels_last) for p in model.parameters())
