"""Which annotated parts decide the class of an image, where a user says so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ibd.errors import ConfigError, did_you_mean

_EXAMPLE = "{cat: [whiskers], dog: [nose, tail]}"


def deciding_parts(
    given: Mapping[str, Sequence[str]] | None, classes: Sequence[str], parts: Sequence[str]
) -> Tensor | None:
    """Return which parts decide which class, (C, P) bool; None where nothing was said.

    Args:
        given: class -> the parts that decide it, of every class; an empty list where no part does.
        classes: the C classes.
        parts: the P annotated parts.

    Raises:
        ConfigError: an unknown or missing class, an unknown part, or no parts at all.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise ConfigError(f"data.deciding: {given!r} given, parts by class are needed, such as {_EXAMPLE}")
    if not parts:
        raise ConfigError("data.deciding: there are no masks of parts; data.masks says where they lie")
    for name in given:
        if name not in classes:
            raise ConfigError(f"data.deciding: there is no class '{name}'.{did_you_mean(str(name), classes)}")
    for name in classes:
        if name not in given:
            raise ConfigError(f"data.deciding: class '{name}' is missing; [] says that no part decides it")
    return torch.stack([_row(name, given[name], parts) for name in classes])


def _row(name: str, chosen: object, parts: Sequence[str]) -> Tensor:
    """Return the parts of one class, (P,) bool."""
    if isinstance(chosen, str) or not isinstance(chosen, Sequence):
        raise ConfigError(f"data.deciding.{name}: {chosen!r} given, a list of parts is needed")
    for part in chosen:
        if part not in parts:
            raise ConfigError(f"data.deciding.{name}: there is no part '{part}'.{did_you_mean(str(part), parts)}")
    return torch.tensor([part in chosen for part in parts])
