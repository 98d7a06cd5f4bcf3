"""Records as plain values and arrays, and back: what a file of a comparison holds."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]
Record = TypeVar("Record")
_ARRAY = "array "
"""What stands for an array among the plain values, before its name."""


def split(value: Any, arrays: Arrays) -> Any:
    """Return a record as plain values that JSON can hold; its arrays are put into `arrays`.

    Args:
        value: a dataclass, or a named tuple, of such, of dicts and lists, of arrays, numbers, texts and None.
        arrays: name -> array, which is added to.
    """
    if isinstance(value, np.ndarray):
        name = f"{_ARRAY}{len(arrays)}"
        arrays[name] = value
        return name
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: split(getattr(value, field.name), arrays) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: split(item, arrays) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [split(item, arrays) for item in value]
    return value


def joined(kind: type[Record], plain: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Record:
    """Return the record that `split` took apart.

    Args:
        kind: kind of the record.
        plain: plain values of the record.
        arrays: name -> array.
    """
    record: Record = _joined(kind, plain, arrays)
    return record


def _joined(kind: Any, plain: Any, arrays: Mapping[str, npt.NDArray[Any]]) -> Any:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return (
            None
            if plain is None
            else _joined(next(option for option in inner if option is not type(None)), plain, arrays)
        )
    if isinstance(plain, str) and plain in arrays and kind is not str:
        return arrays[plain]
    if dataclasses.is_dataclass(kind):
        return typing.cast(type, kind)(
            **{name: _joined(of, plain[name], arrays) for name, of in _hints(typing.cast(type, kind)).items()}
        )
    if isinstance(kind, type) and issubclass(kind, tuple):  # a named one
        return kind(*(_joined(of, item, arrays) for of, item in zip(_hints(kind).values(), plain, strict=True)))
    if origin is dict:
        return {key: _joined(inner[1], item, arrays) for key, item in plain.items()}
    if origin is list:
        return [_joined(inner[0], item, arrays) for item in plain]
    return plain


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)
