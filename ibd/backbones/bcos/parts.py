"""Working through a large tensor so that what is made on the way stays in the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_CACHED = 1 << 16
"""Values that are worked on at a time on a CPU: a quarter of a megabyte in float32."""


def parts(values: Tensor) -> Iterator[slice]:
    """Give slices of the first axis: on a CPU so many as its cache holds at once, elsewhere all."""
    if torch.compiler.is_compiling():  # to which the number of images may be unknown
        yield slice(None)
        return
    step = len(values)
    if values.device.type == "cpu":
        step = _CACHED * len(values) // max(1, values.numel())
    for start in range(0, max(1, len(values)), max(1, step)):
        yield slice(start, start + max(1, step))
