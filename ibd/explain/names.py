"""Names of a model's classes and units, wherever it keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, cast

from torch import nn

from ibd.errors import UnsupportedError


def names_of(model: nn.Module, kind: Literal["class", "unit"]) -> dict[str, int] | None:
    """Return name -> position, in the order of the positions; None where the model has no names.

    Looked for as ``class_names`` or ``unit_names`` of the model, then of what it wraps as ``.network`` (our training
    modules) or ``.module`` (``DataParallel``): a list of names, or a dict from names to numbers or from numbers to
    names. Of a name that comes twice the first counts.
    """
    for module in _wrapped(model):
        names = getattr(module, f"{kind}_names", None)
        if names is not None:
            return _numbered(names)
    return None


def require_names(model: nn.Module, kind: Literal["class", "unit"]) -> dict[str, int]:
    """Return name -> position.

    Raises:
        UnsupportedError: the model has no names.
    """
    names = names_of(model, kind)
    if names is None:
        what = "classes" if kind == "class" else "units"
        inner = list(_wrapped(model))[-1]
        raise UnsupportedError(f"target: {type(inner).__name__} has no names for its {what}: give a number")
    return names


def _wrapped(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model and, from the outside in, what it wraps."""
    waiting = [model]
    while waiting:
        module = waiting.pop(0)
        yield module
        inner = (getattr(module, name, None) for name in ("network", "module"))
        waiting += [part for part in inner if isinstance(part, nn.Module)]


def _numbered(names: object) -> dict[str, int]:
    if isinstance(names, Mapping):
        by_number = all(isinstance(key, int) for key in names)
        pairs = [(str(value), int(key)) if by_number else (str(key), int(value)) for key, value in names.items()]
    else:
        pairs = [(str(name), index) for index, name in enumerate(cast("Iterable[Any]", names))]
    counts: dict[str, int] = {}
    for name, index in sorted(pairs, key=lambda pair: pair[1]):
        counts.setdefault(name, index)
    return counts
