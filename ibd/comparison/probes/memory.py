"""How much memory a pass takes, from the tensors that live at a time."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of the tensors that operations make, while they are alive; views count once.

    What a library takes for itself during an operation is not seen.

    Attributes:
        peak: the most at a time.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._now = 0
        self._holders: Counter[int] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        """Run an operation and note what it makes."""
        output = function(*args, **(kwargs or {}))
        given = {_place(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and (_place(tensor) in self._holders or _place(tensor) not in given):
                self._hold(tensor)
        return output

    def _hold(self, tensor: Tensor) -> None:
        place, size = _place(tensor), tensor.untyped_storage().nbytes()
        if not self._holders[place]:
            self._now += size
            self.peak = max(self.peak, self._now)
        self._holders[place] += 1
        weakref.finalize(tensor, self._release, place, size)

    def _release(self, place: int, size: int) -> None:
        self._holders[place] -= 1
        if not self._holders[place]:
            del self._holders[place]
            self._now -= size


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def peak_bytes(call: Callable[[], object]) -> int:
    """Return the most bytes of tensors that a call has alive at a time, those that it is given not included."""
    with torch.no_grad(), LiveBytes() as live:
        call()
    return int(live.peak)
