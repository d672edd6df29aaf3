"""Recorders of attention that belong to one call, on a backbone that many calls share.

A layer has one processor, and every call has recorders of its own. The processor that is put on a layer therefore only
looks up the recorder of the call that runs it, in a context variable, of which every thread and every asyncio task has
its own value. A call that records nothing gets the processor that was there before.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import torch
from torch import nn

from tadisr.models.sharing import LOCK

Processor = Callable[..., Any]


class _Backbone:
    """What all recordings on one backbone share."""

    def __init__(self) -> None:
        self.previous: dict[str, Processor] = {}  # by the names of the layers that are recorded now
        self.recordings: list[_Recording] = []  # open now


class _Recording:
    """The recorders of one call by the names of their layers, and what they have recorded."""

    def __init__(self, backbone: _Backbone, recorders: Mapping[str, Processor], maps: dict[str, torch.Tensor]):
        self.backbone, self.recorders, self.maps = backbone, recorders, maps
        self.with_gradients = torch.is_grad_enabled()
        self.outer = _CURRENT.get()


_CURRENT: ContextVar[_Recording | None] = ContextVar("tadisr_recording", default=None)
_BACKBONES: weakref.WeakKeyDictionary[nn.Module, _Backbone] = weakref.WeakKeyDictionary()


@contextmanager
def recording(backbone: nn.Module, recorders: Mapping[str, Processor], maps: dict[str, torch.Tensor]) -> Iterator[None]:
    """Within, what this thread or task runs on `backbone` goes through `recorders`, layer name -> processor.

    They fill `maps`, which `recorded` finds. The layers' own processors are put back when the last recording ends.
    """
    with LOCK:
        shared = _BACKBONES.setdefault(backbone, _Backbone())
        current = _Recording(shared, recorders, maps)
        shared.recordings.append(current)
        for name, recorder in recorders.items():
            layer: Any = backbone.get_submodule(name)
            if getattr(layer.processor, "backbone", None) is not shared:
                shared.previous[name] = layer.processor
                layer.set_processor(_per_call(type(recorder))(name, shared, layer.processor))
    token = _CURRENT.set(current)
    try:
        yield
    finally:
        _CURRENT.reset(token)
        with LOCK:
            shared.recordings.remove(current)
            while shared.previous and not shared.recordings:
                name, processor = shared.previous.popitem()
                layer = backbone.get_submodule(name)
                layer.set_processor(processor)


def recorded(backbone: nn.Module) -> dict[str, torch.Tensor]:
    """What the recording that this thread or task has open on `backbone` holds so far; empty where there is none."""
    found = _open_on(backbone)
    return {} if found is None else found.maps


def recorders(backbone: nn.Module) -> Mapping[str, Any]:
    """The recorders of that recording, by the names of their layers."""
    found = _open_on(backbone)
    return {} if found is None else found.recorders


def _open_on(backbone: nn.Module) -> _Recording | None:
    shared = _BACKBONES.get(backbone)
    return None if shared is None else _recording_on(shared)


def _recording_on(backbone: _Backbone) -> _Recording | None:
    found = _CURRENT.get()
    while found is not None and found.backbone is not backbone:
        found = found.outer
    if found is None and torch.is_grad_enabled():
        # Backward runs checkpointed layers again, on a GPU in autograd's own threads, which have no context of ours.
        found = next((one for one in reversed(backbone.recordings) if one.with_gradients), None)
    return found


@cache  # one class for all, which torch.compile wants
def _per_call(recorder: type) -> type:
    """The class of processors that hand over to the recorder, of class `recorder`, of the call that runs them."""

    class PerCall:
        def __init__(self, name: str, backbone: _Backbone, previous: Processor):
            self.name, self.backbone, self.previous = name, backbone, previous

        @wraps(recorder.__call__)  # diffusers passes those arguments that the signature names
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            found = _recording_on(self.backbone)
            recorder = None if found is None else found.recorders.get(self.name)
            return (recorder or self.previous)(*args, **kwargs)

    return PerCall
