"""Long work behind the page: in a thread of its own, with how far it is, and with an end when nobody waits any more."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Generic, TypeVar

from ibd.errors import IbdError

_log = logging.getLogger(__name__)
T = TypeVar("T")
Told = Callable[[int, int], None]
"""Is told how many of how many are done; raises `Stopped` when nobody waits any more."""


class Stopped(Exception):  # noqa: N818 - no error
    """Nobody waits for the work any more."""


class WorkThread(threading.Thread):
    """The thread of a `Work`: a daemon, which PyTorch aborts the process for where that ends while it computes."""


def nobody_told(done: int, total: int) -> None:
    """Be told how many of how many are done, and do nothing."""


class Work(Generic[T]):
    """A function that runs in a thread of its own.

    Args:
        function: what is done; it is given what it must tell after each part, see `Told`.
        title: what it is, for a person.
        patience: seconds after which it stops if nobody has asked for it meanwhile; None goes on without end.

    Attributes:
        title: what it is, for a person.
        done: parts that are done.
        total: how many there are; 0 where that is not known.
        asked: when somebody last asked for it, by the monotonic clock.
        error: one line on why it failed; None where it did not.
    """

    def __init__(self, function: Callable[[Told], T], title: str, patience: float | None = None) -> None:
        self.title, self.done, self.total, self.patience = title, 0, 0, patience
        self.asked = time.monotonic()
        self.error: str | None = None
        self._function, self._result = function, list[T]()
        self._stop, self._ended = threading.Event(), threading.Event()
        WorkThread(target=self._run, name=title, daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it has a result or an error, or was stopped."""
        return self._ended.is_set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped before it had a result."""
        return self._stop.is_set() and not self._result and self.error is None

    @property
    def result(self) -> T | None:
        """What the function returned; None until then, and where it failed."""
        return self._result[0] if self._result else None

    def tell(self, done: int, total: int) -> None:
        """Note how many of how many are done.

        Raises:
            Stopped: nobody waits any more.
        """
        self.done, self.total = done, total
        if self.patience is not None and time.monotonic() - self.asked > self.patience:
            self._stop.set()
        if self._stop.is_set():
            raise Stopped

    def stop(self) -> None:
        """Let the work end at its next part."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, or for some seconds; return whether it has."""
        return self._ended.wait(seconds)

    def state(self) -> dict[str, Any]:
        """Return how far it is, as plain values."""
        said = {"title": self.title, "done": self.done, "total": self.total, "ended": self.ended}
        return said | {"error": self.error, "stopped": self.stopped}

    def _run(self) -> None:
        try:
            self._result.append(self._function(self.tell))
        except Stopped:
            pass
        except IbdError as error:
            self.error = " ".join(str(error).split())
        except Exception as error:  # it would end in a thread that nobody looks at
            _log.exception("%s failed", self.title)
            self.error = f"{self.title} failed: {' '.join(str(error).split())[:200] or type(error).__name__}"
        finally:
            self._ended.set()


class Works:
    """Works by name: the same is not begun twice, and of a lane only the newest goes on."""

    def __init__(self) -> None:
        self._works: dict[str, Work[Any]] = {}
        self._lock = threading.Lock()

    def start(
        self,
        name: str,
        function: Callable[[Told], T],
        title: str,
        lane: str | None = None,
        patience: float | None = None,
    ) -> Work[T]:
        """Return the work of a name; begin it where there is none, or where that was stopped.

        Args:
            name: name of the work.
            function: what is done, see `Work`.
            title: what it is, for a person.
            lane: begin of the names of those that are stopped if they are not at their end yet; None stops none.
            patience: see `Work`.
        """
        with self._lock:
            if lane is not None:
                self._stop_lane(lane, (name,))
            known = self._works.get(name)
            if known is None or known.stopped:
                known = self._works[name] = Work(function, title, patience)
            known.asked = time.monotonic()
            return known

    def only(self, lane: str, names: Collection[str]) -> None:
        """Let those works of a lane end that nobody waits for any more.

        Args:
            lane: begin of their names.
            names: names of those that go on.
        """
        with self._lock:
            self._stop_lane(lane, names)

    def _stop_lane(self, lane: str, names: Collection[str]) -> None:
        for other in [other for other in self._works if other.startswith(lane) and other not in names]:
            self._works.pop(other).stop()

    def get(self, name: str) -> Work[Any] | None:
        """Return the work of a name; None where it was never begun, or forgotten."""
        return self._works.get(name)

    def stop(self, name: str) -> None:
        """Let the work of a name end, if there is one, and forget it."""
        with self._lock:
            if (work := self._works.pop(name, None)) is not None:
                work.stop()
