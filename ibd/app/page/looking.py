"""What a run keeps for those who look closer at its images: maps that were made, examples, and what takes long."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from torch import Tensor

from ibd.app.page.explaining import Fitting
from ibd.app.page.long_work import Told, Work, Works
from ibd.errors import DataError

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds after which what one page waits for is given up, where that page does not ask any more."""


class Kept(Generic[T]):
    """The newest values by key, of which the least recently used goes first.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, threading.Lock()
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable) -> T | None:
        """Return the value of a key; None where there is none, or none any more."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: Hashable, value: T) -> T:
        """Keep a value, and return it."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


@dataclass(frozen=True)
class Said:
    """What an explainer has said of an image.

    Attributes:
        map: (H, W).
        value: the number that it explains.
        cost: what it took, in words.
        layer: the layer that it looked at; None where there is none.
        kind: "intrinsic" or "posthoc".
        remarks: what it warned of, a line each.
    """

    map: Tensor
    value: float
    cost: str
    layer: str | None
    kind: str
    remarks: tuple[str, ...]


@dataclass
class Looked:
    """What was made of one run so far.

    Attributes:
        examples: number of a unit -> its examples, as they are sent.
        maps: (image, target, explainer) -> what it said.
        fitting: which explainers fit the model; None until that was tried.
        seconds: seconds that the pass over a split took, by split.
    """

    examples: Kept[dict[str, Any]] = field(default_factory=lambda: Kept(128))
    maps: Kept[Said] = field(default_factory=lambda: Kept(128))
    fitting: list[Fitting] | None = None
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def held(lock: threading.RLock, told: Told) -> Iterator[None]:
    """Hold a lock; who waits for it gives up when nobody waits for him any more.

    Raises:
        Stopped: nobody does.
    """
    while not lock.acquire(timeout=0.1):
        told(0, 0)
    try:
        told(0, 0)
        yield
    finally:
        lock.release()


def under_way(
    works: Works,
    name: str,
    function: Callable[[Told], T],
    title: str,
    lane: str | None = None,
    patience: float | None = None,
) -> Work[T]:
    """Return the work of a name, which is begun where it is not under way; a failure is raised once.

    Args:
        works: works of the run.
        name: name of the work.
        function: what is done.
        title: what it is, for a person.
        lane: see `Works.start`.
        patience: see `Work`.

    Raises:
        DataError: it has failed; the next who asks begins it anew.
    """
    work = works.start(name, function, title, lane, patience)
    if work.error is not None:
        works.stop(name)
        raise DataError(work.error)
    return work
