"""The few collectives that models need. Each is the identity in a single process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm.auto import tqdm

T = TypeVar("T")
Heard = Callable[[str, int, int], None]
"""Is told what is done, and how many of how many parts are done; 0 where that is not known."""
_HEARD: ContextVar[Heard | None] = ContextVar("heard", default=None)


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def progress(items: Iterable[T], title: str, total: int | None = None, shown: bool = True) -> tqdm[T]:
    """Return `items` with a bar that appears after two seconds, on a terminal, on the first process alone."""
    shown = shown and (world_size() == 1 or dist.get_rank() == 0)
    if (heard := _HEARD.get()) is not None:
        total = len(items) if total is None and isinstance(items, Sized) else total
        items = _told(items, title, total or 0, heard)
    return tqdm(items, desc=title, total=total, leave=False, delay=2, disable=None if shown else True)


@contextmanager
def heard_by(heard: Heard) -> Iterator[None]:
    """Tell somebody else than a terminal, too, how far what is done here is: of every `progress` in this thread.

    Args:
        heard: is told before each part, and at the end. What it raises ends the work.
    """
    token = _HEARD.set(heard)
    try:
        yield
    finally:
        _HEARD.reset(token)


def _told(items: Iterable[T], title: str, total: int, heard: Heard) -> Iterator[T]:
    done = 0
    for item in items:
        heard(title, done, total)
        yield item
        done += 1
    heard(title, done, total)


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes; gradients flow back to every one of them."""
    if world_size() == 1:
        return value
    if torch.is_grad_enabled() and value.requires_grad:
        import torch.distributed.nn.functional as differentiable  # not in every build of torch

        return differentiable.all_reduce(value)  # type: ignore[no-any-return, no-untyped-call]
    total = value.clone()
    dist.all_reduce(total)
    return total


def largest_of_processes(value: Tensor) -> Tensor:
    """Return the largest `value` of all processes, element by element, without a gradient."""
    if world_size() == 1:
        return value.detach()
    largest = value.detach().clone()
    dist.all_reduce(largest, dist.ReduceOp.MAX)
    return largest
