"""The few collectives that models need. Each is the identity in a single process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm.auto import tqdm

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def progress(items: Iterable[T], title: str, total: int | None = None, shown: bool = True) -> tqdm[T]:
    """Return `items` with a bar that appears after two seconds, on a terminal, on the first process alone."""
    shown = shown and (world_size() == 1 or dist.get_rank() == 0)
    return tqdm(items, desc=title, total=total, leave=False, delay=2, disable=None if shown else True)


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
