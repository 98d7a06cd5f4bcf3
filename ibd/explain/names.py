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
    for each in _wrapped(model):
        found = getattr(each, f"{kind}_names", None)
        if found is not None:
            return _numbered(found)
    return None


def require_names(model: nn.Module, kind: Literal["class", "unit"]) -> dict[str, int]:
    """Return name -> position.

    Raises:
        UnsupportedError: the model has no names.
    """
    found = names_of(model, kind)
    if found is None:
        what = "classes" if kind == "class" else "units"
        inner = list(_wrapped(model))[-1]
        raise UnsupportedError(f"target: {type(inner).__name__} has no names for its {what}: give a number")
    return found


def _wrapped(model: nn.Module) -> Iterator[nn.Module]:
    """Yield a model and, from the outside in, what it wraps."""
    waiting = [model]
    while waiting:
        each = waiting.pop(0)
        yield each
        inner = (getattr(each, name, None) for name in ("network", "module"))
        waiting += [part for part in inner if isinstance(part, nn.Module)]


def _numbered(names: object) -> dict[str, int]:
    if isinstance(names, Mapping):
        by_number = all(isinstance(key, int) for key in names)
        pairs = [(str(value), int(key)) if by_number else (str(key), int(value)) for key, value in names.items()]
    else:
        pairs = [(str(name), index) for index, name in enumerate(cast("Iterable[Any]", names))]
    found: dict[str, int] = {}
    for name, index in sorted(pairs, key=lambda pair: pair[1]):
        found.setdefault(name, index)
    return found
