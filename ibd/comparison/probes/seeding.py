"""Random numbers that depend on an image's id and on nothing else of its batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Id = int | str


def numbers_of(ids: Sequence[Id]) -> list[int]:
    """Return a whole number below 2^63 for each id, the same on every machine."""
    return [_number(str(image_id)) for image_id in ids]


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: Id) -> np.random.Generator:
    """Return a generator that depends on these numbers and words alone."""
    return np.random.default_rng(numbers_of(parts))


def seeded_normal(shape: Sequence[int], ids: Sequence[Id], *parts: Id) -> Tensor:
    """Return (B, *shape) float32 of N(0, 1), each drawn by its id and the parts alone."""
    drawn = [generator(number, *parts).standard_normal(tuple(shape), dtype=np.float32) for number in ids]
    return torch.from_numpy(np.stack(drawn)) if drawn else torch.empty(0, *shape)
