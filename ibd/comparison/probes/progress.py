"""The progress bar of a probe."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from tqdm.auto import tqdm

T = TypeVar("T")


def shown(parts: Iterable[T], title: str, progress: bool) -> Iterable[T]:
    """Return the parts; with a bar where it is wanted, there is a terminal, and it takes more than two seconds."""
    bar: Iterable[T] = tqdm(parts, desc=title, leave=False, delay=2, disable=None if progress else True)
    return bar
