"""Explaining models that compute parts of themselves again on the way back (``torch.utils.checkpoint``)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils import checkpoint

_LOCK = threading.Lock()
_inside: list[dict[str, Any]] = []
"""Functions that were there before the first `kept`, once for each that is inside."""


@contextmanager
def kept() -> Iterator[None]:
    """Let checkpointed parts run as any other, and keep what they compute.

    What is changed while a model runs (the way back through a ReLU, the output of a layer) would not be there when a
    part runs again, and one kind of checkpoint knows no ``torch.autograd.grad``. Results are the same, only memory is
    not saved, also for whoever trains in another thread meanwhile.
    """
    with _LOCK:
        there = vars(checkpoint)
        before = _inside[0] if _inside else {name: there[name] for name in _DIRECT if name in there}
        for name in before:
            setattr(checkpoint, name, _DIRECT[name])
        _inside.append(before)
    try:
        yield
    finally:
        with _LOCK:
            _inside.pop()
            for name, value in before.items() if not _inside else ():
                setattr(checkpoint, name, value)


def _generator(*_: object, **__: object) -> Iterator[None]:
    """Do nothing before and after the part."""
    yield


class _Function:
    """A part that runs as it is."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """Return what the part returns."""
        return function(*args)


_DIRECT: dict[str, Any] = {
    "_checkpoint_without_reentrant_generator": _generator,
    "_checkpoint_without_reentrant_generator_impl": _generator,
    "CheckpointFunction": _Function,
}
"""Parts of ``torch.utils.checkpoint.checkpoint``, by version and kind, and what does nothing in their place."""
